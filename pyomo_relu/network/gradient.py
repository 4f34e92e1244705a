"""Gradients of a network by a backward pass through its graph.

Within a linear region they are exact, and so are derivatives of smooth units. On the border
between two regions the piece on the right counts, as it does in the forward pass; a maximum
takes the first of equals.
"""

from __future__ import annotations

import numpy as np

from pyomo_relu.network.network import Network
from pyomo_relu.network.nodes import Affine, Input, Max, PiecewiseLinear, Smooth

#: So many values of units are held at once where a batch is made here (64 MiB).
MOST_VALUES = 2**23


def backward(network: Network, values: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Gradients of ``weights @ outputs`` with respect to the inputs.

    Parameters
    ----------
    network : Network
    values : list of (N, size) arrays
        What :meth:`Network.activations` returned at the points.
    weights : (n_outputs,) or (N, n_outputs) array

    Returns
    -------
    (N, n_inputs) array
    """
    n = len(values[0])
    weights = np.broadcast_to(np.asarray(weights, dtype=float), (n, network.n_outputs))
    gradients: list[np.ndarray | None] = [None] * len(network.nodes)

    def add(i: int, g: np.ndarray) -> None:
        old = gradients[i]
        gradients[i] = g if old is None else old + g

    for i, columns in network.output_slices():
        add(i, weights[:, columns])
    for i in range(len(network.nodes) - 1, -1, -1):
        node, g = network.nodes[i], gradients[i]
        if g is None or isinstance(node, Input):
            continue
        if isinstance(node, Affine):
            for s, w in zip(node.sources, node.weights):
                add(s, g @ w if isinstance(w, np.ndarray) else np.asarray((w.T @ g.T).T))
        elif isinstance(node, PiecewiseLinear):
            add(node.source, g * slopes(node, values[node.source]))
        elif isinstance(node, Smooth):
            add(node.source, g * node.derivative(values[node.source]))
        elif isinstance(node, Max):
            add(node.source, _max_gradient(node, values[node.source], g))
        gradients[i] = None
    parts = []
    for i in network.inputs:
        g = gradients[i]
        parts.append(np.zeros((n, network.nodes[i].size)) if g is None else g)
    return np.hstack(parts)


def slopes(node: PiecewiseLinear, x: np.ndarray) -> np.ndarray:
    """The slope of each unit at pre-activations (N, size)."""
    if node.is_relu:
        return (x >= 0).astype(float)
    return node.slopes[np.arange(node.size), node.piece(x)]


def _max_gradient(node: Max, x: np.ndarray, g: np.ndarray) -> np.ndarray:
    result = np.zeros_like(x)
    rows = np.arange(len(x))
    for j in range(node.size):
        group = node.group(j)
        chosen = group[np.argmax(x[:, group], axis=1)]
        np.add.at(result, (rows, chosen), g[:, j])
    return result


def value_and_gradient(
    network: Network, x: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Outputs (N, n_outputs), and gradients (N, n_inputs) of ``weights @ outputs``.

    Parameters
    ----------
    x : (N, n_inputs) array
    weights : (n_outputs,) or (N, n_outputs) array
    """
    values = network.activations(x)
    outputs = np.hstack([values[i] for i in network.outputs])
    return outputs, backward(network, values, weights)


def jacobian(network: Network, x: np.ndarray) -> np.ndarray:
    """The (n_outputs, n_inputs) derivative at one point."""
    point, _ = network.flat_inputs(x)
    return jacobians(network, point)[0]


def jacobians(
    network: Network, x: np.ndarray, outputs: np.ndarray | None = None
) -> np.ndarray:
    """The derivatives of some outputs at points.

    Parameters
    ----------
    x : (N, n_inputs) array
    outputs : (q,) int array, optional
        All by default.

    Returns
    -------
    (N, q, n_inputs) array
    """
    n, eye = len(x), np.eye(network.n_outputs)
    if outputs is not None:
        eye = eye[outputs]
    q = len(eye)
    units = sum(node.size for node in network.nodes)
    some = max(1, MOST_VALUES // units)
    found = np.zeros((n * q, network.n_inputs))
    for first in range(0, n * q, some):
        point, row = np.divmod(np.arange(first, min(first + some, n * q)), q)
        values = network.activations(x[point])
        found[first : first + some] = backward(network, values, eye[row])
    return found.reshape(n, q, network.n_inputs)
