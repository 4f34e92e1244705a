"""The ranges that a network's values may have in the arithmetic of its framework.

The bound on rounding is that of a sum of n products in floating-point arithmetic,
``eps * f(n) * (|W| |x| + |b|)`` (Higham, Accuracy and Stability of Numerical
Algorithms, 2nd ed., section 3.1), with ``f(n) = 8 + 4 sqrt(n)``: the errors of single
operations add like random ones, and libraries sum in blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pyomo_relu.network import Affine, Max, PiecewiseLinear, Smooth
from pyomo_relu.network.nodes import Node, Weight
from pyomo_relu.network.weights import absolute, row_nonzeros
from pyomo_relu.readers.frameworks import Arithmetic

#: What the rounding of an affine layer may reach, in units of ``eps * (|W| |x| + |b|)``:
#: a constant, and a factor of the square root of the number of products. Chosen by hand.
ROUNDING = (8.0, 4.0)
#: What the rounding of an activation may reach, in units of ``eps`` times the size of
#: its terms. Chosen by hand.
ACTIVATION = 4.0

#: The same for a smooth one: libraries approximate ``exp`` and ``tanh`` to a few units in
#: the last place, and combine several of them. Chosen by hand.
SMOOTH_ACTIVATION = 32.0
#: What PyTorch's softplus, linear above 20, differs from the function by: log(1 + exp(-20)).
SOFTPLUS_ERROR = 2.1e-9

#: Lower and upper ends, arrays of shape (N, size).
Range = tuple[np.ndarray, np.ndarray]


def node_range(node: Node, sources: Sequence[Range], arithmetic: Arithmetic) -> Range:
    """The range of one node over ranges of its sources, with its own rounding."""
    if isinstance(node, Affine):
        return _affine_range(node, sources, arithmetic)
    slack: np.ndarray | float = 0.0
    low, high = sources[0]
    if isinstance(node, Max):
        first, last = node(low), node(high)
        if arithmetic.mixed:
            slack = ACTIVATION * arithmetic.epsilon * np.abs(last)
        return first - slack, last + slack
    if isinstance(node, Smooth):
        return _smooth_range(node, low, high, arithmetic)
    assert isinstance(node, PiecewiseLinear)
    first, last = node.range(low, high)
    # At a breakpoint that is hit exactly, a step has one value.
    value, single = node(low), low == high
    first, last = np.where(single, value, first), np.where(single, value, last)
    if arithmetic.mixed or not node.is_relu:
        piece = node.piece((low + high) / 2)
        units = np.arange(node.size)
        slopes, shifts = node.slopes[units, piece], node.intercepts[units, piece]
        terms = np.abs(slopes * (low + high) / 2) + np.abs(shifts)
        slack = ACTIVATION * arithmetic.epsilon * terms + arithmetic.smallest
    return first - slack, last + slack


def _smooth_range(
    node: Smooth, low: np.ndarray, high: np.ndarray, arithmetic: Arithmetic
) -> Range:
    """The range of smooth units, as the framework's elementary functions round."""
    first, last = node.range(low, high)
    size = np.maximum(abs(first), abs(last))
    # Where a framework computes exp(x) - 1, 1 + tanh(x) or log(1 + exp(x)), digits cancel.
    size = size + np.minimum(np.maximum(abs(low), abs(high)), 1.0)
    slack = arithmetic.epsilon * (SMOOTH_ACTIVATION * size + ACTIVATION)
    slack = slack + arithmetic.smallest
    if node.function == "softplus":
        # PyTorch's is linear above 20.
        slack = slack + np.where(high >= 20.0, SOFTPLUS_ERROR, 0.0)
    return first - slack, last + slack


def _affine_range(node: Affine, sources: Sequence[Range], arithmetic: Arithmetic) -> Range:
    middles = [(low + high) / 2 for low, high in sources]
    radii = [(high - low) / 2 for low, high in sources]
    value = node(*middles)
    sizes = np.abs(np.broadcast_to(node.bias, value.shape)).copy()
    radius = np.zeros_like(value)
    counts = (node.bias != 0).astype(float)
    for w, m, r in zip(node.weights, middles, radii):
        size = absolute(w)
        sizes += (size @ np.abs(m).T).T
        radius += (size @ r.T).T
        counts += row_nonzeros(w)
    own = arithmetic.epsilon * (ROUNDING[0] + ROUNDING[1] * np.sqrt(counts)) * sizes
    own += arithmetic.smallest * (1.0 + counts)  # each product may underflow
    if not arithmetic.mixed:
        sums = _whole(node, middles, radii) & (sizes < 1.0 / arithmetic.epsilon)
        own = np.where(_copies(node) & (counts <= 1) | sums, 0.0, own)
    radius += own
    return value - radius, value + radius


# An affine node doesn't round where it copies, or adds small whole numbers. A step sees
# whether a sum is exactly 0, and in networks of signs it often is.
def _copies(node: Affine) -> np.ndarray:
    """Which units have no weights but 0, 1 and -1."""
    units = np.ones(node.size, dtype=bool)
    for w in node.weights:
        units &= _failures(w, lambda v: (np.abs(v) == 1.0) | (v == 0.0)) == 0
    return units


def _whole(
    node: Affine, middles: Sequence[np.ndarray], radii: Sequence[np.ndarray]
) -> np.ndarray:
    """At which points which units add whole numbers that are known exactly."""
    units = np.equal(np.mod(node.bias, 1.0), 0.0)
    for w in node.weights:
        units &= _failures(w, lambda v: np.mod(v, 1.0) == 0.0) == 0
    steady = np.ones(len(middles[0]), dtype=bool)
    for m, r in zip(middles, radii):
        steady &= np.equal(np.mod(m, 1.0), 0.0).all(axis=1) & ~r.any(axis=1)
    return steady[:, None] & units


def _failures(w: Weight, test: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """How many entries of each row fail a test that 0 passes."""
    if isinstance(w, np.ndarray):
        return np.count_nonzero(~test(w), axis=1)
    wrong = type(w)(((~test(w.data)).astype(float), w.indices, w.indptr), shape=w.shape)
    return np.asarray(wrong.sum(axis=1)).reshape(-1)
