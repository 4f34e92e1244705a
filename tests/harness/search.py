"""Good points of a network by sampling and projected gradients; no solver involved."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from pyomo_relu.network import Affine, Network, PiecewiseLinear
from tests.harness.strategies import points_in


def first_layer_corners(
    network: Network, lower: np.ndarray, upper: np.ndarray
) -> np.ndarray:
    """Every corner of the box at which a first-layer row attains a bound, (N, n).

    These are the points that a bound computed or rounded too tightly cuts off.
    """
    start = dict(network.input_slices())
    corners = []
    for node in network.nodes:
        if not isinstance(node, Affine) or not all(s in start for s in node.sources):
            continue
        w = np.zeros((node.size, network.n_inputs))
        for s, part in zip(node.sources, node.weights):
            w[:, start[s]] += part.toarray() if sp.issparse(part) else part
        corners += [np.where(w > 0, upper, lower), np.where(w > 0, lower, upper)]
    if not corners:
        return np.zeros((0, network.n_inputs))
    return np.unique(np.concatenate(corners), axis=0)


def box_points(
    network: Network, lower: np.ndarray, upper: np.ndarray, *, random: int = 3, seed=0
) -> np.ndarray:
    """Centre, corners of the box (up to 16), first-layer corners, and random points."""
    rng = np.random.default_rng(seed)
    n = len(lower)
    bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1 if n <= 4 else None
    if bits is None:
        bits = np.vstack([np.zeros(n), np.ones(n), rng.integers(0, 2, (4, n))])
    parts = [
        (0.5 * lower + 0.5 * upper)[None],
        np.where(bits == 1, upper, lower),
        first_layer_corners(network, lower, upper),
        points_in(rng, lower, upper, random),
    ]
    return np.unique(np.concatenate(parts), axis=0)


def gradient(network: Network, x: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """(N, n_inputs) gradient of ``coefficients @ outputs`` at points, backwards."""
    values = network.activations(x)
    adjoint = [np.zeros_like(v) for v in values]
    start = 0
    for i in network.outputs:
        size = network.nodes[i].size
        adjoint[i] += coefficients[start : start + size]
        start += size
    for i in range(len(network.nodes) - 1, -1, -1):
        node = network.nodes[i]
        if isinstance(node, Affine):
            for s, w in zip(node.sources, node.weights):
                adjoint[s] += (w.T @ adjoint[i].T).T
        elif isinstance(node, PiecewiseLinear):
            piece = node.piece(values[node.source])
            slope = node.slopes[np.arange(node.size), piece]
            adjoint[node.source] += slope * adjoint[i]
        elif node.sources:  # a maximum: to the winner of each group
            rows = np.arange(len(x))
            for j in range(node.size):
                group = node.group(j)
                best = group[values[node.source][:, group].argmax(axis=1)]
                adjoint[node.source][rows, best] += adjoint[i][:, j]
    return np.hstack([adjoint[i] for i in network.inputs])


def best_found(
    network: Network,
    lower: np.ndarray,
    upper: np.ndarray,
    coefficients: np.ndarray,
    sense: str = "min",
    *,
    samples: int = 4000,
    seed: int = 0,
) -> tuple[float, np.ndarray]:
    """Best value of ``coefficients @ outputs`` that sampling and local search find.

    Returns
    -------
    value : float
    point : (n_inputs,) array
    """
    rng = np.random.default_rng(seed)
    c = coefficients if sense == "min" else -coefficients
    x = np.vstack(
        [points_in(rng, lower, upper, samples), box_points(network, lower, upper)]
    )
    y = network.evaluate(x) @ c
    keep = np.argsort(y)[:24]
    x, y = x[keep], y[keep]
    width = upper - lower
    for step in np.geomspace(0.5, 1e-5, 40):
        g = gradient(network, x, c) * width
        length = np.abs(g).max(axis=1, keepdims=True)
        g = np.divide(g, length, out=np.zeros_like(g), where=length > 0)
        wobble = rng.normal(size=x.shape)
        for direction in (-np.sign(g), -g, wobble, -wobble):
            trial = np.clip(x + step * width * direction, lower, upper)
            value = network.evaluate(trial) @ c
            better = value < y
            x[better], y[better] = trial[better], value[better]
    best = int(y.argmin())
    return float(network.evaluate(x[best]) @ coefficients), x[best]
