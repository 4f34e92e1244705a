"""Interval arithmetic: each node's range from the ranges of what it reads.

:func:`propagate` is the forward loop of every rung: it goes through a network once, and
hands the range of each affine node to whoever can tighten it.

Source: Moore's interval arithmetic; for networks Tjeng et al., arXiv 1711.07356.

Rounding: a float64 dot product of n terms is off by at most about
``n * eps * sum |w_i| |x_i|`` (Higham, "Accuracy and Stability of Numerical
Algorithms", section 3.1). Every affine row is widened by twice that, once for the
bound and once for the forward pass it must contain, so a corner of the box that
attains a bound is never cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds.bounds import Bounds, as_bounds
from pyomo_relu.network import Affine, Input, Max, Network, Node, PiecewiseLinear, Smooth
from pyomo_relu.network.nodes import Weight
from pyomo_relu.network.weights import absolute, row_nonzeros


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


def _apply(w: Weight, x: np.ndarray) -> np.ndarray:
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


def node_range(
    node: Node, lower: list[np.ndarray], upper: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Range of any node but an input, from the ranges of its sources."""
    if isinstance(node, Affine):
        return affine_range(node, lower, upper)
    if isinstance(node, PiecewiseLinear):
        return piecewise_range(node, lower[0], upper[0])
    if isinstance(node, Smooth):
        return node.range(lower[0], upper[0])
    assert isinstance(node, Max)
    return node(lower[0]), node(upper[0])  # exact


#: Gets the number of an affine node and its range so far, arrays (N, size) or (size,) as
#: the box has, which it may tighten in place.
Ask = Callable[[int, np.ndarray, np.ndarray], None]


def propagate(
    network: Network,
    lower: np.ndarray,
    upper: np.ndarray,
    ask: Ask | None = None,
    *,
    start: tuple[Sequence[np.ndarray], Sequence[np.ndarray]] | None = None,
    lows: list[np.ndarray] | None = None,
    highs: list[np.ndarray] | None = None,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Ranges of all nodes in their order, each from those of the nodes that it reads.

    Parameters
    ----------
    network : Network
    lower, upper : (n_inputs,) or (N, n_inputs) arrays
        One box, or a batch of them.
    ask : callable, optional
        Tightens the range of an affine node before the next one is looked at, see
        :data:`Ask`.
    start : (lows, highs), optional
        Valid bounds of every node that ranges are met with first.
    lows, highs : lists, optional
        Where ranges are put, so that ``ask`` sees those of the nodes before.

    Returns
    -------
    lows, highs : lists of arrays
        One for each node of the network.
    """
    lows = [] if lows is None else lows
    highs = [] if highs is None else highs
    box = dict(network.input_slices())
    for i, node in enumerate(network.nodes):
        if isinstance(node, Input):
            low, high = lower[..., box[i]], upper[..., box[i]]
        else:
            low, high = node_range(
                node, [lows[s] for s in node.sources], [highs[s] for s in node.sources]
            )
        if start is not None:
            low, high = meet(low, high, start[0][i], start[1][i])
        if ask is not None and isinstance(node, Affine):
            low, high = np.array(low), np.array(high)
            ask(i, low, high)
        lows.append(low)
        highs.append(high)
    return lows, highs


def meet(
    low: np.ndarray, high: np.ndarray, other_low: np.ndarray, other_high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Intersection of two intervals; the first where they don't meet."""
    a, b = np.maximum(low, other_low), np.minimum(high, other_high)
    crossed = a > b
    if crossed.any():
        a, b = np.where(crossed, low, a), np.where(crossed, high, b)
    return a, b


def reads_inputs_only(network: Network, i: int) -> bool:
    """Whether a node is affine in the inputs: its range over a box is exact."""
    return all(isinstance(network.nodes[s], Input) for s in network.nodes[i].sources)


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
    clock = Deadline()
    lows, highs = propagate(network, lower, upper)
    found = as_bounds(network, lows, highs, "interval", clock)
    return found if start is None else found.intersect(start, "interval")
