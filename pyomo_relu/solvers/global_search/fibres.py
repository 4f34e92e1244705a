r"""Vertices of polytopes that stand over cells: what rows leave to a few more columns.

Over a convex cell of the inputs everything that a network gives is affine. With rows
:math:`N r \le \beta(x)`, :math:`\beta` affine on the cell, the points :math:`(x, r)` are a
polytope. A vertex of it has as many of the rows tight as there are columns :math:`r` where
:math:`x` is a vertex of the cell, one more on an edge, two more inside. So :math:`x` is a
vertex of the cell, or where one or two of the lines

.. math:: w \beta(x) = 0, \qquad w N_S = 0 ,

one for each set :math:`S` of rows with one multiplier :math:`w` more than columns, cross
edges or each other. All these :math:`x` are found first; at each, :math:`r` solves
:math:`N_S r = \beta_S(x)` for every regular :math:`S`, and what breaks no row is kept. The
result has all vertices, and only points of the polytope.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np


class NotEnumeratedError(ValueError):
    """The vertices are too many, or rounding could lose one of them."""


@dataclass(frozen=True)
class FibreSettings:
    """What steers the enumeration of vertices; chosen by hand."""

    #: So many free columns, rows, and sets of rows at most.
    columns: int = 3
    rows: int = 24
    sets: int = 3000
    #: So many crossings of lines with cells, and points, at most.
    crossings: int = 20_000
    points: int = 400_000
    #: Rows are as good as parallel where a determinant of rows of size 1 is below the first
    #: number, and regular above the second; between them nobody can tell.
    singular: float = 1e-10
    regular: float = 1e-6
    #: A point may break a row by this share of the row's size.
    feasible: float = 1e-8
    #: Numbers up to this share of the largest are no difference.
    same: float = 1e-11


FIBRES = FibreSettings()


@dataclass
class CellPoints:
    """Vertices of cells, with all that is affine on each cell.

    Attributes
    ----------
    points : (V, c) array
        Values of all columns; those of the free columns don't count.
    limits : (V, R) array
        The right sides of the rows there.
    cell : (V,) int array
        The cell of each; vertices of a cell are in cyclic order, one cell after another.
    """

    points: np.ndarray
    limits: np.ndarray
    cell: np.ndarray

    def __len__(self) -> int:
        return len(self.cell)

    def part(self, at: np.ndarray) -> CellPoints:
        """Some of the points."""
        return CellPoints(self.points[at], self.limits[at], self.cell[at])


def vertices_over(
    cells: CellPoints, rows: np.ndarray, free: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """All vertices of the polytopes ``rows @ r <= limits`` over the cells.

    Parameters
    ----------
    cells : CellPoints
    rows : (R, k) array
        Coefficients of the free columns; a row without any bounds the cell itself.
    free : (k,) int array
        The free columns of the points.

    Returns
    -------
    points : (P, c) array
    cell : (P,) int array
        Empty polytopes have none.

    Raises
    ------
    NotEnumeratedError
        Where there are too many, or where rounding could lose one.
    """
    rows, cells = _needed(rows, cells)
    k, many = len(free), len(rows)
    if k > FIBRES.columns or many > FIBRES.rows or comb(many, k + 1) > FIBRES.sets:
        raise NotEnumeratedError("there are too many free columns or rows.")
    if len(cells) > len(np.unique(cells.cell)):
        cells = _subdivided(cells, _multipliers(rows, k))
    found, of = [], []
    size = 1.0 + abs(cells.limits)
    for some, inverse in _regular(rows, k):
        r = cells.limits[:, some] @ inverse.T
        room = cells.limits - r @ rows.T
        size_r = size + abs(r) @ abs(rows).T
        ok = (room >= -FIBRES.feasible * size_r).all(axis=1)
        points = cells.points[ok].copy()
        points[:, free] = r[ok]
        found.append(points)
        of.append(cells.cell[ok])
        if sum(map(len, of)) > FIBRES.points:
            raise NotEnumeratedError("there are too many vertices.")
    return np.concatenate(found), np.concatenate(of)


def _needed(rows: np.ndarray, cells: CellPoints) -> tuple[np.ndarray, CellPoints]:
    """Rows of size 1, without those that a parallel one implies at all points."""
    scale = abs(rows).max(axis=1, initial=0.0)
    scale = np.where(scale > 0, scale, 1.0)
    rows, limits = rows / scale[:, None], cells.limits / scale
    keep = np.ones(len(rows), dtype=bool)
    for i in range(len(rows)):
        for j in range(len(rows)):
            if i == j or not keep[j] or not keep[i]:
                continue
            if (rows[i] == rows[j]).all() and (limits[:, j] <= limits[:, i]).all():
                keep[i] = False
    # Rows of no free column that hold everywhere say nothing.
    empty = ~rows.any(axis=1)
    keep &= ~(empty & (limits >= 0.0).all(axis=0))
    return rows[keep], CellPoints(cells.points, limits[:, keep], cells.cell)


def _regular(rows: np.ndarray, k: int) -> Iterator[tuple[list[int], np.ndarray]]:
    """Sets of ``k`` rows that determine the free columns, with their inverses."""
    if k == 0:
        yield [], np.zeros((0, 0))
        return
    for some in combinations(range(len(rows)), k):
        part = rows[list(some)]
        norms = np.sqrt((part**2).sum(axis=1))
        if (norms == 0).any():
            continue
        volume = abs(np.linalg.det(part / norms[:, None]))
        if volume < FIBRES.singular:
            continue
        if volume < FIBRES.regular:
            raise NotEnumeratedError("rows are nearly parallel.")
        yield list(some), np.linalg.inv(part)


def _multipliers(rows: np.ndarray, k: int) -> np.ndarray:
    """Multipliers (L, R) of rows that cancel all free columns, one for each set."""
    found = []
    for some in combinations(range(len(rows)), k + 1):
        part = rows[list(some)]
        _, s, v = np.linalg.svd(part.T, full_matrices=True)
        rank = int((s > FIBRES.regular).sum())
        if ((s > FIBRES.singular) & (s <= FIBRES.regular)).any():
            raise NotEnumeratedError("rows are nearly parallel.")
        if rank < k:
            continue  # a smaller set says the same
        w = np.zeros(len(rows))
        w[list(some)] = v[-1] / abs(v[-1]).max()
        w[abs(w) < FIBRES.same] = 0.0
        found.append(w)
    if k:
        for i in np.flatnonzero(~rows.any(axis=1)).tolist():
            found.append(np.eye(len(rows))[i])
    # Parallel rows may have the same multiplier twice, or with the other sign.
    unique = {tuple(np.round(w * np.sign(w[np.flatnonzero(w)[0]]), 9)): w for w in found}
    return np.array(list(unique.values())).reshape(len(unique), len(rows))


def _subdivided(cells: CellPoints, multipliers: np.ndarray) -> CellPoints:
    """The cells' vertices, and where lines cross their edges and each other."""
    if not len(multipliers):
        return cells
    values = cells.limits @ multipliers.T
    size = abs(cells.limits) @ abs(multipliers).T
    values = np.where(abs(values) <= FIBRES.same * size, 0.0, values)
    first, counts = np.unique(cells.cell, return_index=True, return_counts=True)[1:]
    after = np.arange(len(cells)) + 1
    after[first + counts - 1] = first  # of two vertices the edge comes twice
    line, at = np.nonzero((values * values[after] < 0).T)
    if len(line) > FIBRES.crossings:
        raise NotEnumeratedError("too many rows cross the cells.")
    start, end = values[at, line], values[after[at], line]
    new = _between(cells, at, after[at], start / (start - end))
    inner = _crossings(cells, values, first, new, line, multipliers)
    return _joined([cells, new, inner])


def _between(cells: CellPoints, a: np.ndarray, b: np.ndarray, t: np.ndarray) -> CellPoints:
    t = t[:, None]
    return CellPoints(
        cells.points[a] + t * (cells.points[b] - cells.points[a]),
        cells.limits[a] + t * (cells.limits[b] - cells.limits[a]),
        cells.cell[a],
    )


def _joined(parts: list[CellPoints]) -> CellPoints:
    return CellPoints(
        np.concatenate([p.points for p in parts]),
        np.concatenate([p.limits for p in parts]),
        np.concatenate([p.cell for p in parts]),
    )


def _crossings(
    cells: CellPoints,
    values: np.ndarray,
    first: np.ndarray,
    new: CellPoints,
    line: np.ndarray,
    multipliers: np.ndarray,
) -> CellPoints:
    """Where two lines cross inside a cell.

    A line that divides a cell has two ends in it: where it crosses an edge, or a vertex. A
    line with different signs there crosses it in between.
    """
    least = np.minimum.reduceat(values, first, axis=0)
    most = np.maximum.reduceat(values, first, axis=0)
    dividing = (least < 0) & (most > 0)
    names = cells.cell[first]
    parts = []
    for n in np.flatnonzero(dividing.sum(axis=1) > 1).tolist():
        mine = np.flatnonzero(cells.cell == names[n])
        lines = np.flatnonzero(dividing[n]).tolist()
        if len(mine) > 2:
            parts += list(_inside(cells, values, mine, lines, new, line, multipliers))
        if len(parts) > FIBRES.crossings:
            raise NotEnumeratedError("too many rows cross inside cells.")
    return _joined([cells.part(np.zeros(0, dtype=int)), *parts])


def _inside(
    cells: CellPoints,
    values: np.ndarray,
    mine: np.ndarray,
    lines: list[int],
    new: CellPoints,
    line: np.ndarray,
    multipliers: np.ndarray,
) -> Iterator[CellPoints]:
    """Where lines that divide one cell, with these vertices, cross in it."""
    cell = cells.cell[mine[0]]
    for m in lines:
        crossed = np.flatnonzero((line == m) & (new.cell == cell))
        corners = mine[values[mine, m] == 0.0]
        ends = _joined([new.part(crossed), cells.part(corners)])
        for other in (o for o in lines if o > m):
            a, b = (float(ends.limits[e] @ multipliers[other]) for e in (0, 1))
            if a * b < 0:
                pair = np.array([0]), np.array([1])
                yield _between(ends, *pair, np.array([a / (a - b)]))
