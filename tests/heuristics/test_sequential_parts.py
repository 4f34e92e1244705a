"""Parts of the sequential search one by one: filter, trust region, integers around."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import Network, NetworkBuilder, ReLUNetBlock, activations
from pyomo_relu.base.deadline import Deadline
from pyomo_relu.heuristics import sequential
from pyomo_relu.heuristics.filter import Place, passes
from pyomo_relu.heuristics.sequential import SequentialSearch
from pyomo_relu.heuristics.start_settings import SEQUENTIAL
from pyomo_relu.presolve.reading import read_problem
from tests.harness.random_networks import he_network

pytest.importorskip("highspy")


def place(broken: float, cost: float) -> Place:
    return Place(np.zeros(1), broken, cost)


@pytest.mark.parametrize(
    "new, old, wanted",
    [
        # Less violation, by more than the margin, at whatever cost.
        ((0.5, 9.0), (1.0, 0.0), True),
        ((0.97, 9.0), (1.0, 0.0), False),
        # A better cost pays for more violation, but has to be better by its share.
        ((2.0, -2.0), (1.0, 0.0), True),
        ((2.0, -0.05), (1.0, 0.0), False),
        ((1.0, 0.0), (1.0, 0.0), False),
        # Where both hold, the cost alone decides.
        ((0.0, 1.0), (0.0, 2.0), True),
        ((0.0, 2.0), (0.0, 1.0), False),
        ((0.0, 1.0 - 1e-9), (0.0, 1.0), False),
        # A feasible point is less violated than any other one.
        ((0.0, 5.0), (1.0, 0.0), True),
    ],
)
def test_the_filter_asks_for_less_violation_or_a_better_cost(new, old, wanted):
    assert passes(place(*new), [place(*old)]) is wanted


def test_the_filter_remembers_every_place_before():
    kept = [place(1.0, 0.0), place(0.2, 3.0)]
    assert passes(place(0.1, 9.0), kept)
    # Better than the latest in cost, but no better than the first in anything.
    assert passes(place(1.5, 1.0), kept[1:]) and not passes(place(1.5, 1.0), kept)


def mixed() -> pyo.ConcreteModel:
    """A free driver, an integer one, and one that binaries choose."""
    m = pyo.ConcreteModel()
    m.x, m.k = pyo.Var(bounds=(0, 10)), pyo.Var(bounds=(0, 20), domain=pyo.Integers)
    m.p, m.z = pyo.Var(bounds=(0, 3)), pyo.Var(range(3), domain=pyo.Binary)
    m.net = ReLUNetBlock(network=he_network(0, (3, 6, 1)), inputs=[m.x, m.k, m.p])
    m.one = pyo.Constraint(expr=sum(m.z.values()) == 1)
    m.price = pyo.Constraint(expr=m.p == m.z[0] + 2 * m.z[1] + 3 * m.z[2])
    m.obj = pyo.Objective(expr=m.net.outputs[0])
    return m


def test_the_trust_region_is_a_share_of_the_box_around_the_point():
    m = mixed()
    problem = read_problem(m)
    search = SequentialSearch(problem, lambda z: None, Deadline())
    at = {v.name: j for j, v in enumerate(problem.columns)}
    point = np.zeros(problem.n)
    point[at["x"]], point[at["k"]], point[at["p"]] = 4.0, 7.0, 2.0
    low, high = search._trusted(point, 0.2, None)
    assert (low[at["x"]], high[at["x"]]) == pytest.approx((2.0, 6.0))
    assert (low[at["k"]], high[at["k"]]) == (3.0, 11.0)  # 4 of 20, in whole steps
    assert (low[at["p"]], high[at["p"]]) == (0.0, 3.0)  # its binaries are limited instead
    low, high = search._trusted(point, 1e-3, None)
    assert (low[at["k"]], high[at["k"]]) == (6.0, 8.0)  # one step at least
    assert (low[at["x"]], high[at["x"]]) == pytest.approx((3.99, 4.01))
    low, high = search._trusted(point, 1.0, None)
    assert (low == problem.lower).all() and (high == problem.upper).all()
    point[at["x"]] = 9.5
    low, high = search._trusted(point, 0.2, None)
    assert (low[at["x"]], high[at["x"]]) == pytest.approx(
        (7.5, 10.0)
    )  # never beyond the box
    fixed = np.array([3.0 if v.name == "k" else 0.0 for v in problem.columns])
    whole = fixed[search.model.integers]
    low, high = search._trusted(point, 0.2, whole)
    assert low[at["k"]] == high[at["k"]] == 3.0


def settle(monkeypatch, *answers: tuple[float, float]) -> tuple[list[float], Place, bool]:
    """Trust regions of a sequence whose places have a violation and a cost, in turn.

    It begins at violation 1 and cost 0; also its result, and whether that is the start.
    """
    problem = read_problem(mixed())
    search = SequentialSearch(problem, lambda z: None, Deadline())
    radii: list[float] = []
    left = iter(answers)

    def program(point, radius, fixed, here=None):
        radii.append(radius)
        return point + 1.0

    monkeypatch.setattr(search, "_program", program)
    monkeypatch.setattr(search, "_place", lambda found: Place(found, *next(left)))
    start = place(1.0, 0.0)
    start.point = np.zeros(search.model.n_columns)
    steps = search._settle(start)
    with pytest.raises(StopIteration) as ended:
        while True:
            next(steps)
    return radii, ended.value.value, ended.value.value is start


def test_success_widens_and_failure_narrows_the_trust_region(monkeypatch):
    radii, _, stays = settle(monkeypatch, (1.0, -1.0), (1.0, -2.0), *[(9.0, 9.0)] * 5)
    # Twice as far after each success, up to the box; then a quarter, down to the last.
    assert radii == [0.5, 1.0, 1.0, 0.25, 0.25**2, 0.25**3, 0.25**4]
    assert stays  # nothing was less violated, and nothing feasible


def test_what_an_earlier_place_beats_is_a_failure(monkeypatch):
    places = [(0.2, 3.0), (1.5, 1.0), *[(9.0, 9.0)] * 4]
    radii, best, _ = settle(monkeypatch, *places)
    assert radii == [0.5, 1.0, 0.25, 0.25**2, 0.25**3, 0.25**4]
    assert (best.broken, best.cost) == (0.2, 3.0)


def hat(centre: float, width: float) -> Network:
    """1 at the centre, falling to 0 within a width."""
    b = NetworkBuilder()
    x = b.input("x", (1,))
    ends = np.array([centre - width, centre, centre + width])
    h = b.affine("h", [(x, np.ones((3, 1)))], -ends)
    r = b.piecewise("r", h, activations.relu())
    return b.build([b.affine("y", [(r, [[1 / width, -2 / width, 1 / width]])], [0.0])])


def slope_beyond_a_peak() -> pyo.ConcreteModel:
    """The tangent at 0.45 leads far beyond the peak at 0.5, where nothing is left."""
    m = pyo.ConcreteModel()
    m.x, m.y = pyo.Var(bounds=(0, 1)), pyo.Var(bounds=(0, 1))
    m.net = ReLUNetBlock(network=hat(0.5, 0.08), inputs=[m.x])
    m.row = pyo.Constraint(expr=m.x + m.y <= 1.5)
    m.obj = pyo.Objective(expr=m.net.outputs[0] + 0.01 * m.y, sense=pyo.maximize)
    return m


def settled(m: pyo.ConcreteModel, x: float) -> float:
    problem = read_problem(m)
    search = SequentialSearch(problem, lambda z: None, Deadline())
    driver = {v.name: j for j, v in enumerate(problem.columns)}["x"]
    start = np.zeros(problem.n)
    start[driver] = x
    for _ in search._search(search.sampler.at(start), 0.0):
        pass
    return problem.user_objective(search.best)


def everywhere(search, x, radius, fixed):
    return search.problem.lower.copy(), search.problem.upper.copy()


def test_without_a_trust_region_that_narrows_a_peak_is_missed(monkeypatch):
    m = slope_beyond_a_peak()
    assert settled(m, 0.45) == pytest.approx(1.01, abs=0.02)
    for broken in ("_trusted", "narrower"):
        with monkeypatch.context() as patch:
            if broken == "narrower":  # a sequence that gives up at its first failure
                settings = replace(SEQUENTIAL, narrower=1e-9)
                patch.setattr(sequential, "SEQUENTIAL", settings)
            else:
                patch.setattr(SequentialSearch, "_trusted", everywhere)
            assert settled(m, 0.45) < 0.7


def test_suggested_points_and_random_ones_have_turns(monkeypatch):
    """Whoever suggests a point at each step keeps no random start from its turn."""
    m = mixed()
    search = SequentialSearch(read_problem(m), lambda z: None, Deadline())
    begun: list[str] = []
    monkeypatch.setattr(search.sampler, "like", lambda z: begun.append("like") or z)
    monkeypatch.setattr(search.sampler, "anywhere", lambda: begun.append("anywhere"))

    def start(point, radius):
        yield None

    monkeypatch.setattr(search, "_from", start)
    steps = search.steps()
    for _ in range(7):
        search.suggest(np.zeros(3))
        next(steps)
    assert begun[:4] == ["like", "anywhere"] * 2
