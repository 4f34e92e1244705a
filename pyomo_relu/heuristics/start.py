"""`find_start`: a good feasible point of a model with networks, found by the networks.

First a batch of gradient paths, whose ends are repaired by the linear program of their
region; where the user has variables of his own, walks by linearization from the same
points; then walks from region to region; then small MIPs over the units on the border
of the best region; then walks from LP relaxations with units forced the other way.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.deadline import Deadline, TimeUp
from pyomo_relu.heuristics.gradient import ascend, batch_size
from pyomo_relu.heuristics.image import ModelImage
from pyomo_relu.heuristics.linearized import walk_linearized
from pyomo_relu.heuristics.problem import NetworkProblem
from pyomo_relu.heuristics.region import RegionPoint, RegionSolver, solve_fixed

#: A point counts as feasible up to this violation, HiGHS's tolerance for MIPs.
FEASIBLE = 1e-6
#: Seconds beyond the time limit that reading a model, and judging the values that it has,
#: may take at most: half of the two seconds that any call may be late.
READING = 1.0
#: Steps of a gradient path.
STEPS = 60
#: Walks by linearization from gradient paths, at most.
LINEARIZED = 4


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
    source: str = ""
    points: int = 0
    point: np.ndarray | None = None

    @property
    def feasible(self) -> bool:
        """Whether every constraint of the model holds, within 1e-6."""
        return self.violation <= FEASIBLE

    def __repr__(self) -> str:
        if self.value is None:
            return f"<Start: none found in {self.seconds:.2f} s>"
        state = "feasible" if self.feasible else f"violated by {self.violation:.2g}"
        return (
            f"<Start: objective {self.value:.8g}, {state}, by {self.source} of "
            f"{self.points} points in {self.seconds:.2f} s>"
        )


def find_start(model, time_limit: float = 1.0, seed: int = 0) -> Start:
    """Find a point of the whole model and set every variable to it.

    The model is then ready for ``solve(model, warmstart=True)`` with any solver that
    takes a start.

    Parameters
    ----------
    model : Block
        A linear model with active network blocks, several and chained ones included.
    time_limit : float
        In seconds; the search ends earlier when nothing improves any more.
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
        If the user's part of the model isn't linear.
    """
    deadline = Deadline(time_limit + READING)
    try:
        image = ModelImage(model, deadline)
    except TimeUp:
        return Start(seconds=deadline.elapsed)
    end = deadline.begin + time_limit
    result = _Search(image.problem, end, seed, patience=20).run(image.present())
    if result.point is not None:
        image.write(result.point)
    result.seconds = deadline.elapsed
    return result


def search_start(problem: NetworkProblem, time_limit: float, seed: int = 0) -> Start:
    """As :func:`find_start` on a compiled model; no value in the model changes.

    It stops after fewer walks without success, since a solver goes on from there.
    """
    before, problem.deadline = problem.deadline, Deadline(time_limit)
    try:
        end = problem.deadline.end
        result = _Search(problem, end, seed, patience=4).run(None)
        result.seconds = problem.deadline.elapsed
    finally:
        problem.deadline = before
    return result


class _Search:
    """One run of all heuristics over one problem."""

    def __init__(
        self, problem: NetworkProblem, deadline: float, seed: int, patience: int
    ) -> None:
        self.problem, self.form = problem, problem.form
        self.deadline, self.patience = deadline, patience
        self.rng = np.random.default_rng(seed)
        self.sign = 1.0 if self.form.maximize else -1.0
        self.best = Start()
        #: Violation and value of the latest candidate.
        self.latest = np.inf, np.nan
        self.users_integers = np.flatnonzero(self.form.integer & ~problem.layer_columns)
        self.seen: set[bytes] = set()
        self.regions: RegionSolver | None = None

    def left(self) -> float:
        return self.deadline - time.perf_counter()

    # ------------------------------------------------------------------- candidates
    def offer(self, point: np.ndarray, source: str) -> bool:
        """Judge a point of all columns; whether it is the best so far.

        The networks are run again on its inputs, so that the point holds without the
        tolerance of a solver; where that breaks a row, the solver's values stay.
        """
        exact = self.problem.fill_layers(point.copy())
        whole = self.users_integers
        exact[whole] = np.round(exact[whole])
        violation = self.form.violation(exact)
        if violation > 1e-9:
            other = point.copy()
            other[self.form.integer] = np.round(other[self.form.integer])
            rough = self.form.violation(other)
            if rough < 0.1 * violation or violation > FEASIBLE >= rough:
                exact, violation = other, rough
        value = self.form.objective_value(exact)
        self.latest = violation, value
        best = self.best
        best.points += 1
        feasible = violation <= FEASIBLE
        if best.point is None:
            better = True
        elif feasible != best.feasible:
            better = feasible
        elif feasible:
            assert best.value is not None
            better = self.sign * (value - best.value) > 1e-10 * max(1.0, abs(value))
        else:
            better = violation < 0.99 * best.violation
        if better:
            best.point, best.value, best.violation = exact, value, violation
            best.source = source
        return better

    def offer_region(self, found: RegionPoint, source: str) -> bool:
        """Offer a region's optimum, its user's integers made whole by a small MIP."""
        point = found.point
        whole = self.users_integers
        if len(whole) and np.abs(point[whole] - np.round(point[whole])).max() > 1e-6:
            repaired = solve_fixed(
                self.form, self.problem.pattern_columns, found.pattern, self.deadline
            )
            if repaired is not None:
                return self.offer(repaired, source)
        return self.offer(point, source)

    # ---------------------------------------------------------------------- the run
    def run(self, present: np.ndarray | None) -> Start:
        """All heuristics in turn, until the time is up or nothing is left to try."""
        try:
            self._run(present)
        except TimeUp:
            pass
        return self.best

    def _run(self, present: np.ndarray | None) -> None:
        problem = self.problem
        total = max(self.left(), 0.0)
        paths = batch_size(problem, STEPS, 0.2 * total)
        starts = self._random_drivers(paths)
        if present is not None:
            self.offer(present, "present values")
            starts[0] = present[problem.drivers]
        self._linearized(starts[:1])
        cost = np.zeros(len(self.form.columns))
        cost[problem.io] = self.sign * self.form.cost[problem.io]
        ends, _ = ascend(problem, cost, starts, STEPS, time.perf_counter() + 0.3 * total)
        self._linearized(ends[:LINEARIZED, problem.drivers])
        for point in ends[:2]:
            self._complete(point)
        self.regions = RegionSolver(problem)
        relaxed = self.regions.relaxation(time.perf_counter() + 0.5 * self.left())
        if relaxed is not None:
            if self._indirect(cost):
                # The objective reaches the networks through rows: price those.
                starts = self._random_drivers(paths)
                starts[0] = relaxed[problem.drivers]
                limit = time.perf_counter() + 0.3 * self.left()
                more, _ = ascend(problem, self.regions.local_cost(), starts, STEPS, limit)
                ends = np.vstack([more, ends])
            if not len(problem.pattern_columns) and not len(self.users_integers):
                self.offer(relaxed, "linear program")
                return
        failures = 0
        candidates = list(self._distinct(ends))
        if relaxed is not None:
            candidates.insert(1, relaxed)
        for point in candidates:
            if self.left() <= 0 or failures >= self.patience:
                break
            failures = 0 if self._walk(point, "region walk") else failures + 1
        self._neighbourhood()
        if relaxed is not None:
            self._relax_and_walk(relaxed)

    def _indirect(self, cost: np.ndarray) -> bool:
        """Whether the relaxation's duals price inputs and outputs differently."""
        assert self.regions is not None
        return not np.allclose(self.regions.local_cost(), cost)

    def _random_drivers(self, count: int) -> np.ndarray:
        """Points of the drivers' box: the centre, corners, and between."""
        low, high = self.problem.driver_box
        u = self.rng.random((count, len(low)))
        corners = np.arange(count) % 3 == 1
        u[corners] = np.round(u[corners])
        u[: min(2, count)] = 0.5
        return low + u * (high - low)

    def _distinct(self, points: np.ndarray, limit: int = 30):
        """Points whose drivers differ by more than a thousandth of the box."""
        low, high = self.problem.driver_box
        width = np.where(high > low, high - low, 1.0)
        kept: list[np.ndarray] = []
        for point in points:
            u = (point[self.problem.drivers] - low) / width
            if all(np.abs(u - other).max(initial=0.0) > 1e-3 for other in kept):
                kept.append(u)
                yield point
            if len(kept) >= limit:
                return

    def _complete(self, point: np.ndarray) -> None:
        """Offer the end of a path; the user's other variables by what is left to solve."""
        point = self.problem.fill_layers(point.copy())
        if not len(self.problem.rest):
            self.offer(point, "gradient")
            return
        known = np.setdiff1d(np.arange(len(point)), self.problem.rest)
        limit = min(self.deadline, time.perf_counter() + 0.2 * max(self.left(), 0.0))
        full = solve_fixed(self.form, known, point[known], limit)
        if full is not None:
            self.offer(full, "gradient")

    def _linearized(self, starts: np.ndarray) -> None:
        """Linear programs over the user's rows, which the gradient knows only in part."""
        if not len(self.problem.rest) or len(self.users_integers):
            return
        limit = time.perf_counter() + 0.5 * max(self.left(), 0.0)
        for drivers in starts:
            walk_linearized(self.problem, drivers, self._score, limit)

    def _score(self, point: np.ndarray) -> float:
        """What a point is worth once its layers are filled in; minus infinity if not."""
        self.offer(point, "linearization")
        violation, value = self.latest
        return self.sign * value if violation <= FEASIBLE else -np.inf

    def _walk(self, point: np.ndarray, source: str) -> bool:
        assert self.regions is not None
        improved = False
        for found in self.regions.walk(point, self.deadline, self.seen):
            improved |= self.offer_region(found, source)
        return improved

    def _neighbourhood(self) -> None:
        """Free the units on the border of the best point's region, as long as it helps."""
        columns = self.problem.pattern_columns
        shift = 1e-6
        while self.best.feasible and self.left() > 0 and len(columns):
            point = self.best.point
            assert point is not None
            free = self.problem.undecided(point, shift)
            if not free.any():
                return
            fixed = columns[~free]
            limit = time.perf_counter() + 0.5 * self.left()
            found = solve_fixed(self.form, fixed, np.round(point[fixed]), limit, point)
            if found is None or not self.offer(found, "neighbourhood"):
                return
            self._walk(found, "neighbourhood")

    def _relax_and_walk(self, relaxed: np.ndarray) -> None:
        """Force units of the relaxation the other way, one after another, and walk."""
        regions, problem = self.regions, self.problem
        assert regions is not None
        columns = problem.pattern_columns
        binary = (self.form.lower[columns] == 0) & (self.form.upper[columns] == 1)
        if not binary.any():
            return
        failures = 0
        while self.left() > 0 and failures < self.patience:
            x = relaxed
            flipped: list[int] = []
            values: list[float] = []
            for group in self._layers(columns, binary):
                pattern = problem.pattern(x)
                where = np.searchsorted(columns, group)
                chance = np.abs(pattern[where] - x[group]) + 0.05
                j = int(self.rng.choice(len(group), p=chance / chance.sum()))
                flipped.append(int(group[j]))
                values.append(1.0 - round(float(pattern[where[j]])))
                regions.fix(np.array(flipped), np.array(values))
                found = regions.run(self.deadline)
                if found is None:
                    flipped.pop()
                    values.pop()
                    continue
                x = found[: regions.n]
                if self.left() <= 0:
                    return
                improved = self._walk(x, "relax and walk")
                failures = 0 if improved else failures + 1
                if improved:
                    self._neighbourhood()
            if not flipped:
                failures += 1

    def _layers(self, columns: np.ndarray, binary: np.ndarray) -> list[np.ndarray]:
        """The binaries of each layer, in the order of the networks."""
        chosen = set(columns[binary].tolist())
        groups: list[np.ndarray] = []
        for one in self.problem.maps:
            by_layer: dict[int, list[int]] = {}
            for j, v in zip(one.own.tolist(), one.variables):
                if j in chosen:
                    by_layer.setdefault(id(v.parent_block()), []).append(j)
            groups += [np.array(sorted(g)) for g in by_layer.values()]
        return groups
