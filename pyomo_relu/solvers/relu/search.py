"""The search of the networks and a MIP by turns: one point, one bound, one log.

The search of the networks (boxes, sides of neurons, subsystems) goes alone first, as long
as a MIP would take to be written. Then HiGHS runs on a copy of the model in the form that
suits it, and whenever it asks whether to go on, the search of the networks has its turn, up
to its share of the CPU time; better points go both ways, and the better of the two
bounds is the bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import Deadline, TimeUp, work_time
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.programs import NETWORK_DEFAULTS, Answer, HighsModel, Status
from pyomo_relu.programs.highs import Event
from pyomo_relu.solvers.global_search.cost_search import CostSearch, Report, RoundSearch
from pyomo_relu.solvers.global_search.limits import Limits
from pyomo_relu.solvers.global_search.mip import TOLERANCES
from pyomo_relu.solvers.global_search.settings import POINTS
from pyomo_relu.solvers.relu.forecast import Forecast, hopeless, weights
from pyomo_relu.solvers.relu.mip_form import MipForm
from pyomo_relu.solvers.relu.scene import Kind, Scene
from pyomo_relu.solvers.relu.scip_part import ScipPart
from pyomo_relu.solvers.relu.settings import TOGETHER


class TogetherSearch(CostSearch):
    """The searches of ``relu`` over one problem.

    Parameters
    ----------
    problem : Problem
    limits : Limits
    report : callable or None
    scene : Scene
    inner : RoundSearch or None
        The search of the networks; None where there is none.
    write : callable
        Writes the copy for the MIP from the best point's cost, which bounds what is
        looked for, and the CPU seconds that this may take.
    threads : int
        Of HiGHS.
    other : callable, optional
        Solves the copy in place of HiGHS; see :mod:`~pyomo_relu.solvers.relu.other_mip`.

    Attributes
    ----------
    mip_bound : float
        What the MIP has proved of the cost.
    mip_nodes : int
    on_form : callable
        Is told each form of the MIP that HiGHS or another solver gets.
    """

    title = "relu"

    def __init__(
        self,
        problem: Problem,
        limits: Limits,
        report: Report | None,
        scene: Scene,
        inner: RoundSearch | None,
        write: Callable[[float, float], MipForm],
        threads: int = 1,
        other: Callable[[Any, TogetherSearch], None] | None = None,
    ) -> None:
        super().__init__(problem, limits, report)
        self.scene, self.inner, self.write = scene, inner, write
        self.threads, self.other = threads, other
        self.on_form: Callable[[MipForm], object] = bool
        self.mip_bound, self.mip_nodes = -math.inf, 0
        self._begun = self._mip_began = False
        self._told = math.inf  # the cost of the last point that HiGHS knows
        self._inner_spent = self._mip_spent = 0.0
        self._tried = 0.0  # CPU seconds that the MIP's trial lasts
        self._owed = 0.0  # CPU seconds that others than HiGHS may still take
        self._inner_ends, self._mip_ends = Forecast(), Forecast()
        self._at_work = "start"
        if inner is not None:
            inner.join(self)

    # ------------------------------------------------------------------------ bounds
    @property
    def inner_bound(self) -> float:
        """What the search of the networks has proved of the cost."""
        return self.inner.bound if self.inner is not None and self._begun else -math.inf

    @property
    def bound(self) -> float:
        """A valid lower bound of the cost."""
        return min(max(self.inner_bound, self.mip_bound), self.incumbent.cost)

    @property
    def open_boxes(self) -> int:
        """Those of the search of the networks; none once there is a proof."""
        if self.proved:
            return 0
        return self.inner.open_boxes if self.inner is not None and self._begun else 1

    @property
    def leader(self) -> str:
        """Whose bound is the best."""
        if self.inner is None or not self._begun or self.mip_bound > self.inner_bound:
            return "mip"
        return self.inner.leader

    @property
    def at_work(self) -> str:
        """Whose turn it is."""
        if self._at_work == "networks" and self.inner is not None:
            return self.inner.at_work
        return self._at_work

    @property
    def proof(self) -> str | None:
        """Which search's bound closed the gap."""
        return self.leader if self.proved else None

    @property
    def parts(self) -> list[str]:
        """Which searches had a turn."""
        own = ["mip"] if self._mip_began else []
        if self.inner is None or not self._begun:
            return own
        return [*self.inner.titles, *own]

    @property
    def mip_rel_gap(self) -> float:
        """The relative gap that a MIP is solved to."""
        return TOGETHER.mip_gap * self.limits.rel_gap

    # ------------------------------------------------------------------------- turns
    def run(self) -> None:
        """Search until the gap is closed or a limit is met."""
        try:
            form = self._alone()
            alone = math.isinf(self.alone)
            if not (alone or self.proved or self._out_of_limits()):
                self._mip(form)
            while self.inner is not None and not (self.proved or self._out_of_limits()):
                if self._inner_done:
                    break
                self._inner_round()
        except KeyboardInterrupt:
            self.stopped = "interrupt"
        except TimeUp:
            self.stopped = self.stopped or "time"

    @property
    def alone(self) -> float:
        """How many CPU seconds the search of the networks has before there is a MIP."""
        if self.inner is None or self.scene.kind is Kind.TABLES or self.scene.is_convex:
            return 0.0
        seconds = TOGETHER.alone + TOGETHER.alone_each * self.scene.networks
        times = {
            Kind.BOX: TOGETHER.alone_on_boxes,
            Kind.FEW: TOGETHER.alone_on_few,
            Kind.POLYTOPES: TOGETHER.alone_on_polytopes,
            Kind.SUBSYSTEMS: TOGETHER.alone_on_rows,
            Kind.MANY: TOGETHER.alone_on_rows,
            Kind.NONLINEAR: math.inf,
            Kind.SMOOTH: math.inf,
        }
        return seconds * times.get(self.scene.kind, 1.0)

    @property
    def plan(self) -> str:
        """Which searches run, and when, in a sentence."""
        mip = f"a MIP by {'HiGHS' if self.other is None else 'the solver that was named'}"
        if self.inner is None:
            return f"{mip}, and points from the networks"
        own = " and ".join(self.inner.planned)
        if self.scene.kind is Kind.TABLES or self.scene.is_convex:
            return f"{mip}, and beside it {own}"
        if math.isinf(self.alone):
            return own
        early = ", at once if rows leave neurons little room" if self._may_be_small else ""
        return f"{own}; after {self.alone:.1f} CPU seconds {mip} beside them{early}"

    def _alone(self) -> MipForm | None:
        """The search of the networks, before there is a MIP.

        Returns the MIP's form where that turned out so small that it shall begin at once.
        """
        if not self.alone:
            return None
        turn, small = Deadline(cpu_seconds=self.alone), None
        while not (turn.expired() or self._inner_done or self._out_of_limits()):
            first = not self._begun
            self._inner_round()
            small = self._small_form() if first else None
            if small is not None:
                break
        return small

    @property
    def _may_be_small(self) -> bool:
        """Whether there are so few neurons that narrowing them first is worth a try."""
        few = self.scene.neurons <= TOGETHER.few_neurons
        return few and self.scene.kind is Kind.MANY and self.other is None

    def _small_form(self) -> MipForm | None:
        """The MIP of a small network that rows and the best point narrow much, else None."""
        if not self._may_be_small or self._inner_done or self._out_of_limits():
            return None
        form = self.write(self.incumbent.cost, TOGETHER.narrowing)
        return form if form.narrowed >= TOGETHER.much_narrower else None

    @property
    def _inner_done(self) -> bool:
        """Whether the search of the networks has nothing left to do."""
        return self.inner is None or (self._begun and self.inner.done) or self.proved

    def _inner_round(self) -> None:
        assert self.inner is not None
        now, before, self._at_work = work_time(), self._at_work, "networks"
        if not self._begun:
            self._begun = True
            self.inner.begin()
            if self.inner.points_first:
                self.inner.look_for_points(POINTS.first)
        else:
            self.inner.round()
        self.stopped = self.stopped or self.inner.stopped
        self._inner_spent += work_time() - now
        self._inner_ends.note(self._inner_spent, self.inner_bound)
        self._at_work = before
        self._points()

    def _points(self) -> None:
        """The share of points, as long as no search's end is in sight."""
        cost = self.incumbent.cost
        pairs = ((self._inner_ends, self._inner_spent), (self._mip_ends, self._mip_spent))
        if any(f.end(cost) < TOGETHER.in_sight * spent for f, spent in pairs):
            return
        before, self._at_work = self._at_work, "points"
        long = self.scene.kind in (Kind.MANY, Kind.SUBSYSTEMS, Kind.NONLINEAR, Kind.TABLES)
        self.share_with_points(POINTS.share if long else POINTS.share_on_few)
        self._at_work = before

    # --------------------------------------------------------------------------- MIP
    def _mip(self, form: MipForm | None) -> None:
        """The MIP, with turns of the search of the networks inside of it.

        A form that is at hand is the first one.
        """
        self._mip_began = True
        self._tried = max(TOGETHER.least_trial, TOGETHER.trial * self._inner_spent)
        if self.incumbent.point is None:
            self._turn_of_points(0.0)
        self._at_work = "mip"
        for _ in range(TOGETHER.mips):
            self._write(form)
            form = None
            if self.proved or self._out_of_limits():
                return
            if self.other is not None:
                self.other(self._form, self)
                return
            self._again, self._resumed = False, work_time()
            self._take(self._highs().run(self.remaining))
            if not self._again:
                return

    def _write(self, form: MipForm | None) -> None:
        """The form of the MIP that the best point's cost allows, if none is at hand."""
        if form is None:
            spent = work_time() - self.deadline.cpu_begin
            seconds = max(TOGETHER.narrowing, TOGETHER.narrowing_share * spent)
            form = self.write(self.incumbent.cost, seconds)
        self._form, self._told = form, math.inf
        self.on_form(form)

    def _highs(self) -> HighsModel:
        """HiGHS with that form, the best point, and ears for all that it says."""
        highs = HighsModel(threads=self.threads)
        highs.set(
            NETWORK_DEFAULTS,
            mip_rel_gap=self.mip_rel_gap,
            mip_abs_gap=TOGETHER.mip_gap * self.limits.abs_gap,
            mip_feasibility_tolerance=TOLERANCES.feasibility,
            primal_feasibility_tolerance=TOLERANCES.feasibility,
        )
        highs.load(self._form.program)
        start = self._news()
        if start is not None:
            highs.start_at(start)
        highs.on_incumbent(self._hear)
        highs.ask_for_points(lambda event: self._news())
        highs.stop_when(self._asked)
        return highs

    @property
    def _outdated(self) -> bool:
        """Whether the best point is by now so good that the MIP would be far smaller."""
        old, cost = self._form.cutoff, self.incumbent.cost
        if not self._form.narrows or cost == math.inf:
            return False
        if self._mip_ends.end(cost) < TOGETHER.in_sight * self._mip_spent:
            return False
        if self._mip_is_hopeless:
            return False
        return old - cost > TOGETHER.better * (old - self.bound)

    def _hear(self, event: Event) -> None:
        """A better point of HiGHS's."""
        assert event.point is not None
        self.meet(self._form.back(event.point))

    def meet(self, z: np.ndarray) -> None:
        before = self.incumbent.cost
        if not self.incumbent.offer(z) and not math.isfinite(before):
            self.incumbent.polish(z)
        self._told = min(self._told, self.incumbent.cost)

    def _news(self) -> np.ndarray | None:
        """The best point in HiGHS's columns, if it doesn't know it yet."""
        if self.incumbent.point is None or self.incumbent.cost >= self._told:
            return None
        self._told = self.incumbent.cost
        return self._form.point_of(self.incumbent.point)

    def _asked(self, event: Event) -> bool:
        """A turn of the others, while HiGHS waits; whether it is to stop."""
        self.note(event.bound)
        self.mip_nodes = max(self.mip_nodes, event.nodes)
        now = work_time()
        passed = now - self._resumed
        self._mip_spent += passed
        self._mip_ends.note(self._mip_spent, self.mip_bound)
        share = self._share()
        self._owed += passed * share / (1.0 - share)
        left = self._owed
        if left >= TOGETHER.least_turn and not self.proved:
            if self._inner_done:
                self._turn_of_points(left)
            else:
                turn = Deadline(cpu_seconds=left)
                while not (turn.expired() or self._inner_done or self._out_of_limits()):
                    self._inner_round()
            self._owed -= work_time() - now
        if not self.proved:
            self._points()
        self._resumed = work_time()
        self._again = self._outdated
        return self.poll() or self.proved or self._again

    def _share(self) -> float:
        """The share of the CPU time that others than HiGHS get."""
        if self._inner_done:
            known = self.incumbent.point is not None
            return TOGETHER.points_share if known else TOGETHER.points_share_without
        if self.scene.kind is Kind.TABLES:
            return TOGETHER.share_beside_tables
        if self._small_is_alone:
            return 0.0
        # Who is likely to be done first gets more, who is far behind next to nothing.
        ends = self._mip_ends, self._inner_ends
        mip, networks = weights(ends, self.incumbent.cost, self._favourite)
        if self._on_trial:
            mip, networks = TOGETHER.lead, 1.0
        return networks / (mip + networks)

    @property
    def _favourite(self) -> int | None:
        """Who leads where bounds don't tell: the networks' search where SCIP is in it."""
        rowed = self.scene.kind in (Kind.SUBSYSTEMS, Kind.MANY)
        scip = self.inner is not None and ScipPart.title in self.inner.planned
        return 1 if rowed and scip else None

    @property
    def _small_is_alone(self) -> bool:
        """Whether a small MIP has not yet had the time in which it may be done alone."""
        small = self._form.narrowed >= TOGETHER.much_narrower
        return small and self._mip_spent < TOGETHER.alone_if_small

    @property
    def _on_trial(self) -> bool:
        """Whether the MIP has had too little time yet to be judged by its bound."""
        if self._form.narrowed >= TOGETHER.much_narrower:
            return self._mip_spent < TOGETHER.trial_of_small * self._inner_spent
        return self._mip_spent < self._tried and not self._mip_is_hopeless

    @property
    def _mip_is_hopeless(self) -> bool:
        """Whether the MIP has had some time and is far behind the networks' search."""
        return hopeless((self._mip_ends, self._inner_ends), self.incumbent.cost)[0]

    def _turn_of_points(self, seconds: float) -> None:
        """Programs that look for points, for so many CPU seconds; a first turn for 0."""
        turn, before, self._at_work = Deadline(cpu_seconds=seconds), self._at_work, "points"
        self.look_for_points(POINTS.first if not seconds else 1)
        while seconds and not (turn.expired() or self.points.done or self._out_of_limits()):
            self.look_for_points(1)
        self._at_work = before

    def note(self, bound: float) -> None:
        """A bound of the MIP's, in the sense of its objective; a margin is taken off."""
        if math.isfinite(bound):
            cost = TOLERANCES.lowered(self._form.cost_of(bound))
            self.mip_bound = max(self.mip_bound, cost)

    def _take(self, answer: Answer) -> None:
        """The end of HiGHS's run."""
        self.mip_nodes = max(self.mip_nodes, answer.nodes)
        if answer.point is not None:
            self.meet(self._form.back(answer.point))
        if answer.infeasible:
            self.mip_bound = math.inf
        elif answer.status in (Status.OPTIMAL, Status.TIME_LIMIT, Status.INTERRUPTED):
            self.note(answer.bound)
        elif answer.status in (Status.UNBOUNDED, Status.INFEASIBLE_OR_UNBOUNDED):
            self.stopped = "unbounded"
        if answer.status is Status.TIME_LIMIT:
            self.stopped = self.stopped or "time"
        if answer.keyboard:
            self.stopped = "interrupt"
