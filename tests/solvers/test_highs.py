"""relu_highs on linear models of all kinds, against known answers and appsi_highs."""

from __future__ import annotations

import io
import math

import numpy as np
import pyomo.environ as pyo
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory
from pyomo.contrib.solver.common.results import SolutionStatus, TerminationCondition
from pyomo.contrib.solver.common.util import (
    IncompatibleModelError,
    NoFeasibleSolutionError,
    NoOptimalSolutionError,
)
from pyomo.gdp import Disjunction

import pyomo_relu  # noqa: F401  registers the solver

pytest.importorskip("highspy")
LIMITED = {"raise_exception_on_nonoptimal_result": False, "load_solutions": False}


def solve(m, **kwds):
    return pyo.SolverFactory("relu_highs").solve(m, **kwds)


def production(sense=pyo.maximize):
    """An LP with optimum 36 at (2, 6), duals 0, 1.5, 1 (Dantzig)."""
    m = pyo.ConcreteModel()
    m.x, m.y = pyo.Var(bounds=(0, None)), pyo.Var(bounds=(0, None))
    m.a = pyo.Constraint(expr=m.x <= 4)
    m.b = pyo.Constraint(expr=2 * m.y <= 12)
    m.c = pyo.Constraint(expr=3 * m.x + 2 * m.y <= 18)
    sign = 1 if sense == pyo.maximize else -1
    m.obj = pyo.Objective(expr=sign * (3 * m.x + 5 * m.y), sense=sense)
    return m


@pytest.mark.parametrize("sense", [pyo.maximize, pyo.minimize])
def test_lp_with_duals_and_reduced_costs(sense):
    m = production(sense)
    m.dual = pyo.Suffix(direction=pyo.Suffix.IMPORT)
    m.rc = pyo.Suffix(direction=pyo.Suffix.IMPORT)
    results = solve(m)
    sign = 1 if sense == pyo.maximize else -1
    assert pyo.value(m.obj) == pytest.approx(36 * sign)
    assert (m.x.value, m.y.value) == pytest.approx((2, 6))
    assert [m.dual[c] for c in (m.a, m.b, m.c)] == pytest.approx(
        [0, 1.5 * sign, 1.0 * sign]
    )
    assert m.rc[m.x] == pytest.approx(0)
    assert pyo.check_optimal_termination(results)
    assert results.problem.upper_bound == pytest.approx(36 * sign)
    assert results.problem.lower_bound == pytest.approx(36 * sign)


def test_reduced_cost_of_a_bound():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(1, 5))
    m.row = pyo.Constraint(expr=m.x <= 10)
    m.obj = pyo.Objective(expr=3 * m.x)
    m.rc = pyo.Suffix(direction=pyo.Suffix.IMPORT)
    solve(m)
    assert m.rc[m.x] == pytest.approx(3)


def test_ranged_rows_keep_one_dual():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(-10, 10))
    m.row = pyo.Constraint(expr=pyo.inequality(-1, 2 * m.x, 3))
    m.obj = pyo.Objective(expr=m.x)
    m.dual = pyo.Suffix(direction=pyo.Suffix.IMPORT)
    solve(m)
    assert m.x.value == pytest.approx(-0.5)
    assert m.dual[m.row] == pytest.approx(0.5)
    m.obj.sense = pyo.maximize
    solve(m)
    assert m.x.value == pytest.approx(1.5)
    assert m.dual[m.row] == pytest.approx(0.5)


def test_constants_fixed_variables_and_equalities():
    m = pyo.ConcreteModel()
    m.x = pyo.Var([0, 1, 2], bounds=(0, 10))
    m.p = pyo.Param(initialize=2.0, mutable=True)
    m.x[2].fix(3)
    m.e = pyo.Expression(expr=m.x[0] + m.x[2])
    m.row = pyo.Constraint(expr=m.e + 1 == m.p * m.x[1])
    m.obj = pyo.Objective(expr=m.x[0] + m.x[1] + m.x[2] + 7)
    results = NewFactory("relu_highs").solve(m)
    assert m.x[1].value == pytest.approx(2)
    assert m.x[2].value == 3
    assert results.incumbent_objective == pytest.approx(12)
    assert pyo.value(m.obj) == pytest.approx(12)
    m.p = 4.0
    assert NewFactory("relu_highs").solve(m).incumbent_objective == pytest.approx(11)


def test_rows_given_as_linear_expressions():
    """Fixed and repeated variables, zeros, constants and Params in them; NaN refused."""
    from pyomo.core.expr.numeric_expr import LinearExpression

    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(4), bounds=(0, 10))
    m.p = pyo.Param(initialize=2.0, mutable=True)
    m.x[3].fix(2)
    x = [m.x[i] for i in (0, 0, 1, 2, 3)]
    m.row = pyo.Constraint(
        expr=LinearExpression(
            constant=1.0, linear_coefs=[1.0, 1.0, 3.0, 0.0, 2.0], linear_vars=x
        )
        <= 12
    )
    m.other = pyo.Constraint(
        expr=LinearExpression(constant=0.5, linear_coefs=[1.0, -1.0], linear_vars=x[1:3])
        == 0.5
    )
    m.third = pyo.Constraint(
        expr=LinearExpression(linear_coefs=[m.p, 1.0], linear_vars=x[2:4]) <= 9
    )
    m.obj = pyo.Objective(expr=2 * m.x[0] + m.x[1] + m.x[2], sense=pyo.maximize)
    # 2 x0 + 3 x1 <= 7, x0 = x1, 2 x1 + x2 <= 9
    solve(m)
    assert [m.x[i].value for i in range(3)] == pytest.approx([1.4, 1.4, 6.2])
    m.bad = pyo.Constraint(
        expr=LinearExpression(linear_coefs=[float("nan")], linear_vars=[m.x[0]]) <= 1
    )
    with pytest.raises(IncompatibleModelError, match="'bad'"):
        solve(m)


def test_integer_domains():
    m = pyo.ConcreteModel()
    m.i = pyo.Var(domain=pyo.NonNegativeIntegers, bounds=(0, 9))
    m.b = pyo.Var(domain=pyo.Binary)
    m.row = pyo.Constraint(expr=2 * m.i + 3 * m.b <= 8.5)
    m.obj = pyo.Objective(expr=2 * m.i + 3.5 * m.b, sense=pyo.maximize)
    results = NewFactory("relu_highs").solve(m)
    assert (m.i.value, m.b.value) == pytest.approx((4, 0)) or pyo.value(
        m.obj
    ) == pytest.approx(8)
    assert results.incumbent_objective == pytest.approx(8.0)
    assert results.objective_bound == pytest.approx(8.0)
    assert results.extra_info.mip_gap == pytest.approx(0.0, abs=1e-9)
    assert results.extra_info.mip_node_count >= 0
    assert results.timing_info.wall_time > 0
    assert results.solver_version[0] >= 1


def test_without_objective():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(0, 1))
    m.row = pyo.Constraint(expr=m.x >= 0.25)
    results = solve(m)
    assert pyo.check_optimal_termination(results)
    assert 0.25 - 1e-7 <= m.x.value <= 1


def test_without_free_variables():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(initialize=2.0)
    m.x.fix()
    m.row = pyo.Constraint(expr=m.x <= 3)
    m.obj = pyo.Objective(expr=m.x + 5)
    results = NewFactory("relu_highs").solve(m)
    assert results.incumbent_objective == 7
    m.x.fix(4)
    results = NewFactory("relu_highs").solve(m, **LIMITED)
    assert results.termination_condition is TerminationCondition.provenInfeasible


def infeasible(domain):
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(0, 1), domain=domain, initialize=0.5)
    m.y = pyo.Var(bounds=(0, 1))
    m.row = pyo.Constraint(expr=m.x + m.y >= 3)
    m.obj = pyo.Objective(expr=m.x)
    return m


@pytest.mark.parametrize("domain", [pyo.Reals, pyo.Integers])
def test_infeasible(domain, monkeypatch):
    said = []
    monkeypatch.setattr(
        "pyomo_relu.solvers.legacy.logger.warning", lambda text, *a: said.append(text % a)
    )
    m = infeasible(domain)
    with pytest.raises(NoOptimalSolutionError):
        NewFactory("relu_highs").solve(m)
    results = NewFactory("relu_highs").solve(m, **LIMITED)
    assert results.termination_condition is TerminationCondition.provenInfeasible
    assert results.solution_status is SolutionStatus.noSolution
    assert results.incumbent_objective is None
    with pytest.raises(NoFeasibleSolutionError):
        NewFactory("relu_highs").solve(m, raise_exception_on_nonoptimal_result=False)
    legacy = solve(m)
    assert legacy.solver.termination_condition == pyo.TerminationCondition.infeasible
    assert "no feasible point" in said[0]
    assert m.x.value == 0.5


@pytest.mark.parametrize("domain", [pyo.Reals, pyo.Integers])
def test_unbounded(domain):
    m = pyo.ConcreteModel()
    m.x = pyo.Var(domain=domain)
    m.y = pyo.Var(bounds=(0, None))
    m.row = pyo.Constraint(expr=m.x - m.y <= 0)
    m.obj = pyo.Objective(expr=m.x, sense=pyo.maximize)
    found = NewFactory("relu_highs").solve(m, **LIMITED).termination_condition
    assert found in (
        TerminationCondition.unbounded,
        TerminationCondition.infeasibleOrUnbounded,
    )


def test_refusals_name_the_component():
    m = pyo.ConcreteModel()
    m.x = pyo.Var([0, 1], bounds=(0, 1))
    m.curve = pyo.Constraint(expr=m.x[0] * m.x[1] <= 1)
    with pytest.raises(IncompatibleModelError, match="'curve' is nonlinear"):
        solve(m)
    m.curve.deactivate()
    m.obj = pyo.Objective(expr=m.x[0] ** 2)
    with pytest.raises(IncompatibleModelError, match="objective 'obj' is nonlinear"):
        solve(m)
    m.obj.deactivate()
    m.sos = pyo.SOSConstraint(var=m.x, sos=1)
    with pytest.raises(IncompatibleModelError, match="'sos' is a SOSConstraint"):
        solve(m)
    m.sos.deactivate()
    m.either = Disjunction(expr=[[m.x[0] <= 0.2], [m.x[0] >= 0.8]])
    with pytest.raises(
        IncompatibleModelError, match="HiGHS; transform it, with 'gdp.bigm'"
    ):
        solve(m)
    m.del_component(m.either)
    m.del_component("either_disjuncts")
    m.one, m.two = pyo.Objective(expr=m.x[0]), pyo.Objective(expr=m.x[1])
    with pytest.raises(IncompatibleModelError, match="2 active objectives"):
        solve(m)


def test_values_that_are_no_numbers_are_refused():
    m = pyo.ConcreteModel()
    m.x, m.y = pyo.Var(bounds=(0, 1)), pyo.Var()
    m.row = pyo.Constraint(expr=m.x + m.y <= 1)
    m.y.fixed = True
    with pytest.raises(IncompatibleModelError, match="'row'"):
        solve(m)
    m.y.fix(0.0)
    m.p = pyo.Param(mutable=True, initialize=float("nan"), domain=pyo.Any)
    m.other = pyo.Constraint(expr=m.p * m.x <= 1)
    with pytest.raises(IncompatibleModelError, match="'other'"):
        solve(m)


def test_unknown_options_are_refused():
    m = production()
    with pytest.raises(ValueError, match="no option 'mip_rel_gapp'.*'mip_rel_gap'"):
        solve(m, options={"mip_rel_gapp": 0.1})
    with pytest.raises(ValueError, match="'presolve' doesn't take 'perhaps'"):
        solve(m, options={"presolve": "perhaps"})
    with pytest.raises(ValueError, match="start="):
        solve(m, start="later")
    with pytest.raises(TypeError):
        solve(m, no_such_keyword=1)
    with pytest.raises(ValueError):
        NewFactory("relu_highs").solve(m, no_such_keyword=1)


def test_options_reach_highs_and_do_not_stick():
    solver = pyo.SolverFactory("relu_highs", options={"presolve": "off"})
    m = knapsack()
    solver.solve(m, options={"presolve": "off", "mip_max_nodes": np.int64(0)}, timelimit=9)
    assert dict(solver.options) == {"presolve": "off"}
    assert solver.config.time_limit is None
    results = solver.solve(m)
    assert pyo.check_optimal_termination(results)
    new = NewFactory("relu_highs")
    assert new.solve(m, threads=1, rel_gap=0.0, abs_gap=0.0).extra_info.mip_gap == 0
    # Another number of threads in one process, which HiGHS by itself refuses.
    assert new.solve(m, threads=2).solution_status is SolutionStatus.optimal
    assert new.solve(m, solver_options={"threads": 1}).incumbent_objective is not None


def knapsack(n=20, seed=1):
    rng = np.random.default_rng(seed)
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(n), domain=pyo.Binary)
    for k in range(5):
        w = rng.integers(20, 100, n).tolist()
        m.add_component(
            f"row{k}",
            pyo.Constraint(expr=sum(a * m.x[i] for i, a in enumerate(w)) <= sum(w) // 2),
        )
    c = rng.integers(50, 100, n).tolist()
    m.obj = pyo.Objective(
        expr=sum(a * m.x[i] for i, a in enumerate(c)) + 0.5, sense=pyo.maximize
    )
    return m


def test_limit_keeps_the_incumbent_and_a_valid_bound():
    m = knapsack()
    for v in m.x.values():
        v.set_value(0)
    best = NewFactory("relu_highs").solve(m, load_solutions=False).incumbent_objective
    options = {"mip_max_nodes": 0, "mip_heuristic_effort": 0.0}
    results = NewFactory("relu_highs").solve(
        m,
        warmstart=True,
        raise_exception_on_nonoptimal_result=False,
        solver_options=options,
    )
    assert results.solution_status is SolutionStatus.feasible
    assert results.incumbent_objective <= best + 1e-6 <= results.objective_bound + 2e-6
    assert pyo.value(m.obj) == pytest.approx(results.incumbent_objective)
    legacy = solve(m, options=options, warmstart=True)
    assert legacy.problem.lower_bound <= best + 1e-6 <= legacy.problem.upper_bound + 2e-6
    results = NewFactory("relu_highs").solve(m, time_limit=0.0, **LIMITED)
    assert results.termination_condition is TerminationCondition.maxTimeLimit
    assert results.objective_bound >= best - 1e-6


def test_complete_and_partial_starts():
    m = knapsack()
    solve(m)
    best = pyo.value(m.obj)
    limit = {"mip_max_nodes": 0, "mip_heuristic_effort": 0.0, "presolve": "off"}
    results = solve(m, warmstart=True, options=limit)
    assert results.problem.lower_bound == pytest.approx(best)
    for i in range(0, 20, 7):
        m.x[i].set_value(None)
    results = solve(m, warmstart=True, options=limit)
    assert results.problem.lower_bound >= best - 40


def test_tee_log_and_streams(capsys):
    m = knapsack()
    solve(m)
    assert capsys.readouterr().out == ""
    solve(m, tee=True)
    assert "HiGHS" in capsys.readouterr().out
    stream = io.StringIO()
    results = NewFactory("relu_highs").solve(m, tee=stream)
    assert "Solving report" in stream.getvalue() == results.solver_log
    assert capsys.readouterr().out == ""


def test_progress_reports_and_stops():
    m = knapsack()
    seen = []
    solve(m, progress=seen.append)
    assert {p.kind for p in seen} - {"within"} == {"log", "incumbent"}
    last = [p for p in seen if p.kind == "incumbent"][-1]
    assert last.incumbent == pytest.approx(pyo.value(m.obj))
    results = NewFactory("relu_highs").solve(
        m, progress=lambda p: p.kind == "incumbent", **LIMITED
    )
    assert results.termination_condition is TerminationCondition.interrupted
    assert results.incumbent_objective is not None
    results.solution_loader.load_vars()

    def broken(p):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        solve(m, progress=broken)


def test_progress_stops_highs_between_lines_of_its_log():
    """The callback is also called within, with what the last line had."""
    seen = []

    def stop(p):
        seen.append(p)
        return p.kind == "within"

    results = NewFactory("relu_highs").solve(knapsack(), progress=stop, **LIMITED)
    assert results.termination_condition is TerminationCondition.interrupted
    assert seen[-1].kind == "within" and seen[-1].bound >= seen[-1].incumbent


def test_progress_shows_no_bound_of_the_program_that_completes_a_start():
    """HiGHS itself reports 697.5 here while it completes the start; the optimum is 860.5."""
    m = knapsack()
    solve(m)
    best = pyo.value(m.obj)
    for i in range(20):
        m.x[i].set_value(None if i % 2 == 0 else 0)
    seen = []
    results = NewFactory("relu_highs").solve(m, warmstart=True, progress=seen.append)
    assert results.incumbent_objective == pytest.approx(best)
    assert min(p.bound for p in seen) >= best - 1e-6
    first = [p.incumbent for p in seen if math.isfinite(p.incumbent)][0]
    assert first > 0.5  # the completed start, not the zeros


def test_start_that_fits_nothing_is_left_out():
    m = knapsack()
    for i in range(10):
        m.x[i].set_value(1)  # too heavy with or without the others
    m.heavy = pyo.Constraint(expr=sum(m.x[i] for i in range(10)) <= 3)
    results = NewFactory("relu_highs").solve(m, warmstart=True)
    assert results.solution_status is SolutionStatus.optimal


def test_load_solutions_later():
    m = production()
    results = solve(m, load_solutions=False)
    assert m.x.value is None
    m.solutions.load_from(results)
    assert m.x.value == pytest.approx(2)
    results = NewFactory("relu_highs").solve(m, load_solutions=False)
    assert results.solution_loader.get_vars([m.y])[m.y] == pytest.approx(6)
    assert results.solution_loader.get_duals([m.c])[m.c] == pytest.approx(1)


@given(st.integers(0, 10_000))
def test_random_models_agree_with_appsi(seed):
    rng = np.random.default_rng(seed)
    m = pyo.ConcreteModel()
    n = int(rng.integers(1, 6))
    m.x = pyo.Var(range(n), bounds=(-3, 4))
    m.z = pyo.Var(range(2), domain=pyo.Integers, bounds=(-2, 3))
    vs = [*m.x.values(), *m.z.values()]
    if rng.random() < 0.5:
        vs[int(rng.integers(len(vs)))].fix(int(rng.integers(-2, 4)))
    m.rows = pyo.ConstraintList()
    for _ in range(int(rng.integers(0, 5))):
        a = rng.integers(-4, 5, len(vs)).tolist()
        body = sum(c * v for c, v in zip(a, vs)) + 0.0 * m.x[0]
        low = float(rng.integers(-6, 3))
        kind = rng.integers(4)
        if kind == 0:
            m.rows.add(body <= -low)
        elif kind == 1:
            m.rows.add(body >= low)
        elif kind == 2:
            m.rows.add(pyo.inequality(low, body, low + float(rng.integers(0, 5))))
        elif any(a):
            m.rows.add(body + 1 == low)
    c = rng.normal(size=len(vs)).tolist()
    m.obj = pyo.Objective(
        expr=sum(a * v for a, v in zip(c, vs)) + 3,
        sense=pyo.maximize if rng.random() < 0.5 else pyo.minimize,
    )
    mine = NewFactory("relu_highs").solve(m, **LIMITED)
    other = NewFactory("highs").solve(m, **LIMITED)
    assert (mine.incumbent_objective is None) == (other.incumbent_objective is None)
    if mine.incumbent_objective is not None:
        assert mine.incumbent_objective == pytest.approx(
            other.incumbent_objective, rel=1e-4, abs=1e-4
        )
        mine.solution_loader.load_vars()
        assert pyo.value(m.obj) == pytest.approx(mine.incumbent_objective, abs=1e-6)
