"""Which search of ``relu`` begins when: small MIPs at once, SCIP when nothing ends soon."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory

from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.programs.scip import ScipModel
from pyomo_relu.solvers.global_search.cost_search import RoundSearch
from pyomo_relu.solvers.global_search.limits import Limits
from pyomo_relu.solvers.global_search.piece_search import PieceSearch
from pyomo_relu.solvers.relu import scene, scip_part
from pyomo_relu.solvers.relu import search as together
from pyomo_relu.solvers.relu.forecast import Forecast, weights
from pyomo_relu.solvers.relu.scene import Kind
from pyomo_relu.solvers.relu.search import TogetherSearch
from pyomo_relu.solvers.relu.settings import TOGETHER
from pyomo_relu.solvers.relu.turns import Turns
from tests.harness.random_networks import he_network
from tests.solvers.row_models import rows_model
from tests.solvers.test_global import TIGHT, box_model, subsystems
from tests.solvers.test_relu import nonlinear

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


def forecasts(seconds, bounds):
    """Searches that have had so many seconds, and whose bounds stand still."""
    found = [Forecast() for _ in bounds]
    for search, t, bound in zip(found, seconds, bounds):
        search.note(t / 8.0, bound)
        search.note(t, bound)
    return found


def share(narrowed, spent, bounds, cost, kind=Kind.FEW, tried=5.0):
    """The networks' share beside a MIP; who leads if bounds don't tell has relu_scip."""
    search = TogetherSearch.__new__(TogetherSearch)
    search.scene = SimpleNamespace(kind=kind)
    search.inner = SimpleNamespace(planned=["prices", "relu_scip"], done=False)
    search._begun, search.stopped = True, None
    search._form = SimpleNamespace(narrowed=narrowed)
    search._mip_spent, search._inner_spent, search._tried = spent, 10.0, tried
    search._mip_ends, search._inner_ends = forecasts((spent, 10.0), bounds)
    search.incumbent = SimpleNamespace(cost=cost)
    search.mip_bound = -math.inf
    search.inner.bound = bounds[1]
    search.problem = SimpleNamespace(user_objective=lambda cost: cost)
    search.limits = Limits()
    return search._share()


#: Shares of the networks' search: as the other one leads, leads by far, as it leads itself ...
BEHIND, AHEAD, FAR_AHEAD = 1.0 / 7.0, 6.0 / 7.0, 36.0 / 37.0


@pytest.mark.parametrize(
    ("narrowed", "spent", "bounds", "cost", "expected"),
    [
        (1.0, 0.5, (2.9, 7.5), 7.7, BEHIND),  # too early to say
        (1.0, 1.5, (2.9, 7.5), 7.7, FAR_AHEAD),  # hopeless
        (1.0, 1.5, (7.0, 7.5), 7.7, BEHIND),  # not far behind
        (1.0, 1.5, (2.9, 7.5), math.inf, BEHIND),  # no gap to judge by
        (1.0, 5.5, (7.0, 7.5), 7.7, AHEAD),  # has had its trial
        (1.0, 5.5, (7.5, 7.0), 7.7, BEHIND),
        (1.0, 5.5, (7.69, 2.9), 7.7, 1.0 / 37.0),  # the others are
        (1.0, 5.5, (7.5, 7.49), 7.7, 0.5),  # bounds don't tell
        (4.0, 5.5, (2.9, 7.5), 7.7, BEHIND),  # a small one is tried for longer
        (4.0, 1.5, (2.9, 7.5), 7.7, 0.0),  # and is alone at first
    ],
)
def test_shares_of_the_time_beside_a_mip(narrowed, spent, bounds, cost, expected):
    assert share(narrowed, spent, bounds, cost) == pytest.approx(expected)


def test_scip_leads_among_rows_where_bounds_do_not_tell():
    for kind in (Kind.SUBSYSTEMS, Kind.MANY):
        assert share(1.0, 5.5, (7.5, 7.49), 7.7, kind) == pytest.approx(AHEAD)
        assert share(1.0, 5.5, (7.5, 7.49), math.inf, kind) == pytest.approx(AHEAD)


@pytest.mark.parametrize(
    ("seconds", "bounds", "favourite", "expected"),
    [
        ((2.0, 2.0, 2.0), (-9.0, -4.0, -3.9), None, [1.0, 1.0, 1.0]),
        ((2.0, 2.0, 2.0), (-9.0, -4.0, -3.9), 1, [1.0, 6.0, 1.0]),
        ((2.0, 2.0, 2.0), (-90.0, -8.1, -4.0), 1, [1.0 / 6.0, 1.0, 6.0]),
        ((0.5, 2.0, 2.0), (-90.0, -8.1, -4.0), 1, [1.0, 1.0, 6.0]),
        # The favourite leads nowhere where it is hopeless itself.
        ((2.0, 2.0, 2.0), (-90.0, -4.1, -4.0), 0, [1.0 / 6.0, 1.0, 1.0]),
        # Nothing is proved by one that has had its time.
        ((2.0, 2.0, 2.0), (-math.inf, -8.1, -4.0), None, [1.0 / 6.0, 1.0, 6.0]),
    ],
)
def test_who_is_far_behind_gets_next_to_nothing(seconds, bounds, favourite, expected):
    found = weights(forecasts(seconds, bounds), 0.0, favourite)
    assert found == pytest.approx(expected)


def test_an_end_that_is_forecast_as_the_first_is_never_hopeless():
    growing, near = Forecast(), Forecast()
    for t in (1.0, 2.0, 4.0):
        growing.note(t, -40.0 + 20.0 * np.log2(t))
    near.note(1.0, -0.001)
    near.note(4.0, -0.001)
    growing.note(4.5, -1.0)
    assert weights([growing, near], 0.0) == [TOGETHER.lead, 1.0]


def test_scip_alone_is_relu_scip(monkeypatch):
    """Where SCIP has to do alone its tree is searched in one go, with its own points."""
    pytest.importorskip("pyscipopt")
    runs, run = [], ScipModel.run
    monkeypatch.setattr(ScipModel, "run", lambda *given: runs.append(given) or run(*given))
    monkeypatch.setattr(scip_part, "TOGETHER", replace(TOGETHER, scip_nodes=1))
    ours = NewFactory("relu").solve(nonlinear(), load_solutions=False)
    assert len(runs) == 1
    scip = NewFactory("relu_scip").solve(nonlinear(), load_solutions=False)
    assert ours.extra_info.parts == ["relu_scip"] and ours.extra_info.proof == "relu_scip"
    assert ours.extra_info.mip_node_count == scip.extra_info.mip_node_count > 1
    assert ours.incumbent_objective == pytest.approx(scip.incumbent_objective, rel=1e-4)


def test_scip_alone_tells_its_points_and_is_stopped_by_the_callback():
    pytest.importorskip("pyscipopt")
    told = []

    def progress(p):
        told.append(p)
        return p.kind == "incumbent" and len(told) > 1

    results = NewFactory("relu").solve(
        nonlinear(),
        progress=progress,
        load_solutions=False,
        raise_exception_on_nonoptimal_result=False,
        rel_gap=1e-9,
    )
    assert any(p.kind == "incumbent" and math.isfinite(p.incumbent) for p in told)
    assert results.extra_info.proof is None
    assert results.incumbent_objective == pytest.approx(told[-1].incumbent, abs=1e-9)
