r"""How far curves are from the smooth units they stand for, over any intervals.

On a piece :math:`c(x) = s x + b` and a part of :math:`\phi` that bends one way,
:math:`\phi(x) - c(x)` has one extremum inside, where :math:`\phi'(x) = s`. Between the
breakpoints, the ends of the parts and these points the difference is monotone, so that its
range over an interval is that of its values at the ends of the interval and at such points
inside. What computed points are off by is bounded as for lines
(:func:`~pyomo_relu.bounds.smooth_lines.smooth_support`) and added.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds.smooth_lines import inverse_derivative, smooth_support
from pyomo_relu.network import PiecewiseLinear, Smooth
from pyomo_relu.network.search import Extremes, SortedRows


@dataclass(frozen=True, eq=False)
class UnitErrors:
    """The difference of a smooth node and its curves.

    Attributes
    ----------
    smooth : Smooth
    curves : PiecewiseLinear
    at, least, greatest : (size, k) arrays
        Points where the difference turns, in no order, and the range of its values there;
        infinite points stand for none.
    margin : (size,) array
        What is added to both sides of every range.
    """

    smooth: Smooth
    curves: PiecewiseLinear
    at: np.ndarray
    least: np.ndarray
    greatest: np.ndarray
    margin: np.ndarray

    def over(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of ``smooth(x) - curves(x)`` for x in ``[low, high]``, (N, size) arrays.

        Parameters
        ----------
        low, high : (N, size) arrays
            Within the intervals that the object was made for.
        """
        ends = [self.smooth(x) - self.curves(x) for x in (low, high)]
        least, greatest = np.minimum(*ends), np.maximum(*ends)
        near = 1e-6 * (1.0 + np.maximum(abs(low), abs(high)))
        first, stop = (
            self._places.count_below(low - near),
            self._places.count_to(high + near),
        )
        turns = self._turns.over(first, stop)
        least, greatest = np.minimum(least, turns[0]), np.maximum(greatest, turns[1])
        return least - self.margin, greatest + self.margin

    @cached_property
    def _order(self) -> np.ndarray:
        return np.argsort(self.at, axis=1, kind="stable")

    @cached_property
    def _places(self) -> SortedRows:
        return SortedRows(np.take_along_axis(self.at, self._order, axis=1))

    @cached_property
    def _turns(self) -> Extremes:
        least, greatest = (
            np.take_along_axis(a, self._order, axis=1) for a in (self.least, self.greatest)
        )
        return Extremes(least, greatest)


def unit_errors(
    smooth: Smooth, curves: PiecewiseLinear, low: np.ndarray, high: np.ndarray
) -> UnitErrors:
    """The errors of curves over the (size,) intervals ``[low, high]``."""
    form, alpha = smooth.form, smooth.parameter
    edges = np.hstack(
        [low[:, None], np.clip(curves.breakpoints, low[:, None], high[:, None])]
    )
    ends = np.hstack([edges[:, 1:], high[:, None]])
    slopes, intercepts = curves.slopes, curves.intercepts
    places: list[np.ndarray] = []
    leasts: list[np.ndarray] = []
    greatests: list[np.ndarray] = []
    margin = np.zeros(smooth.size)

    def difference(x: np.ndarray) -> np.ndarray:
        return smooth(x) - (slopes * x + intercepts)

    for k, part in enumerate(form.parts):
        a, b = np.maximum(edges, part.left), np.minimum(ends, part.right)
        met = a <= b
        if not met.any():
            continue
        a, b = np.where(met, a, edges), np.where(met, b, edges)
        x = a
        if part.bend:
            x = inverse_derivative(smooth.function, alpha, k, slopes, a, b)
        # Proved over this piece of this part; what was computed may be short of it.
        under = smooth_support(smooth, a, b, slopes, 1.0)[0] - intercepts
        over = -smooth_support(smooth, a, b, -slopes, -1.0)[0] - intercepts
        values = [difference(point) for point in (a, b, x)]
        short = np.maximum(np.minimum.reduce(values) - under, 0.0)
        short = np.maximum(short, over - np.maximum.reduce(values))
        margin = np.maximum(margin, np.where(met, short, 0.0).max(axis=1))
        for point, value in zip((a, b, x), values):
            places.append(np.where(met, point, np.inf))
            leasts.append(value)
            greatests.append(value)
    size = abs(slopes) * np.maximum(abs(low), abs(high))[:, None] + abs(intercepts)
    y = np.maximum(abs(smooth(low)), abs(smooth(high)))
    rounding = 2.0 * form.error(y + abs(high - low)) + 8.0 * EPS * size.max(axis=1)
    at, least, greatest = (np.hstack(a) for a in (places, leasts, greatests))
    kept = np.isfinite(at).any(axis=0)
    return UnitErrors(
        smooth,
        curves,
        at[:, kept],
        least[:, kept],
        greatest[:, kept],
        2.0 * margin + rounding,
    )
