"""Planes of a network of one free input: the convex hull of its curve over any interval.

The hull of a curve is that of its points at the ends of the interval and at the
breakpoints inside, and its edges are the planes. No neuron is looked at.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

import numpy as np

from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds.backward import TINY
from pyomo_relu.bounds.curves import ProvedCurves
from pyomo_relu.bounds.planes.base import BoxPlanes, Planes
from pyomo_relu.bounds.planes.relu_layers import relu_layers, value_of
from pyomo_relu.network import Network

Points = list[float]


class CurvePlanes(BoxPlanes):
    """A network of one free input over intervals.

    Parameters
    ----------
    network : Network
    low, high : (n,) arrays
        At most one input has ``low < high``.
    curves : ProvedCurves
        The network's over this box.

    Attributes
    ----------
    points : list of (inputs, values)
        Of each output's curve.
    """

    def __init__(
        self, network: Network, low: np.ndarray, high: np.ndarray, curves: ProvedCurves
    ) -> None:
        super().__init__(network, low, high)
        self.curves, self._layers = curves, relu_layers(network)
        self.points: list[tuple[Points, Points]] = [
            (curves.at[own].tolist(), curves.values[own, j].tolist())
            for j, own in enumerate(curves.own)
        ]

    def evaluate(self, x: np.ndarray) -> np.ndarray:
        if self._layers is None:
            return super().evaluate(x)
        return value_of(self._layers, x)

    def over(
        self,
        low: np.ndarray,
        high: np.ndarray,
        stored: np.ndarray | None = None,
        at: np.ndarray | None = None,
        y: np.ndarray | None = None,
    ) -> Planes:
        low, high = self.box(low, high)
        k = self.curves.free
        a, b = float(low[k]), float(high[k])
        below: list[np.ndarray] = []
        above: list[np.ndarray] = []
        ends = np.empty((2, self.q))
        bends = 0
        for j, (t, values) in enumerate(self.points):
            xs, ys = _part(t, values, a, b)
            bends += len(xs) - 2 if a < b else 0
            margin = float(self.curves.margin[j])
            ends[:, j] = min(ys) - margin, max(ys) + margin
            points = np.array(xs), np.array(ys)
            for found, sign in ((below, 1.0), (above, -1.0)):
                slope, const = _edges(xs, ys, points, sign, margin)
                rows = np.zeros((len(slope), self.n + 1))
                rows[:, k], rows[:, -1] = sign * slope, sign * const
                found.append(rows)
        return Planes(
            np.concatenate(below),
            np.repeat(np.arange(self.q), [len(r) for r in below]),
            np.concatenate(above),
            np.repeat(np.arange(self.q), [len(r) for r in above]),
            ends[0],
            ends[1],
            None,
            bends,
        )


def _part(t: Points, y: Points, a: float, b: float) -> tuple[Points, Points]:
    """The points of a curve over ``[a, b]``, both ends included."""
    i, j = bisect_right(t, a), bisect_left(t, b)
    first = _value(t, y, i, a)
    if a == b:
        return [a], [first]
    return [a, *t[i:j], b], [first, *y[i:j], _value(t, y, j, b)]


def _value(t: Points, y: Points, i: int, x: float) -> float:
    """The curve at ``x``, between the points ``i - 1`` and ``i``."""
    i = min(max(i, 1), len(t) - 1)
    if len(t) == 1:
        return y[0]
    left, right = t[i - 1], t[i]
    if x - left <= right - x:
        return y[i - 1] + (y[i] - y[i - 1]) * ((x - left) / (right - left))
    return y[i] - (y[i] - y[i - 1]) * ((right - x) / (right - left))


def _edges(
    xs: Points,
    ys: Points,
    points: tuple[np.ndarray, np.ndarray],
    sign: float,
    margin: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The lines below a curve (below its negative for sign -1): slopes and constants."""
    kept: list[int] = []
    for k, (x, y) in enumerate(zip(xs, ys)):
        while len(kept) > 1:
            i, j = kept[-2], kept[-1]
            rise, run = ys[j] - ys[i], xs[j] - xs[i]
            if sign * (rise * (x - xs[j]) - (y - ys[j]) * run) < 0.0:
                break
            kept.pop()
        kept.append(k)
    at, value = points
    if len(kept) < 2:
        slope = np.zeros(1)
    else:
        own = np.array(kept)
        slope = sign * np.diff(value[own]) / np.diff(at[own])
    # Whatever the slopes are, the constants make them lines below all points.
    shift = slope[:, None] * at
    const = (sign * value - shift).min(axis=1)
    size = abs(shift).max(axis=1) + abs(value).max()
    return slope, const - (margin + 8.0 * EPS * size + TINY)
