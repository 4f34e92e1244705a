"""Functions of one tensor that the frameworks have under several names."""

from __future__ import annotations

from collections.abc import Callable

from pyomo_relu.network import activations
from pyomo_relu.network.activations import Pieces
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Tensor

Entrywise = Callable[[TensorGraph, str, Tensor], Tensor]


def _activation(pieces: Callable[[], Pieces]) -> Entrywise:
    return lambda graph, name, x: graph.piecewise(name, x, pieces())


#: Functions without options, by the package's names for them.
ENTRYWISE: dict[str, Entrywise] = {
    "identity": lambda graph, name, x: x,
    "relu": _activation(activations.relu),
    "relu6": _activation(activations.relu6),
    "hard_sigmoid": _activation(activations.hard_sigmoid),
    "hard_tanh": _activation(activations.clip),
    "absolute": _activation(activations.absolute),
    "sign": lambda graph, name, x: graph.sign(name, x),
    "negative": lambda graph, name, x: graph.scale(name, x, -1.0),
}
