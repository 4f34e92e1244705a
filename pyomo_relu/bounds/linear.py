"""Linear relaxations: lines below and above a piecewise-linear function or a maximum.

On an interval ``[l, u]`` the graph of a piecewise-linear function is the union of a few
segments. A line of slope ``s`` lies below it if and only if it lies below their ends,
so its best constant is ``min (y - s x)`` over the ends: valid for *any* slope, however
the slope was rounded. What remains is the choice of the slope, which is a *rule*. The
lower hull of the graph has a range of slopes; a rule picks from it:

============  ===================================================================
``adaptive``  the hull's slope at the middle of the interval: least area
``zero``      the slope nearest to 0
``one``       the slope farthest from 0
``parallel``  the slope of the chord from ``l`` to ``u``
``constant``  0 on both sides: the range alone
============  ===================================================================

For ReLU these are the rules of CROWN and DeepPoly (adaptive), 0, 1, and Fast-Lin.
The upper side is the lower side of the negative. A unit that stays on one piece gets
that piece for both lines.

Source: Zhang et al., arXiv 1811.00866 (CROWN); Singh et al., POPL 2019 (DeepPoly);
Weng et al., arXiv 1804.09699 (Fast-Lin).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.base.rounding import EPS
from pyomo_relu.network import Max, PiecewiseLinear
from pyomo_relu.network.nodes import FEW

#: Rules whose bounds are intersected by default.
RULES = ("adaptive", "zero", "one", "parallel")

# Evaluated without rounding: their values on a piece are exact.
EXACT = ("relu", "abs", "step", "sign")

# A steeper line (of a step on a very short interval) gives way to a constant one.
STEEPEST = 1e9


@dataclass(frozen=True)
class Lines:
    """``a x + b <= phi(x) <= c x + d`` for every unit; (N, size) arrays, rounding included.

    ``has_lower_const`` may be false only where every ``b`` is zero: there is less to do.
    """

    lower_slope: np.ndarray
    lower_const: np.ndarray
    upper_slope: np.ndarray
    upper_const: np.ndarray
    has_lower_const: bool = True


@dataclass(frozen=True)
class Segments:
    """Ends of the segments of the graph over ``[low, high]``; (P, N, size) arrays.

    Attributes
    ----------
    x, y : arrays
        Left and right end of each piece in turn, from left to right.
    inside : bool array
        Which pieces the interval meets.
    single : (N, size) bool array
        Whether the interval meets one piece only.
    first : (N, size) int array
        The piece that holds the lower end.
    slack : (N, size) array
        Bound on the rounding of ``y``, here and in a forward pass.
    """

    x: np.ndarray
    y: np.ndarray
    inside: np.ndarray
    single: np.ndarray
    first: np.ndarray
    slack: np.ndarray


def segments(node: PiecewiseLinear, low: np.ndarray, high: np.ndarray) -> Segments:
    """The graph of each unit over its interval, as segments.

    A piece ``[t, t')`` counts where it meets the interval; its right end is the limit
    from the left, so both values of a step inside the interval are among the ends.
    """
    t, a, c = node.breakpoints, node.slopes, node.intercepts
    k = t.shape[1]
    xs, ys, inside = [], [], []
    for p in range(k + 1):
        left = low if p == 0 else np.maximum(low, t[:, p - 1])
        right = high if p == k else np.minimum(high, t[:, p])
        meets = np.ones(np.shape(low), dtype=bool)
        if p > 0:
            meets &= t[:, p - 1] <= high
        if p < k:
            meets &= low < t[:, p]
        for x in (left, right):
            xs.append(x)
            ys.append(a[:, p] * x + c[:, p])
            inside.append(meets)
    shown = np.stack(inside)
    big = np.abs(a).max(axis=1) * np.maximum(abs(low), abs(high)) + np.abs(c).max(axis=1)
    return Segments(
        np.stack(xs),
        np.stack(ys),
        shown,
        shown[::2].sum(axis=0) == 1,
        np.argmax(shown[::2], axis=0),
        4.0 * EPS * big,
    )


def undecided(node: PiecewiseLinear, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Which units meet two pieces on their interval, (N, size) bool."""
    if node.breakpoints.shape[1] > FEW and node.is_continuous:
        return node.piece(low) < node.pieces_before(high)
    found = np.zeros(np.shape(low), dtype=bool)
    jumps = None if node.function == "relu" else node.jumps != 0
    for p in range(node.breakpoints.shape[1]):
        t = node.breakpoints[:, p]
        if jumps is None:
            found |= (low < t) & (t < high)
        else:
            found |= (low < t) & ((t < high) | ((t <= high) & jumps[:, p]))
    return found


def slope_range(
    s: Segments, low: np.ndarray, high: np.ndarray, sign: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Slopes of the lower hull at its left and right end; the upper hull for sign -1.

    For the upper hull the slopes returned are those of the negative function.
    """
    y = np.where(s.inside, sign * s.y, np.inf)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        start = np.where(s.x <= low, y, np.inf).min(axis=0)
        end = np.where(s.x >= high, y, np.inf).min(axis=0)
        left = np.where(s.inside & (s.x > low), (y - start) / (s.x - low), np.inf)
        right = np.where(s.inside & (s.x < high), (end - y) / (high - s.x), -np.inf)
        return left.min(axis=0), right.max(axis=0)


def _middle_slope(
    s: Segments, low: np.ndarray, high: np.ndarray, sign: float
) -> np.ndarray:
    """Slope of the lower hull at the middle of the interval."""
    y = sign * s.y
    middle = 0.5 * (low + high)
    best = np.full(np.shape(low), np.inf)
    slope = np.zeros(np.shape(low))
    for i in range(len(y)):
        for j in range(i + 1, len(y)):
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                a = (y[j] - y[i]) / (s.x[j] - s.x[i])
                value = y[i] + a * (middle - s.x[i])
            usable = s.inside[i] & s.inside[j] & (s.x[i] < s.x[j])
            usable &= (s.x[i] <= middle) & (middle <= s.x[j]) & (value < best)
            best, slope = np.where(usable, value, best), np.where(usable, a, slope)
    return slope


def support(s: Segments, slope: np.ndarray, sign: float = 1.0) -> np.ndarray:
    """Constant of the highest line of the given slope below the graph.

    ``sign=-1`` is the same for the negative function. The arrays of the segments
    broadcast against ``slope``; the result is safe against rounding.
    """
    best = np.full(slope.shape, np.inf)
    reach = np.zeros(slope.shape)
    for x, y, inside in zip(s.x, s.y, s.inside):
        shift = slope * x
        best = np.where(inside, np.minimum(best, sign * y - shift), best)
        reach = np.where(inside, np.maximum(reach, abs(shift) + abs(y)), reach)
    return best - (s.slack + 4.0 * EPS * reach)


def _rule_slope(
    s: Segments, low: np.ndarray, high: np.ndarray, rule: str, sign: float
) -> np.ndarray:
    if rule == "constant":
        return np.zeros(np.shape(low))
    if rule == "adaptive":
        slope = _middle_slope(s, low, high, sign)
    else:
        left, right = slope_range(s, low, high, sign)
        with np.errstate(invalid="ignore"):
            if rule == "zero":
                slope = np.minimum(np.maximum(0.0, left), right)
            elif rule == "one":
                slope = np.where(abs(left) > abs(right), left, right)
            else:
                y = np.where(s.inside, sign * s.y, np.inf)
                start = np.where(s.x <= low, y, np.inf).min(axis=0)
                end = np.where(s.x >= high, y, np.inf).min(axis=0)
                chord = np.where(high > low, (end - start), 0.0)
                slope = chord / np.where(high > low, high - low, 1.0)
    return np.where(np.isfinite(slope) & (abs(slope) < STEEPEST), slope, 0.0)


def piecewise_lines(
    node: PiecewiseLinear, low: np.ndarray, high: np.ndarray, rule: str
) -> Lines:
    """Lines below and above each unit over ``[low, high]``, arrays (N, size).

    Parameters
    ----------
    rule : str
        One of the rules in the module's table.
    """
    if node.is_relu:
        return relu_lines(low, high, rule)
    s = segments(node, low, high)
    a = _rule_slope(s, low, high, rule, 1.0)
    b = support(s, a, 1.0)
    c = -_rule_slope(s, low, high, rule, -1.0)
    d = -support(s, -c, -1.0)
    own = np.take_along_axis(node.slopes.T, s.first.reshape(-1, node.size), axis=0)
    const = np.take_along_axis(node.intercepts.T, s.first.reshape(-1, node.size), axis=0)
    own, const = own.reshape(a.shape), const.reshape(a.shape)
    slack = 0.0 if node.function in EXACT else s.slack
    return Lines(
        np.where(s.single, own, a),
        np.where(s.single, const - slack, b),
        np.where(s.single, own, c),
        np.where(s.single, const + slack, d),
    )


def relu_lines(low: np.ndarray, high: np.ndarray, rule: str) -> Lines:
    """As :func:`piecewise_lines` for ``max(0, x)``, where the formulas are short."""
    unstable = (low < 0) & (high > 0)
    active = low >= 0
    with np.errstate(divide="ignore", invalid="ignore"):
        chord = np.where(unstable, high / (high - low), active.astype(float))
    zero = np.zeros(chord.shape)
    if rule == "adaptive":
        lower = np.where(unstable, high > -low, active).astype(float)
    elif rule == "one":
        lower = (unstable | active).astype(float)
    elif rule == "parallel":
        lower = chord
    else:
        lower = active.astype(float)
    if rule == "constant":
        return Lines(lower, zero, lower, np.where(unstable, high, 0.0), False)
    return Lines(lower, zero, chord, relu_chord_const(low, high, chord, unstable), False)


def relu_chord_const(
    low: np.ndarray, high: np.ndarray, chord: np.ndarray, unstable: np.ndarray
) -> np.ndarray:
    """Constant of the line of slope ``chord`` above ``max(0, x)``, rounded up."""
    shift = chord * -low
    const = np.maximum(shift, high - chord * high) + 8.0 * EPS * (shift + high)
    return np.where(unstable, const, 0.0)


@dataclass(frozen=True)
class MaxPlanes:
    """Planes below and above the maximum of each group, over the entries of all groups.

    Attributes
    ----------
    lower, upper : (N, len(indices)) arrays
        Coefficient of each entry of :attr:`Max.indices`.
    lower_const, upper_const : (N, size) arrays
    groups : (len(indices),) int array
        The group of each entry.
    scatter : (len(indices), size of source) CSR array
    """

    lower: np.ndarray
    upper: np.ndarray
    lower_const: np.ndarray
    upper_const: np.ndarray
    groups: np.ndarray
    scatter: sp.csr_array


def group_numbers(node: Max) -> np.ndarray:
    """The group of each entry of :attr:`Max.indices`."""
    return np.repeat(np.arange(node.size), np.diff(node.indptr))


def first_of_group(node: Max, values: np.ndarray) -> np.ndarray:
    """Which entry is its group's first largest, (N, len(indices)) bool."""
    groups = group_numbers(node)
    best = np.maximum.reduceat(values, node.indptr[:-1], axis=-1)
    tied = values >= best[..., groups]
    count = np.cumsum(tied, axis=-1)
    before: np.ndarray = count[..., node.indptr[:-1]] - tied[..., node.indptr[:-1]]
    return tied & (count - before[..., groups] == 1)


def max_planes(node: Max, low: np.ndarray, high: np.ndarray, rule: str) -> MaxPlanes:
    r"""Planes below and above the maximum of each group.

    Below: one argument, the one with the largest lower end (``zero``, ``constant``),
    upper end (``one``) or middle. Above: the constant :math:`\max u`, or

    .. math:: y \le L + \sum_j (x_j - L)^+ \le L + \sum_j d_j x_j + e_j,\quad L = \max l

    with the chord of each term. An argument that is always the largest is both.
    """
    groups = group_numbers(node)
    l, u = low[..., node.indices], high[..., node.indices]  # noqa: E741
    best = np.maximum.reduceat(l, node.indptr[:-1], axis=-1)
    floor = best[..., groups]
    alive = u > floor
    leader = first_of_group(node, l)
    others = np.add.reduceat(alive & ~leader, node.indptr[:-1], axis=-1)
    decided = (others == 0)[..., groups]
    key = {"zero": l, "constant": l, "one": u}.get(rule, l + u)
    lower = np.where(decided, leader, first_of_group(node, key)).astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        d = np.where(leader, 1.0, np.where(alive, (u - floor) / (u - l), 0.0))
    d = np.where(np.isfinite(d), d, 0.0)
    e = np.where(leader, -l, np.where(alive, np.maximum(-d * l, (u - floor) - d * u), 0.0))
    top = np.maximum.reduceat(u, node.indptr[:-1], axis=-1)
    reach = np.add.reduceat(abs(e) + abs(l) + abs(u), node.indptr[:-1], axis=-1)
    const = best + np.add.reduceat(e, node.indptr[:-1], axis=-1)
    const = const + 4.0 * EPS * (np.diff(node.indptr) + 4.0) * (abs(best) + reach)
    flat = rule in ("zero", "constant")
    if flat:
        constant = np.ones(top.shape, dtype=bool)
    elif rule == "adaptive":
        middle = const + np.add.reduceat(0.5 * d * (l + u), node.indptr[:-1], axis=-1)
        constant = middle > top
    else:
        constant = np.zeros(top.shape, dtype=bool)
    one = others == 0
    upper = np.where(decided, leader, np.where(constant[..., groups], 0.0, d))
    return MaxPlanes(
        lower,
        upper.astype(float),
        np.zeros(top.shape),
        np.where(one, 0.0, np.where(constant, top, const)),
        groups,
        sp.csr_array(
            (np.ones(len(groups)), (np.arange(len(groups)), node.indices)),
            shape=(len(groups), low.shape[-1]),
        ),
    )
