"""Interval arithmetic: each node's range from the ranges of what it reads.

Source: Moore's interval arithmetic; for networks Tjeng et al., arXiv 1711.07356.

Rounding: a float64 dot product of n terms is off by at most about
``n * eps * sum |w_i| |x_i|`` (Higham, "Accuracy and Stability of Numerical
Algorithms", section 3.1). Every affine row is widened by twice that, once for the
bound and once for the forward pass it must contain, so a corner of the box that
attains a bound is never cut off.
"""

from __future__ import annotations

import time

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.bounds.bounds import Bounds
from pyomo_relu.network import Affine, Input, Max, Network, PiecewiseLinear
from pyomo_relu.network.weights import absolute, row_nonzeros

EPS = np.finfo(np.float64).eps


def rounding_slack(node: Affine, magnitudes: list[np.ndarray]) -> np.ndarray:
    """How far float64 rounding may move each row of ``node``, (..., size).

    Parameters
    ----------
    magnitudes : list of (..., size of source) arrays
        Largest absolute value of each entry of each source.
    """
    total = np.abs(node.bias)
    terms = np.ones(node.size)
    for w, m in zip(node.weights, magnitudes):
        total = total + _apply(absolute(w), m)
        terms = terms + row_nonzeros(w)
    return 2.0 * (terms + 2.0) * EPS * total


def _apply(w, x: np.ndarray) -> np.ndarray:
    """``x @ w.T`` for a vector or a batch of vectors, dense or sparse."""
    if not sp.issparse(w):
        return x @ w.T
    return w @ x if x.ndim == 1 else (w @ x.T).T


def affine_range(
    node: Affine, lower: list[np.ndarray], upper: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Range of an affine node, widened outwards; arrays may have a batch axis."""
    low = high = node.bias
    for w, a, b in zip(node.weights, lower, upper):
        positive = w.maximum(0.0) if sp.issparse(w) else np.maximum(w, 0.0)
        negative = w - positive
        low = low + _apply(positive, a) + _apply(negative, b)
        high = high + _apply(positive, b) + _apply(negative, a)
    slack = rounding_slack(node, [np.maximum(abs(a), abs(b)) for a, b in zip(lower, upper)])
    return low - slack, high + slack


def piecewise_range(
    node: PiecewiseLinear, lower: np.ndarray, upper: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Range of a piecewise-linear node, widened where it can round."""
    low, high = node.range(lower, upper)
    if node.function in ("relu", "abs", "step", "sign"):
        return low, high  # evaluated without rounding
    big = np.abs(node.slopes).max(axis=-1) * np.maximum(abs(lower), abs(upper))
    slack = 4.0 * EPS * (big + np.abs(node.intercepts).max(axis=-1))
    # Constants, x and -x don't round: a clipped ReLU is at least 0, not -1e-15, which
    # would be a coefficient of the rows.
    flat = node.slopes == 0
    plain = (np.abs(node.slopes) == 1) & (node.intercepts == 0)
    slack = np.where((flat | plain).all(axis=-1), 0.0, slack)
    return low - slack, high + slack


def max_range(
    node: Max, lower: np.ndarray, upper: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Range of a max node; exact."""
    return node(lower), node(upper)


def node_range(node, lower: list[np.ndarray], upper: list[np.ndarray]):
    """Range of any node but an input, from the ranges of its sources."""
    if isinstance(node, Affine):
        return affine_range(node, lower, upper)
    if isinstance(node, PiecewiseLinear):
        return piecewise_range(node, lower[0], upper[0])
    assert isinstance(node, Max)
    return max_range(node, lower[0], upper[0])


def interval_arrays(
    network: Network, lower: np.ndarray, upper: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Ranges of all nodes over one box (n_inputs,) or a batch of boxes (N, n_inputs)."""
    start = dict(network.input_slices())
    lows: list[np.ndarray] = []
    highs: list[np.ndarray] = []
    for i, node in enumerate(network.nodes):
        if isinstance(node, Input):
            low, high = lower[..., start[i]], upper[..., start[i]]
        else:
            low, high = node_range(
                node, [lows[s] for s in node.sources], [highs[s] for s in node.sources]
            )
        lows.append(low)
        highs.append(high)
    return lows, highs


def interval(
    network: Network, lower: np.ndarray, upper: np.ndarray, start: Bounds | None = None
) -> Bounds:
    """Bounds by interval arithmetic over the box ``[lower, upper]``.

    Parameters
    ----------
    network : Network
    lower, upper : (n_inputs,) arrays
    start : Bounds, optional
        Valid bounds to intersect with.
    """
    begin = time.perf_counter()
    lows, highs = interval_arrays(network, lower, upper)
    found = Bounds(
        network,
        tuple(np.array(a) for a in lows),
        tuple(np.array(a) for a in highs),
        "interval",
        time.perf_counter() - begin,
    )
    return found if start is None else found.intersect(start, "interval")
