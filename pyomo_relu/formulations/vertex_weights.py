r"""A network of few free inputs as cells, on each of which it is affine.

The cells :math:`C_k` are polytopes, given by their vertices :math:`v_{ki}`: the linear
regions of a network of one or two free inputs, or single points that the inputs can take.
Each vertex gets a weight, and each cell a binary code :math:`B(k)` of
:math:`\lceil \log_2 K \rceil` digits:

.. math::
    x = \sum_{k,i} v_{ki} \lambda_{ki},\quad y = \sum_{k,i} f_k(v_{ki}) \lambda_{ki},\quad
    \sum_{k,i} \lambda_{ki} = 1,\quad \lambda \ge 0,

    \sum_{k:\, B_l(k) = 1} \sum_i \lambda_{ki} = z_l

With :math:`z = B(k)` only the weights of cell :math:`k` are left. The relaxation is the convex
hull of the network's graph over all cells. With ``choice`` each cell has a binary of its
own instead, which is the sum of the weights of its vertices.

Source: Vielma, Ahmed, Nemhauser, "Mixed-integer models for nonseparable piecewise-linear
optimization", Operations Research 58(2), 2010, sections 3.1 and 3.2 (DCC, DLog).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pyomo.environ import Binary

from pyomo_relu.formulations.units import assign
from pyomo_relu.formulations.values import (
    Row,
    RowCollector,
    add_variables,
    combined,
    link,
    link_coefficient,
    term,
)
from pyomo_relu.formulations.whole import WholeFormulation, WholeNetwork

if TYPE_CHECKING:
    from pyomo_relu.bounds.plane_regions import LinearRegions

#: Maps of two cells are the same, and a union of two is convex, up to this relative
#: difference; chosen by hand, far above rounding and far below any solver's tolerance.
SAME = 1e-11
#: Cells with one map are merged where there are no more; beyond, it costs more than it gains.
MOST_TO_MERGE = 100
#: Outputs whose values are larger get a variable of order one each; a million or so is the
#: largest that rows of order one take with coefficients that solvers keep.
LARGE = 2.0**20
#: A range of values is widened by this share of the largest one; chosen by hand, far above
#: rounding and far below any solver's tolerance.
RANGE = 1e-12
#: A point counts as inside of a simplex where its coordinates there are above minus this.
INSIDE = 1e-9


@dataclass(frozen=True)
class CellsOfInputs:
    """Cells of the free inputs, and the outputs at their vertices.

    Attributes
    ----------
    free : (d,) int array
        Positions of the free inputs.
    vertices : (V, d) array
        Cell after cell, those of a polygon in cyclic order, those of an interval in
        increasing order.
    values : (V, n_outputs) array
    start : (K + 1,) int array
        Where the vertices of each cell begin.
    """

    free: np.ndarray
    vertices: np.ndarray
    values: np.ndarray
    start: np.ndarray

    def __len__(self) -> int:
        return len(self.start) - 1

    def simplices(self) -> np.ndarray:
        """(S, d + 1) vertices of simplices that the cells are cut into, fan by fan.

        A cell of fewer vertices repeats the last one.
        """
        d, found = self.vertices.shape[1], []
        for a, b in zip(self.start[:-1].tolist(), self.start[1:].tolist()):
            if d == 1 and b - a > 1:
                found += [[i, i + 1] for i in range(a, b - 1)]
            elif d < 2 or b - a < 3:
                found.append([min(a + i, b - 1) for i in range(d + 1)])
            else:
                found += [[a, i, i + 1] for i in range(a + 1, b - 1)]
        return np.array(found, dtype=int)

    def weights(self, x: np.ndarray, y: np.ndarray) -> tuple[int, dict[int, float]]:
        """The cell of a point, and the weights of its vertices.

        On a border, the cell whose values are nearest to ``y`` is taken.
        """
        simplices = self.simplices()
        corners = self.vertices[simplices]  # (S, d + 1, d)
        ones = np.ones((*corners.shape[:2], 1))
        system = np.concatenate([corners, ones], axis=2).transpose(0, 2, 1)
        right = np.append(x, 1.0)
        shares = np.clip((np.linalg.pinv(system) @ right), 0.0, None)
        shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1e-300)
        size = np.maximum(np.ptp(self.vertices, axis=0), 1e-300)
        missed = np.abs(np.einsum("sk,skd->sd", shares, corners) - x) / size
        missed = missed.max(axis=1, initial=0.0)
        values = np.einsum("sk,sko->so", shares, self.values[simplices])
        off = np.abs(values - y).max(axis=1)
        near = missed <= missed.min() + INSIDE
        best = int(np.argmin(np.where(near, off, np.inf)))
        cell = int(np.searchsorted(self.start, simplices[best, 0], side="right")) - 1
        found: dict[int, float] = {}
        for v, share in zip(simplices[best].tolist(), shares[best].tolist()):
            found[v] = found.get(v, 0.0) + share
        return cell, found


class WrittenCells(WholeFormulation):
    """Writes a network as cells; made by formulations of whole networks, not by users.

    Parameters
    ----------
    chosen : str
        The name of the formulation that the user chose.
    cells : CellsOfInputs
    choice : bool
        Whether each cell has a binary of its own, in place of its code's digits.
    selectors : sequence of (variable, vertices)
        Binaries of the user's that choose some of the vertices. Where there are any and
        the cells are points, they choose the cell, and there are neither digits nor
        binaries of cells.
    """

    def __init__(
        self,
        chosen: str,
        cells: CellsOfInputs,
        choice: bool,
        selectors: Sequence[tuple[Any, np.ndarray]] = (),
    ) -> None:
        super().__init__(chosen)
        self.cells, self.choice = cells, choice
        self.selectors = list(selectors)

    @property
    def contents(self) -> str:
        return f"{len(self.cells)} cells"

    @property
    def digits(self) -> int:
        """Binaries of the code."""
        return (len(self.cells) - 1).bit_length()

    @property
    def are_selected(self) -> bool:
        """Whether each vertex has a binary of the user's, which then is its weight."""
        chosen = [v for _, members in self.selectors for v in members.tolist()]
        return (
            sorted(chosen)
            == list(range(len(self.cells.vertices)))
            == list(range(len(self.selectors)))
        )

    def weights_in(self, block: Any) -> list[Any]:
        """The variable that is the weight of each vertex, in a block that was written."""
        if not self.are_selected:
            return list(block.weight.values())
        found = {int(members[0]): z for z, members in self.selectors}
        return [found[v] for v in range(len(found))]

    def write_network(self, whole: WholeNetwork) -> None:
        cells, block = self.cells, whole.block
        n = len(cells.vertices)
        if not self.are_selected:
            add_variables(block, "weight", list(range(n)), [0.0] * n, [1.0] * n)
        own = [term(v) for v in self.weights_in(block)]
        rows = RowCollector()
        for i, free in enumerate(cells.free.tolist()):
            column = cells.vertices[:, i]
            terms = [(1.0, whole.input_row(free))]
            rows.zero("argument", free, _centred(terms, column, own))
        scaled = self._add_scaled(block)
        for j, y in enumerate(whole.outputs):
            column, row = cells.values[:, j], term(y)
            if j in scaled:
                column, row = scaled[j][0] * column, term(scaled[j][1])
            self.add_value(rows, j, _centred([(1.0, row)], column, own))
        for j, (factor, v) in scaled.items():
            rows.add("scale", j, link(term(whole.outputs[j]), term(v), factor))
        rows.zero("one", 0, combined([(1.0, w) for w in own], -1.0))
        for k, (z, members) in enumerate(() if self.are_selected else self.selectors):
            terms = [(1.0, own[v]) for v in members.tolist()]
            rows.zero("selected", k, combined([*terms, (-1.0, term(z))]))
        for name, keys, held in self._binaries():
            z = add_variables(block, name, keys, domain=Binary)
            for key, members in zip(keys, held):
                terms = [(1.0, own[v]) for v in members.tolist()]
                rows.zero("cell", key, combined([*terms, (-1.0, term(z[key]))]))
        rows.add_to(block)

    def _add_scaled(self, block: Any) -> dict[int, tuple[float, Any]]:
        """A variable of order one for each large output, and its factor.

        With these outputs in the rows of weights HiGHS 1.16 calls feasible models infeasible
        (range 1e10, however the row is scaled); with rows of two variables it is right.
        """
        sizes = np.abs(self.cells.values).max(axis=0)
        factors = {j: _power(sizes[j]) for j in np.flatnonzero(sizes > LARGE).tolist()}
        ends = [f * self.cells.values[:, j] for j, f in factors.items()]
        low, high = [float(e.min()) for e in ends], [float(e.max()) for e in ends]
        v = add_variables(block, "scaled", list(factors), low, high) if factors else {}
        return {j: (f, v[j]) for j, f in factors.items()}

    @property
    def output_range(self) -> tuple[np.ndarray, np.ndarray]:
        """The values at the vertices, widened by what rounding may add to their sums."""
        low, high = self.cells.values.min(axis=0), self.cells.values.max(axis=0)
        slack = RANGE * np.maximum(np.abs(low), np.abs(high))
        return low - slack, high + slack

    def add_value(self, rows: RowCollector, j: int, row: Row) -> None:
        """Note that output ``j`` is the weighted sum of the values: ``row == 0``."""
        rows.zero("value", j, row)

    def _binaries(self) -> list[tuple[str, list[int], list[np.ndarray]]]:
        """Name and keys of the binaries, and the vertices whose weights each sums up."""
        cell_of = np.repeat(np.arange(len(self.cells)), np.diff(self.cells.start))
        points = len(self.cells) == len(self.cells.vertices)
        if len(self.cells) == 1 or (points and self.selectors):
            return []
        if self.choice:
            keys = list(range(len(self.cells)))
            return [("chosen", keys, [np.flatnonzero(cell_of == k) for k in keys])]
        keys = list(range(self.digits))
        return [("digit", keys, [np.flatnonzero(cell_of >> d & 1) for d in keys])]

    def set_network_values(self, block: Any, x: np.ndarray, y: np.ndarray) -> None:
        cell, weights = self.cells.weights(x[self.cells.free], y)
        assign(block, "weight", lambda v: weights.get(v, 0.0))
        sizes = np.abs(self.cells.values).max(axis=0)
        assign(block, "scaled", lambda j: _power(sizes[j]) * float(y[j]))
        assign(block, "chosen", lambda k: int(cell == k))
        assign(block, "digit", lambda d: cell >> d & 1)


def _power(size: float) -> float:
    """The power of two that brings a size to order one."""
    return float(2.0 ** -np.round(np.log2(size)))


def _centred(terms: list[tuple[float, Row]], column: np.ndarray, own: Sequence[Row]) -> Row:
    """``terms - column @ own``, with weights that sum to 1 and numbers of order one.

    Where a solver would drop the terms' coefficients for that, they are the least it takes.
    """
    middle = (column.max() + column.min()) / 2
    size = np.ptp(column) / 2
    scale = 1.0 if size == 0.0 else link_coefficient(_power(size))
    parts = [(scale * f, row) for f, row in terms]
    parts += [(-scale * float(c - middle), w) for c, w in zip(column, own)]
    return combined(parts, -scale * float(middle))


def cells_of_regions(regions: LinearRegions) -> CellsOfInputs:
    """The linear regions as cells; those of one map are merged where that is convex."""
    gradients, offsets = map(
        np.array, zip(*(regions.output_map(r) for r in range(len(regions.cells))))
    )
    parts = [regions.cells.points(r) for r in range(len(regions.cells))]
    size = np.maximum(np.abs(regions.output_values()).max(axis=0), 1e-300)
    reach = np.maximum(np.abs(regions.cells.vertices).max(axis=0), 1e-300)
    maps = np.concatenate([gradients * reach, offsets[..., None]], axis=2) / size[:, None]
    keys = np.round(maps.reshape(len(parts), -1) / SAME**0.75)
    _, group = np.unique(keys, axis=0, return_inverse=True)
    points: list[np.ndarray] = []
    values: list[np.ndarray] = []
    for g in range(group.max() + 1):
        members = np.flatnonzero(group.ravel() == g)
        first = members[0]
        for part in _merged([parts[r] for r in members]):
            points.append(part)
            values.append(part @ gradients[first].T + offsets[first])
    start = np.cumsum([0, *map(len, points)])
    return CellsOfInputs(
        regions.free, np.concatenate(points), np.concatenate(values), start
    )


def _merged(parts: list[np.ndarray]) -> list[np.ndarray]:
    """Polytopes with convex unions of two joined, again and again."""
    if not 1 < len(parts) <= MOST_TO_MERGE or not parts[0].shape[1]:
        return parts
    sizes = [_hull(p)[1] for p in parts]
    merged = True
    while merged:
        merged = False
        for i in range(len(parts)):
            for j in range(len(parts) - 1, i, -1):
                hull, size = _hull(np.concatenate([parts[i], parts[j]]))
                if 0.0 < size <= (1.0 + SAME) * (sizes[i] + sizes[j]):
                    parts[i], sizes[i] = hull, size
                    del parts[j], sizes[j]
                    merged = True
    return parts


def _hull(points: np.ndarray) -> tuple[np.ndarray, float]:
    """The vertices of a convex hull in cyclic order, and its length or area."""
    if points.shape[1] == 1:
        ends = points[[points[:, 0].argmin(), points[:, 0].argmax()]]
        return ends, float(np.ptp(points))
    from scipy.spatial import ConvexHull, QhullError

    try:
        hull = ConvexHull(points)
    except QhullError:  # flat: a border that a step repeats
        return points, 0.0
    return points[hull.vertices], float(hull.volume)
