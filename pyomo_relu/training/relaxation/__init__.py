"""Penalties on the relaxation of a network, for Keras and for PyTorch.

=================  ==========================================================
``arithmetic``     the few functions of arrays that both frameworks share
``chain``          chains of dense layers, and CROWN bounds with gradients
``gap``            the gap of the linear relaxation at samples, in NumPy
``penalties``      what is added to the loss
``terms``          penalties of one model with their box and period
=================  ==========================================================

No framework is imported here; :mod:`pyomo_relu.training.keras` and
:mod:`pyomo_relu.training.torch` bring theirs.
"""
