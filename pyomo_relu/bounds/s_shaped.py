r"""Lines below and above S-shaped units: both sides and all units in one call.

The derivative of sigmoid, tanh, softsign, arc tangent and the error function is even, and
rises up to 0. So :math:`-\phi(-z)` bends as :math:`\phi(z)` does and has the same derivative,
and a line above :math:`\phi` over :math:`[l, u]` is one below :math:`-\phi(-z)` over
:math:`[-u, -l]`: both sides are one problem, stacked in an array (2, N, size).

Below such a function over :math:`[L, U]` the hull follows it from :math:`L` to the point
:math:`t \le 0` where the line from :math:`(U, \phi(U))` touches it, and that line from there
on. A line of slope :math:`s` touches the convex part where :math:`\phi'(x) = s`, for which
there are formulas (:attr:`~pyomo_relu.network.smooth_functions.SmoothFunction.left_of_center`);
what it may be above the function otherwise is taken off, as in
:mod:`pyomo_relu.bounds.smooth_lines`, which has the reasons and serves all other functions.
Lines by three rules for two boxes of 20 units take 0.16 ms of CPU time here, and 1.1 to 1.2 ms
there (best of seven, a busy machine).

Source: as in :mod:`pyomo_relu.bounds.smooth_lines`; that one side is enough is our own.
"""

from __future__ import annotations

import numpy as np

from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds.linear import Lines
from pyomo_relu.bounds.smooth_tables import touching_table
from pyomo_relu.network import Smooth

#: Signs of the lower and of the upper side, to be multiplied with arrays (2, N, size).
BOTH = np.array([1.0, -1.0])[:, None, None]


def is_s_shaped(node: Smooth) -> bool:
    """Whether the functions of this module are about the node."""
    return node.form.left_of_center is not None


class SShapedHull:
    r"""Lower hulls of :math:`\sigma\,\phi(\sigma z)` over intervals.

    Parameters
    ----------
    node : Smooth
        With an S-shaped function.
    low, high : arrays
        Of ``z``: where sigma is -1, the negatives of the arguments' upper and lower ends.
    sign : array or float
        Sigma, 1 or -1, which broadcasts against the intervals.
    """

    def __init__(
        self, node: Smooth, low: np.ndarray, high: np.ndarray, sign: np.ndarray | float
    ) -> None:
        self.node, self.low, self.high, self.sign = node, low, high, sign
        self.value_at_high = self.value(high)
        self.slopes: tuple[np.ndarray, np.ndarray] | None = None
        self.touched = low

    def value(self, z: np.ndarray) -> np.ndarray:
        """The function of ``z``."""
        sign = self.sign
        return np.asarray(sign * self.node.form.value(sign * z, self.node.parameter))

    def derivative(self, z: np.ndarray) -> np.ndarray:
        """Its derivative, which is the same for both signs."""
        return self.node.form.derivative(z, self.node.parameter)

    def touch(self) -> np.ndarray:
        """Where the line from the right end touches the graph; the left end at least."""
        ends, points = touching_table(self.node.function, self.node.parameter, 0, False)
        high = self.high
        at = np.where(high > 0.0, np.interp(high, ends, points), high)
        return np.maximum(at, self.low, out=at)

    def slope_range(self) -> tuple[np.ndarray, np.ndarray]:
        """Slopes of the hull at its left and right end."""
        if self.slopes is None:
            touch = self.touched = self.touch()
            run = self.high - touch
            near = run <= 1e-7 * (1.0 + abs(self.high))
            chord = self.value_at_high - self.value(touch)
            chord /= np.where(near, 1.0, run)
            right = np.where(near, self.derivative(self.high), chord)
            left = np.where(touch > self.low, self.derivative(self.low), right)
            # Rounding may leave the ends in the wrong order.
            self.slopes = np.minimum(left, right), right
        return self.slopes

    def slope(self, rule: str) -> np.ndarray:
        """The slope that a rule of :mod:`pyomo_relu.bounds.linear` picks."""
        if rule == "constant":
            return np.zeros(np.shape(self.low))
        left, right = self.slope_range()
        if rule == "zero":  # no slope is negative
            return left
        if rule == "one":
            return right
        if rule == "parallel":
            width = np.where(self.high > self.low, self.high - self.low, 1.0)
            found = (self.value_at_high - self.value(self.low)) / width
        else:
            middle = 0.5 * (self.low + self.high)
            found = np.where(middle < self.touched, self.derivative(middle), right)
        return np.minimum(np.maximum(found, left), right)

    def _below(self, z: np.ndarray, y: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """``y - slope * z``, rounded down by all errors."""
        shift = slope * z
        # Twice: the line lies below the true values, and below those of a forward pass.
        slack = 2.0 * self.node.form.error(y)
        slack += (4.0 * EPS) * (abs(y) + abs(shift))
        return np.asarray(y - shift - slack)

    def support(self, slope: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The highest line of the given slope below the function over each interval.

        Returns
        -------
        constant, touch : arrays
            The constant of the line, and where it nearly touches the function.
        """
        place = self.node.form.left_of_center
        assert place is not None
        # From an interval right of 0 this is its left end, and nothing is lost there.
        end = np.minimum(self.high, 0.0)
        z = np.maximum(np.minimum(place(slope), end), self.low)
        d = self.derivative(z)
        error = self.node.form.derivative_error(d)
        d -= slope
        loss = np.maximum(d + error, 0.0) * (z - self.low)
        error -= d
        np.maximum(error, 0.0, out=error)
        error *= end - z
        np.maximum(loss, error, out=loss)
        loss *= 1.0 + 8.0 * EPS
        found = self._below(z, self.value(z), slope) - loss
        # Where the function is concave, it is least at an end.
        other = self._below(self.high, self.value_at_high, slope)
        return np.minimum(found, other), np.where(found <= other, z, self.high)


class SShapedLines:
    """The lines of an S-shaped node over intervals; what the rules share is found once.

    Parameters
    ----------
    node : Smooth
    low, high : (N, size) arrays
    """

    def __init__(self, node: Smooth, low: np.ndarray, high: np.ndarray) -> None:
        with np.errstate(under="ignore", over="ignore"):
            stacked = np.stack([low, -high]), np.stack([high, -low])
            self.hull = SShapedHull(node, *stacked, BOTH)

    def lines(self, rule: str) -> Lines:
        """Lines below and above each unit, arrays (N, size).

        Parameters
        ----------
        rule : str
            One of the rules in the table of :mod:`pyomo_relu.bounds.linear`.
        """
        with np.errstate(under="ignore", over="ignore", divide="ignore", invalid="ignore"):
            slope = self.hull.slope(rule)
            slope = np.where(np.isfinite(slope), slope, 0.0)
            const, _ = self.hull.support(slope)
        return Lines(slope[0], const[0], slope[1], -const[1])


def one_side(node: Smooth, low: np.ndarray, high: np.ndarray, sign: float) -> SShapedHull:
    """The lower hulls of a node over intervals of its arguments, those of the negative for
    sign -1; its slopes and touching points are then those of ``-x``."""
    if sign < 0.0:
        return SShapedHull(node, -high, -low, -1.0)
    return SShapedHull(node, low, high, 1.0)
