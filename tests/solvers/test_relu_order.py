"""Which search of ``relu`` begins when: small MIPs at once, SCIP when nothing ends soon."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pyomo.environ as pyo
import pytest
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory

from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.solvers.global_search.cost_search import RoundSearch
from pyomo_relu.solvers.global_search.limits import Limits
from pyomo_relu.solvers.global_search.piece_search import PieceSearch
from pyomo_relu.solvers.relu import scene
from pyomo_relu.solvers.relu import search as together
from pyomo_relu.solvers.relu.search import TogetherSearch
from pyomo_relu.solvers.relu.settings import TOGETHER
from pyomo_relu.solvers.relu.turns import Turns
from tests.harness.random_networks import he_network
from tests.solvers.row_models import rows_model
from tests.solvers.test_global import TIGHT, box_model, subsystems

pytest.importorskip("highspy")


def tied(formulation=None):
    """Twenty inputs, each near the next one, so that rows leave neurons little room."""
    m = box_model(he_network(3, (20, 8, 8, 1)), formulation=formulation)
    m.near = pyo.Constraint(range(19), rule=lambda m, j: (-0.05, m.x[j] - m.x[j + 1], 0.05))
    return m


@pytest.fixture
def begun(monkeypatch):
    """Rounds of the networks' search before each MIP, and how narrow its form was."""
    found = []
    mip = TogetherSearch._mip

    def told(self, form):
        found.append((self.counts.rounds, None if form is None else form.narrowed))
        mip(self, form)

    monkeypatch.setattr(TogetherSearch, "_mip", told)
    return found


def exact(m) -> float:
    pyo.SolverFactory("relu_highs").solve(m, options=TIGHT, start=None)
    return pyo.value(m.obj)


def test_the_mip_of_a_small_network_goes_first_where_rows_narrow_it(begun, monkeypatch):
    results = NewFactory("relu").solve(tied())
    ((rounds, narrowed),) = begun
    assert rounds == 0
    assert narrowed >= TOGETHER.much_narrower
    assert results.extra_info.proof == "mip"
    best = exact(tied("bigm"))
    assert results.incumbent_objective == pytest.approx(best, rel=2e-4, abs=1e-5)
    assert results.objective_bound >= best - 1e-6
    begun.clear()
    monkeypatch.setattr(together, "TOGETHER", replace(TOGETHER, few_neurons=15))
    NewFactory("relu").solve(tied())
    assert all(form is None for _, form in begun)


def test_random_models_whose_mip_goes_first_agree(begun, monkeypatch):
    """Every model with rows counts as one of many inputs, and every MIP as small."""
    monkeypatch.setattr(scene, "TURNS", replace(scene.TURNS, most_inputs=0))
    monkeypatch.setattr(together, "TOGETHER", replace(TOGETHER, much_narrower=0.0))
    for seed in range(12):
        results = NewFactory("relu").solve(
            rows_model(seed),
            load_solutions=False,
            raise_exception_on_nonoptimal_result=False,
        )
        m = rows_model(seed, "bigm")
        other = NewFactory("relu_highs").solve(
            m,
            start=None,
            rel_gap=1e-9,
            load_solutions=False,
            raise_exception_on_nonoptimal_result=False,
        )
        right, found = other.incumbent_objective, results.incumbent_objective
        assert (found is None) == (right is None), f"seed {seed}"
        if right is not None:
            scale = max(1.0, abs(right))
            assert found == pytest.approx(right, rel=2e-4, abs=1e-5), f"seed {seed}"
            sign = 1.0 if m.obj.sense == pyo.minimize else -1.0
            assert sign * (results.objective_bound - right) <= 1e-5 * scale
    assert sum(form is not None for _, form in begun) > 6


def test_polytopes_go_before_points(monkeypatch):
    asked = []
    look = PieceSearch.look_for_points

    def told(self, programs):
        asked.append((self.counts.mips, programs))
        look(self, programs)

    monkeypatch.setattr(PieceSearch, "look_for_points", told)
    monkeypatch.setattr(
        TogetherSearch, "look_for_points", lambda self, n: asked.append((-1, n))
    )
    results = NewFactory("relu").solve(subsystems(3, None))
    assert results.extra_info.proof == "polytopes"
    assert all(mips > 0 for mips, _ in asked)


class Fake(RoundSearch):
    """A search whose bound and seconds are given, step by step."""

    title = "fake"

    def __init__(self, problem, bounds):
        super().__init__(problem, Limits())
        self.bounds, self.least, self.open = bounds, -math.inf, True

    @property
    def bound(self):
        return self.least

    @property
    def open_boxes(self):
        return int(self.open)

    def step(self):
        self.least = self.bounds.pop(0)


@pytest.mark.parametrize(
    ("seconds", "bounds", "second"),
    [
        # Too early to tell.
        ([0.1], [-8.0], False),
        # It grows by one in each doubling and has one to go: soon done.
        ([0.5, 1.0], [-2.0, -1.0], False),
        # It has seven to go.
        ([0.5, 1.0], [-8.0, -7.0], True),
        # It has been soon done for too long.
        ([3.0, 6.0], [-2.0, -1.0], True),
    ],
)
def test_a_search_begins_where_no_other_is_soon_done(seconds, bounds, second):
    problem = read_problem(tied())
    parts = [Fake(problem, []), Fake(problem, [])]
    parts[1].patience = TOGETHER.scip_after
    search = Turns(parts)
    search.incumbent.cost = 0.0
    search.begun[0] = True
    for t, bound in zip(seconds, bounds):
        search.spent[0] = t
        search.forecasts[0].note(t, bound)
    assert search._next() == int(second)
    parts[0].open = False  # nothing is left to the first one
    assert search._next() == 1


@pytest.mark.parametrize(
    ("narrowed", "spent", "bounds", "cost", "expected"),
    [
        (1.0, 0.5, (2.9, 7.5), 7.7, True),  # too early to say
        (1.0, 1.5, (2.9, 7.5), 7.7, False),  # hopeless
        (1.0, 1.5, (7.0, 7.5), 7.7, True),  # not far behind
        (1.0, 1.5, (2.9, 7.5), math.inf, True),  # no gap to judge by
        (1.0, 5.5, (7.0, 7.5), 7.7, False),  # has had its share
        (4.0, 1.5, (2.9, 7.5), 7.7, True),  # a small one is tried for longer
    ],
)
def test_a_trial_ends_where_the_mip_is_hopelessly_behind(
    narrowed, spent, bounds, cost, expected
):
    search = SimpleNamespace(
        _form=SimpleNamespace(narrowed=narrowed),
        _mip_spent=spent,
        _inner_spent=10.0,
        mip_bound=bounds[0],
        inner_bound=bounds[1],
        incumbent=SimpleNamespace(cost=cost),
    )
    assert TogetherSearch._on_trial.fget(search) is expected
