"""Networks of step neurons: what they are, and the exact program of the largest margin.

:class:`StepNetwork` has the arrays, the file, and what becomes of them: a
:class:`~pyomo_relu.network.Network` or a Keras model. :class:`MarginProgram` trains one
with a hidden layer to a proven optimum, which is a function of its data with derivatives;
:class:`Ascent` and :func:`implicit_fit` raise such functions. The room needs no solver of
the package and no block; :mod:`pyomo_relu.training` and :mod:`pyomo_relu.differentiable`
stand on it.
"""
