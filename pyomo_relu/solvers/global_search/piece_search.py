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

import numpy as np

from pyomo_relu.presolve.problem import Problem
from pyomo_relu.programs import (
    NETWORK_DEFAULTS,
    Answer,
    HighsModel,
    Status,
)
from pyomo_relu.programs.highs import Event
from pyomo_relu.solvers.global_search.cost_search import Report, RoundSearch
from pyomo_relu.solvers.global_search.coupling import Columns, Coupling
from pyomo_relu.solvers.global_search.divided import DividedSubsystem, Mixed
from pyomo_relu.solvers.global_search.limits import Limits
from pyomo_relu.solvers.global_search.mip import TOLERANCES
from pyomo_relu.solvers.global_search.pieces import Pieces, Share
from pyomo_relu.solvers.global_search.settings import PIECES, POINTS


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

    title = "polytopes"

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
        self.least, self.ended, self._exact = -math.inf, False, False
        self._start: np.ndarray | None = None
        self.subsystems: list[DividedSubsystem] = []
        if not all(map(len, pieces)):  # a subsystem has no point at all
            self.least, self.ended = math.inf, True
            return
        self.coupling = Coupling(problem, shares, pieces, self.deadline)
        self.subsystems = self.coupling.subsystems

    @property
    def bound(self) -> float:
        """A valid lower bound of the cost."""
        return min(self.least, self.incumbent.cost)

    @property
    def open_boxes(self) -> int:
        """Groups of more than one polytope; 0 at the end."""
        if self.ended or self.least >= self.cutoff:
            return 0
        return 1 + sum(len(g) > 1 for u in self.subsystems for g in u.groups)

    # ------------------------------------------------------------------------- programs
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
            self.share_with_points(POINTS.share)
            return self.poll() or (whole and self.least >= self.cutoff)

        highs.stop_when(enough)
        if whole and self._start is not None:
            highs.start_at(self._start)
        highs.on_incumbent(lambda event: self._offer(columns, event.point))
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
        groups = [u.corners for u in self.subsystems]
        columns = self.coupling.columns(groups)
        answer = self._solve_all(columns)
        self.counts.boxes = sum(map(len, groups))
        if answer.status in (Status.UNBOUNDED, Status.INFEASIBLE_OR_UNBOUNDED):
            self.stopped = self.stopped or "unbounded"
        if answer.infeasible:
            self.ended = True
            if self.incumbent.point is None:  # else tolerances are at their end
                self.least = math.inf
        if self.least >= self.cutoff:
            return
        early = answer.status.stopped_early
        if answer.point is None:
            self.ended = not early
            return
        mixed = self._offer(columns, answer.point)
        if self.least < self.cutoff:
            self._look_near(mixed)
        if self.least >= self.cutoff or self._divide(mixed):
            self._start = None
        else:
            # The solution is a point of the model: the next program goes on to the end.
            self._start = answer.point
            if not early:
                self.ended, self._exact = self._exact, True

    def _solve_all(self, columns: Columns) -> Answer:
        """Solve a program over all groups; a long one after a look for points."""
        if self.incumbent.point is None and self.limits.points:
            answer = self.solve(columns, self._wanted_gap(), PIECES.before_points)
            if answer.status is not Status.TIME_LIMIT or self._out_of_limits():
                return answer
            self.look_before_long()
        return self.solve(columns, self._wanted_gap())

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
            bound = TOLERANCES.lowered(bound) - self.coupling.margin
            self.least = max(self.least, bound)

    def mixtures(self, columns: Columns, z: np.ndarray) -> list[Mixed]:
        """What a solution is in each subsystem."""
        found = []
        used = np.flatnonzero(z[: len(columns.point)] > PIECES.pure)
        count = len(self.subsystems)
        ends = np.searchsorted(columns.subsystem[used], np.arange(count + 1))
        for u, mine in zip(self.subsystems, np.split(used, ends[1:-1])):
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

    def _hidden(self, u: DividedSubsystem, mixed: Mixed) -> float:
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
        near = [self._near(u, m) for u, m in zip(self.subsystems, mixed)]
        columns = self.coupling.columns(
            [
                [u.pieces.points_of(one) for one in own]
                for u, own in zip(self.subsystems, near)
            ]
        )
        answer = self.solve(columns, 0.0, PIECES.near_seconds, whole=False)
        if answer.point is None:
            return
        self._offer(columns, answer.point)

    def _offer(self, columns: Columns, solution: np.ndarray | None) -> list[Mixed]:
        """Offer what is left of a solution's mixtures when the networks are asked."""
        if solution is None:
            return []
        mixed = self.mixtures(columns, solution)
        z = np.where(np.isfinite(self.problem.lower), self.problem.lower, 0.0)
        for u, one in zip(self.subsystems, mixed):
            z[u.share.columns] = one.mean
        z[self.coupling.others] = columns.rest(solution, len(self.coupling.others))
        self.incumbent.offer(z)
        return mixed

    def _near(self, u: DividedSubsystem, mixed: Mixed) -> list[np.ndarray]:
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
        for u, m in zip(self.subsystems, mixed):
            if m.hidden > PIECES.hidden:
                u.divide_at(m)
                divided = True
        return divided
