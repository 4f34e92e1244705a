r"""Continuous piecewise-linear curves near smooth units, with few pieces for their error.

A curve stays within the corridor :math:`\phi(x) - e \le c(x) \le \phi(x) + e` over an
interval. Where :math:`\phi` is convex a piece may be longest if both its ends are on the lower
side of the corridor and it touches the upper one in between: the error is :math:`e` three
times, with both signs. A chord of a convex function is off by up to
:math:`h^2 \phi'' / 8` over a length :math:`h`, and may be by :math:`2 e` here, so that there are
about

.. math:: \frac{1}{4 \sqrt e} \int_l^u \sqrt{|\phi''(x)|}\, dx

pieces. From the left end each piece goes as far as the lines that see through the corridor
from its first vertex, and leaves it where it must: on a convex part on the lower side, on a
concave one on the upper side, and through an inflection point from one to the other. Then
the corridor is narrowed as far as it has a curve of as many pieces.

The corridor is looked at on a grid. How far the curve is from the function is computed
afterwards, between the points of the grid, too (:mod:`~pyomo_relu.bounds.difference.units`).

Source: Imai and Iri, Journal of Information Processing 9(3), 1986 (polylines in a corridor).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyomo_relu.network import PiecewiseLinear, Smooth

#: Points where second derivatives are looked at to space the grid.
COARSE = 400


@dataclass(frozen=True)
class CurveSettings:
    """How curves are searched for.

    Attributes
    ----------
    points_per_piece : int
        Points of the grid for each piece that is expected. With 24 the error is 0.3 % above
        that on the grid.
    fewest_points : int
        Points of a grid at least.
    window : int
        Points that one step of the search looks at.
    narrowings : int
        Halvings (of the logarithm) when a corridor is narrowed; 12 leave 0.2 %.
    most_narrowed : int
        No corridor of a curve of more pieces is narrowed: it would gain little.
    narrowest : float
        The narrowest corridor that is tried, as a share of the one that was asked for.
    flat : float
        A piece that rises less than this share of the error is made horizontal: solvers drop
        coefficients as small as those.
    most_entries : int
        Entries of the grids that are held at once.
    """

    points_per_piece: int = 24
    fewest_points: int = 96
    window: int = 64
    narrowings: int = 12
    most_narrowed: int = 30
    narrowest: float = 1e-2
    flat: float = 0.01
    most_entries: int = 2**21


SETTINGS = CurveSettings()


def bending(node: Smooth, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, ...]:
    r"""The integral of :math:`\sqrt{|\phi''|}` from the left end of each interval.

    Returns
    -------
    x, integral : (units, COARSE) arrays
    """
    x = low[:, None] + (high - low)[:, None] * np.linspace(0.0, 1.0, COARSE)
    bends = abs(np.diff(node.derivative(x), axis=1)) * np.diff(x, axis=1)
    steps = np.sqrt(bends)
    return x, np.hstack([np.zeros((len(x), 1)), np.cumsum(steps, axis=1)])


def expected_pieces(node: Smooth, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """How many pieces each unit needs for an error of 1; four times fewer per square root."""
    return 0.25 * bending(node, low, high)[1][:, -1]


def _grid(node: Smooth, low: np.ndarray, high: np.ndarray, points: int) -> np.ndarray:
    """(units, points) arguments, half of them spaced by the bend, half evenly."""
    x, integral = bending(node, low, high)
    even = np.linspace(0.0, 1.0, COARSE)
    total = integral[:, -1:]
    share = np.where(total > 0.0, integral / np.where(total > 0.0, total, 1.0), even)
    at = np.linspace(0.0, 1.0, points)
    found = np.stack([np.interp(at, 0.5 * (s + even), a) for s, a in zip(share, x)])
    found[:, 0], found[:, -1] = low, high
    for kink in node.form.kinks:
        near = np.argmin(abs(found - kink), axis=1)
        inner = (near > 0) & (near < points - 1)
        found[inner, near[inner]] = kink
    return found


@dataclass
class Corridor:
    """Grids of some units, with both sides of their corridors.

    Attributes
    ----------
    x, low, high : (units, points) arrays
    """

    x: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def polyline(self, first: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """From values at the left end, as far as possible with each piece.

        Returns
        -------
        count : (units,) int array
            Pieces.
        at : (units, most + 1) int array
            Points of the grid where the vertices are; the last one is repeated.
        y : (units, most + 1) array
            Values there.
        """
        units, points = self.x.shape
        rows = np.arange(units)
        start = np.zeros(units, dtype=int)
        value = np.array(first, dtype=float)
        seen = start.copy()
        least, most = np.full(units, -np.inf), np.full(units, np.inf)
        ats, ys = [start.copy()], [value.copy()]
        count = np.zeros(units, dtype=int)
        offsets = np.arange(1, SETTINGS.window + 1)
        while (start < points - 1).any():
            # Slopes of the lines from the last vertex to the sides of the next points.
            index = np.minimum(seen[:, None] + offsets, points - 1)
            away = self.x[rows[:, None], index] - self.x[rows, start][:, None]
            away = np.where(away > 0.0, away, 1.0)
            rise = self.low[rows[:, None], index] - value[:, None]
            below = np.maximum.accumulate(np.maximum(rise / away, least[:, None]), axis=1)
            rise = self.high[rows[:, None], index] - value[:, None]
            above = np.minimum.accumulate(np.minimum(rise / away, most[:, None]), axis=1)
            past = seen[:, None] + offsets > points - 1
            stop = (below > above) | past
            blocked = stop.any(axis=1)
            k = np.where(blocked, np.argmax(stop, axis=1), offsets[-1])
            before = np.maximum(k - 1, 0)
            old = (least, most)
            least = np.where(k > 0, below[rows, before], least)
            most = np.where(k > 0, above[rows, before], most)
            seen = np.minimum(seen + k, points - 1)
            done = blocked & (start < points - 1)
            if not done.any():
                continue
            # What comes next rises above all lines or falls below them.
            beyond = np.minimum(k, offsets[-1] - 1)
            rises = below[rows, beyond] > np.maximum(old[0], least)
            slope = np.where(rises, most, least)
            with np.errstate(invalid="ignore"):  # units that are done have no lines
                slope = np.where(past[rows, beyond], 0.5 * (least + most), slope)
            step = self.x[rows, seen] - self.x[rows, start]
            value = np.where(done, value + slope * step, value)
            start = np.where(done, seen, start)
            count += done
            least, most = np.where(done, -np.inf, least), np.where(done, np.inf, most)
            ats.append(start.copy())
            ys.append(value.copy())
        return count, np.stack(ats, axis=1), np.stack(ys, axis=1)


def _best_polyline(
    x: np.ndarray, y: np.ndarray, error: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The shortest of the polylines that begin on either side and in the middle."""
    corridor = Corridor(x, y - error[:, None], y + error[:, None])
    found = [corridor.polyline(y[:, 0] + side * error) for side in (-1.0, 1.0, 0.0)]
    most = max(at.shape[1] for _, at, _ in found)

    def wide(a: np.ndarray) -> np.ndarray:
        return np.pad(a, ((0, 0), (0, most - a.shape[1])), mode="edge")

    counts = np.stack([n for n, _, _ in found])
    best = np.argmin(counts, axis=0)
    rows = np.arange(len(x))
    at = np.stack([wide(a) for _, a, _ in found])[best, rows]
    values = np.stack([wide(v) for _, _, v in found])[best, rows]
    return counts[best, rows], at, values


def _vertices(
    node: Smooth, low: np.ndarray, high: np.ndarray, error: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Vertices of a curve for each unit: arguments and values."""
    pieces = expected_pieces(node, low, high) / np.sqrt(error)
    points = int(SETTINGS.points_per_piece * (pieces.max() + 2)) + SETTINGS.fewest_points
    x = _grid(node, low, high, points)
    y = node(x)
    count, at, values = _best_polyline(x, y, error)
    narrow, wide = np.log(SETTINGS.narrowest * error), np.log(error)
    few = count.max() <= SETTINGS.most_narrowed
    for _ in range(SETTINGS.narrowings if few else 0):
        middle = 0.5 * (narrow + wide)
        fewer, own_at, own_values = _best_polyline(x, y, np.exp(middle))
        good = fewer <= count
        wide, narrow = np.where(good, middle, wide), np.where(good, narrow, middle)
        width = max(at.shape[1], own_at.shape[1])
        at, own_at, values, own_values = (
            np.pad(a, ((0, 0), (0, width - a.shape[1])), mode="edge")
            for a in (at, own_at, values, own_values)
        )
        at = np.where(good[:, None], own_at, at)
        values = np.where(good[:, None], own_values, values)
    found = []
    for i in range(len(x)):
        # Steps in which other units got a vertex repeat the last one.
        new = np.append(True, np.diff(at[i]) > 0)
        own_x, own_y = x[i, at[i][new]], values[i][new]
        for k in range(len(own_y) - 1):
            if abs(own_y[k + 1] - own_y[k]) <= SETTINGS.flat * np.exp(wide[i]):
                own_y[k + 1] = own_y[k]
        found.append((own_x, own_y))
    return found


def curves_of_units(
    node: Smooth, low: np.ndarray, high: np.ndarray, error: np.ndarray
) -> PiecewiseLinear:
    """A node of continuous curves in place of a smooth one.

    Parameters
    ----------
    node : Smooth
    low, high : (size,) arrays
        The interval of each argument.
    error : (size,) array
        How far each curve may be from its function over the interval, up to 1 %; positive.

    Returns
    -------
    PiecewiseLinear
        With the name, shape and source of the smooth node. Beyond its interval a curve goes
        straight on.
    """
    slack = 1e-9 * (1.0 + np.maximum(abs(low), abs(high)))
    low, high = low - slack, high + slack
    vertices: list[tuple[np.ndarray, np.ndarray]] = []
    pieces = expected_pieces(node, low, high) / np.sqrt(error)
    # Units of like numbers of pieces share a grid.
    order = np.argsort(pieces, kind="stable")
    sizes = SETTINGS.points_per_piece * (pieces[order] + 2) + SETTINGS.fewest_points
    start = 0
    while start < len(order):
        number = 1
        while (
            start + number < len(order)
            and sizes[start + number] * (number + 1) <= SETTINGS.most_entries
            and sizes[start + number] <= 2.0 * sizes[start]
        ):
            number += 1
        some = order[start : start + number]
        vertices += _vertices(node, low[some], high[some], error[some])
        start += number
    back = np.argsort(order)
    return _as_node(node, [vertices[k] for k in back])


def _as_node(
    node: Smooth, vertices: list[tuple[np.ndarray, np.ndarray]]
) -> PiecewiseLinear:
    """The node through the vertices of each unit."""
    most = max(len(x) for x, _ in vertices) - 1
    breakpoints = np.empty((len(vertices), most - 1))
    slopes, intercepts = (np.empty((len(vertices), most)) for _ in range(2))
    for i, (x, y) in enumerate(vertices):
        n = len(x) - 1
        slope = np.diff(y) / np.diff(x)
        near = np.where(abs(x[1:]) < abs(x[:-1]), np.arange(1, n + 1), np.arange(n))
        slopes[i, :n], slopes[i, n:] = slope, slope[-1]
        constant = y[near] - slope * x[near]
        intercepts[i, :n], intercepts[i, n:] = constant, constant[-1]
        breakpoints[i, : n - 1] = x[1:-1]
        # The others have their breakpoints where the curve doesn't bend any more.
        beyond = x[-1] + (1.0 + abs(x[-1])) * np.arange(1, most - n + 1)
        breakpoints[i, n - 1 :] = beyond
    return PiecewiseLinear(
        node.name,
        node.shape,
        node.source,
        f"{node.function}_curve",
        breakpoints,
        slopes,
        intercepts,
    )
