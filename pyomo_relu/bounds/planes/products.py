r"""Planes of a product of an input and what a curve bounds: a price times the demand at it.

Let :math:`\underline s(x) \le s \le \overline s(x)` between two curves of pieces, over an
interval of :math:`x`. McCormick's planes of :math:`x s` know the ends of both intervals alone:
a price that is high and a demand that is high are one of their corners. The best plane
:math:`\alpha x + \beta s + \gamma` above the product at a point :math:`(\hat x, \hat s)` knows
the curves: for a given :math:`\beta`, what it has to be above is

.. math::
    g_\beta(x) = \max_{s \in \{\underline s(x), \overline s(x)\}} (x - \beta)\, s ,

since the product is linear in :math:`s`, so :math:`\alpha x + \gamma` is an edge of the hull of
:math:`g_\beta`, and the height at the point is convex in :math:`\beta`. Slopes are found on
samples; the constant is the exact one, since :math:`g_\beta` is quadratic on each piece.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds.backward import TINY

#: Samples inside of each piece; how many slopes are tried at once, and how often between the
#: two next to the best one.
INSIDE, TRIED, TURNS = 2, 9, 3
#: A point this near to an end of the interval, as a share of its width, is moved inside.
AT_END = 1e-6


@dataclass(frozen=True)
class Between:
    """What lies between two curves over one interval.

    Attributes
    ----------
    x : (N,) array
        Increasing, N >= 2; the curves are linear between two neighbours.
    low, high : (N,) arrays
        Of the lower and of the upper curve.
    """

    x: np.ndarray
    low: np.ndarray
    high: np.ndarray


def between(
    low: float,
    high: float,
    least: float,
    most: float,
    lower: tuple[np.ndarray, np.ndarray] | None,
    upper: tuple[np.ndarray, np.ndarray] | None,
) -> Between:
    """What numbers from ``least`` to ``most``, and curves, leave over an interval.

    Parameters
    ----------
    low, high : float
        Ends of the interval, ``low < high``.
    least, most : float
        Finite.
    lower, upper : (x, values), optional
        Points of the curves, which reach over the interval.
    """
    grid = [np.array([low, high])]
    for curve, limit in ((lower, least), (upper, most)):
        if curve is None:
            continue
        inner = curve[0][(low < curve[0]) & (curve[0] < high)]
        own = np.concatenate([[low], inner, [high]])
        away = np.interp(own, *curve) - limit
        cross = np.flatnonzero(away[:-1] * away[1:] < 0.0)
        share = away[cross] / (away[cross] - away[cross + 1])
        grid += [inner, own[cross] + share * (own[cross + 1] - own[cross])]
    x = np.unique(np.clip(np.concatenate(grid), low, high))
    below, above = np.full(len(x), least), np.full(len(x), most)
    if lower is not None:
        below = np.maximum(below, np.interp(x, *lower))
    if upper is not None:
        above = np.minimum(above, np.interp(x, *upper))
    # Where the curves leave nothing there is nothing to be above of, either.
    return Between(x, below, np.maximum(above, below))


def plane_of_product(
    part: Between, x: float, s: float, sign: float, margin: float = 0.0
) -> tuple[float, float, float]:
    """The plane above ``sign`` times the product that is lowest at a point, nearly.

    Parameters
    ----------
    part : Between
    x, s : float
        The point.
    sign : float
        1 or -1.
    margin : float
        How far the curves may be from what they stand for.

    Returns
    -------
    alpha, beta, gamma : float
        ``sign * x * s <= alpha * x + beta * s + gamma`` wherever ``s`` is between the
        curves, in exact arithmetic.
    """
    first, last = float(part.x[0]), float(part.x[-1])
    room = AT_END * (last - first)
    x = min(max(x, first + room), last - room)
    shares = np.arange(INSIDE + 1) / (INSIDE + 1)

    def sampled(values: np.ndarray) -> np.ndarray:
        steps = np.diff(values)[:, None] * shares
        return np.append((values[:-1, None] + steps).ravel(), values[-1])

    at, low, high = (sampled(v) for v in (part.x, part.low, part.high))
    left = max(int(np.searchsorted(at, x)), 1)
    ends = min(sign * first, sign * last), max(sign * first, sign * last)
    best = (np.inf, 0.0, 0.0)
    for _ in range(TURNS):
        betas = np.linspace(ends[0], ends[1], TRIED)
        slope = sign * at - betas[:, None]
        g = np.maximum(slope * low, slope * high)
        heights, alphas = _edges(at, g, left, x)
        heights = heights + betas * s
        k = int(heights.argmin())
        if heights[k] < best[0]:
            best = float(heights[k]), float(alphas[k]), float(betas[k])
        ends = float(betas[max(k - 1, 0)]), float(betas[min(k + 1, TRIED - 1)])
    _, alpha, beta = best
    return alpha, beta, _constant(part, alpha, beta, sign, margin)


def _edges(
    at: np.ndarray, g: np.ndarray, left: int, x: float
) -> tuple[np.ndarray, np.ndarray]:
    """Heights at ``x`` and slopes of the edges above some curves ``g`` (B, N) there."""
    a, b = at[:left], at[left:]
    apart = b - a[:, None]
    rise = (g[:, None, left:] - g[:, :left, None]) / apart
    height = g[:, :left, None] + rise * (x - a)[:, None]
    flat = height.reshape(len(g), -1)
    k = flat.argmax(axis=1)
    each = np.arange(len(g))
    return flat[each, k], rise.reshape(len(g), -1)[each, k]


def _constant(
    part: Between, alpha: float, beta: float, sign: float, margin: float
) -> float:
    """The least constant with which a plane of given slopes is above the product."""
    x = part.x
    reach, worst, tall = float(abs(x).max()), -np.inf, 0.0
    for s in (part.low, part.high):
        top = float(((sign * x - beta) * s - alpha * x).max())
        m = np.diff(s) / np.diff(x)
        # A kink may be off by the rounding of its place.
        tall = max(tall, float(abs(s).max() + abs(m).max() * reach))
        bent = np.flatnonzero(sign * m < 0.0)
        if len(bent):
            # The derivative, sign * s(x) + (sign * x - beta) * m - alpha, is 0 there.
            a, slope, value = x[bent], m[bent], s[bent]
            rate = sign * value + (sign * a - beta) * slope - alpha
            step = np.clip(rate / (-2.0 * sign * slope), 0.0, np.diff(x)[bent])
            here = (sign * (a + step) - beta) * (value + slope * step)
            top = max(top, float((here - alpha * (a + step)).max()))
        worst = max(worst, top)
    away = reach + abs(beta)
    size = away * tall + abs(alpha) * reach
    return worst + margin * away + 32.0 * EPS * size + TINY
