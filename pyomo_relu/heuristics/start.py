"""`find_start`: a good feasible point of a model with networks, found by the networks.

Where the user has rows or integers, sequences of linear and mixed-integer programs with
the networks made linear come first. Then a batch of gradient paths, whose ends are
repaired by the linear program of their region; walks from region to region; small MIPs
over the units on the border of the best region; walks from LP relaxations with units
forced the other way. While there is no point, and time, the sequences go on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyomo.contrib.solver.common.util import IncompatibleModelError

from pyomo_relu.base.deadline import NEVER, Deadline, TimeUp, work_time
from pyomo_relu.heuristics.gradient_paths import ascend, batch_size, box_samples
from pyomo_relu.heuristics.image import CALLER, ModelImage
from pyomo_relu.heuristics.network_columns import NetworkProblem
from pyomo_relu.heuristics.nonlinear_start import NonlinearStart
from pyomo_relu.heuristics.region_walk import RegionPoint, RegionSolver, solve_fixed
from pyomo_relu.heuristics.sequential import SequentialSearch
from pyomo_relu.heuristics.start_settings import START
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.programs.standard_form import NotLinearError
from pyomo_relu.programs.strangers import check_model


@dataclass
class Start:
    """What a search found.

    Attributes
    ----------
    value : float or None
        The model's objective there; None without a point.
    violation : float
        Largest violation of a constraint, a bound or integrality; row violations
        relative to their right-hand side. Infinite without a point.
    seconds : float
    first : float
        CPU seconds until there was a feasible point; infinite without one.
    source : str
        Which heuristic found it.
    points : int
        How many candidates were seen.
    point : (n_columns,) array or None
        The point itself, in the columns of the standard form.
    """

    value: float | None = None
    violation: float = float("inf")
    seconds: float = 0.0
    first: float = float("inf")
    source: str = ""
    points: int = 0
    point: np.ndarray | None = None

    @property
    def feasible(self) -> bool:
        """Whether every constraint of the model holds, within 1e-6."""
        return self.violation <= START.feasible

    def __repr__(self) -> str:
        if self.value is None:
            return f"<Start: none found in {self.seconds:.2f} s>"
        state = "feasible" if self.feasible else f"violated by {self.violation:.2g}"
        return (
            f"<Start: objective {self.value:.8g}, {state}, by {self.source} of "
            f"{self.points} points in {self.seconds:.2f} s>"
        )


def find_start(model: Any, time_limit: float = 1.0, seed: int = 0) -> Start:
    """Find a point of the whole model and set every variable to it.

    The model is then ready for ``solve(model, warmstart=True)`` with any solver that
    takes a start.

    Parameters
    ----------
    model : Block
        A model with active network blocks, several and chained ones included. Rows,
        objective and inputs of networks may be nonlinear (sums, products, powers and
        functions of one variable), and SOS constraints hold, too.
    time_limit : float
        In CPU seconds of this process, at most three times as many on the clock; the
        search ends earlier when nothing improves any more.
    seed : int
        Of the random choices.

    Returns
    -------
    Start
        With value and violation. A point that violates the model is set as well, so
        look at ``feasible``; without any point the model keeps its values.

    Raises
    ------
    ValueError
        If the model has no network block, or networks that read each other in a
        circle, or inputs widened after their network was written; if all its blocks
        were rewritten since, as relaxing or scaling does.
    IncompatibleModelError
        For terms that aren't known, and constraints that are neither rows nor SOS.
    """
    deadline = Deadline(START.wall_per_cpu * time_limit, time_limit)
    check_model(model, CALLER)
    try:
        return _find(model, deadline, seed)
    except NotLinearError:
        return _find_nonlinear(model, deadline, seed)


def _find_nonlinear(model: Any, deadline: Deadline, seed: int) -> Start:
    """:func:`find_start` for a model that isn't linear beside its networks."""
    try:
        search = NonlinearStart(model, deadline, seed)
    except TimeUp:
        return Start(seconds=deadline.elapsed)
    search.write()
    result = Start(seconds=deadline.elapsed, first=search.first, points=search.programs)
    if search.point is not None:
        p = search.problem
        result.source = "sequence with gradients"
        result.value = p.user_objective(float(p.cost @ search.point))
        result.violation = p.violation(search.point)
    return result


def _find(model: Any, deadline: Deadline, seed: int) -> Start:
    """:func:`find_start` for a model that is linear."""
    try:
        image = ModelImage(model, Deadline(deadline.left() + START.reading))
    except TimeUp:
        return Start(seconds=deadline.elapsed)
    wired = read_wired(image.source, deadline)
    search = StartSearch(image.problem, wired, deadline, seed, START.patience)
    result = search.run(image.present())
    if result.point is not None:
        image.write(result.point)
    return result


def read_wired(model: Any, deadline: Deadline) -> Problem | None:
    """A model as networks and rows; None where it is a box or empty, or can't be read so."""
    try:
        problem = read_problem(model, deadline)
        plain = problem.is_box and not problem.integer.any()
        if plain or problem.infeasible or problem.unbounded:
            return None
        return problem.for_points(deadline)
    except (IncompatibleModelError, ValueError, TimeUp):
        return None


def begin_start(
    problem: NetworkProblem,
    time_limit: float,
    seed: int = 0,
    wired: Problem | None = None,
) -> StartSearch:
    """A search as that of :func:`find_start` on a compiled model, to be run.

    No value in the model changes.

    Parameters
    ----------
    problem : NetworkProblem
    time_limit : float
        Of the first run, in CPU seconds.
    seed : int
    wired : Problem, optional
        The same model by :func:`read_wired`.
    """
    deadline = Deadline(START.wall_per_cpu * time_limit, time_limit)
    return StartSearch(problem, wired, deadline, seed, START.patience_for_solver)


class StartSearch:
    """All heuristics over one problem.

    Parameters
    ----------
    problem : NetworkProblem
    wired : Problem or None
        The same model by :func:`read_wired`.
    deadline : Deadline
        Of :meth:`run`.
    seed : int
    patience : int
        So many starts or walks in a row may bring nothing better.
    """

    def __init__(
        self,
        problem: NetworkProblem,
        wired: Problem | None,
        deadline: Deadline,
        seed: int,
        patience: int,
    ) -> None:
        self.problem, self.form = problem, problem.form
        self.wired, self.seed = wired, seed
        self.cpu_begin = deadline.cpu_begin
        self.deadline, self.patience = deadline, patience
        self.rng = np.random.default_rng(seed)
        self.sign = 1.0 if self.form.maximize else -1.0
        self.best = Start()
        #: Violation and value of the latest candidate.
        self.latest = np.inf, np.nan
        self.seen: set[bytes] = set()
        #: Better and better points of the wired model that were not offered yet.
        self._met: list[np.ndarray] = []
        #: Violation and columns of the wired model's point that comes closest.
        self._closest: tuple[float, np.ndarray] | None = None
        self.regions: RegionSolver
        self.sequences: SequentialSearch | None = None

    # ------------------------------------------------------------------- candidates
    def offer(self, point: np.ndarray, source: str) -> bool:
        """Judge a point of all columns; whether it is the best so far.

        The networks are run again on its inputs, so that the point holds without the
        tolerance of a solver; where that breaks a row, the solver's values stay.
        """
        exact = self.problem.fill_layers(point.copy())
        whole = self.problem.users_integers
        exact[whole] = np.round(exact[whole])
        violation = self.form.violation(exact)
        if violation > START.exact:
            other = point.copy()
            other[self.form.integer] = np.round(other[self.form.integer])
            rough = self.form.violation(other)
            if rough < 0.1 * violation or violation > START.feasible >= rough:
                exact, violation = other, rough
        self.latest = violation, self.form.objective_value(exact)
        best = self.best
        best.points += 1
        if not self._better(*self.latest):
            return False
        if violation <= START.feasible:
            self._note_first()
        best.point, best.source = exact, source
        best.violation, best.value = self.latest
        return True

    def _note_first(self) -> None:
        if self.best.first == math.inf:
            self.best.first = work_time() - self.cpu_begin

    def _better(self, violation: float, value: float) -> bool:
        best, feasible = self.best, violation <= START.feasible
        if best.value is None or feasible != best.feasible:
            return best.value is None or feasible
        if feasible:
            return self.sign * (value - best.value) > START.gain * max(1.0, abs(value))
        return violation < START.less_violated * best.violation

    def offer_region(self, found: RegionPoint, source: str) -> bool:
        """Offer a region's optimum, its user's integers made whole by a small MIP."""
        point, whole = found.point, self.problem.users_integers
        apart = np.abs(point[whole] - np.round(point[whole])).max(initial=0.0)
        if apart > START.feasible:
            columns = self.problem.pattern_columns
            repaired = solve_fixed(self.form, columns, found.pattern, self.deadline)
            point = point if repaired is None else repaired
        return self.offer(point, source)

    # ---------------------------------------------------------------------- the run
    def run(self, present: np.ndarray | None) -> Start:
        """All heuristics in turn, until the time is up or nothing is left to try."""
        try:
            if present is not None:
                self.offer(present, "present values")
            self.problem.deadline = self.deadline
            self._begin_sequences(present)
            self._by_regions(present)
            self._go_on(self.deadline)
        except TimeUp:
            pass
        self.problem.deadline = NEVER  # What was found is kept, however late it is.
        self._offer_met()
        self._least_violated()
        self.best.seconds = self.deadline.elapsed
        return self.best

    def more(self, cpu_seconds: float) -> np.ndarray | None:
        """After :meth:`run`: let sequences go on, (n_columns,) of a better point or None."""
        before = self.best.point
        deadline = Deadline(START.wall_per_cpu * cpu_seconds, cpu_seconds)
        self.deadline = self.problem.deadline = deadline
        self.patience = START.patience
        try:
            if self.sequences is None:
                self._begin_sequences(None)
            self._go_on(deadline)
        except TimeUp:
            self.problem.deadline = NEVER
            self._offer_met()
        better = self.best.feasible and self.best.point is not before
        return self.best.point if better else None

    def _begin_sequences(self, present: np.ndarray | None) -> None:
        """Linear programs in a trust region, until they have a point that no start betters."""
        p = self.wired
        if p is None or "sequences" not in START.searches:
            return
        drivers = None
        if present is not None:
            place = {id(v): x for v, x in zip(self.form.columns, present.tolist())}
            known = [place.get(id(v)) for v in p.columns[: p.n]]
            if None not in known:
                drivers = np.array(known, dtype=float)
        self.sequences = SequentialSearch(p, self._judge, self.deadline, self.seed)
        self._go_on(self.deadline.part(START.sequential_share), drivers)
        if self.sequences.point is None:
            self._go_on(self.deadline)

    def _go_on(self, deadline: Deadline, drivers: np.ndarray | None = None) -> None:
        """Let sequences go on, and take their best point over."""
        if self.sequences is not None:
            self.sequences.deadline = self.deadline
            self.sequences.run(deadline, self.patience, drivers)
            self._offer_met()

    def _offer_met(self) -> None:
        """Offer the best of the points that were noted, in the columns of the form."""
        while self._met and self.wired is not None:
            z = self._met[-1]
            point = self.problem.from_columns(self.wired.columns, z)
            self._met.pop()
            # Rounding of the formulation's rows may spoil a point: the one before, then.
            if point is not None and self.offer(point, "sequence"):
                self._met.clear()

    def _judge(self, z: np.ndarray) -> None:
        """Note a point of the wired model that is the best so far."""
        p = self.wired
        assert p is not None
        violation, value = p.violation(z), p.user_objective(float(p.cost @ z))
        if violation <= START.feasible:
            self._note_first()
            last = p.user_objective(float(p.cost @ self._met[-1])) if self._met else None
            if last is None or self.sign * (value - last) > 0:
                if self._better(violation, value):
                    self._met.append(z)
        elif self._closest is None or violation < self._closest[0]:
            self._closest = violation, z

    def _least_violated(self) -> None:
        """Without a feasible point the least violated one is better than none."""
        if self._closest is None or self.best.feasible or self.wired is None:
            return
        point = self.problem.from_columns(self.wired.columns, self._closest[1])
        if point is not None:
            self.offer(point, "sequence")

    def _by_regions(self, present: np.ndarray | None) -> None:
        """Gradient paths, and walks from region to region."""
        problem, total = self.problem, self.deadline.left()
        paths = batch_size(problem, START.paths_share * total)
        searches = START.searches
        starts = self._random_drivers(paths)
        if present is not None:
            starts[0] = present[problem.drivers]
        cost = np.zeros(len(self.form.columns))
        cost[problem.io] = self.sign * self.form.cost[problem.io]
        ends = ascend(problem, cost, starts, Deadline(START.ascent_share * total))
        self._complete_best(ends)
        self.regions = RegionSolver(problem)
        relaxed = self.regions.relaxation(self.deadline.part(START.relaxation_share))
        if relaxed is not None:
            # The objective may reach the networks through rows: price those.
            priced = self.regions.local_cost()
            if not np.allclose(priced, cost):
                starts = self._random_drivers(paths)
                starts[0] = relaxed[problem.drivers]
                limit = self.deadline.part(START.ascent_share)
                ends = np.vstack([ascend(problem, priced, starts, limit), ends])
            if not len(problem.pattern_columns) and not len(problem.users_integers):
                self.offer(relaxed, "linear program")
                return
        failures, candidates = 0, list(self._distinct(ends))
        if relaxed is not None:
            candidates.insert(1, relaxed)
        for point in candidates if "region walks" in searches else ():
            if self.deadline.expired() or failures >= self.patience:
                break
            failures = 0 if self._walk(point, "region walk") else failures + 1
        self._neighbourhood()
        if relaxed is not None and "relax and walk" in searches:
            self._relax_and_walk(relaxed)

    def _random_drivers(self, count: int) -> np.ndarray:
        return box_samples(*self.problem.driver_box, count, self.rng, centres=2)

    def _distinct(self, points: np.ndarray) -> Iterator[np.ndarray]:
        """Points whose drivers differ."""
        low, high = self.problem.driver_box
        width = np.where(high > low, high - low, 1.0)
        kept: list[np.ndarray] = []
        for point in points:
            u = (point[self.problem.drivers] - low) / width
            apart = (np.abs(u - other).max(initial=0.0) for other in kept)
            if all(distance > START.distinct for distance in apart):
                kept.append(u)
                yield point
            if len(kept) >= START.most_distinct:
                return

    def _complete_best(self, ends: np.ndarray) -> None:
        """Offer the best ends of paths, (N, n_columns)."""
        if "gradient paths" in START.searches:
            for point in ends[: START.completed]:
                self._complete(point)

    def _complete(self, point: np.ndarray) -> None:
        """Offer the end of a path; the user's other variables by what is left to solve."""
        point = self.problem.fill_layers(point.copy())
        full: np.ndarray | None = point
        if len(self.problem.rest):
            known = np.setdiff1d(np.arange(len(point)), self.problem.rest)
            limit = self.deadline.part(START.completion_share)
            full = solve_fixed(self.form, known, point[known], limit)
        if full is not None:
            self.offer(full, "gradient")

    def _walk(self, point: np.ndarray, source: str) -> bool:
        walk = self.regions.walk(point, self.deadline, self.seen)
        return any([self.offer_region(found, source) for found in walk])

    def _neighbourhood(self) -> None:
        """Free the units on the border of the best point's region, as long as it helps."""
        columns = self.problem.pattern_columns
        if "neighbourhoods" not in START.searches:
            return
        while self.best.feasible and not self.deadline.expired() and len(columns):
            point = self.best.point
            assert point is not None
            free = self.problem.undecided(point)
            if not free.any():
                return
            fixed, limit = columns[~free], self.deadline.part(START.border_share)
            found = solve_fixed(self.form, fixed, np.round(point[fixed]), limit, point)
            if found is None or not self.offer(found, "neighbourhood"):
                return
            self._walk(found, "neighbourhood")

    def _relax_and_walk(self, relaxed: np.ndarray) -> None:
        """Force units of the relaxation the other way, one after another, and walk."""
        columns = self.problem.pattern_columns
        binary = (self.form.lower[columns] == 0) & (self.form.upper[columns] == 1)
        if not binary.any():
            return
        groups, failures = self._layers(columns[binary]), 0
        while not self.deadline.expired() and failures < self.patience:
            x, forced = relaxed, dict[int, float]()
            for group in groups:
                column, value = self._other_way(x, group)
                fixed = {**forced, column: value}
                self.regions.fix(np.array(list(fixed)), np.array(list(fixed.values())))
                found = self.regions.run(self.deadline)
                if found is None:
                    continue
                forced, x = fixed, found[: self.regions.n]
                if self.deadline.expired():
                    return
                improved = self._walk(x, "relax and walk")
                failures = 0 if improved else failures + 1
                if improved:
                    self._neighbourhood()
            if not forced:
                failures += 1

    def _other_way(self, x: np.ndarray, group: np.ndarray) -> tuple[int, float]:
        """A binary of a group, likely one far from its pattern, and its other value."""
        where = np.searchsorted(self.problem.pattern_columns, group)
        pattern = self.problem.pattern(x)[where]
        chance = np.abs(pattern - x[group]) + START.least_chance
        j = int(self.rng.choice(len(group), p=chance / chance.sum()))
        return int(group[j]), 1.0 - round(float(pattern[j]))

    def _layers(self, binaries: np.ndarray) -> list[np.ndarray]:
        """The binaries of each layer, in the order of the networks."""
        chosen, groups = set(binaries.tolist()), list[np.ndarray]()
        for one in self.problem.maps:
            by_layer: dict[int, list[int]] = {}
            for j, v in zip(one.own.tolist(), one.variables):
                if j in chosen:
                    by_layer.setdefault(id(v.parent_block()), []).append(j)
            groups += [np.array(sorted(g)) for g in by_layer.values()]
        return groups
