r"""Where the derivative of a smooth function has a value, and where lines touch it.

Both are looked up in tables that are made once for each function. What is found is nearly
right, which is enough: lines are valid for any point
(:mod:`~pyomo_relu.bounds.smooth_lines`). S-shaped functions and squares have formulas
instead of the first table.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from pyomo_relu.network import Smooth
from pyomo_relu.network.smooth_functions import smooth_function

#: Points of a table, spaced as a hyperbolic sine up to ``FARTHEST``. 0.01 apart near 0, where
#: linear interpolation is right to 1e-5; the slope of a chord is then right to 1e-9.
POINTS, FARTHEST = 2001, 1e4

#: A table of inverse derivatives is improved by so many steps of Newton's method: from 1e-5
#: to the rounding of the derivative.
NEWTON_STEPS = 2


def _grid(left: float, right: float) -> np.ndarray:
    """Points of a table between two ends, which may be infinite; the ends are among them."""
    end = float(np.arcsinh(FARTHEST))
    points = np.sinh(np.linspace(-end, end, POINTS))
    low, high = max(left, -FARTHEST), min(right, FARTHEST)
    inside = points[(points > low) & (points < high)]
    return np.concatenate([[low], inside, [high]])


@lru_cache(maxsize=256)
def _derivatives(name: str, alpha: float, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Increasing derivatives on a bent part, and the points where it has them."""
    part = smooth_function(name).parts[k]
    x = _grid(part.left, part.right)
    with np.errstate(under="ignore", over="ignore"):
        d = part.derivative(np.minimum(x, 700.0), alpha)
    if part.bend < 0:
        x, d = x[::-1], d[::-1]
    # Closer ones are denormal numbers, between which interpolation overflows.
    kept = np.append(True, np.diff(np.maximum.accumulate(d)) > 1e-290)
    return d[kept], x[kept]


def inverse_derivative(
    name: str, alpha: float, k: int, slope: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Where part ``k`` has nearly the given slope, or the end of ``[low, high]`` next to it.

    Parameters
    ----------
    slope, low, high : arrays of one shape
        The interval lies in the part.
    """
    form = smooth_function(name)
    if form.at_slope is not None:
        return np.clip(form.at_slope(slope, alpha), low, high)
    part = form.parts[k]
    if form.left_of_center is not None:
        with np.errstate(divide="ignore", over="ignore"):
            x = form.left_of_center(slope)
        return np.clip(x if part.bend > 0 else -x, low, high)
    d, points = _derivatives(name, alpha, k)
    # Beyond the table is an end of the interval.
    ends = (-np.inf, np.inf) if part.bend > 0 else (np.inf, -np.inf)
    x = np.clip(np.interp(slope, d, points, *ends), low, high)
    for _ in range(NEWTON_STEPS):
        h = 1e-5 * (1.0 + abs(x))
        bend = part.derivative(x + h, alpha) - part.derivative(x - h, alpha)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            step = (slope - part.derivative(x, alpha)) * (2.0 * h / bend)
        # Where the function is nearly straight, the step means nothing.
        far = ~(abs(step) <= 0.1 * (1.0 + abs(x)))
        x = np.clip(np.where(far, x, x + step), low, high)
    return x


@lru_cache(maxsize=256)
def touching_table(
    name: str, alpha: float, k: int, from_left: bool
) -> tuple[np.ndarray, np.ndarray]:
    """End points, and where a line from them touches part ``k``, right or left of them."""
    part = smooth_function(name).parts[k]
    value = smooth_function(name).value
    edge = part.left if from_left else part.right
    # Outside of the part, on the side where ends are; within it a line touches at once.
    ends = _grid(-np.inf, edge) if from_left else _grid(edge, np.inf)
    low = np.full(len(ends), max(part.left, -FARTHEST))
    high = np.full(len(ends), min(part.right, FARTHEST))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        start = value(ends, alpha)
        for _ in range(60):
            t = 0.5 * (low + high)
            gap = part.derivative(t, alpha) * (t - ends) - (value(t, alpha) - start)
            # For a line from the left the gap rises with t on a convex part, and for one
            # from the right it falls; on a concave part it is the other way round.
            beyond = (part.bend * gap > 0) == from_left
            high, low = np.where(beyond, t, high), np.where(beyond, low, t)
    return ends, 0.5 * (low + high)


def touching(
    node: Smooth,
    k: int,
    end: np.ndarray,
    from_left: bool,
    low: np.ndarray,
    high: np.ndarray,
) -> np.ndarray:
    """Where a line from the end of the interval touches part ``k`` within ``[low, high]``.

    From an end within the part, a line touches there at once.
    """
    part = node.form.parts[k]
    edge = part.left if from_left else part.right
    if not np.isfinite(edge):
        return np.clip(end, low, high)
    ends, points = touching_table(node.function, node.parameter, k, from_left)
    inside = end >= edge if from_left else end <= edge
    return np.clip(np.where(inside, end, np.interp(end, ends, points)), low, high)
