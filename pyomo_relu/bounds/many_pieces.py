r"""Lines below and above units of many pieces, without looking at each of them.

Curves in place of smooth units have some hundred pieces, and a search looks at thousands of
boxes. The least value of :math:`c(x) - s x` over an interval is attained at one of its ends,
or at a breakpoint where the slope of :math:`c` goes from at most :math:`s` to at least
:math:`s`. Along a *run* of breakpoints at which the function bends upwards the slopes
increase, so that each run has at most one such breakpoint, found by bisection. A curve of an
S-shaped function has one run, that of a SiLU two; the upper side is the lower side of the
negative.

Slopes of the lower hull follow from such least values: a line that the graph is below of
at a point gives way to the line through that point, until there is none
(:meth:`PiecesHull.middle_slope`). A search that ends early costs tightness, never validity,
for the constant of any slope is exact up to rounding.

A function counts as continuous with steps of 1e-12 of its terms
(:attr:`~pyomo_relu.network.PiecewiseLinear.jumps`). The sum of a unit's steps bounds how far
it is from a continuous one of the same slopes; twice that is taken from every constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np

from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds.linear import STEEPEST, Lines
from pyomo_relu.network import PiecewiseLinear
from pyomo_relu.network.nodes import FEW
from pyomo_relu.network.search import SortedRows

#: Lines that are tried on the way to a slope of the hull. Curves of up to 200 pieces took 9.
TRIED = 16


def has_many_pieces(node: PiecewiseLinear) -> bool:
    """Whether a node's units are continuous functions of many pieces."""
    return node.breakpoints.shape[1] > FEW and node.is_continuous


class _Run:
    """One run of upward bends of each unit, those that have one.

    Parameters
    ----------
    places : sequence of int arrays
        The breakpoints of each unit's run, perhaps none.
    node : PiecewiseLinear
    sign : float
        -1 for the bends of the negative function.
    """

    def __init__(
        self, places: Sequence[np.ndarray], node: PiecewiseLinear, sign: float
    ) -> None:
        longest = max(len(p) for p in places)
        shape = len(places), longest
        slopes, x, y = (np.full(shape, np.nan) for _ in range(3))
        for i, own in enumerate(places):
            n = len(own)
            # The slope behind each breakpoint.
            slopes[i, :n] = sign * node.slopes[i, own + 1]
            x[i, :n] = node.breakpoints[i, own]
            y[i, :n] = sign * (node.slopes[i, own] * x[i, :n] + node.intercepts[i, own])
        self.slopes = SortedRows(slopes)
        none = np.full((shape[0], 1), np.nan)
        # Behind the last one there is none: comparisons with NaN are false.
        self.x, self.y = (np.ascontiguousarray(np.hstack([a, none])) for a in (x, y))
        self.row = np.arange(shape[0]) * (longest + 1)

    def turn(self, slope: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the function's slope goes beyond the given one, and its value there."""
        at = self.row + self.slopes.count_below(slope)
        return self.x.take(at), self.y.take(at)


class _Bends:
    """The runs of a node's units, by sign, and what their small steps add up to."""

    def __init__(self, node: PiecewiseLinear) -> None:
        bends = np.sign(np.diff(node.slopes, axis=1))
        self.runs: dict[float, list[_Run]] = {}
        for sign in (1.0, -1.0):
            found = [_runs_of(row, sign) for row in bends]
            most = max(map(len, found))
            none = np.zeros(0, dtype=int)
            self.runs[sign] = [
                _Run([own[r] if r < len(own) else none for own in found], node, sign)
                for r in range(most)
            ]
        t, a, c = node.breakpoints, node.slopes, node.intercepts
        left, right = a[:, :-1] * t + c[:, :-1], a[:, 1:] * t + c[:, 1:]
        size = abs(a[:, :-1] * t) + abs(c[:, :-1]) + abs(a[:, 1:] * t) + abs(c[:, 1:])
        same = (a[:, :-1] == a[:, 1:]) & (c[:, :-1] == c[:, 1:])
        steps = np.where(same, 0.0, abs(right - left) + 4.0 * EPS * size)
        self.steps = steps.sum(axis=1)
        self.steepest = abs(a).max(axis=1)
        self.constant = abs(c).max(axis=1)


def _runs_of(bends: np.ndarray, sign: float) -> list[np.ndarray]:
    """The runs of breakpoints with bends of one sign, those without a bend left out."""
    places = np.flatnonzero(bends)
    upward = bends[places] == sign
    ends = np.flatnonzero(np.diff(upward.astype(int))) + 1
    return [own for own in np.split(places, ends) if len(own) and bends[own[0]] == sign]


_KNOWN: WeakKeyDictionary[PiecewiseLinear, _Bends] = WeakKeyDictionary()


def _bends_of(node: PiecewiseLinear) -> _Bends:
    """The bends of a node, which are looked for once."""
    if node not in _KNOWN:
        _KNOWN[node] = _Bends(node)
    return _KNOWN[node]


class PiecesHull:
    """The lines of units of many pieces over intervals.

    Parameters
    ----------
    node : PiecewiseLinear
        One that :func:`has_many_pieces`.
    low, high : (..., size) arrays

    Attributes
    ----------
    single : (..., size) bool array
        Whether the interval meets one piece only.
    own : (..., size) array
        The slope of the piece that holds the lower end.
    """

    def __init__(self, node: PiecewiseLinear, low: np.ndarray, high: np.ndarray) -> None:
        self.low, self.high, self._bends = low, high, _bends_of(node)
        bends = self._bends
        first, last = node.piece(low), node.piece(high)
        self.single = first == last
        rows = np.arange(node.size)
        self.own, self._constant = node.slopes[rows, first], node.intercepts[rows, first]
        self._ends = self.own * low + self._constant, node(high)
        big = bends.steepest * np.maximum(abs(low), abs(high)) + bends.constant
        self._rounding = 4.0 * EPS * big
        self._slack = self._rounding + 2.0 * bends.steps

    def least(
        self, slope: np.ndarray, sign: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The least ``sign * c(x) - slope * x`` over each interval, before rounding.

        Returns
        -------
        value : array
        x, y : arrays
            Where it is attained, and ``sign * c(x)``.
        reach : array
            The largest size of a term that was looked at.
        """
        low, high = self.low, self.high
        start, end = (sign * y for y in self._ends)
        shift, other = slope * low, slope * high
        value, last = start - shift, end - other
        reach = np.maximum(abs(shift) + abs(start), abs(other) + abs(end))
        right = last < value
        value = np.where(right, last, value)
        x, y = np.where(right, high, low), np.where(right, end, start)
        for run in self._bends.runs[sign]:
            t, f = run.turn(slope)
            shift = slope * t
            here = f - shift
            better = (low < t) & (t < high) & (here < value)
            value = np.where(better, here, value)
            x, y = np.where(better, t, x), np.where(better, f, y)
            reach = np.where(better, np.maximum(reach, abs(shift) + abs(f)), reach)
        return value, x, y, reach

    def support(self, slope: np.ndarray, sign: float) -> tuple[np.ndarray, np.ndarray]:
        """Constants of the highest lines of given slopes below the graph (below its negative
        for sign -1), safe against rounding, and where they touch it."""
        value, touch, _, reach = self.least(slope, sign)
        return value - (self._slack + 4.0 * EPS * reach), touch

    def _tangent(self, sign: float, left: bool) -> np.ndarray:
        """The slope of the lower hull at one end of the intervals."""
        start, end = (sign * y for y in self._ends)
        x0, y0 = (self.low, start) if left else (self.high, end)
        slope = _slope(self.high - self.low, end - start)
        for _ in range(TRIED):
            value, x, y, _ = self.least(slope, sign)
            below = (value < y0 - slope * x0) & (x != x0)
            new = np.where(below, _slope(x - x0, y - y0), slope)
            if not below.any() or (new == slope).all():
                break
            slope = new
        return slope

    def slope_range(self, sign: float) -> tuple[np.ndarray, np.ndarray]:
        """Slopes of the lower hull at its two ends; that of the negative for sign -1."""
        return self._tangent(sign, True), self._tangent(sign, False)

    def middle_slope(self, sign: float) -> np.ndarray:
        """The slope of the lower hull at the middle of the intervals."""
        middle = 0.5 * (self.low + self.high)
        (x, right_x), (y, right_y) = (self.low, self.high), (sign * v for v in self._ends)
        slope = _slope(right_x - x, right_y - y)
        for _ in range(TRIED):
            value, at, f, _ = self.least(slope, sign)
            below = (value < y - slope * x) & (at != x) & (at != right_x)
            if not below.any():
                break
            left = at <= middle
            x, y = np.where(below & left, at, x), np.where(below & left, f, y)
            right_x = np.where(below & ~left, at, right_x)
            right_y = np.where(below & ~left, f, right_y)
            slope = _slope(right_x - x, right_y - y)
        return slope

    def _rule_slope(self, rule: str, sign: float) -> np.ndarray:
        """The slope that a rule of :mod:`pyomo_relu.bounds.linear` picks from the hull's."""
        if rule == "constant":
            slope = np.zeros(np.shape(self.low))
        elif rule == "adaptive":
            slope = self.middle_slope(sign)
        elif rule == "parallel":
            start, end = self._ends
            slope = sign * _slope(self.high - self.low, end - start)
        else:
            left, right = self.slope_range(sign)
            near = np.minimum(np.maximum(0.0, left), right)
            slope = (
                near if rule == "zero" else np.where(abs(left) > abs(right), left, right)
            )
        return np.where(np.isfinite(slope) & (abs(slope) < STEEPEST), slope, 0.0)

    def lines(self, rule: str) -> Lines:
        """Lines below and above each unit."""
        below, above = self._rule_slope(rule, 1.0), self._rule_slope(rule, -1.0)
        own, constant, slack = self.own, self._constant, self._rounding
        return Lines(
            np.where(self.single, own, below),
            np.where(self.single, constant - slack, self.support(below, 1.0)[0]),
            np.where(self.single, own, -above),
            np.where(self.single, constant + slack, -self.support(above, -1.0)[0]),
        )


def _slope(run: np.ndarray, rise: np.ndarray) -> np.ndarray:
    """``rise / run``; 0 where the run is 0."""
    with np.errstate(over="ignore"):
        return np.where(run != 0.0, rise / np.where(run != 0.0, run, 1.0), 0.0)
