"""Readers: a trained network from one framework -> :class:`pyomo_relu.network.Network`.

:func:`read_network` is the one entry. No framework is imported before a network of its
kind is read.
"""

from pyomo_relu.readers.read import read_network

__all__ = ["read_network"]
