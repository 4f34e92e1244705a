r"""Planes of a network of two free inputs: the convex hull of its graph over any rectangle.

The box is split into the polygons on which the network is affine, once. Over a rectangle
the graph is spanned by its vertices: those of the polygons inside, the points at which their
edges cross the border, and the corners. The plane below an output that is highest at a point
:math:`x` is the dual of a linear program of three rows,

.. math:: \min \sum_i \lambda_i y_i, \quad \sum_i \lambda_i v_i = x, \quad
    \sum_i \lambda_i = 1, \quad \lambda \ge 0,

which goes from triangle to triangle of vertices around :math:`x`: the vertex that is
farthest below the plane through a triangle takes the place of one of its corners. So a
solver that asks at the points of its LPs gets the facets of the hull that it needs. Whatever
the slopes are, the constant makes the plane one below all vertices.

Rounding: the network is within a proved distance of its maps on the polygons
(:mod:`~pyomo_relu.bounds.region_errors`). Computed vertices may be off by a few ulps, as
edges that meet may leave gaps, and vertices that are nearly the same are one: what the network
and a plane may change by over such a distance is taken off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds.backward import TINY
from pyomo_relu.bounds.crown import absolute_gradient, crown_arrays
from pyomo_relu.bounds.plane_regions import LinearRegions
from pyomo_relu.bounds.planes.base import Asked, BoxPlanes, Planes
from pyomo_relu.bounds.planes.relu_layers import relu_layers, value_of
from pyomo_relu.bounds.region_errors import map_errors
from pyomo_relu.network import Network


@dataclass(frozen=True)
class PolygonSettings:
    """What steers the planes of polygons; chosen by hand.

    Attributes
    ----------
    same : float
        Vertices nearer than this share of the box are one.
    most_off : float
        Where rounding may move an output by more than this share of its largest absolute
        value, the network is not taken for polygons.
    steps : int
        Triangles on the way to a plane at most; it is valid whenever that ends.
    """

    same: float = 2.0**-40
    most_off: float = 1e-7
    steps: int = 40
    #: Of the second of two outputs so many times its share is tried at most, and so many
    #: weights between.
    joint: float = 4.0
    turns: int = 8


SETTINGS = PolygonSettings()


class TooRoughError(ValueError):
    """Rounding may move a network too far from its polygons."""


@dataclass
class _Part:
    """The vertices of the graph over one rectangle: points (V, 2) and outputs (q, V)."""

    key: bytes
    points: np.ndarray
    values: np.ndarray
    edges: np.ndarray
    inside: int


class PolygonPlanes(BoxPlanes):
    """A network of two free inputs over rectangles.

    Parameters
    ----------
    network : Network
        Without steps.
    regions : LinearRegions
        Over the box that all others are in.

    Raises
    ------
    TooRoughError
    """

    pointed = True

    def __init__(self, network: Network, regions: LinearRegions) -> None:
        super().__init__(network, regions.lower, regions.upper)
        self.free, self._layers = regions.free, relu_layers(network)
        size = (self.high - self.low)[self.free]
        ends, number = self._edges(regions, size)
        self.points = ends
        self.values = network.evaluate(regions.full(ends)).T
        self.start, self.end = ends[number[:, 0]], ends[number[:, 1]]
        self._y0, self._y1 = self.values[:, number[:, 0]], self.values[:, number[:, 1]]
        self._along = self.end - self.start
        # An edge along an axis divides by next to nothing, and is inside or not.
        tiny = np.where(self._along == 0.0, TINY, self._along)
        self._inverse = 1.0 / tiny
        self.reach = np.maximum(abs(self.low), abs(self.high))[self.free]
        self._margins(regions, size)
        self._last: _Part | None = None

    def _edges(
        self, regions: LinearRegions, size: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The vertices (V, 2), and the edges between them as pairs of numbers (E, 2)."""
        cells, low = regions.cells, self.low[self.free]
        grid = np.round((cells.vertices - low) / (SETTINGS.same * size))
        _, first, number = np.unique(grid, axis=0, return_index=True, return_inverse=True)
        number = number.reshape(-1)
        after = np.arange(1, len(number) + 1)
        after[cells.start[1:] - 1] = cells.start[:-1]
        pairs = np.sort(np.column_stack([number, number[after]]), axis=1)
        pairs = np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)
        return cells.vertices[first], pairs

    def _margins(self, regions: LinearRegions, size: np.ndarray) -> None:
        """How far the network may be from the hulls of its vertices, (q,)."""
        network, nodes = self.network, self.network.outputs
        lows, highs = crown_arrays(network, self.low[None], self.high[None])
        steep = np.concatenate(
            [
                absolute_gradient(
                    network, lows, highs, i, np.arange(network.nodes[i].size)
                )[0]
                for i in nodes
            ]
        )[:, self.free]
        #: So far a vertex may be from where it should be, by axis.
        self._shift = 2.0 * SETTINGS.same * size + 64.0 * EPS * self.reach
        maps = regions.output_values()
        evaluated = network.evaluate(regions.full(regions.cells.vertices))
        scale = np.maximum(abs(self.values).max(axis=1), 1e-300)
        apart = abs(evaluated - maps).max(axis=0) + 64.0 * EPS * scale
        self.margin = map_errors(regions) + apart + 1.01 * steep @ self._shift
        if (self.margin > SETTINGS.most_off * scale).any():
            raise TooRoughError("rounding may move the polygons too far.")

    def evaluate(self, x: np.ndarray) -> np.ndarray:
        if self._layers is None:
            return super().evaluate(x)
        return value_of(self._layers, x)

    # -------------------------------------------------------------------------- boxes
    def over(
        self,
        low: np.ndarray,
        high: np.ndarray,
        stored: np.ndarray | None = None,
        at: np.ndarray | None = None,
        y: np.ndarray | None = None,
    ) -> Planes:
        low, high = self.box(low, high)
        part = self._part(low, high, stored)
        place = 0.5 * (low + high) if at is None else np.clip(at, low, high)
        x = place[self.free]
        sides: dict[float, list[np.ndarray]] = {1.0: [], -1.0: []}
        owners: dict[float, list[int]] = {1.0: [], -1.0: []}
        for j, sign in Asked(self, low, high, stored, place, y).wanted():
            values = sign * part.values[j]
            slope = _highest(part.points, values, x)
            row = np.zeros(self.n + 1)
            row[self.free] = slope
            row[-1] = self._const(part.points, values, slope) - self._off(j, slope)
            sides[sign].append(sign * row)
            owners[sign].append(j)
        below, above = (np.array(sides[s]).reshape(-1, self.n + 1) for s in (1.0, -1.0))
        margin = self.margin
        return Planes(
            below,
            np.array(owners[1.0], dtype=int),
            above,
            np.array(owners[-1.0], dtype=int),
            part.values.min(axis=1) - margin,
            part.values.max(axis=1) + margin,
            part.edges,
            part.inside,
        )

    def joint(
        self, low: np.ndarray, high: np.ndarray, at: np.ndarray, y: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """A plane of two outputs together that cuts a point off.

        Each output for itself may be within its hull where both of them at once are far
        from the graph: a pump that gives much and takes little. With weights
        :math:`c` the sum :math:`c^T y` is one more output over the same polygons, and how
        far the plane below it is above the point is concave in :math:`c`.

        Parameters
        ----------
        low, high : (n,) arrays
            A rectangle inside the first box.
        at : (n,) array
        y : (q,) array
            The point.

        Returns
        -------
        weights, row : (q,) and (n + 1,) arrays, or None
            ``weights @ y >= row[:-1] @ x + row[-1]`` on the graph; None where nothing was
            found that the point breaks.
        """
        low, high = self.box(low, high)
        part = self._part(low, high, None)
        spread = part.values.max(axis=1) - part.values.min(axis=1)
        away = np.where(spread > 0, (self.evaluate(at) - y) / np.maximum(spread, TINY), 0.0)
        if self.q < 2 or not away.any():
            return None
        first, second = np.argsort(-abs(away), kind="stable")[:2].tolist()
        if spread[second] <= 0.0:
            return None
        x = np.clip(at[self.free], low[self.free], high[self.free])
        weights = np.zeros(self.q)
        weights[first] = np.copysign(1.0 / spread[first], away[first])
        best: tuple[float, np.ndarray, np.ndarray] | None = None

        def cut_at(share: float) -> float:
            nonlocal best
            weights[second] = share / spread[second]
            values = weights @ part.values
            slope = _highest(part.points, values, x)
            row = np.zeros(self.n + 1)
            row[self.free] = slope
            off = sum(abs(c) * self._off(j, np.zeros(2)) for j, c in enumerate(weights))
            size = 16.0 * EPS * float(abs(weights) @ abs(part.values).max(axis=1))
            moved = 1.01 * float(abs(slope) @ self._shift)
            row[-1] = self._const(part.points, values, slope) - off - moved - size
            height = float(row[:-1] @ at + row[-1] - weights @ y)
            if best is None or height > best[0]:
                best = height, weights.copy(), row
            return height

        shares = [-SETTINGS.joint, 0.0, SETTINGS.joint]
        heights = [cut_at(share) for share in shares]
        for _ in range(SETTINGS.turns):
            # Of three points of a concave function the one in the middle is the highest, or
            # an end; the wider gap beside it is halved.
            k = min(max(int(np.argmax(heights)), 1), len(shares) - 2)
            gaps = shares[k] - shares[k - 1], shares[k + 1] - shares[k]
            place = k if gaps[0] > gaps[1] else k + 1
            share = 0.5 * (shares[place - 1] + shares[place])
            shares.insert(place, share)
            heights.insert(place, cut_at(share))
        if best is None or best[0] <= 0.0:
            return None
        return best[1], best[2]

    def _const(self, points: np.ndarray, y: np.ndarray, slope: np.ndarray) -> float:
        """The constant of the plane of a slope below all points, less its rounding."""
        const = float((y - points @ slope).min())
        size = abs(slope) @ self.reach + float(abs(y).max())
        return const - 16.0 * EPS * size - TINY

    def _off(self, j: int, slope: np.ndarray) -> float:
        return float(self.margin[j] + 1.01 * abs(slope) @ self._shift)

    def _part(self, low: np.ndarray, high: np.ndarray, stored: np.ndarray | None) -> _Part:
        """The vertices over a rectangle; edges that may be in it are ``stored``."""
        key = low.tobytes() + high.tobytes()
        if self._last is not None and self._last.key == key:
            return self._last
        a, b = low[self.free], high[self.free]
        which = np.arange(len(self.start)) if stored is None else stored
        start, inverse = self.start[which], self._inverse[which]
        one, other = (a - start) * inverse, (b - start) * inverse
        first = np.maximum(np.minimum(one, other).max(axis=1), 0.0)
        last = np.minimum(np.maximum(one, other).min(axis=1), 1.0)
        kept = np.flatnonzero(first <= last)
        which, first, last = which[kept], first[kept], last[kept]
        start, along = self.start[which], self._along[which]
        y0 = self._y0[:, which]
        rise = self._y1[:, which] - y0
        corners = np.array([[a[0], a[1]], [b[0], a[1]], [b[0], b[1]], [a[0], b[1]]])
        full = np.tile(low, (4, 1))
        full[:, self.free] = corners
        points = np.concatenate(
            [corners, start + first[:, None] * along, start + last[:, None] * along]
        )
        values = np.concatenate(
            [self.network.evaluate(full).T, y0 + first * rise, y0 + last * rise], axis=1
        )
        middle = start + (0.5 * (first + last))[:, None] * along
        # An input that has one value only is no reason to be outside.
        single = a == b
        inside = (((middle > a) & (middle < b)) | single).all(axis=1)
        count = int(np.count_nonzero(inside & ((first < last) | single.any())))
        self._last = _Part(key, points, values, which, count)
        return self._last


def _highest(points: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The slope of the plane below points that is highest at ``x``, (2,).

    Parameters
    ----------
    points : (V, 2) array
        The first four are the corners of a rectangle around ``x``, in cyclic order.
    y : (V,) array
    x : (2,) array
    """
    (a0, a1), (b0, b1) = points[0].tolist(), points[2].tolist()
    wide, tall = b0 - a0, b1 - a1
    if wide == 0.0 or tall == 0.0:
        slope, k = np.zeros(2), int(wide == 0.0)
        slope[k] = _edge_below(points[:, k], y, float(x[k]))
        return slope
    # Of the two triangles of the rectangle the one that holds the point.
    s = (float(x[0]) - a0) / wide if wide > 0 else 0.0
    t = (float(x[1]) - a1) / tall if tall > 0 else 0.0
    basis = [0, 2, 1 if s >= t else 3]
    size = float(abs(y).max())
    slope = np.zeros(2)
    for _ in range(SETTINGS.steps):
        corners = [(*points[i].tolist(), float(y[i])) for i in basis]
        (p0, p1, pv), (q0, q1, qv), (r0, r1, rv) = corners
        u0, u1, v0, v1 = q0 - p0, q1 - p1, r0 - p0, r1 - p1
        area = u0 * v1 - u1 * v0
        if area == 0.0:
            break
        slope = np.array(
            [
                ((qv - pv) * v1 - (rv - pv) * u1) / area,
                ((rv - pv) * u0 - (qv - pv) * v0) / area,
            ]
        )
        gap = y - points @ slope
        k = int(gap.argmin())
        if gap[k] >= gap[basis[0]] - 1e-12 * (size + abs(float(gap[k]))):
            break
        leaving = _leaving(corners, points[k].tolist(), x.tolist(), area)
        if leaving < 0:
            break
        basis[leaving] = k
    return slope


def _edge_below(t: np.ndarray, y: np.ndarray, x: float) -> float:
    """The slope at ``x`` of the highest convex function below points of a line."""
    left, right = t < x, t > x
    if not left.any() or not right.any():
        left, right = t <= x, t > t.min()
    if not left.any() or not right.any():
        return 0.0
    # Of all lines between both sides the lowest one at x is the function's edge.
    (t0, y0), (t1, y1) = (t[left], y[left]), (t[right], y[right])
    run = t1[None] - t0[:, None]
    slope = (y1[None] - y0[:, None]) / np.where(run > 0, run, np.inf)
    height = np.where(run > 0, y0[:, None] + slope * (x - t0[:, None]), np.inf)
    return float(slope.ravel()[int(height.argmin())])


def _leaving(
    corners: list[tuple[float, float, float]], new: list[float], x: list[float], area: float
) -> int:
    """Which corner of a triangle around ``x`` gives way to a new one, so that it stays one."""
    (p0, p1, _), (q0, q1, _), (r0, r1, _) = corners

    def weights(z0: float, z1: float) -> tuple[float, float, float]:
        second = ((z0 - p0) * (r1 - p1) - (z1 - p1) * (r0 - p0)) / area
        third = ((q0 - p0) * (z1 - p1) - (q1 - p1) * (z0 - p0)) / area
        return 1.0 - second - third, second, third

    best, ratio = -1, np.inf
    for i, (have, change) in enumerate(zip(weights(*x), weights(*new))):
        if change > 1e-14 and max(have, 0.0) / change < ratio:
            best, ratio = i, max(have, 0.0) / change
    return best
