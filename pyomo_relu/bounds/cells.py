"""Convex cells in 0, 1 or 2 dimensions, and cutting all of them along lines.

A cell is the list of its vertices, in cyclic order in the plane. All cells share one
flat array, so that a function is evaluated at all vertices at once and only the few
cells that its zero line crosses are touched one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class NewCells:
    """Cells that take the place of others, or are added: their vertices, the cell that
    each came from, and whether each is proper.
    """

    points: list[np.ndarray] = field(default_factory=list)
    origins: list[int] = field(default_factory=list)
    proper: list[bool] = field(default_factory=list)

    def add(self, points: np.ndarray, origin: int, proper: bool) -> None:
        self.points.append(points)
        self.origins.append(origin)
        self.proper.append(bool(proper))


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
        """Values (V, ...) at all vertices of affine functions (R, ..., d) and (R, ...)."""
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

    def replace(
        self, removed: np.ndarray, new: NewCells | None = None
    ) -> tuple[Cells, np.ndarray]:
        """Drop cells and append new ones; also from which cell each one came, (R',)."""
        new = new or NewCells()
        kept, stays = np.flatnonzero(~removed), np.repeat(~removed, self.counts)
        more = np.array([len(p) for p in new.points], dtype=np.int64)
        cells = Cells(
            np.concatenate([self.vertices[stays], *new.points]),
            np.concatenate([[0], np.cumsum([*self.counts[kept], *more], dtype=np.int64)]),
            np.concatenate([self.proper[kept], np.array(new.proper, dtype=bool)]),
        )
        return cells, np.concatenate([kept, np.array(new.origins, dtype=np.int64)])


def box_cell(lower: np.ndarray, upper: np.ndarray) -> Cells:
    """One cell: a point, an interval or a rectangle, by the length of the arrays."""
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    corners = square[: 2 ** len(lower), : len(lower)]
    vertices = np.where(corners == 0.0, lower, upper)
    return Cells(vertices, np.array([0, len(corners)]), np.ones(1, dtype=bool))


def halves(
    points: np.ndarray, h: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """The parts of one convex cell (m, d) where ``h <= 0`` and where ``h >= 0``.

    ``h`` (m,) is an affine function at the vertices, beyond the tolerance on both sides.
    A vertex with ``|h|`` up to the tolerance lies on the line and belongs to both parts.
    """
    below: list[np.ndarray] = []
    above: list[np.ndarray] = []
    m = len(points)
    for k in range(m):
        p, value = points[k], h[k]
        if value <= tolerance:
            below.append(p)
        if value >= -tolerance:
            above.append(p)
        if m <= 2 and k == m - 1:
            break  # a segment has one edge, not two
        j = (k + 1) % m
        q, other = points[j], h[j]
        if min(value, other) < -tolerance and max(value, other) > tolerance:
            # It is measured from the nearer end, so that the crossing stays within the edge.
            if abs(value) > abs(other):
                p, q, value, other = q, p, other, value
            crossing = p + (q - p) * (value / (value - other))
            below.append(crossing)
            above.append(crossing)
    return np.array(below), np.array(above)


def cut(
    cells: Cells, h: np.ndarray, tolerance: np.ndarray, active: np.ndarray, both: bool
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
    new, sides = NewCells(), list[bool]()
    for r in np.flatnonzero(crossed).tolist():
        at = slice(cells.start[r], cells.start[r + 1])
        for part in halves(cells.vertices[at], h[at], tolerance[r]):
            new.add(part, r, cells.proper[r])
        sides += [False, True]
    if both:
        zeros = np.add.reduceat((sign == 0).astype(np.int64), cells.start[:-1])
        for r in np.flatnonzero(active & ~crossed & (zeros > 0)).tolist():
            at = slice(cells.start[r], cells.start[r + 1])
            new.add(cells.vertices[at][sign[at] == 0], r, False)
            sides.append(not above[r])
    if not new.points:
        return cells, np.arange(len(cells)), above
    result, origin = cells.replace(crossed, new)
    return result, origin, np.concatenate([above[~crossed], np.array(sides, dtype=bool)])
