"""What a trained network is: a graph of four primitives, in NumPy and SciPy only.

Knows no Pyomo and no training framework. Readers write a :class:`Network` with a
:class:`NetworkBuilder`; everything else in the package reads it. What changes a network
(:func:`compress`, :func:`rescale`, :func:`clip_activations`) is imported when it is first
asked for.
"""

from typing import TYPE_CHECKING

from pyomo_relu.base.lazy import imports_later
from pyomo_relu.network import activations
from pyomo_relu.network.builder import NetworkBuilder
from pyomo_relu.network.network import Network
from pyomo_relu.network.nodes import Affine, Input, Max, Node, PiecewiseLinear, Smooth

if TYPE_CHECKING:
    from pyomo_relu.network.clipping import clip_activations
    from pyomo_relu.network.compression import Compression, compress
    from pyomo_relu.network.rescaling import rescale

__all__ = [
    "Affine",
    "Compression",
    "Input",
    "Max",
    "Network",
    "NetworkBuilder",
    "Node",
    "PiecewiseLinear",
    "Smooth",
    "activations",
    "clip_activations",
    "compress",
    "rescale",
]

__getattr__, __dir__ = imports_later(
    __name__,
    {
        "Compression": "pyomo_relu.network.compression",
        "clip_activations": "pyomo_relu.network.clipping",
        "compress": "pyomo_relu.network.compression",
        "rescale": "pyomo_relu.network.rescaling",
    },
)
