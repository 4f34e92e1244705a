"""One call of ``relu_scip``: the model in SCIP, points, the run, and what it says."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from pyomo.contrib.solver.common.results import Results, TerminationCondition

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.presolve.functions import separate
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.programs import Status
from pyomo_relu.programs.scip import ScipAnswer, ScipModel
from pyomo_relu.solvers.global_search.limits import Limits
from pyomo_relu.solvers.global_search.outcome import GlobalSolutionLoader
from pyomo_relu.solvers.results import TERMINATION, make_results, relative_gap
from pyomo_relu.solvers.scip.end_game import EndGame
from pyomo_relu.solvers.scip.handler import NetworkHandler
from pyomo_relu.solvers.scip.implied import ImpliedBounds
from pyomo_relu.solvers.scip.joint import JointPlanes
from pyomo_relu.solvers.scip.movable import Movable
from pyomo_relu.solvers.scip.points import PointHeuristic, Points
from pyomo_relu.solvers.scip.products import ProductPlanes, Tied, tied_columns
from pyomo_relu.solvers.scip.reach import Reach
from pyomo_relu.solvers.scip.settings import POINTS, SCIP, SIDES_BESIDE
from pyomo_relu.solvers.scip.sides_beside import SidesBeside
from pyomo_relu.solvers.scip.terms import Terms
from pyomo_relu.solvers.scip.together import Together
from pyomo_relu.solvers.scip.watching import Watching
from pyomo_relu.solvers.watch import Log

#: Limits of SCIP that Pyomo has a word of its own for.
LIMITS = {
    "primallimit": TerminationCondition.objectiveLimit,
    "duallimit": TerminationCondition.objectiveLimit,
    "memlimit": TerminationCondition.error,
}


class ScipSearch:
    """A problem in SCIP.

    Parameters
    ----------
    problem : Problem
        Neither infeasible nor unbounded by what reading it shows.
    config : ReluScipConfig
    log : Log
    deadline : Deadline
    alone : bool
        Whether nobody else solves the problem as one program, so that the end game may try
        the whole tree.

    Raises
    ------
    ValueError
        For parameters that SCIP doesn't have, or values that they can't take.
    """

    def __init__(
        self,
        problem: Problem,
        config: Any,
        log: Log,
        deadline: Deadline,
        alone: bool = True,
    ) -> None:
        self.problem, self.config, self.log = problem, config, log
        self.deadline = deadline
        self.separated = separate(problem, deadline)
        self.points = Points(problem, self.separated, config.seed)
        self.answer: ScipAnswer | None = None
        self.keyboard = False
        program = self.separated.program
        reach = Reach(self.separated, deadline)
        #: The output whose bounds no inputs reach, if there is one.
        self.unreached = reach.unreached
        sign = problem.sign
        program = replace(program, cost=sign * program.cost, maximize=sign < 0)
        self.model = ScipModel(program)
        tied = tied_columns(self.separated, reach.boxes) if problem.nonlinear else {}
        for part in problem.nonlinear:
            self.model.add_nonlinear(
                part.column,
                part.formula,
                problem.sides(part),
                lambda i, j: (i, j) in tied or (j, i) in tied,
            )
        for one in problem.sos:
            self.model.add_sos(one.level, one.columns)
        networks = Together(self.separated.functions, reach.boxes)
        terms = Terms(problem, self.model.variables) if problem.nonlinear else None
        end = None
        self.watching = Watching(self.model, log)
        if EndGame.suits(problem, self.separated):
            asked = self._gap, self.watching.poll
            end = EndGame(self.model, self.points, networks, *asked, deadline, alone)
        self.beside = None
        if end is not None and alone and SidesBeside.suits(problem):
            limits = Limits(
                rel_gap=SIDES_BESIDE.gap * config.rel_gap,
                abs_gap=SIDES_BESIDE.gap * config.abs_gap,
                seed=config.seed,
                points=config.start == "auto",
            )
            given = self.model, self.points, limits, self.watching.poll
            self.beside = SidesBeside(*given, deadline)
            self.watching.beside = self._with_beside
        movable = Movable(problem, program, networks)
        parts = terms, end, movable, self.beside
        self.handler = NetworkHandler(self.model, networks, *parts)
        self._set()
        self._include(networks, tied)

    def _include(self, networks: Together, tied: dict[tuple[int, int], Tied]) -> None:
        """Put what takes part in the search into SCIP."""
        self.watching.include()
        if self.model.products:
            ProductPlanes(self.model, tied).include()
        JointPlanes(self.model, networks).include()
        ImpliedBounds(self.model, networks).include()
        if self.separated.functions:
            self.handler.include()
            if self.config.start == "auto":
                PointHeuristic(self.model, self.points, self.deadline).include()

    @property
    def _curved(self) -> bool:
        """Whether terms are nonlinear and all columns continuous."""
        return bool(self.problem.nonlinear) and not self.problem.integer.any()

    def _set(self) -> None:
        """The parameters: measured defaults, the configuration, then the user's."""
        config, model = self.config, self.model
        options: dict[str, Any] = {"timing/clocktype": 2, "misc/catchctrlc": True}
        if self.separated.functions:
            known = model.scip.getParams()
            options |= SCIP.with_networks
            off = (f"heuristics/{name}/freq" for name in SCIP.copying)
            options |= {name: -1 for name in off if name in known}
            if self._curved:
                options["propagating/obbt/freq"] = SCIP.obbt_every
        own = {
            "limits/gap": config.rel_gap,
            "limits/absgap": config.abs_gap,
            "limits/totalnodes": config.node_limit,
            "lp/threads": config.threads,
        }
        model.set(options | {k: v for k, v in own.items() if v is not None})
        model.set(config.solver_options.value())

    # ------------------------------------------------------------------------- points
    def look_for_points(self) -> None:
        """A point of the user's, or one that the networks lead to, as SCIP's first."""
        config, points = self.config, self.points
        if self.unreached is not None:
            return
        try:
            if config.warmstart:
                points.incumbent.offer_present()
            if config.start == "auto" and self.separated.functions:
                left = POINTS.share * self.deadline.left()
                patience = POINTS.patience if self._curved else 1
                points.first(min(config.start_time, left), patience)
        except KeyboardInterrupt:
            self.keyboard = True
        start = points.better()
        if start is not None:
            value = self.problem.user_objective(points.incumbent.cost)
            self.watching.first = self.deadline.elapsed
            self.log.write(f"relu_scip: first point {value:.8g}")
            self.model.start_at(start)

    # ---------------------------------------------------------------------------- run
    def run(self) -> None:
        """Let SCIP solve it."""
        if self.keyboard or self.unreached is not None:
            return
        write = self.log.put if self.log.streams else None
        self.answer = self.model.run(self.deadline.left(), write)
        self.log.flush()

    def results(self, model: Any) -> Results:
        """What was found, in Pyomo's terms."""
        p, answer = self.problem, self.answer
        if answer is None:
            return self._without_scip(model)
        point = self.best_point(answer)
        value = None if point is None else p.user_objective(float(p.cost @ point))
        counts, status = self.handler.counts, answer.status
        condition = LIMITS.get(answer.reason, TERMINATION[status])
        bound = self._with_beside(self.sure(answer.bound))
        if bound != answer.bound and status in (Status.OPTIMAL, Status.INFEASIBLE):
            # What SCIP takes for proved is so as far as the bound says.
            proved = value is not None and self._closed(value, bound)
            condition = TERMINATION[Status.OPTIMAL]
            if not proved:
                condition = TerminationCondition.unknown
        infeasible = condition is TerminationCondition.provenInfeasible
        first = self.watching.first
        return make_results(
            GlobalSolutionLoader(model, p, point),
            condition,
            value,
            None if infeasible else bound,
            mip_gap=math.inf if value is None else relative_gap(value, bound),
            mip_node_count=answer.nodes,
            planes=counts.planes,
            branchings=counts.branchings,
            side_branchings=counts.sides,
            open_boxes=counts.cutoffs,
            subproblems_beside=0 if self.beside is None else self.beside.subproblems,
            closed_by_mip=counts.ended,
            first_point=first,
        )

    def sure(self, bound: float) -> float:
        """A bound of SCIP's, in the user's sense, as far as it goes.

        SCIP counts boxes that were left open as empty, and so it does nodes that small MIPs
        closed, which are closed to the gap only.
        """
        p, counts, worse = self.problem, self.handler.counts, max
        if p.sign > 0:
            worse = min
        if counts.open is not None:
            bound = worse(bound, counts.open)
        if math.isfinite(counts.least_ended):
            bound = worse(bound, p.user_objective(counts.least_ended))
        return bound

    def _with_beside(self, bound: float) -> float:
        """The better one of a bound and that of the search beside SCIP's, in the user's sense."""
        own = -math.inf if self.beside is None else self.beside.bound
        if not math.isfinite(own):
            return bound
        better = max if self.problem.sign > 0 else min
        return better(bound, self.problem.user_objective(own))

    def _closed(self, value: float, bound: float) -> bool:
        """Whether a bound is within the gap of a value."""
        return abs(value - bound) <= self._allowed(value)

    def _allowed(self, value: float) -> float:
        """How far a bound may be from a value of the user's objective."""
        return max(self.config.rel_gap * max(abs(value), 1e-10), self.config.abs_gap)

    def _gap(self, cost: float) -> float:
        """The same for a cost."""
        return self._allowed(self.problem.user_objective(cost))

    def _without_scip(self, model: Any) -> Results:
        """The results where SCIP had nothing to do, or where Ctrl-C came before it."""
        p, point = self.problem, self.points.incumbent.point
        if self.unreached is not None:
            name = p.columns[self.unreached].name
            return make_results(
                GlobalSolutionLoader(model, p, None),
                TerminationCondition.provenInfeasible,
                reason=f"no inputs bring '{name}' within its bounds",
            )
        value = None if point is None else p.user_objective(self.points.incumbent.cost)
        bound = math.copysign(math.inf, -p.sign)
        interrupted = TerminationCondition.interrupted
        loader = GlobalSolutionLoader(model, p, point)
        return make_results(loader, interrupted, value, bound, mip_node_count=0)

    def best_point(self, answer: ScipAnswer) -> np.ndarray | None:
        """The best point, its outputs the networks' own wherever the rows allow that."""
        p, incumbent = self.problem, self.points.incumbent
        if answer.point is None:
            return incumbent.point
        z = answer.point[: len(p.columns)].copy()
        z[p.integer] = np.round(z[p.integer])
        raw = z.copy()
        p.settle(raw[None])
        slack = SCIP.polished * max(1.0, abs(float(p.cost @ z)))
        most = max(float(p.cost @ z), float(p.cost @ raw)) + slack
        incumbent.offer(z)
        if incumbent.cost > most and p.nonlinear:
            self.points.close(z)
        elif incumbent.cost > most:
            incumbent.polish(z)
        if incumbent.cost > most:
            # Rows pass on what outputs are off: the point as SCIP's tolerances have it.
            return raw
        return incumbent.point
