"""relu: which searches run on what, by turns, and that their answer is the model's."""

from __future__ import annotations

import io
import math

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory

from pyomo_relu import ReLUNetBlock
from pyomo_relu.base import deadline
from pyomo_relu.formulations import network_blocks
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.solvers.global_search import cost_search
from pyomo_relu.solvers.global_search.box_search import BoxSearch
from pyomo_relu.solvers.global_search.limits import Limits
from pyomo_relu.solvers.relu import search as together
from pyomo_relu.solvers.relu import turns
from pyomo_relu.solvers.relu.forecast import Forecast, likely_first
from pyomo_relu.solvers.relu.scene import Kind
from pyomo_relu.solvers.relu.solver import networks_search
from tests.harness.clock import Clock
from tests.harness.random_networks import he_network
from tests.solvers.global_models import random_model
from tests.solvers.test_global import TIGHT, box_model, status, subsystems

pytest.importorskip("highspy")


def tables(formulation=None):
    """Two networks, each of a price from a grid, whose sales share a stock."""
    m = pyo.ConcreteModel()
    m.pick = pyo.Var(range(2), range(4), domain=pyo.Binary)
    m.price = pyo.Var(range(2), bounds=(-1, 1))
    m.one = pyo.Constraint(
        range(2), rule=lambda m, k: sum(m.pick[k, i] for i in range(4)) == 1
    )
    m.grid = pyo.Constraint(
        range(2),
        rule=lambda m, k: (
            m.price[k] == sum((0.6 * i - 0.9) * m.pick[k, i] for i in range(4))
        ),
    )
    m.net = ReLUNetBlock(
        range(2),
        rule=lambda b, k: b.build(
            he_network(40 + k, (1, 8, 8, 1)),
            [m.price[k]],
            formulation=formulation,
        ),
    )
    m.stock = pyo.Constraint(expr=m.price[0] + m.net[0].outputs[0] <= 1.0)
    m.obj = pyo.Objective(expr=m.net[0].outputs[0] - m.net[1].outputs[0] + 0.1 * m.price[1])
    return m


def fleet(formulation=None):
    """Two units of three inputs each, and one shared limit."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), range(3), bounds=(-1, 1))
    m.net = ReLUNetBlock(
        range(2),
        rule=lambda b, k: b.build(
            he_network(60 + k, (3, 6, 6, 2)),
            [m.x[k, i] for i in range(3)],
            formulation=formulation,
        ),
    )
    m.limit = pyo.Constraint(expr=sum(m.net[k].outputs[1] for k in range(2)) <= 0.1)
    m.obj = pyo.Objective(
        expr=sum(m.net[k].outputs[0] for k in range(2)), sense=pyo.maximize
    )
    return m


def few(formulation=None):
    """Two inputs between rows."""
    m = box_model(he_network(2, (3, 12, 12, 1)), formulation=formulation)
    m.row = pyo.Constraint(expr=m.x[0] + m.x[1] - m.x[2] <= 0.2)
    m.floor = pyo.Constraint(expr=m.net.outputs[0] + m.x[0] <= 0.7)
    return m


def many(formulation=None):
    """Twenty inputs between rows."""
    m = box_model(he_network(3, (20, 8, 8, 1)), formulation=formulation)
    m.row = pyo.Constraint(expr=sum(m.x[j] for j in range(20)) <= 1.0)
    return m


def nonlinear(formulation=None):
    """A bilinear cost of two inputs."""
    m = few(formulation)
    m.obj.deactivate()
    m.cost = pyo.Objective(
        expr=m.net.outputs[0] + m.x[0] * m.x[1] + m.x[2] ** 2, sense=pyo.minimize
    )
    return m


KINDS = {
    Kind.BOX: lambda f=None: box_model(he_network(0, (4, 12, 12, 1)), formulation=f),
    Kind.TABLES: tables,
    Kind.FEW: few,
    Kind.POLYTOPES: lambda f=None: subsystems(3, f),
    Kind.SUBSYSTEMS: fleet,
    Kind.MANY: many,
}


def solve(m, **options):
    return pyo.SolverFactory("relu").solve(m, **options)


def exact(m) -> float:
    """The optimum by HiGHS alone."""
    pyo.SolverFactory("relu_highs").solve(m, options=TIGHT, start=None)
    return pyo.value(m.obj)


@pytest.fixture
def at_once(monkeypatch):
    """The MIP takes part from the first moment, and the networks have half of its time."""
    settings = type(together.TOGETHER)(
        alone=0.0, alone_each=0.0, share=0.5, least_turn=1e-4
    )
    monkeypatch.setattr(together, "TOGETHER", settings)


@pytest.mark.parametrize("kind", list(KINDS))
def test_each_kind_is_seen_and_solved(kind):
    m = KINDS[kind]()
    scene, _ = networks_search(read_problem(m), Limits(), None)
    assert scene.kind is kind
    results = solve(m)
    assert status(results) == "optimal"
    assert max(b.error() for b in network_blocks(m)) < 1e-6
    value = pyo.value(m.obj)
    assert value == pytest.approx(exact(KINDS[kind]("bigm")), rel=2e-4, abs=1e-5)
    sign = 1.0 if m.obj.sense == pyo.minimize else -1.0
    bound = results.problem.lower_bound if sign > 0 else results.problem.upper_bound
    assert sign * (bound - value) <= 1e-6


@pytest.mark.parametrize("kind", [Kind.TABLES, Kind.FEW, Kind.SUBSYSTEMS, Kind.MANY])
def test_a_mip_beside_the_networks_finds_the_same(kind, at_once):
    m = KINDS[kind]()
    results = NewFactory("relu").solve(m)
    assert "mip" in results.extra_info.parts
    value = results.incumbent_objective
    assert value == pytest.approx(exact(KINDS[kind]("bigm")), rel=2e-4, abs=1e-5)


def assert_agrees(seed: int) -> str:
    m = random_model(seed)
    results = solve(m, timelimit=600)
    found = status(results)
    bound, best = results.problem.lower_bound, results.problem.upper_bound
    sign = 1.0
    if m.obj.sense == pyo.maximize:
        bound, best, sign = best, bound, -1.0
    value = pyo.value(m.obj) if found == "optimal" else math.nan
    errors = [b.error() for b in network_blocks(m)] if found == "optimal" else [0.0]
    other = pyo.SolverFactory("relu_highs").solve(m, options=TIGHT, start=None)
    assert found == status(other), f"seed {seed}: {found} for {status(other)}"
    if found != "optimal":
        return found
    right = pyo.value(m.obj)
    scale = max(1.0, abs(right))
    assert max(errors) < 1e-6
    assert abs(value - right) <= 2e-4 * scale, f"seed {seed}: {value} for {right}"
    assert sign * (bound - right) <= 1e-5 * scale, f"seed {seed}: {bound} cuts off {right}"
    return found


def test_random_models_agree_with_the_mip():
    found = [assert_agrees(seed) for seed in range(25)]
    assert found.count("optimal") > 15


def test_random_models_agree_where_a_mip_takes_part_at_once(at_once):
    found = [assert_agrees(seed) for seed in range(100, 112)]
    assert found.count("optimal") > 6


@pytest.mark.slow
@pytest.mark.parametrize("first", range(20_000, 21_000, 100))
def test_many_random_models_agree_with_the_mip(first, at_once):
    for seed in range(first, first + 100):
        assert_agrees(seed)


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("how", ["stop", "ctrl-c", "time"])
def test_every_kind_ends_early_with_a_valid_bound(kind, how):
    best = exact(KINDS[kind]("bigm"))
    m = KINDS[kind]()

    def progress(event):
        if how == "ctrl-c":
            raise KeyboardInterrupt
        return True

    options = {"time_limit": 0.0} if how == "time" else {"progress": progress}
    results = NewFactory("relu").solve(
        m,
        raise_exception_on_nonoptimal_result=False,
        load_solutions=False,
        **options,
    )
    condition = results.termination_condition.name
    wanted = "maxTimeLimit" if how == "time" else "interrupted"
    assert condition in (wanted, "convergenceCriteriaSatisfied")
    sign = 1.0 if m.obj.sense == pyo.minimize else -1.0
    scale = 1e-5 * max(1.0, abs(best))
    assert sign * (results.objective_bound - best) <= scale
    if results.incumbent_objective is not None:
        assert sign * (results.incumbent_objective - best) >= -scale


def test_nonlinear_models_go_to_scip():
    pytest.importorskip("pyscipopt")
    m = nonlinear()
    scene, _ = networks_search(read_problem(m, general=True), Limits(), None)
    assert scene.kind is Kind.NONLINEAR
    results = NewFactory("relu").solve(m)
    assert results.extra_info.proof == "relu_scip"
    value, other = pyo.value(m.cost), nonlinear("bigm")
    pyo.SolverFactory("scip_direct").solve(other)
    assert value == pytest.approx(pyo.value(other.cost), rel=2e-4, abs=1e-5)
    assert m.net.error() < 1e-6


def test_a_nonlinear_model_without_networks_goes_to_scip():
    pytest.importorskip("pyscipopt")
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-1, 2))
    m.obj = pyo.Objective(expr=m.x[0] * m.x[1])
    solve(m)
    assert pyo.value(m.obj) == pytest.approx(-2.0, abs=1e-5)


def test_nonlinear_models_without_scip_are_refused(monkeypatch):
    from pyomo.contrib.solver.common.util import IncompatibleModelError

    from pyomo_relu.solvers.relu import solver

    monkeypatch.setattr(solver, "has_scip", lambda: False)
    with pytest.raises(IncompatibleModelError, match="relu takes linear models only"):
        solve(nonlinear())


def test_the_search_that_will_be_done_first_gets_more():
    forecast = Forecast()
    for t in (1.0, 2.0, 4.0, 8.0):
        forecast.note(t, -10.0 + np.log2(t))
    assert forecast.end(0.0) == pytest.approx(8.0 * 2.0**7)
    assert forecast.end(-8.0) == 8.0
    slow = Forecast()
    assert slow.end(0.0) == math.inf
    slow.note(1.0, -3.0)
    slow.note(9.0, -3.0)
    assert slow.end(0.0) == math.inf
    assert likely_first([slow, forecast], 0.0) == 1
    assert likely_first([slow, forecast], math.inf) is None


@pytest.mark.parametrize(
    ("bounds", "first"), [((-9.0, -1.0), 1), ((-1.0, -9.0), 0), ((-1.0, -1.5), None)]
)
def test_where_no_bound_grows_the_clearly_nearer_one_counts(bounds, first):
    searches = [Forecast(), Forecast()]
    for search, bound in zip(searches, bounds):
        search.note(1.0, bound)
        search.note(4.0, bound)
    assert likely_first(searches, 0.0) == first
    assert likely_first([Forecast(), searches[1]], 0.0) == 1
    assert likely_first([Forecast(), Forecast()], 0.0) is None


def test_an_end_that_is_far_counts_less_than_a_bound_that_is_near():
    far, near = Forecast(), Forecast()
    for t in (1.0, 2.0, 4.0, 8.0):
        far.note(t, -10.0 + np.log2(t))
    near.note(1.0, -1.0)
    assert likely_first([far, near], -0.9) == 0
    assert likely_first([far, near], 2.0) == 1


def test_whoever_begins_has_a_round_in_its_first_turn(monkeypatch):
    """SCIP took as long to begin as a turn lasts, had no bound then, and no turn for long."""
    clock = Clock(0.0)
    monkeypatch.setattr(deadline, "time", clock)

    class Slow(BoxSearch):
        bound, open_boxes, rounds = -math.inf, 1, 0

        def begin(self):
            clock.now += 1.0

        def round(self):
            clock.now += 0.06
            self.rounds += 1

    problem = read_problem(few())
    parts = [Slow(problem, Limits()) for _ in range(2)]
    both = turns.Turns(parts)
    both.step()
    both.step()
    assert [part.rounds for part in parts] == [2, 2]
    assert both.spent == pytest.approx([1.12, 1.12])


def test_points_get_less_once_the_best_one_is_old(monkeypatch):
    """A stale best point's share of time is a fifth of a fresh one's."""
    monkeypatch.setattr(deadline, "_waited", 0.0)
    m = KINDS[Kind.MANY]()
    _, search = networks_search(read_problem(m), Limits(points=True), None)
    turns = []
    monkeypatch.setattr(search, "look_for_points", lambda n: turns.append(n))
    search.incumbent.point = np.zeros(len(search.problem.columns))
    settings = cost_search.POINTS
    for ago, due in ((settings.fresh, True), (200 * settings.fresh, False)):
        now = search.deadline.cpu_begin + ago
        monkeypatch.setattr(cost_search.time, "process_time", lambda now=now: now)
        search.points.spent = 0.5 * settings.share * ago
        search.incumbent.improved_at = search.deadline.cpu_begin
        turns.clear()
        monkeypatch.setattr(cost_search, "Deadline", lambda **_: Expiring())
        search.share_with_points(settings.share)
        assert bool(turns) == due


class Expiring:
    """A deadline that has passed the second time it is asked."""

    def __init__(self):
        self.asked = 0

    def expired(self):
        self.asked += 1
        return self.asked > 1


def test_without_scip_the_searches_are_the_others(monkeypatch):
    from pyomo_relu.solvers.relu import solver

    monkeypatch.setattr(solver, "has_scip", lambda: False)
    for kind in (Kind.SUBSYSTEMS, Kind.MANY):
        m = KINDS[kind]()
        results = NewFactory("relu").solve(m)
        assert "relu_scip" not in results.extra_info.parts
        value = results.incumbent_objective
        assert value == pytest.approx(exact(KINDS[kind]("bigm")), rel=2e-4, abs=1e-5)


def test_infeasible_models_are_proved():
    for kind in (Kind.TABLES, Kind.FEW, Kind.SUBSYSTEMS, Kind.MANY):
        m = KINDS[kind]()
        outputs = [b.outputs[0] for b in network_blocks(m)]
        m.never = pyo.Constraint(expr=sum(outputs) >= 1e3)
        assert status(solve(m)) == "infeasible"


def test_the_log_says_what_the_model_is_and_who_proved_what():
    log = io.StringIO()
    NewFactory("relu").solve(subsystems(3, None), tee=log)
    first, second, titles, *_, last, end = log.getvalue().splitlines()
    assert "3 networks, 6 free inputs, 3 integers" in first
    assert first.endswith(
        "3 subsystems of at most 2 inputs: subsystems that are few polytopes each"
    )
    assert second.startswith("relu: polytopes; after ") and "a MIP by HiGHS" in second
    assert titles.split()[-4:] == ["bound", "incumbent", "gap", "search"]
    assert last.split()[-1] == "polytopes"
    assert end.startswith("relu: optimal to 0.00") and ", by polytopes, after " in end


def test_the_log_says_why_a_search_ended():
    def ending(m, **options):
        log = io.StringIO()
        options["raise_exception_on_nonoptimal_result"] = False
        NewFactory("relu").solve(m, tee=log, load_solutions=False, **options)
        return log.getvalue().splitlines()[-1]

    assert "relu: stopped by progress=, " in ending(few(), progress=lambda event: True)
    never = few()
    never.never = pyo.Constraint(expr=never.net.outputs[0] >= 1e3)
    assert ending(never).startswith("relu: no point is feasible, by boxes, after ")


def test_results_say_which_part_proved_what():
    results = NewFactory("relu").solve(KINDS[Kind.BOX]())
    info = results.extra_info
    assert info.proof in ("boxes", "sides") and "boxes" in info.parts
    results = NewFactory("relu").solve(tables())
    assert results.extra_info.proof == "mip"
    assert "inputs take few values" in results.extra_info.scene


@pytest.mark.parametrize("name", ["appsi_highs", "highs", "scip_direct"])
@pytest.mark.parametrize("kind", [Kind.TABLES, Kind.MANY])
def test_another_mip_solver_takes_what_is_left(name, kind):
    if not pyo.SolverFactory(name).available(exception_flag=False):
        pytest.skip(f"{name} is not installed")
    m = KINDS[kind]()
    results = solve(m, mip_solver=name)
    assert status(results) == "optimal"
    value = pyo.value(m.obj)
    assert value == pytest.approx(exact(KINDS[kind]("bigm")), rel=2e-4, abs=1e-5)


def test_a_solver_that_is_not_there_is_refused_before_any_work():
    m = many()
    with pytest.raises(ValueError, match="mip_solver='no_such_solver' isn't available"):
        solve(m, mip_solver="no_such_solver")
    with pytest.raises(ValueError, match="mip_solver= takes"):
        solve(m, mip_solver=3)


def test_options_of_others_are_refused():
    with pytest.raises(ValueError, match="relu has no option 'mip_rel_gap'"):
        solve(many(), options={"mip_rel_gap": 1e-3})
    with pytest.raises(ValueError, match="relu has no solver option 'mip_rel_gap'"):
        NewFactory("relu").solve(many(), solver_options={"mip_rel_gap": 1e-3})


def test_a_model_without_networks_goes_to_highs_with_duals():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(0, 4))
    m.row = pyo.Constraint(expr=2 * m.x <= 6)
    m.obj = pyo.Objective(expr=m.x, sense=pyo.maximize)
    m.dual = pyo.Suffix(direction=pyo.Suffix.IMPORT)
    assert status(solve(m)) == "optimal"
    assert m.x.value == pytest.approx(3.0) and m.dual[m.row] == pytest.approx(0.5)


def test_the_present_point_is_offered():
    m = many()
    for v in m.x.values():
        v.set_value(-0.5)
    first = []

    def progress(event):
        if np.isfinite(event.incumbent):
            first.append(event.incumbent)
        return bool(first)

    solve(m, warmstart=True, progress=progress, load_solutions=False)
    start = float(m.net.network.evaluate(np.full(20, -0.5))[0])
    assert first[0] >= start - 1e-9


def test_the_users_formulation_stays():
    m = tables("bigm")
    before = [b.formulation for b in network_blocks(m)]
    solve(m)
    assert [b.formulation for b in network_blocks(m)] == before
    assert max(b.error() for b in network_blocks(m)) < 1e-6
