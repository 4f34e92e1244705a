"""The outputs that a network with steps can have at a point: both values count at a step."""

from __future__ import annotations

import numpy as np

from pyomo_relu.network.network import Network
from pyomo_relu.network.nodes import Affine, Input, Node, PiecewiseLinear

#: Combinations of sides at most: six steps at once, which no point met in tests.
MOST = 64


def closed_outputs(
    network: Network, x: np.ndarray, tolerance: float, most: int = MOST
) -> np.ndarray:
    """The outputs at a point for every choice of the sides of steps that are near.

    Parameters
    ----------
    network : Network
    x : (n_inputs,) array
    tolerance : float
        A pre-activation is at a step if it is so near, relative to the sum of the sizes of
        its terms: inputs in other units have the same steps.
    most : int
        Of the choices; the first are those in which few layers differ from the network.

    Returns
    -------
    (N, n_outputs) array
        The network's own outputs first.
    """
    start = dict(network.input_slices())
    values: list[np.ndarray] = []
    for i, node in enumerate(network.nodes):
        if isinstance(node, Input):
            rows = len(values[0]) if values else 1
            values.append(np.tile(x[start[i]], (rows, 1)))
        elif isinstance(node, PiecewiseLinear) and not node.is_continuous:
            pre = values[node.source]
            slack = tolerance * _term_sizes(network.nodes[node.source], values, pre)
            copies, pieces = _sides(node, pre, slack, most)
            values = [v[copies] for v in values]
            units = np.arange(node.size)
            slope, constant = node.slopes[units, pieces], node.intercepts[units, pieces]
            values.append(slope * values[node.source] + constant)
        else:
            values.append(node(*[values[s] for s in node.sources]))  # type: ignore[operator]
    return np.hstack([values[i] for i in network.outputs])


def _term_sizes(node: Node, values: list[np.ndarray], found: np.ndarray) -> np.ndarray:
    """The sum of the sizes of the terms of each number that a node gives, (N, size)."""
    if not isinstance(node, Affine):
        return abs(found)
    parts = (abs(values[s]) @ abs(w).T for s, w in zip(node.sources, node.weights))
    return np.asarray(sum(parts, np.zeros_like(found)) + abs(node.bias))


def _sides(
    node: PiecewiseLinear, pre: np.ndarray, slack: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Which row each choice comes from, and the piece of every neuron in it."""
    copies, pieces = np.arange(len(pre)), node.piece(pre)
    away = abs(pre[:, :, None] - node.breakpoints)
    near = away <= slack[:, :, None]
    near &= node.jumps != 0
    for unit, step in np.argwhere(near.any(axis=0)):
        other = np.flatnonzero(near[copies, unit, step])[: most - len(copies)]
        turned = pieces[other]
        right = turned[:, unit] > step
        turned[:, unit] = np.where(right, step, step + 1)
        copies, pieces = np.append(copies, copies[other]), np.vstack([pieces, turned])
    return copies, pieces
