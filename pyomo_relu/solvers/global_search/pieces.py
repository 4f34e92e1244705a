"""A subsystem as finitely many polytopes, each by its vertices.

Where the integers of a subsystem have few combinations, and at most two of its inputs are
free in each, its networks have finitely many linear regions. Over each of them all that the
subsystem can do is a polytope: inputs, outputs and its own columns within its own rows. So
for any prices the least cost is at one of finitely many vertices, and a set of polytopes is
as good as the hull of their vertices wherever a mixture of them is allowed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import NEVER, Deadline, TimeUp
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.base.progress import Interruptible
from pyomo_relu.bounds.crown import absolute_gradient, crown_arrays
from pyomo_relu.bounds.curves import is_continuous_and_piecewise_linear
from pyomo_relu.bounds.parallel import run_chunks
from pyomo_relu.bounds.plane_regions import TooManyRegionsError, linear_regions
from pyomo_relu.bounds.region_errors import map_errors
from pyomo_relu.network import Network
from pyomo_relu.presolve.choices import CHOICES, TooManyChoicesError, enumerate_choices
from pyomo_relu.presolve.compose import compose
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.solvers.global_search.fibres import (
    CellPoints,
    NotEnumeratedError,
    vertices_over,
)
from pyomo_relu.solvers.global_search.settings import CELLS, PIECES
from pyomo_relu.solvers.global_search.shares import Share


@dataclass(frozen=True, eq=False)
class Pieces:
    """The polytopes of one subsystem.

    Attributes
    ----------
    points : (P, c) array
        The vertices of all, in the columns of the share.
    piece : (P,) int array
        The polytope of each, which are numbered without gaps.
    choice : (number of pieces,) int array
        The combination of integers of each polytope.
    centre : (number of pieces, n) array
        The middle of its cell.
    margin : (q,) array
        By so much an output may be off: rounding leaves slivers of the inputs to
        neighbouring cells.
    network : Network
        From the drivers to the outputs.
    """

    points: np.ndarray
    piece: np.ndarray
    choice: np.ndarray
    centre: np.ndarray
    margin: np.ndarray
    network: Network

    def __len__(self) -> int:
        return len(self.choice)

    @cached_property
    def order(self) -> np.ndarray:
        """The points sorted by their pieces."""
        return np.argsort(self.piece, kind="stable")

    def points_of(self, pieces: np.ndarray) -> np.ndarray:
        """The numbers of the points of some pieces."""
        wanted = np.zeros(len(self), dtype=bool)
        wanted[pieces] = True
        return np.flatnonzero(wanted[self.piece])


def find_all_pieces(
    p: Problem,
    shares: Sequence[Share],
    deadline: Deadline = NEVER,
    executor: Executor | None = None,
) -> list[Pieces]:
    """The polytopes of all subsystems.

    Parameters
    ----------
    p : Problem
    shares : sequence of Share
    deadline : Deadline
    executor : Executor, optional
        Enumerates them in parallel, with the same result.

    Raises
    ------
    NotEnumeratedError
        Where one has too many combinations, regions or vertices, where more than two of
        its inputs are free, where it has steps, or where its own columns have no bounds.
    TimeUp
        When the deadline has passed.
    """
    enumerations, found, total = [], [], 0
    try:
        for share in shares:
            deadline.check()
            enumerations.append(_Enumeration(p, share))
        for pieces in _enumerated(enumerations, deadline, executor):
            found.append(pieces)
            total += len(found[-1].points)
            if total > PIECES.total:
                raise NotEnumeratedError("there are too many vertices.")
    except (TooManyChoicesError, TooManyRegionsError) as error:
        raise NotEnumeratedError(str(error)) from error
    return found


class _Nothing:
    """What workers keep between enumerations."""

    fingerprint = "nothing is kept between enumerations"


def _pieces_task(
    kept: _Nothing, token: str, common: None, one: _Enumeration
) -> Pieces | NotEnumeratedError:
    """One enumeration on a worker; that it can't be is an answer, too."""
    try:
        return one.pieces()
    except (NotEnumeratedError, TooManyRegionsError) as error:
        return NotEnumeratedError(str(error))


def _enumerated(
    enumerations: Sequence[_Enumeration], deadline: Deadline, executor: Executor | None
) -> Iterator[Pieces]:
    """The polytopes of each, in order."""
    if executor is None or len(enumerations) < 2:
        for one in enumerations:
            deadline.check()
            yield one.pieces()
        return
    clock = Interruptible(deadline.limit)
    found = dict(
        run_chunks(
            _pieces_task, _Nothing(), None, enumerations, executor, clock, "polytopes"
        )
    )
    if clock.keyboard:
        raise KeyboardInterrupt
    for k in range(len(enumerations)):
        pieces = found.get(k)
        if pieces is None:
            raise TimeUp
        if isinstance(pieces, NotEnumeratedError):
            raise pieces
        yield pieces


class _Enumeration:
    """Combinations of integers, regions of the networks, vertices over them."""

    def __init__(self, p: Problem, share: Share) -> None:
        if not all(
            is_continuous_and_piecewise_linear(link.block.network) for link in share.links
        ):
            raise NotEnumeratedError("networks with steps have no regions with vertices.")
        self.share, self.program = share, share.program
        drivers = [p.columns[j] for j in share.drivers]
        wanted = [p.columns[p.n + j] for j in share.outputs]
        queries = sp.eye_array(share.q, format="csr")
        self.network: Network = compose(share.links, drivers, wanted, queries)
        self.bounded = p.bounded[share.outputs]
        self.lower, self.upper = enumerate_choices(
            self.program, PIECES.choices, share.values
        )
        size = np.maximum(1.0, np.minimum(abs(self.lower), abs(self.upper)))
        self.free = self.upper - self.lower > CHOICES.free * size
        outputs = slice(share.n, share.n + share.q)
        self.lower[:, outputs] = self.upper[:, outputs] = 0.0  # the networks say better
        if not (np.isfinite(self.lower).all() and np.isfinite(self.upper).all()):
            raise NotEnumeratedError("an own column has no bounds.")
        if (self.free[:, : share.n].sum(axis=1) > PIECES.inputs).any():
            raise NotEnumeratedError("more than two inputs are free.")
        self.margin = np.zeros(share.q)

    def __getstate__(self) -> dict[str, Any]:
        """All but the user's blocks, which stay where they are."""
        return {**self.__dict__, "share": replace(self.share, links=[])}

    def pieces(self) -> Pieces:
        """All of them."""
        n = self.share.n
        count = self.free[:, :n].sum(axis=1)
        parts = [self._points(np.flatnonzero(count == 0))] if (count == 0).any() else []
        for k in np.flatnonzero(count).tolist():
            parts.append(self._regions(k))
            if sum(len(part) for part, _ in parts) > PIECES.vertices:
                raise NotEnumeratedError("there are too many regions.")
        # Cells are numbered anew, combination after combination.
        points, piece, choice, centre, begin = [], [], [], [], 0
        for cells, of in parts:
            found, at = self._over(cells, of)
            points.append(found)
            names, at = np.unique(at, return_inverse=True)
            piece.append(begin + at)
            begin += len(names)
            choice.append(of[names])
            sums = np.zeros((len(of), n))
            np.add.at(sums, cells.cell, cells.points[:, :n])
            counts = np.bincount(cells.cell, minlength=len(of))[:, None]
            centre.append((sums / np.maximum(counts, 1))[names])
        c = len(self.share.columns)
        return Pieces(
            np.concatenate([np.zeros((0, c)), *points]),
            np.concatenate([np.zeros(0, dtype=int), *piece]),
            np.concatenate([np.zeros(0, dtype=int), *choice]),
            np.concatenate([np.zeros((0, n)), *centre]),
            self.margin,
            self.network,
        )

    # ------------------------------------------------------------------ cells of inputs
    def _points(self, choices: np.ndarray) -> tuple[CellPoints, np.ndarray]:
        """Combinations without a free input: a cell of one point each."""
        n, q = self.share.n, self.share.q
        points = 0.5 * (self.lower[choices] + self.upper[choices])
        points[:, n : n + q] = self.network.evaluate(points[:, :n])
        width = (self.upper - self.lower)[choices, :n]
        self._widen(points[:, n : n + q], np.zeros(q), points[:, :n], width.max(axis=0))
        cell = np.arange(len(choices))
        return CellPoints(points, np.zeros((len(points), 0)), cell), choices

    def _regions(self, k: int) -> tuple[CellPoints, np.ndarray]:
        """The regions of one combination."""
        n, q = self.share.n, self.share.q
        middle = 0.5 * (self.lower[k] + self.upper[k])
        free = self.free[k, :n]
        low = np.where(free, self.lower[k, :n], middle[:n])
        high = np.where(free, self.upper[k, :n], middle[:n])
        regions = linear_regions(self.network, low, high, max_regions=CELLS.most_pieces)
        cells = regions.cells
        points = np.tile(middle, (len(cells.vertices), 1))
        points[:, :n] = regions.full(cells.vertices)
        points[:, n : n + q] = regions.output_values()
        # Edges that meet may leave gaps of some roundings; a fixed input has some, too.
        shift = np.where(free, 0.0, self.upper[k, :n] - self.lower[k, :n])
        if free.sum() > 1:
            shift[free] = PIECES.gap * np.maximum(abs(low), abs(high))[free]
        off, ends = map_errors(regions), np.array([low, high])
        self._widen(points[:, n : n + q], off, ends, shift)
        cell = np.repeat(np.arange(len(cells)), cells.counts)
        found = CellPoints(points, np.zeros((len(points), 0)), cell)
        return found, np.full(len(cells), k)

    def _widen(
        self, y: np.ndarray, off: np.ndarray, x: np.ndarray, shift: np.ndarray
    ) -> None:
        """Let the margin hold for cells; too much is refused.

        Parameters
        ----------
        y : (V, q) array
            Outputs at vertices.
        off : (q,) array
            So far they may be from the networks on their cells.
        x : (N, n) array
            Inputs that span the box of the cells.
        shift : (n,) array
            So far an input may be from its cell.
        """
        if shift.any():
            low, high = x.min(axis=0) - shift, x.max(axis=0) + shift
            bounds = crown_arrays(self.network, low[None], high[None])
            steep = [
                absolute_gradient(
                    self.network, *bounds, i, np.arange(self.network.nodes[i].size)
                )[0]
                for i in self.network.outputs
            ]
            off = off + 1.01 * np.concatenate(steep) @ shift
        size = np.maximum(abs(y).max(axis=0, initial=0.0), 1e-300)
        margin = off + CELLS.margin * size
        if (margin > CELLS.curve_off * np.maximum(size, 1.0)).any():
            raise NotEnumeratedError("rounding may move the regions too far.")
        self.margin = np.maximum(self.margin, margin)

    # -------------------------------------------------------------- own columns and rows
    def _over(self, cells: CellPoints, of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The vertices over cells, within own rows and bounds."""
        n, q = self.share.n, self.share.q
        own = np.arange(n + q, len(self.share.columns))
        free = own[self.free[np.unique(of)][:, own].any(axis=0)]
        known = cells.points.copy()
        known[:, free] = 0.0
        rows, limits = [], []
        at = of[cells.cell]
        for i, j in enumerate(free.tolist()):
            for sign, bounds in ((1.0, self.upper), (-1.0, -self.lower)):
                rows.append(sign * (np.arange(len(free)) == i))
                limits.append(bounds[at, j])
        for a, end in self._sides():
            slack = abs(a[n : n + q]) @ self.margin
            rows.append(a[free])
            limits.append(end - known @ a + slack)
        right = np.array(limits).reshape(len(rows), len(known)).T
        matrix = np.array(rows).reshape(len(rows), len(free))
        return vertices_over(CellPoints(known, right, cells.cell), matrix, free)

    def _sides(self) -> Sequence[tuple[np.ndarray, float]]:
        """The finite sides of own rows, and bounds of outputs, as ``a @ z <= end``."""
        n, dense = self.share.n, self.program.matrix.toarray()
        found = []
        for a, low, high in zip(dense, self.program.row_lower, self.program.row_upper):
            found += [(a, float(high)), (-a, -float(low))]
        unit = np.eye(len(self.share.columns))
        for j in np.flatnonzero(self.bounded).tolist():
            found.append((unit[n + j], float(self.program.upper[n + j])))
            found.append((-unit[n + j], -float(self.program.lower[n + j])))
        return [(a, end) for a, end in found if np.isfinite(end)]
