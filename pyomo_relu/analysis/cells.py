"""Convex cells in 0, 1 or 2 dimensions, and cutting all of them along lines.

A cell is the list of its vertices, in cyclic order in the plane. All cells share one
flat array, so that a function is evaluated at all vertices at once and only the few
cells that its zero line crosses are touched one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Cells:
    """Convex cells.

    Attributes
    ----------
    vertices : (V, d) array
        Cell after cell.
    start : (R + 1,) int array
        Where the vertices of each cell begin.
    proper : (R,) bool array
        The proper cells partition the box; the others repeat (parts of) borders where
        a step takes its other value.
    """

    vertices: np.ndarray
    start: np.ndarray
    proper: np.ndarray

    def __len__(self) -> int:
        return len(self.proper)

    @property
    def counts(self) -> np.ndarray:
        """(R,) number of vertices of each cell."""
        return np.diff(self.start)

    def points(self, r: int) -> np.ndarray:
        """(m, d) vertices of cell ``r``."""
        return self.vertices[self.start[r] : self.start[r + 1]]

    def at_vertices(self, gradients: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Values at all vertices of affine functions, one set for each cell.

        Parameters
        ----------
        gradients : (R, ..., d) array
        offsets : (R, ...) array

        Returns
        -------
        (V, ...) array
        """
        x = self.vertices
        value = np.repeat(offsets, self.counts, axis=0)
        for k in range(x.shape[1]):
            slope = np.repeat(gradients[..., k], self.counts, axis=0)
            value = value + slope * x[:, k].reshape(-1, *[1] * (slope.ndim - 1))
        return value

    def lowest(self, values: np.ndarray) -> np.ndarray:
        """(R, ...) smallest of the (V, ...) values at each cell's vertices."""
        return np.minimum.reduceat(values, self.start[:-1], axis=0)

    def highest(self, values: np.ndarray) -> np.ndarray:
        """(R, ...) largest of the (V, ...) values at each cell's vertices."""
        return np.maximum.reduceat(values, self.start[:-1], axis=0)

    def measures(self) -> np.ndarray:
        """(R,) length or area of each cell; 1 for a point in a box that is a point."""
        d, x = self.vertices.shape[1], self.vertices
        if d == 0:
            return np.ones(len(self))
        if d == 1:
            return (self.highest(x) - self.lowest(x))[:, 0]
        following = np.arange(1, len(x) + 1)
        following[self.start[1:] - 1] = self.start[:-1]
        # Relative to the first vertex: far from the origin the products would cancel.
        a = x - np.repeat(x[self.start[:-1]], self.counts, axis=0)
        b = a[following]
        cross = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
        return 0.5 * np.abs(np.add.reduceat(cross, self.start[:-1]))

    def replace(
        self,
        removed: np.ndarray,
        points: list[np.ndarray],
        origins: list[int],
        proper: list[bool],
    ) -> tuple[Cells, np.ndarray]:
        """Drop cells and append new ones.

        Returns
        -------
        cells : Cells
        origin : (R',) int array
            From which cell each one came.
        """
        kept = np.flatnonzero(~removed)
        stays = np.repeat(~removed, self.counts)
        counts = np.concatenate(
            [self.counts[kept], np.array([len(p) for p in points], dtype=np.int64)]
        )
        return (
            Cells(
                np.concatenate([self.vertices[stays], *points]),
                np.concatenate([[0], np.cumsum(counts)]),
                np.concatenate([self.proper[kept], np.array(proper, dtype=bool)]),
            ),
            np.concatenate([kept, np.array(origins, dtype=np.int64)]),
        )


def box_cell(lower: np.ndarray, upper: np.ndarray) -> Cells:
    """One cell: a point, an interval or a rectangle, by the length of the arrays."""
    corners = {
        0: np.zeros((1, 0)),
        1: np.array([[0.0], [1.0]]),
        2: np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]),
    }[len(lower)]
    vertices = np.where(corners == 0.0, lower, upper)
    return Cells(vertices, np.array([0, len(corners)]), np.ones(1, dtype=bool))


def halves(
    points: np.ndarray, h: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """The parts of one convex cell where ``h <= 0`` and where ``h >= 0``.

    Parameters
    ----------
    points : (m, d) array
    h : (m,) array
        An affine function at the vertices, beyond the tolerance on both sides.
    tolerance : float
        A vertex with ``|h|`` up to this lies on the line and belongs to both parts.
    """
    below: list = []
    above: list = []
    m = len(points)
    last = m if m > 2 else m - 1  # a segment has one edge, not two
    for k in range(m):
        value, p = h[k], points[k]
        if value <= tolerance:
            below.append(p)
        if value >= -tolerance:
            above.append(p)
        if k == last:
            break
        j = (k + 1) % m
        other = h[j]
        if (value > tolerance and other < -tolerance) or (
            value < -tolerance and other > tolerance
        ):
            # From the nearer end, so that the crossing stays within the edge.
            if abs(value) <= abs(other):
                q = p + (points[j] - p) * (value / (value - other))
            else:
                q = points[j] + (p - points[j]) * (other / (other - value))
            below.append(q)
            above.append(q)
    return np.array(below), np.array(above)


def cut(
    cells: Cells,
    h: np.ndarray,
    tolerance: np.ndarray,
    active: np.ndarray,
    both: bool,
) -> tuple[Cells, np.ndarray, np.ndarray]:
    """Cut cells along the zero line of a function that is affine on each of them.

    Parameters
    ----------
    h : (V,) array
        Its values at the vertices.
    tolerance : (R,) array
        Values up to this count as 0.
    active : (R,) bool array
        Which cells to cut.
    both : bool
        Repeat what a cell has on the line, as a cell on the other side: the border of
        a step belongs to both of its sides.

    Returns
    -------
    cells : Cells
    origin : (R',) int array
    above : (R',) bool array
        Whether each cell has ``h >= 0``; False for those that are not active.
    """
    width = np.repeat(tolerance, cells.counts)
    sign = (h > width).astype(np.int8) - (h < -width)
    highest, lowest = cells.highest(sign), cells.lowest(sign)
    crossed = active & (highest > 0) & (lowest < 0)
    above = active & (lowest >= 0)
    points: list[np.ndarray] = []
    origins: list[int] = []
    proper: list[bool] = []
    sides: list[bool] = []
    for r in np.flatnonzero(crossed):
        at = slice(cells.start[r], cells.start[r + 1])
        points += halves(cells.vertices[at], h[at], tolerance[r])
        origins += [int(r)] * 2
        proper += [bool(cells.proper[r])] * 2
        sides += [False, True]
    if both:
        zeros = np.add.reduceat((sign == 0).astype(np.int64), cells.start[:-1])
        for r in np.flatnonzero(active & ~crossed & (zeros > 0)):
            at = slice(cells.start[r], cells.start[r + 1])
            points.append(cells.vertices[at][sign[at] == 0])
            origins.append(int(r))
            proper.append(False)
            sides.append(not above[r])
    if not points:
        return cells, np.arange(len(cells)), above
    result, origin = cells.replace(crossed, points, origins, proper)
    return result, origin, np.concatenate([above[~crossed], np.array(sides, dtype=bool)])
