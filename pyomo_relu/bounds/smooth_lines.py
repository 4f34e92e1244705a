r"""Lines below and above a smooth unit over an interval, and how they are rounded.

For a slope :math:`s` the highest line below :math:`\phi` on :math:`[l, u]` has the constant
:math:`\min_{l \le x \le u} \phi(x) - s x`. On a part where :math:`\phi` is concave the
minimum is at an end. On one where it is convex it is at the :math:`x_0` with
:math:`\phi'(x_0) = s`, or at the end that is next to it; a float :math:`x_0` near that is
enough, for the tangent there is below the function on the whole part :math:`[a, b]`:

.. math::
    \phi(x) - s x \ge \phi(x_0) - s x_0
    - \max\{(\phi'(x_0) - s)(x_0 - a),\ (s - \phi'(x_0))(b - x_0),\ 0\}

So *any* slope gives a valid line, however it was found, and what an inexact :math:`x_0`
costs is taken off. The errors of :math:`\phi` and :math:`\phi'` come from
:mod:`~pyomo_relu.network.smooth_functions`. The upper side is the lower side of the negative.

Which slopes are worth having: those of the lower hull, from the one at :math:`l`, the least
slope of a chord that begins there, to the one at :math:`u`. The point where a line from a
given end touches a convex part is looked up in a table (:func:`touching`).

Source: Zhang et al., arXiv 1811.00866 (CROWN for S-shaped functions); Singh et al., POPL
2019; the margins and the general functions are our own.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds.linear import STEEPEST, Lines
from pyomo_relu.bounds.s_shaped import SShapedLines, is_s_shaped, one_side
from pyomo_relu.bounds.smooth_tables import inverse_derivative, touching
from pyomo_relu.network import Smooth
from pyomo_relu.network.smooth_functions import Part, SmoothFunction


def _met(part: Part, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, ...]:
    """Whether an interval meets a part, and its ends within the part."""
    a, b = np.maximum(low, part.left), np.minimum(high, part.right)
    met = a <= b
    return met, np.where(met, a, low), np.where(met, b, low)


def smooth_support(
    node: Smooth, low: np.ndarray, high: np.ndarray, slope: np.ndarray, sign: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """The highest line of the given slope below each unit over its interval.

    ``sign=-1`` is the same for the negative function. All arrays broadcast; the line holds
    for the true function and for computed values.

    Parameters
    ----------
    low, high, slope : (N, size) arrays

    Returns
    -------
    constant, touch : arrays
        The constant of the line, and where it nearly touches the function.
    """
    form, alpha = node.form, node.parameter
    low, high, slope = np.broadcast_arrays(low, high, slope)
    if is_s_shaped(node):
        with np.errstate(divide="ignore", under="ignore", over="ignore"):
            const, touch = one_side(node, low, high, sign).support(sign * slope)
        return const, sign * touch
    best, touch = np.full(slope.shape, np.inf), np.array(low)
    for k, part in enumerate(form.parts):
        met, a, b = _met(part, low, high)
        if not met.any():
            continue
        if part.bend * sign > 0:
            x = inverse_derivative(node.function, alpha, k, sign * slope, a, b)
            d = part.derivative(x, alpha)
            error = form.derivative_error(d)
            d = sign * d
            loss = np.maximum(d + error - slope, 0.0) * (x - a)
            loss = np.maximum(loss, np.maximum(slope - d + error, 0.0) * (b - x))
            found = _below(form, alpha, x, slope, sign) - loss * (1.0 + 8.0 * EPS)
        else:
            sides = [_below(form, alpha, end, slope, sign) for end in (a, b)]
            found = np.minimum(*sides)
            x = np.where(sides[0] <= sides[1], a, b)
        touch = np.where(met & (found < best), x, touch)
        best = np.where(met, np.minimum(best, found), best)
    return best, touch


def _below(
    form: SmoothFunction, alpha: float, x: np.ndarray, slope: np.ndarray, sign: float
) -> np.ndarray:
    """``sign * phi(x) - slope * x``, rounded down by all errors."""
    y, shift = form.value(x, alpha), slope * x
    # Twice: the line lies below the true values, and below those of a forward pass.
    return sign * y - shift - (2.0 * form.error(y) + 4.0 * EPS * (abs(y) + abs(shift)))


def _candidates(
    node: Smooth, low: np.ndarray, high: np.ndarray, sign: float, from_left: bool
) -> Iterator[np.ndarray]:
    """Points within the interval where a line from one of its ends may touch the hull."""
    end, other = (low, high) if from_left else (high, low)
    yield other
    for k, part in enumerate(node.form.parts):
        met, a, b = _met(part, low, high)
        if part.bend * sign > 0 and met.any():
            yield np.where(met, touching(node, k, end, from_left, a, b), other)
    for kink in node.form.kinks:
        yield np.clip(kink, low, high)


def smooth_slope_range(
    node: Smooth, low: np.ndarray, high: np.ndarray, sign: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Slopes of the lower hull at its left and right end; the upper hull for sign -1.

    For the upper hull the slopes are those of the negative function. They are nearly
    right, which is enough: any slope gives a valid line.
    """
    if is_s_shaped(node):
        with np.errstate(under="ignore"):
            left, right = one_side(node, low, high, sign).slope_range()
        return (left, right) if sign > 0.0 else (-right, -left)
    value, alpha = node.form.value, node.parameter
    sides = []
    for from_left, end in ((True, low), (False, high)):
        start, turn = value(end, alpha), 1.0 if from_left else -1.0
        own = turn * sign * _inner_slope(node, end, from_left)
        # At an end that touches a bent part the slope is the derivative there.
        at_end = np.where(_bends_away(node, end, from_left, sign), np.inf, own)
        best = np.full(np.shape(end), np.inf)
        for x in _candidates(node, low, high, sign, from_left):
            near = abs(x - end) <= 1e-7 * (1.0 + abs(end))
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                chord = (value(x, alpha) - start) / (x - end)
            best = np.minimum(best, np.where(near, at_end, turn * sign * chord))
        # Where no point is away from the end, the slope is the derivative.
        sides.append(turn * np.where(np.isfinite(best), best, own))
    return sides[0], sides[1]


def _inner_slope(node: Smooth, end: np.ndarray, from_left: bool) -> np.ndarray:
    """The derivative at an end of an interval, from inside."""
    result = np.zeros(np.shape(end))
    for part in node.form.parts:
        if from_left:
            own = (part.left <= end) & (end < part.right)
        else:
            own = (part.left < end) & (end <= part.right)
        if own.any():
            at = np.where(own, end, np.clip(0.0, part.left, part.right))
            result = np.where(own, part.derivative(at, node.parameter), result)
    return result


def _bends_away(node: Smooth, end: np.ndarray, from_left: bool, sign: float) -> np.ndarray:
    """Whether the function leaves an end on a part where its lower hull is not."""
    result = np.zeros(np.shape(end), dtype=bool)
    for part in node.form.parts:
        if part.bend * sign < 0:
            if from_left:
                result |= (part.left <= end) & (end < part.right)
            else:
                result |= (part.left < end) & (end <= part.right)
    return result


def middle_slope(
    node: Smooth,
    low: np.ndarray,
    high: np.ndarray,
    ends: tuple[np.ndarray, np.ndarray],
    sign: float,
) -> np.ndarray:
    """Slope of the lower hull at the middle of the interval, given those at its ends."""
    left, right = ends
    middle = 0.5 * (low + high)
    slope = np.where(np.isfinite(left), left, 0.0)
    for part in node.form.parts:
        if part.bend * sign > 0:
            met, _, _ = _met(part, low, high)
            inside = (part.left <= middle) & (middle <= part.right)
            at = np.where(inside, middle, np.clip(0.0, part.left, part.right))
            tangent = sign * part.derivative(at, node.parameter)
            found = np.where(inside, tangent, right)
            slope = np.where(met & (middle >= part.left), found, slope)
    return np.minimum(np.maximum(slope, left), right)


class SmoothHull:
    """The lines of a smooth node over intervals; what the rules share is found once.

    Parameters
    ----------
    node : Smooth
    low, high : (N, size) arrays
    """

    def __init__(self, node: Smooth, low: np.ndarray, high: np.ndarray) -> None:
        self.node, self.low, self.high = node, low, high
        self._ranges: dict[float, tuple[np.ndarray, np.ndarray]] = {}
        self._s_shaped = SShapedLines(node, low, high) if is_s_shaped(node) else None

    def slope_range(self, sign: float) -> tuple[np.ndarray, np.ndarray]:
        """What :func:`smooth_slope_range` gives."""
        if sign not in self._ranges:
            found = smooth_slope_range(self.node, self.low, self.high, sign)
            self._ranges[sign] = found
        return self._ranges[sign]

    def slope(self, rule: str, sign: float) -> np.ndarray:
        """The slope that a rule of :mod:`pyomo_relu.bounds.linear` picks from the hull's."""
        node, low, high = self.node, self.low, self.high
        if rule == "constant":
            return np.zeros(np.shape(low))
        left, right = self.slope_range(sign)
        with np.errstate(invalid="ignore"):
            if rule == "zero":
                slope = np.minimum(np.maximum(0.0, left), right)
            elif rule == "one":
                slope = np.where(abs(left) > abs(right), left, right)
            elif rule == "parallel":
                width = np.where(high > low, high - low, 1.0)
                slope = sign * (node(high) - node(low)) / width
                slope = np.minimum(np.maximum(slope, left), right)
            else:
                slope = middle_slope(node, low, high, (left, right), sign)
        return np.where(np.isfinite(slope) & (abs(slope) < STEEPEST), slope, 0.0)

    def lines(self, rule: str) -> Lines:
        """Lines below and above each unit, arrays (N, size)."""
        if self._s_shaped is not None:
            return self._s_shaped.lines(rule)
        with np.errstate(under="ignore", over="ignore"):
            below, above = self.slope(rule, 1.0), self.slope(rule, -1.0)
            box = self.node, self.low, self.high
            return Lines(
                below,
                smooth_support(*box, below, 1.0)[0],
                -above,
                -smooth_support(*box, above, -1.0)[0],
            )


def smooth_lines(node: Smooth, low: np.ndarray, high: np.ndarray, rule: str) -> Lines:
    """Lines below and above each unit over ``[low, high]``, arrays (N, size).

    Parameters
    ----------
    rule : str
        One of the rules in the table of :mod:`pyomo_relu.bounds.linear`.
    """
    return SmoothHull(node, low, high).lines(rule)


#: The rules whose lines a linear program has for each unit: at both ends of the hulls, and
#: in between.
RULES_OF_ROWS = ("adaptive", "zero", "one")


def lines_of_units(
    node: Smooth, low: np.ndarray, high: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Rows ``lower <= y - slope * x <= upper`` of each unit over its interval.

    Parameters
    ----------
    low, high : (size,) arrays

    Yields
    ------
    slope, lower, upper : (size,) arrays
    """
    hull = SmoothHull(node, low[None], high[None])
    for rule in RULES_OF_ROWS:
        lines = hull.lines(rule)
        none = np.full(low.shape, np.inf)
        yield lines.lower_slope[0], lines.lower_const[0], none
        yield lines.upper_slope[0], -none, lines.upper_const[0]


def steepest(node: Smooth, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """A bound on ``|phi'|`` over ``[low, high]``, rounded up.

    On each part the derivative is monotone, so that it is largest at an end.
    """
    found = np.zeros(np.shape(low))
    for part in node.form.parts:
        met, a, b = _met(part, low, high)
        for end in (a, b):
            d = part.derivative(end, node.parameter)
            d = abs(d) + node.form.derivative_error(d)
            found = np.where(met, np.maximum(found, d), found)
    return found
