"""relu_scip: optima, statuses, limits, interrupts, starts, options, what callbacks raise."""

from __future__ import annotations

import importlib
import io
import os
import signal

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory
from pyomo.contrib.solver.common.util import (
    IncompatibleModelError,
    NoFeasibleSolutionError,
    NoOptimalSolutionError,
)

from pyomo_relu import NetworkBuilder, ReLUNetBlock, activations
from pyomo_relu.formulations import network_blocks
from tests.harness.random_networks import he_network
from tests.presolve.random_wired import random_wired
from tests.solvers.global_models import random_model

pytest.importorskip("pyscipopt")
pytest.importorskip("highspy")


def module(name: str):
    """A module of relu_scip, which is imported when it is first needed."""
    return importlib.import_module(f"pyomo_relu.solvers.scip.{name}")


def solve(m, **options):
    options = {"time_limit": 600.0} | options
    return NewFactory("relu_scip").solve(
        m, load_solutions=False, raise_exception_on_nonoptimal_result=False, **options
    )


def status(results) -> str:
    return results.termination_condition.name


def oracle(m) -> float | None:
    """The optimum by HiGHS on the rows; None where there is no point."""
    solver = pyo.SolverFactory("appsi_highs")
    results = solver.solve(m, load_solutions=False, options={"mip_rel_gap": 1e-7})
    if results.solver.termination_condition == pyo.TerminationCondition.infeasible:
        return None
    assert results.solver.termination_condition == pyo.TerminationCondition.optimal
    solver.load_vars() if hasattr(solver, "load_vars") else m.solutions.load_from(results)
    (objective,) = m.component_data_objects(pyo.Objective, active=True)
    return pyo.value(objective)


def check_against_rows(make, seed: int) -> None:
    """Status, optimum, bound and point agree with HiGHS on big-M rows."""
    best = oracle(make(seed))
    m = make(seed)
    results = solve(m)
    if best is None:
        assert status(results) == "provenInfeasible"
        return
    assert status(results) == "convergenceCriteriaSatisfied"
    (objective,) = m.component_data_objects(pyo.Objective, active=True)
    sign = 1.0 if objective.sense == pyo.minimize else -1.0
    size = max(1.0, abs(best))
    assert results.incumbent_objective == pytest.approx(best, rel=2e-4, abs=2e-6)
    assert sign * (results.objective_bound - best) <= 1e-5 * size
    for v in m.component_data_objects(pyo.Var):
        v.set_value(0.0, skip_validation=True)
    results.solution_loader.load_vars()
    assert pyo.value(objective) == pytest.approx(results.incumbent_objective, abs=1e-7)
    assert max((b.error() for b in network_blocks(m)), default=0.0) <= 1e-6
    for row in m.component_data_objects(pyo.Constraint, active=True):
        if row.parent_block() is m:
            assert min(row.lslack(), row.uslack()) >= -2e-6


@pytest.mark.parametrize("seed", range(6))
def test_wired_models_agree_with_their_rows(seed):
    check_against_rows(random_wired, seed)


@pytest.mark.parametrize("seed", range(4, 8))
def test_models_of_all_kinds_of_networks_agree_with_their_rows(seed):
    check_against_rows(random_model, seed)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_hundreds_of_models_agree_with_their_rows(part):
    for seed in range(100 + 20 * part, 120 + 20 * part):
        check_against_rows(random_wired, seed)
        check_against_rows(random_model, seed)


def hard(formulation: str | None = None) -> pyo.ConcreteModel:
    """Some hundred nodes: two blocks, an equality between their outputs."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(6), bounds=(-1, 1))
    m.k = pyo.Var(domain=pyo.Integers, bounds=(-3, 3))
    for name, part in (("a", range(3)), ("b", range(3, 6))):
        net = he_network(ord(name), (3, 12, 12, 1))
        inputs = [m.x[j] for j in part]
        block = ReLUNetBlock(network=net, inputs=inputs, formulation=formulation)
        m.add_component(name, block)
    m.same = pyo.Constraint(expr=m.a.outputs[0] == m.b.outputs[0] + 0.1 * m.k)
    m.obj = pyo.Objective(
        expr=m.a.outputs[0] + m.b.outputs[0] - 0.2 * sum(m.x.values()), sense=pyo.maximize
    )
    return m


@pytest.mark.parametrize("how", ["stop", "ctrl-c", "nodes", "time"])
def test_every_end_keeps_the_point_and_a_valid_bound(how):
    m = hard()
    best = solve(m).incumbent_objective

    def progress(event):
        if how == "ctrl-c":
            os.kill(os.getpid(), signal.SIGINT)
        return how == "stop"

    options = {
        "stop": {"progress": progress},
        "ctrl-c": {"progress": progress},
        "nodes": {"node_limit": 1},
        "time": {"time_limit": 0.0},
    }[how]
    results = solve(hard(), **options)
    wanted = {"nodes": "iterationLimit", "time": "maxTimeLimit"}.get(how, "interrupted")
    assert status(results) == wanted
    assert results.objective_bound >= best * (1 - 1e-6)
    if results.incumbent_objective is not None:
        assert results.incumbent_objective <= best * (1 + 2e-4)
    if how in ("nodes", "ctrl-c", "stop"):
        assert results.incumbent_objective is not None
        assert np.isfinite(results.objective_bound)


def test_pyomos_customary_call_and_its_results():
    m = hard()
    results = pyo.SolverFactory("relu_scip").solve(m, timelimit=600)
    assert results.solver.termination_condition == pyo.TerminationCondition.optimal
    assert results.problem.upper_bound == pytest.approx(results.problem.lower_bound, 2e-4)
    assert results.solver.statistics.branch_and_bound.number_of_bounded_subproblems >= 1
    assert m.a.error() <= 1e-9 and m.b.error() <= 1e-9
    assert pyo.value(m.obj) == pytest.approx(results.problem.lower_bound, abs=1e-6)


def test_infeasible_models_raise_as_all_new_solvers_do():
    m = hard()
    m.no = pyo.Constraint(expr=m.a.outputs[0] >= 1e3)
    with pytest.raises(NoOptimalSolutionError, match="provenInfeasible"):
        NewFactory("relu_scip").solve(m)
    with pytest.raises(NoFeasibleSolutionError):
        NewFactory("relu_scip").solve(m, raise_exception_on_nonoptimal_result=False)
    assert status(solve(m)) == "provenInfeasible"
    m.no.deactivate()
    # No bound says that the outputs can't be so large: rows and planes do.
    m.never = pyo.Constraint(expr=m.a.outputs[0] + m.b.outputs[0] - m.x[0] >= 40)
    assert status(solve(m)) == "provenInfeasible"


def test_a_model_without_networks_goes_to_scip_as_it_is():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(3), domain=pyo.Integers, bounds=(0, 9))
    m.row = pyo.Constraint(expr=3 * m.x[0] + 5 * m.x[1] + 7 * m.x[2] <= 22)
    m.obj = pyo.Objective(expr=2 * m.x[0] + 4 * m.x[1] + 5 * m.x[2] + 1, sense=pyo.maximize)
    results = solve(m)
    assert status(results) == "convergenceCriteriaSatisfied"
    assert results.incumbent_objective == results.objective_bound == 18.0
    m.y = pyo.Var()
    m.obj.expr += m.y
    assert status(solve(m)) in ("unbounded", "infeasibleOrUnbounded")


def test_present_values_are_the_first_point():
    m = hard()
    results = solve(m)
    results.solution_loader.load_vars()
    best, seen = pyo.value(m.obj), []
    log = io.StringIO()
    again = solve(m, warmstart=True, start=None, tee=log, progress=seen.append)
    assert f"first point {best:.8g}" in log.getvalue()
    assert again.incumbent_objective == pytest.approx(best, abs=1e-9)
    assert again.extra_info.first_point is not None
    without = solve(hard(), start=None, solver_options={"limits/nodes": 1})
    assert without.incumbent_objective is None or without.incumbent_objective <= best


def test_the_log_is_scips_with_lines_of_our_own(capsys):
    log = io.StringIO()
    results = solve(hard(), tee=log)
    text = log.getvalue()
    assert text.startswith("relu_scip: 2 networks on 6 variables")
    assert "dualbound" in text and "SCIP Status" in text
    assert results.solver_log == text
    assert not capsys.readouterr().out
    quiet = solve(hard())
    assert quiet.solver_log == "" and not capsys.readouterr().out


def test_options_reach_scip_and_unknown_ones_are_refused():
    results = solve(hard(), solver_options={"limits/totalnodes": 2})
    assert status(results) == "iterationLimit"
    with pytest.raises(ValueError, match="no parameter 'limits/nods'"):
        solve(hard(), solver_options={"limits/nods": 2})
    with pytest.raises(ValueError, match="'limits/totalnodes' can't be 'many'"):
        solve(hard(), solver_options={"limits/totalnodes": "many"})
    with pytest.raises(ValueError, match="strat"):
        solve(hard(), strat=None)
    with pytest.raises(ValueError, match="takes 'auto' or None"):
        solve(hard(), start="now")
    legacy = pyo.SolverFactory("relu_scip")
    legacy.solve(hard(), options={"limits/totalnodes": 2})
    assert "limits/totalnodes" not in legacy.config.solver_options


@pytest.mark.parametrize("where", ["rows", "off", "progress"])
def test_what_a_callback_raises_ends_the_search_and_is_raised(where, monkeypatch):
    class OwnError(Exception):
        pass

    calls = []

    def fail(*arguments, **keywords):
        calls.append(1)
        if len(calls) > 2 or where == "progress":
            raise OwnError("as it is")
        return original(*arguments, **keywords)

    options = {}
    if where == "progress":
        options["progress"] = fail
    else:
        owner = module("together").Together
        original = getattr(owner, where)
        monkeypatch.setattr(owner, where, fail)
    with pytest.raises(OwnError, match="as it is"):
        solve(hard(), **options)


def test_a_missing_scip_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setattr(module("solver"), "has_scip", lambda: False)
    solver = NewFactory("relu_scip")
    assert not solver.available()
    with pytest.raises(ImportError, match=r"relu_scip needs SCIP; pip install 'pyomo_relu"):
        solver.solve(hard())


def test_errors_name_this_solver():
    m = hard()
    m.odd = pyo.Constraint(expr=pyo.asin(m.x[0]) <= 0.5)
    with pytest.raises(IncompatibleModelError, match="relu_scip doesn't take the function"):
        solve(m)


def test_a_jump_at_the_optimum():
    b = NetworkBuilder()
    x = b.input("x", (1,))
    pre = b.affine("pre", [(x, [[1.0], [0.7]])], [0.0, 0.3])
    y = b.piecewise("step", pre, activations.step())
    net = b.build([b.affine("out", [(y, [[1.0, 0.2]])])])
    for high, best in ((0.2, 0.2), (3.0, -0.3)):
        m = pyo.ConcreteModel()
        m.x = pyo.Var(bounds=(-0.4, high))
        m.net = ReLUNetBlock(network=net, inputs=[m.x], formulation=None)
        m.obj = pyo.Objective(expr=m.net.outputs[0] - 0.5 * m.x)
        results = solve(m)
        assert status(results) == "convergenceCriteriaSatisfied"
        assert results.incumbent_objective == pytest.approx(best, rel=2e-4)
        assert results.objective_bound <= best + 1e-7


def test_an_interrupt_before_scip_begins_keeps_what_there_is(monkeypatch):
    def interrupted(self, *given):
        x = np.zeros(len(self.problem.columns))
        self.incumbent.offer(x)
        raise KeyboardInterrupt

    monkeypatch.setattr(module("points").Points, "first", interrupted)
    m = hard()
    m.same.deactivate()
    results = solve(m)
    assert status(results) == "interrupted"
    assert results.incumbent_objective is not None
    assert results.objective_bound == np.inf
    results.solution_loader.load_vars()
    assert pyo.value(m.obj) == pytest.approx(results.incumbent_objective)
