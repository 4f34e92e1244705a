r"""Subsystems as unions of polytopes: mixed-integer programs over columns, refined.

Each subsystem is split into *groups* of its polytopes
(:mod:`~pyomo_relu.solvers.global_search.pieces`). A binary for each group, and within it a
mixture of the vertices of all its polytopes:

.. math:: \min \; \sum_g c_g^T \lambda_g + c_r^T r \quad\text{so that}\quad
          \sum_g A_g \lambda_g + A_r r = b, \quad
          \mathbf 1^T \lambda_g = b_g, \quad \sum_{g \in u} b_g = 1 .

That is a relaxation whatever the groups are, and exact where each group is one polytope. A
program over groups that are as coarse as can be is small; where its solution mixes polytopes of
a group so that the networks say something else, the group is divided. With few rows few
subsystems mix (Shapley and Folkman), so few are. Points come from the same program over the
polytopes that the mixture is in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.deadline import TimeUp
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.programs import (
    NETWORK_DEFAULTS,
    Answer,
    HighsModel,
    LinearProgram,
    Rows,
    Status,
    matrix_of,
)
from pyomo_relu.programs.highs import Event
from pyomo_relu.solvers.global_search.cost_search import Report, RoundSearch
from pyomo_relu.solvers.global_search.extremes import lower_extremes
from pyomo_relu.solvers.global_search.limits import Limits
from pyomo_relu.solvers.global_search.mip import TOLERANCES
from pyomo_relu.solvers.global_search.pieces import Pieces, Share
from pyomo_relu.solvers.global_search.settings import PIECES


class PieceUnit:
    """A subsystem with its polytopes, and what their vertices do in the coupling rows.

    Attributes
    ----------
    share : Share
    pieces : Pieces
    rows : (t,) int array
        The coupling rows that it touches.
    activity : (P, t) array
    cost : (P,) array
    groups : list of int arrays
        Its polytopes, divided.
    corners : list of int arrays
        For each group the vertices that count.
    size : (n,) array
        How far its drivers can move.
    """

    def __init__(
        self, p: Problem, share: Share, pieces: Pieces, coupling: sp.csc_array
    ) -> None:
        self.share, self.pieces = share, pieces
        own = sp.csr_array(coupling[:, share.columns])
        self.rows = np.flatnonzero(np.diff(own.indptr))
        self.activity = (own[self.rows] @ pieces.points.T).T
        self.cost = pieces.points @ p.cost[share.columns]
        width = np.ptp(pieces.points[:, : share.n], axis=0)
        self.size = np.maximum(width, 1e-300)
        self.corners: list[np.ndarray] = []
        self.groups: list[np.ndarray] = []
        choices = np.unique(pieces.choice)
        if 1 < len(choices) <= PIECES.by_choice:
            for k in choices.tolist():
                self.add(np.flatnonzero(pieces.choice == k))
        else:
            self.add(np.arange(len(pieces)))

    def add(self, group: np.ndarray) -> None:
        """Another group."""
        self.groups.append(group)
        self.corners.append(self.extremes(group))

    def extremes(self, group: np.ndarray) -> np.ndarray:
        """The vertices that a program over some polytopes can need."""
        mine = self.pieces.points_of(group)
        return mine[lower_extremes(self.activity[mine], self.cost[mine])]

    def divide(self, k: int, first: np.ndarray) -> None:
        """Divide a group: the polytopes where ``first`` is true, and the others."""
        group = self.groups[k]
        self.groups[k] = group[first]
        self.corners[k] = self.extremes(group[first])
        self.add(group[~first])


@dataclass
class Columns:
    """A program over groups, and where its columns are.

    Attributes
    ----------
    program : LinearProgram
    unit, group, point : (L,) int arrays
        What each of the first columns is a share of.
    """

    program: LinearProgram
    unit: np.ndarray
    group: np.ndarray
    point: np.ndarray


@dataclass
class Mixed:
    """What a program makes of one subsystem.

    Attributes
    ----------
    group : int
    points : (k,) int array
    weights : (k,) array
    mean : (c,) array
        The mixture of the points.
    hidden : float
        How far the networks are from it, in cost and rows; 0 for a real point.
    """

    group: int
    points: np.ndarray
    weights: np.ndarray
    mean: np.ndarray
    hidden: float = 0.0


class PieceSearch(RoundSearch):
    """Programs over groups of polytopes, divided until nothing is left to gain.

    Parameters
    ----------
    problem, limits, report
        As for every search.
    shares : sequence of Share
    pieces : sequence of Pieces
        Of each share.
    """

    title = "subsystems"

    points_first = False  # the programs give better ones

    def __init__(
        self,
        problem: Problem,
        limits: Limits,
        shares: Sequence[Share],
        pieces: Sequence[Pieces],
        report: Report | None = None,
    ) -> None:
        super().__init__(problem, limits, report)
        p = problem
        taken = np.zeros(len(p.columns), dtype=bool)
        taken[np.concatenate([s.columns for s in shares])] = True
        private = np.zeros(len(p.row_lower), dtype=bool)
        private[np.concatenate([s.rows for s in shares])] = True
        self.others = np.flatnonzero(~taken)
        coupling = sp.csc_array(p.matrix[~private])
        self.units = []
        for share, own in zip(shares, pieces) if all(map(len, pieces)) else ():
            if self.deadline.expired():
                raise TimeUp
            self.units.append(PieceUnit(p, share, own, coupling))
        self.rest = sp.csr_array(coupling[:, self.others])
        # Outputs may be off by a margin, so rows are wider and the bound is lower by it.
        off = np.zeros(len(p.columns))
        for share, own in zip(shares, pieces):
            off[p.n + share.outputs] = own.margin
        wider = abs(coupling) @ off
        self.row_lower = p.row_lower[~private] - wider
        self.row_upper = p.row_upper[~private] + wider
        self.margin = float(abs(p.cost) @ off)
        self.least, self.ended, self._exact = -math.inf, False, False
        if not all(map(len, pieces)):  # a subsystem has no point at all
            self.least, self.ended = math.inf, True

    @property
    def bound(self) -> float:
        """A valid lower bound of the cost."""
        return min(self.least, self.incumbent.cost)

    @property
    def open_boxes(self) -> int:
        """Groups of more than one polytope; 0 at the end."""
        if self.ended or self.least >= self.cutoff:
            return 0
        return 1 + sum(len(g) > 1 for u in self.units for g in u.groups)

    # ------------------------------------------------------------------------- programs
    def columns(self, groups: Sequence[Sequence[np.ndarray]]) -> Columns:
        """The program over groups, each given by the vertices that count.

        Parameters
        ----------
        groups : sequence of sequences of int arrays
            For each subsystem.
        """
        sizes = [(u, g, len(c)) for u, own in enumerate(groups) for g, c in enumerate(own)]
        total = sum(size for _, _, size in sizes)
        point = np.concatenate([c for own in groups for c in own])
        unit = np.repeat([u for u, _, _ in sizes], [size for *_, size in sizes])
        group = np.repeat([g for _, g, _ in sizes], [size for *_, size in sizes])
        number = np.repeat(np.arange(len(sizes)), [size for *_, size in sizes])
        several = np.array([len(groups[u]) > 1 for u, _, _ in sizes])
        binary = np.full(len(sizes), -1)
        binary[several] = np.arange(several.sum())
        r, b = len(self.others), int(several.sum())
        p, width = self.problem, total + r + b
        parts, cost, at = [], np.zeros(width), 0
        for u, own in enumerate(groups):
            mine = np.concatenate(own)
            activity = self.units[u].activity[mine]
            i, j = np.nonzero(activity)
            parts.append((self.units[u].rows[j], at + i, activity[i, j]))
            cost[at : at + len(mine)] = self.units[u].cost[mine]
            at += len(mine)
        cost[total : total + r] = p.cost[self.others]
        rows = np.repeat(np.arange(len(self.rest.indptr) - 1), np.diff(self.rest.indptr))
        parts.append((rows, total + self.rest.indices, self.rest.data))
        top = matrix_of(len(self.row_lower), width, parts)
        one = np.ones(total)
        # The shares of a subsystem sum to 1, those of a group to its binary.
        whole = matrix_of(len(groups), width, [(unit, np.arange(total), 1.0)])
        mine = binary[number] >= 0
        by_group = matrix_of(
            b,
            width,
            [
                (binary[number[mine]], np.flatnonzero(mine), 1.0),
                (np.arange(b), total + r + np.arange(b), -1.0),
            ],
        )
        low, high = p.lower[self.others], p.upper[self.others]
        program = LinearProgram(
            cost,
            np.concatenate([0.0 * one, low, np.zeros(b)]),
            np.concatenate([one, high, np.ones(b)]),
            top,
            self.row_lower,
            self.row_upper,
            np.concatenate([one < 0, p.integer[self.others], np.ones(b, dtype=bool)]),
        ).with_rows(Rows(whole, np.ones(len(groups)), np.ones(len(groups))))
        program = program.with_rows(Rows(by_group, np.zeros(b), np.zeros(b)))
        return Columns(program, unit, group, point)

    def solve(
        self, columns: Columns, gap: float, limit: float = math.inf, whole: bool = True
    ) -> Answer:
        """Run HiGHS on a program.

        Parameters
        ----------
        columns : Columns
        gap : float
            The absolute gap at which it may end; with 0 it is the user's relative one.
        limit : float
            Seconds.
        whole : bool
            Whether it is about all groups, so that its bounds count.
        """
        highs = HighsModel(
            columns.program,
            mip_rel_gap=0.0 if gap > 0 else self.limits.rel_gap,
            mip_abs_gap=max(gap, TOLERANCES.absolute_gap),
            mip_feasibility_tolerance=TOLERANCES.feasibility,
            primal_feasibility_tolerance=TOLERANCES.feasibility,
            **NETWORK_DEFAULTS,
        )

        def enough(event: Event) -> bool:
            if whole:
                self._raise(event.bound)
            self._tell("log")
            return self._out_of_limits() or (whole and self.least >= self.cutoff)

        highs.stop_when(enough)
        self.counts.mips += 1
        answer = highs.run(min(limit, self.remaining), keep=True)
        if whole and not answer.infeasible:
            self._raise(answer.bound)
        if answer.keyboard:
            self.stopped = "interrupt"
        return answer

    # --------------------------------------------------------------------------- rounds
    def step(self) -> None:
        """One program over all groups, a point near its solution, and divisions."""
        groups = [u.corners for u in self.units]
        columns = self.columns(groups)
        answer = self.solve(columns, self._wanted_gap())
        self.counts.boxes = sum(map(len, groups))
        if answer.status in (Status.UNBOUNDED, Status.INFEASIBLE_OR_UNBOUNDED):
            self.stopped = self.stopped or "unbounded"
        if answer.infeasible:
            self.ended = True
            if self.incumbent.point is None:  # else tolerances are at their end
                self.least = math.inf
        if self.least >= self.cutoff:
            return
        if answer.point is None:
            self.ended = self.stopped is None
            return
        mixed = self.mixtures(columns, answer.point)
        means = [m.mean for m in mixed]
        self._offer(means, answer.point[len(columns.unit) :][: len(self.others)])
        if self.least < self.cutoff:
            self._look_near(mixed)
        if self.least < self.cutoff and not self._divide(mixed):
            # The solution is a point of the model: the next program is solved to the end.
            self.ended, self._exact = self._exact, True

    def _wanted_gap(self) -> float:
        """The absolute gap at which a program may end, 0 before there is a point."""
        if not math.isfinite(self.incumbent.cost):
            return 0.0
        gap = PIECES.of_gap * (self.incumbent.cost - self.cutoff)
        missing = self.cutoff - self.least
        if self._exact or not math.isfinite(missing):
            return gap
        return max(gap, PIECES.of_missing * missing)

    def _raise(self, bound: float) -> None:
        if math.isfinite(bound):
            bound -= self.margin + TOLERANCES.margin * max(1.0, abs(bound))
            self.least = max(self.least, bound)

    def mixtures(self, columns: Columns, z: np.ndarray) -> list[Mixed]:
        """What a solution is in each subsystem."""
        found = []
        used = z[: len(columns.unit)] > PIECES.pure
        for k, u in enumerate(self.units):
            mine = np.flatnonzero(used & (columns.unit == k))
            weights = z[mine]
            groups = columns.group[mine]
            main = int(groups[np.argmax(weights)])
            mine, weights = mine[groups == main], weights[groups == main]
            points = columns.point[mine]
            weights = weights / weights.sum()
            mixed = Mixed(main, points, weights, weights @ u.pieces.points[points])
            mixed.hidden = self._hidden(u, mixed)
            found.append(mixed)
        return found

    def _hidden(self, u: PieceUnit, mixed: Mixed) -> float:
        """How much the networks and integers of a subsystem differ from a mixture."""
        s = u.share
        pieces = u.pieces.piece[mixed.points]
        if (pieces == pieces[0]).all():
            return 0.0
        choices = u.pieces.choice[pieces]
        if (choices != choices[0]).any():
            return math.inf
        true = u.pieces.network.evaluate(mixed.mean[None, : s.n])[0]
        off = abs(true - mixed.mean[s.n : s.n + s.q])
        return float((off / (1.0 + abs(true))).max(initial=0.0))

    # --------------------------------------------------------------------------- points
    def _look_near(self, mixed: Sequence[Mixed]) -> None:
        """Offer the best point in the polytopes that a solution is in or near."""
        near = [self._near(u, m) for u, m in zip(self.units, mixed)]
        columns = self.columns(
            [[u.pieces.points_of(one) for one in own] for u, own in zip(self.units, near)]
        )
        answer = self.solve(columns, 0.0, PIECES.near_seconds, whole=False)
        if answer.point is None:
            return
        means = [m.mean for m in self.mixtures(columns, answer.point)]
        self._offer(means, answer.point[len(columns.unit) :][: len(self.others)])

    def _offer(self, means: Sequence[np.ndarray], rest: np.ndarray) -> None:
        """Offer what is left of each subsystem's mixture when its networks are asked."""
        z = np.where(np.isfinite(self.problem.lower), self.problem.lower, 0.0)
        z[self.others] = rest
        for u, mean in zip(self.units, means):
            z[u.share.columns] = mean
        self.incumbent.offer(z)

    def _near(self, u: PieceUnit, mixed: Mixed) -> list[np.ndarray]:
        """Polytopes in which a mixture is, or next to it."""
        pieces = np.unique(u.pieces.piece[mixed.points])
        if len(pieces) > 1:
            size = u.size
            for k in np.unique(u.pieces.choice[pieces]).tolist():
                mine = np.flatnonzero(u.pieces.choice == k)
                used = u.pieces.choice[u.pieces.piece[mixed.points]] == k
                weights = mixed.weights[used] / mixed.weights[used].sum()
                mean = weights @ u.pieces.points[mixed.points[used], : u.share.n]
                off = abs(u.pieces.centre[mine] - mean) / size
                nearest = np.argsort(off.max(axis=1), kind="stable")[: PIECES.near]
                pieces = np.union1d(pieces, mine[nearest])
        return [pieces[[i]] for i in range(len(pieces))]

    # ------------------------------------------------------------------------- divisions
    def _divide(self, mixed: Sequence[Mixed]) -> bool:
        """Divide the groups whose mixture is no real point; whether there was one."""
        divided = False
        for u, m in zip(self.units, mixed):
            if m.hidden > PIECES.hidden:
                u.divide(m.group, self._first_half(u, m))
                divided = True
        return divided

    def _first_half(self, u: PieceUnit, mixed: Mixed) -> np.ndarray:
        """Which polytopes of a mixture's group are on its one side."""
        group, own, n = u.groups[mixed.group], u.pieces, u.share.n
        pieces = own.piece[mixed.points]
        choices = own.choice[pieces]
        if (choices != choices[0]).any():
            # An integer that differs, between its values.
            whole = u.share.program.integer
            assert whole is not None
            values = own.points[mixed.points]
            spread = np.where(whole, np.ptp(values, axis=0), 0.0)
            j = int(np.argmax(spread))
            first = np.zeros(len(own), dtype=bool)
            first[own.piece[own.points[:, j] <= np.floor(mixed.mean[j])]] = True
            return first[group]
        x = own.points[mixed.points, :n]
        d = int(np.argmax(np.ptp(x, axis=0) / u.size))
        centre = own.centre[group, d]
        first = centre <= mixed.mean[d]
        if first.all() or not first.any():
            order = np.argsort(centre, kind="stable")
            first[:] = False
            first[order[: len(order) // 2]] = True
        return first
