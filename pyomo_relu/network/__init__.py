"""What a trained network is: a graph of three primitives, in NumPy and SciPy only.

Knows no Pyomo and no training framework. Readers write a :class:`Network` with a
:class:`NetworkBuilder`; everything else in the package reads it.
"""

from pyomo_relu.network.builder import NetworkBuilder
from pyomo_relu.network.network import Network
from pyomo_relu.network.nodes import Affine, Input, Max, Node, PiecewiseLinear

__all__ = [
    "Affine",
    "Input",
    "Max",
    "Network",
    "NetworkBuilder",
    "Node",
    "PiecewiseLinear",
]
