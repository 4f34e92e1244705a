"""Chains of affine layers with ReLU between them, as weights and biases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyomo_relu.network import (
    Affine,
    Input,
    Network,
    NetworkBuilder,
    PiecewiseLinear,
    activations,
)
from pyomo_relu.network.weights import dense

#: A layer: weights (m, p) and bias (m,).
Layer = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class ChainSettings:
    """What steers the planes of chains.

    Attributes
    ----------
    most_weights : int
        Larger layers are left to the general pass, which keeps sparse weights sparse.
    """

    most_weights: int = 2**18


SETTINGS = ChainSettings()


def relu_layers(network: Network) -> list[Layer] | None:
    """The affine layers of a chain with ReLU between them; None for any other network.

    A ReLU that reads the inputs, and one that is an output, stand beside an identity.
    """
    nodes = network.nodes
    in_a_row = all(tuple(n.sources) == (i,) for i, n in enumerate(nodes[1:]))
    if not (
        in_a_row and isinstance(nodes[0], Input) and network.outputs == (len(nodes) - 1,)
    ):
        return None
    layers: list[Layer] = []
    after_relu = True  # whether an affine layer may come next
    for before, node in zip(nodes, nodes[1:]):
        if isinstance(node, Affine) and after_relu:
            (w,) = node.weights
            if w.shape[0] * w.shape[1] > SETTINGS.most_weights:
                return None
            layers.append((np.ascontiguousarray(dense(w)), node.bias))
            after_relu = False
        elif isinstance(node, PiecewiseLinear) and node.is_relu:
            if after_relu:
                layers.append(_identity(before.size))
            after_relu = True
        else:
            return None
    if after_relu:
        layers.append(_identity(nodes[-1].size))
    return layers


def _identity(size: int) -> Layer:
    return np.eye(size), np.zeros(size)


def value_of(layers: Sequence[Layer], x: np.ndarray) -> np.ndarray:
    """The outputs (q,) of a chain at one point (n,), in as few calls as there can be."""
    w, b = layers[0]
    x = w @ x + b
    for w, b in layers[1:]:
        x = w @ np.maximum(x, 0.0) + b
    return x


def layers_as_network(layers: Sequence[Layer]) -> Network:
    """A network whose pre-activations are exactly those of the layers."""
    builder = NetworkBuilder()
    last = builder.input("x", (layers[0][0].shape[1],))
    for k, (w, b) in enumerate(layers):
        if k:
            last = builder.piecewise("relu", last, activations.relu())
        last = builder.affine("affine", [(last, w)], b)
    return builder.build([last], fuse=False)
