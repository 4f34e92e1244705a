"""Sequences of linear programs in a trust region: points of models with rows and integers.

A model's networks are replaced by functions that are linear around a point
(:class:`~pyomo_relu.heuristics.linear_model.LinearModel`), its rows and integers stay as
they are. First a mixed-integer program chooses the integers; with these fixed, linear
programs follow the networks, within a trust region that grows with success and shrinks
with failure, and a filter says what success is: less violation or a better objective than
each point before. Where they end, another mixed-integer program looks for better integers
around. What a program gives counts only after the networks have been evaluated at it.

Sources: sequential linear programming with a filter, Fletcher, Leyffer, Toint, SIAM
Journal on Optimization 13, 2002; the outer programs are those of local branching,
Fischetti, Lodi, Mathematical Programming 98, 2003.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.heuristics.filter import Place, passes
from pyomo_relu.heuristics.linear_model import LinearModel
from pyomo_relu.heuristics.reduced_space import ReducedSpace
from pyomo_relu.heuristics.restoration import nearest, newton
from pyomo_relu.heuristics.samples import Sampler
from pyomo_relu.heuristics.sos_members import SosMembers
from pyomo_relu.heuristics.start_settings import SEQUENTIAL, START
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.programs import HighsModel, LinearProgram, Rows, matrix_of

#: Takes a point of the problem's columns.
Judge = Callable[[np.ndarray], Any]


class SequentialSearch:
    """The search from several starts, one program after another.

    Parameters
    ----------
    problem : Problem
    judge : callable
        Is handed points of the problem's columns, whose outputs are the networks' own;
        not all are feasible.
    deadline : Deadline
        No program runs longer.
    seed : int
        Of the random starts.

    Attributes
    ----------
    best : float
        Least cost among the feasible points; infinite before there is one.
    point : (columns,) array or None
        The point of that cost.
    programs : int
        Linear and mixed-integer programs solved.
    idle : int
        Starts in a row that brought nothing better.
    """

    def __init__(
        self,
        problem: Problem,
        judge: Judge,
        deadline: Deadline,
        seed: int = 0,
    ) -> None:
        self.problem, self.judge, self.deadline = problem, judge, deadline
        self.model = LinearModel(problem, deadline)
        rng = np.random.default_rng(seed)
        self.sampler = Sampler(self.model, rng)
        self.members = SosMembers(problem, rng)
        self.best, self.programs, self.idle = math.inf, 0, 0
        self.point: np.ndarray | None = None
        self.mip_seconds = SEQUENTIAL.mip_seconds
        self.space = ReducedSpace(self.model)
        #: Continuous columns that networks or formulas read and nothing determines.
        read = np.union1d(np.arange(problem.n), problem.beside_rows)
        self._free = read[~self.model.following[read] & ~problem.integer[read]]
        #: Whether the latest mixed-integer program was stopped by its limit.
        self.cut_short = False
        whole = self.model.integers
        between = (problem.lower[whole] >= 0) & (problem.upper[whole] <= 1)
        #: Choices of integers that were tried, where all integers are binaries.
        self.tried: list[np.ndarray] = []
        self.all_binary = bool(between.all())

        #: Options of linear programs. What HiGHS forgives by default, 1e-7, is more than
        #: Newton's steps shall leave: SCIP refused mixing's best point, 1.3e-7 off.
        self._sharp: dict[str, Any] = {}
        if problem.nonlinear:
            self._sharp = {"primal_feasibility_tolerance": SEQUENTIAL.closed}
        #: By how much a point broke rows that Newton's steps didn't close.
        self._stuck = math.inf
        self._suggested: np.ndarray | None = None
        self._steps: Iterator[None] | None = None

    def run(
        self,
        deadline: Deadline,
        patience: float = math.inf,
        present: np.ndarray | None = None,
    ) -> bool:
        """Go on, one program after another.

        Parameters
        ----------
        deadline : Deadline
            Where to pause.
        patience : float
            So many starts in a row may bring nothing better, once there is a point.
        present : (n,) array, optional
            Drivers to begin at; only the first call takes them.

        Returns
        -------
        bool
            Whether there is more to do.
        """
        if self._steps is None:
            self._steps = self.steps(present)
        while not deadline.expired():
            if self.point is not None and self.idle >= patience:
                return True
            if next(self._steps, self) is self:
                return False
        return True

    def suggest(self, point: np.ndarray) -> None:
        """Begin the next start at a point (columns,), of which nothing has to hold."""
        self._suggested = point.copy()

    def learn(self, point: np.ndarray, cost: float) -> None:
        """Take over a better feasible point (columns,) that somebody else has found."""
        if cost < self.best:
            self.best, self.point = cost, point.copy()

    def close(self, point: np.ndarray) -> None:
        """Judge a point (columns,), after Newton's steps have closed what it breaks."""
        start = np.zeros(self.model.n_columns)
        start[: len(point)] = point
        self._place(start, anew=True)

    # ------------------------------------------------------------------------- starts
    def steps(self, present: np.ndarray | None = None) -> Iterator[None]:
        """One program after another, from plain starts, then from random ones.

        Where there are no integers and no rows a start ends in a few programs; the
        iteration ends after ``SEQUENTIAL.random_starts``.
        """
        low, high = self.problem.box
        plain = [0.5 * (low + high), np.clip(0.0, low, high)]
        if present is not None:
            plain.insert(0, np.clip(present, low, high))
        for x in plain:
            yield from self._from(self.sampler.at(x), 1.0)
        for k in range(SEQUENTIAL.random_starts):
            if self._suggested is not None:
                point, self._suggested = self.sampler.like(self._suggested), None
                yield from self._from(point, SEQUENTIAL.nearby)
            radius = SEQUENTIAL.radii[k % len(SEQUENTIAL.radii)]
            self.members.draw()
            yield from self._from(self.sampler.anywhere(), radius)
            for _ in range(SEQUENTIAL.kicks if self.point is not None else 0):
                assert self.point is not None
                near = min(radius, SEQUENTIAL.nearby)
                yield from self._from(self.sampler.near(self.point), near)

    def _from(self, point: np.ndarray, radius: float) -> Iterator[None]:
        """Search from a point; with integers, through better and better choices of them.

        The first integers are the best that the linear functions promise within a trust
        region; with none, or where that is empty, the closest that the user's rows allow.
        """
        before = self.best
        yield from self._search(point, radius)
        self.members.release()
        self.idle = 0 if self.best < before else self.idle + 1

    def _search(self, point: np.ndarray, radius: float) -> Iterator[None]:
        found = self._chosen(point, radius) if radius else None
        yield
        if found is None and radius < 1.0:
            found = self._closest(point)
            yield
        if found is None:
            return
        best = yield from self._settle(found)
        failures, radius = 0, radius or SEQUENTIAL.nearby
        while failures < SEQUENTIAL.patience and len(self.model.integers):
            found = self._chosen(best.point, radius, best)
            yield
            if found is None and not self.cut_short:
                return
            if found is not None:
                found = yield from self._settle(found)
            if found is not None and found.ahead_of(best):
                best, failures = found, 0
                radius = min(1.0, SEQUENTIAL.wider * radius)
            else:
                # A program that couldn't be solved in time is too large: much closer.
                failures += 0 if self.cut_short else 1
                closer = SEQUENTIAL.closer ** (2 if self.cut_short else 1)
                radius = max(SEQUENTIAL.least_radius, closer * radius)

    # ----------------------------------------------------------------------- integers
    def _chosen(
        self, around: np.ndarray, radius: float, start: Place | None = None
    ) -> Place | None:
        """Where the mixed-integer program around a point leads; None where nowhere new."""
        whole = self.model.integers
        here = None if start is None else np.round(start.point[whole])
        point = self._program(around, radius, None, here)
        if point is None:
            return None
        if len(whole):
            chosen = np.round(point[whole])
            if here is not None and (chosen == here).all():
                return None
            self.tried.append(chosen)
        return self._place(point, anew=True)

    def _closest(self, point: np.ndarray) -> Place | None:
        """The closest point that satisfies the rows without outputs, by drivers and choices."""
        p, model = self.problem, self.model
        at = np.unique(np.concatenate([np.arange(p.n), model.choosing]))
        n, hard = len(p.columns), ~model.soft
        low, high = p.lower.copy(), p.upper.copy()
        follow = model.following[:n]
        low[follow], high[follow] = -np.inf, np.inf
        program = LinearProgram(
            cost=np.zeros(n),
            lower=low,
            upper=high,
            matrix=sp.csr_array(model.rows.matrix[hard][:, :n]),
            row_lower=model.rows.lower[hard],
            row_upper=model.rows.upper[hard],
            integer=p.integer & (low < high),
        )
        found = self._solve(nearest(program, self._moving(at), point, self._widths(point)))
        return None if found is None else self._place(found[:n], anew=True)

    def _moving(self, at: np.ndarray) -> np.ndarray:
        """Those of some columns whose bounds aren't equal."""
        return at[self.problem.lower[at] < self.problem.upper[at]]

    def _widths(self, point: np.ndarray) -> np.ndarray:
        """How wide the box of each column of the problem is; where it is open, its size."""
        p = self.problem
        width = p.upper - p.lower
        size = np.maximum(1.0, abs(point[: len(width)]))
        return np.where(width > 0, np.where(np.isfinite(width), width, size), 1.0)

    # ----------------------------------------------------------------------- sequence
    def _settle(self, place: Place) -> Generator[None, None, Place]:
        """Linear programs from a place on, its integers fixed; returns the best place."""
        p, radius = self.problem, SEQUENTIAL.first_radius
        self.members.settle(place.point)
        fixed = np.round(place.point[self.model.integers])
        best, kept = place, [place]
        for _ in range(SEQUENTIAL.most_steps):
            if radius < SEQUENTIAL.last_radius:
                break
            found = self._program(place.point, radius, fixed)
            yield
            if found is None:
                break
            new = self._place(found)
            moved = abs(new.point[: p.n] - place.point[: p.n]).max(initial=0.0)
            if moved <= SEQUENTIAL.still:
                break
            if passes(new, kept):
                kept.append(new)
                if new.broken < place.broken or new.cost < place.cost:
                    radius = min(1.0, SEQUENTIAL.wider * radius)
                place = new
                if new.ahead_of(best):
                    best = new
            else:
                radius *= SEQUENTIAL.narrower
        if self._curved(best):
            found = self.space.descend(best.point, self.model.cost, self.deadline)
            yield
            new = self._place(found)
            if new.ahead_of(best):
                best = new
        return best

    def _curved(self, place: Place) -> bool:
        """Whether curvature may make the best point of a place."""
        reach = SEQUENTIAL.promising * max(1.0, abs(place.cost))
        promising = place.holds and place.cost <= self.best + reach
        return promising and bool(self.problem.nonlinear) and self.space.small

    # ------------------------------------------------------------------------ programs
    def _program(
        self,
        point: np.ndarray,
        radius: float,
        fixed: np.ndarray | None,
        here: np.ndarray | None = None,
    ) -> np.ndarray | None:
        """The best point of the linear program around another; None without one."""
        model, x = self.model, point[: self.problem.n]
        tangent = model.tangent(x)
        low, high = self._trusted(point, radius, fixed)
        program = model.program(tangent, low, high, model.cost)
        if self.problem.nonlinear:
            program = program.with_rows(model.formulas(point))
        if fixed is None:
            program = self._around(program, point, radius, here)
        found = self._solve(program, None if here is None else point)
        if found is None and model.soft.any():
            size = np.abs(program.cost).max(initial=0.0)
            weight = SEQUENTIAL.cost_weight / size if size else 0.0
            found = self._solve(model.elastic(program, weight))
        return None if found is None else found[: model.n_columns]

    def _trusted(
        self, point: np.ndarray, radius: float, fixed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of the problem's columns within the trust region."""
        p, model = self.problem, self.model
        x = point[: p.n]
        low, high = p.lower.copy(), p.upper.copy()
        if radius < 1.0:
            reach = radius * (p.upper[: p.n] - p.lower[: p.n])
            whole = p.integer[: p.n]
            reach[whole] = np.maximum(1.0, np.floor(reach[whole]))
            reach[model.chosen] = np.inf
            low[: p.n] = np.maximum(low[: p.n], x - reach)
            high[: p.n] = np.minimum(high[: p.n], x + reach)
            for part in p.nonlinear:
                self._trust(part.formula.columns, point, radius, low, high)
        if fixed is not None:
            low[model.integers] = high[model.integers] = fixed
        self.members.hold(low, high)
        return low, high

    def _trust(
        self,
        columns: np.ndarray,
        point: np.ndarray,
        radius: float,
        low: np.ndarray,
        high: np.ndarray,
    ) -> None:
        """Keep what a formula reads near a point; what has no bounds by its own size."""
        at = columns[(columns >= self.problem.n) & ~self.model.following[columns]]
        width = self.problem.upper[at] - self.problem.lower[at]
        own = np.maximum(1.0, abs(point[at]))
        reach = radius * np.where(np.isfinite(width), width, own)
        whole = self.problem.integer[at]
        reach[whole] = np.maximum(1.0, np.floor(reach[whole]))
        here = np.clip(point[at], self.problem.lower[at], self.problem.upper[at])
        low[at] = np.maximum(low[at], here - reach)
        high[at] = np.minimum(high[at], here + reach)

    def _around(
        self,
        program: LinearProgram,
        point: np.ndarray,
        radius: float,
        here: np.ndarray | None,
    ) -> LinearProgram:
        """Few of the binaries that choose may change, and what was tried is forbidden.

        The integers ``here`` are allowed, so that the program can say that nothing is
        better.
        """
        at, whole = self.model.choosing, self.model.integers
        rows, limits = [], []
        most = max(2, math.ceil(radius * len(at)))
        if radius < 1.0 and most < len(at):
            there = np.round(point[at])
            rows.append((at, 1.0 - 2.0 * there))
            limits.append(most - there.sum())
        for there in self.tried[-SEQUENTIAL.remembered :] if self.all_binary else ():
            if here is None or (there != here).any():
                rows.append((whole, 2.0 * there - 1.0))
                limits.append(there.sum() - 1.0)
        if not rows:
            return program
        parts = [(np.full(len(c), i), c, v) for i, (c, v) in enumerate(rows)]
        matrix = matrix_of(len(rows), len(program.cost), parts)
        far = np.full(len(rows), -np.inf)
        return program.with_rows(Rows(matrix, far, np.array(limits)))

    def _solve(
        self, program: LinearProgram, start: np.ndarray | None = None
    ) -> np.ndarray | None:
        """A program's point, within the time that it may take."""
        self.programs += 1
        left = self.deadline.left()
        if not program.is_mip:
            return HighsModel(program, **self._sharp).run(left).point
        highs = HighsModel(program, mip_rel_gap=SEQUENTIAL.mip_gap)
        if start is not None and program.violation(start) <= SEQUENTIAL.start_holds:
            highs.start_at(start)
        seconds = max(self.mip_seconds, SEQUENTIAL.mip_share * left)
        answer = highs.run(min(left, seconds))
        self.cut_short = answer.status.stopped_early
        if self.cut_short and (answer.point is None or start is not None):
            self.mip_seconds *= SEQUENTIAL.longer
        return answer.point

    # ------------------------------------------------------------------------- judging
    def _place(self, point: np.ndarray, anew: bool = False) -> Place:
        """The networks evaluated at a program's point, and the judge's look at it."""
        p, model = self.problem, self.model
        exact = self._exact(point)
        completed = self._completed(exact)
        if completed is not None:
            exact = completed
        broken = model.broken(exact)
        if anew:
            self._stuck = math.inf
        if (
            p.nonlinear
            and SEQUENTIAL.closed < broken < SEQUENTIAL.newton_again * self._stuck
        ):
            closed = newton(exact, broken, self._closer)
            self._stuck = broken if closed is None else math.inf
            if closed is not None:
                # The nearest point is the nearest in what networks and formulas read.
                best = self._completed(closed)
                if best is None or model.broken(best) > SEQUENTIAL.closed:
                    best = closed
                exact, broken = best, model.broken(best)
        broken += self.members.broken(exact)
        own = exact[: len(p.columns)]
        cost = float(model.cost @ exact)
        place = Place(exact, broken, cost)
        if place.cost < self.best and p.violation(own) <= START.feasible:
            self.best, self.point = place.cost, own.copy()
        self.judge(own)
        return place

    def _exact(self, point: np.ndarray) -> np.ndarray:
        """All columns by a program's drivers and rest: integers whole, networks evaluated."""
        p, model = self.problem, self.model
        exact = np.zeros(model.n_columns)
        exact[: len(p.columns)] = np.clip(point[: len(p.columns)], p.lower, p.upper)
        exact[model.integers] = np.round(exact[model.integers])
        model.roll_out(exact[None])
        p.settle(exact[None, : len(p.columns)])
        return exact

    def _closer(self, point: np.ndarray) -> tuple[np.ndarray, float] | None:
        """The nearest point that all rows allow, linear as they are at a point."""
        p, model = self.problem, self.model
        low, high = self._trusted(point, 1.0, point[model.integers])
        program = model.program(model.tangent(point[: p.n]), low, high, model.cost)
        program = program.with_rows(model.formulas(point))
        at = self._moving(self._free)
        program = nearest(program, at, point, self._widths(point))
        found = self._solve(program)
        if found is None and model.soft.any():
            found = self._solve(model.elastic(program, SEQUENTIAL.cost_weight))
        if found is None:
            return None
        exact = self._exact(found)
        return exact, model.broken(exact)

    def _completed(self, point: np.ndarray) -> np.ndarray | None:
        """The user's continuous variables anew, by what the networks really give."""
        p = self.problem
        rest = np.arange(p.n + p.q, len(p.columns))
        free = rest[~p.integer[rest] & (p.lower[rest] < p.upper[rest])]
        free = free[~self.model.following[free] & ~np.isin(free, p.beside_rows)]
        if not len(free):
            return None
        z = point[: len(p.columns)]
        matrix = sp.csr_array(p.matrix[:, free])
        used = np.diff(matrix.indptr) > 0
        known = z.copy()
        known[free] = 0.0
        at = p.matrix @ known
        program = LinearProgram(
            cost=self.model.cost[free],
            lower=p.lower[free],
            upper=p.upper[free],
            matrix=sp.csr_array(matrix[used]),
            row_lower=(p.row_lower - at)[used],
            row_upper=(p.row_upper - at)[used],
        )
        found = self._solve(program)
        if found is None:
            return None
        full = point.copy()
        full[free] = np.clip(found, p.lower[free], p.upper[free])
        return full
