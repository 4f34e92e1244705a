"""Rows that tables imply: they cut nothing off, and the relaxation is tighter."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from pyomo_relu.presolve.fixed_outputs import compile_with_networks
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.presolve.table_rows import add_table_rows
from pyomo_relu.programs import HighsModel
from tests.harness.random_networks import random_network


def shop(seed: int, **options):
    """Prices out of a list, demand by the own price and that of a neighbour, sales."""
    rng = np.random.default_rng(seed)
    prices = np.sort(np.round(rng.uniform(0.5, 2, 4), 2)).tolist()
    m = pyo.ConcreteModel()
    m.goods, m.prices = pyo.RangeSet(0, 2), pyo.RangeSet(0, 3)
    m.chosen = pyo.Var(m.goods, m.prices, domain=pyo.Binary)
    m.price = pyo.Var(m.goods, bounds=(0.0, 2.5))
    m.sold = pyo.Var(m.goods, bounds=(0, 30))
    m.margin = pyo.Var(m.goods, bounds=(-50, 80))
    m.sold_at = pyo.Var(m.goods, m.prices, bounds=(0, 30))
    m.rows = pyo.ConstraintList()
    net = random_network(rng, n_inputs=2, widths=(6, 5))
    for i in m.goods:
        z = [m.chosen[i, k] for k in m.prices]
        m.rows.add(sum(z) == 1)
        m.rows.add(m.price[i] == sum(p * s for p, s in zip(prices, z)))
    m.net = ReLUNetBlock(
        m.goods,
        network=net,
        inputs=lambda m, i: [m.price[i], m.price[(i + 1) % 3]],
        formulation=None,
    )
    for i in m.goods:
        pairs = [
            {p: m.chosen[j, k] for k, p in enumerate(prices)} for j in (i, (i + 1) % 3)
        ]
        m.net[i].reformulate("table", values=dict(enumerate(pairs)))
        m.rows.add(m.sold[i] <= 10 + 3 * m.net[i].outputs[0])
        m.rows.add(m.sold[i] == sum(m.sold_at[i, k] for k in m.prices))
        for k, p in enumerate(prices):
            m.rows.add(m.sold_at[i, k] <= 30 * m.chosen[i, k])
            slack = 150 * (1 - m.chosen[i, k])
            m.rows.add(m.margin[i] <= (p - 0.9) * m.sold[i] + slack)
    m.rows.add(sum(m.sold.values()) <= 25)
    if seed % 2:
        cost = sum(p * m.sold_at[i, k] for i in m.goods for k, p in enumerate(prices))
    else:
        cost = sum(m.margin.values())
    m.goal = pyo.Objective(expr=cost, sense=pyo.maximize)
    return m


def optimum(m, relaxed: bool = False) -> float:
    if relaxed:  # integrality is part of what the rows rely on, so the model keeps it
        form = compile_with_networks(m)
        answer = HighsModel(form, relaxed=True).run()
        return form.objective_value(answer.point)
    solver = pyo.SolverFactory("appsi_highs")
    solver.highs_options = {"mip_rel_gap": 1e-9}
    solver.solve(m)
    return pyo.value(m.goal)


@pytest.mark.parametrize("seed", range(6))
def test_the_optimum_stays_and_the_bound_gains(seed):
    m = shop(seed)
    true, loose = optimum(m), optimum(m, relaxed=True)
    pyo.TransformationFactory("relu.table_rows").apply_to(m)
    tight = optimum(m, relaxed=True)
    assert optimum(m) == pytest.approx(true, abs=1e-6)
    assert true - 1e-6 <= tight <= loose + 1e-6
    assert loose - tight >= 0.5 * (loose - true) - 1e-6
    if seed % 2 == 0:  # with odd ones demand may be so large that nothing is to be gained
        assert loose - tight > 1.0
    add_table_rows(m)  # again, in place of those
    assert optimum(m, relaxed=True) == pytest.approx(tight, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_no_point_is_cut_off(seed):
    """Every choice of prices keeps its own optimum, whatever the objective."""
    rng = np.random.default_rng(seed)
    m = shop(seed)
    other = m.clone()
    pyo.TransformationFactory("relu.table_rows").apply_to(m)
    assert len(m.table_rows.row) > 0
    terms = [v for v in m.component_data_objects(pyo.Var) if v.name.startswith(("s", "m"))]
    for _ in range(12):
        costs = rng.normal(size=len(terms))
        found = []
        picks = rng.integers(0, 4, 3)
        for model in (m, other):
            own = [model.find_component(v.name) for v in terms]
            model.goal.set_value(sum(float(c) * v for c, v in zip(costs, own)))
            for i, k in enumerate(picks.tolist()):
                model.goal.expr += 1e3 * model.chosen[i, k]
            found.append(optimum(model))
        assert found[0] == pytest.approx(found[1], abs=1e-6)


def test_what_has_changed_since_is_refused():
    m = shop(0)
    best = optimum(m)
    add_table_rows(m)
    assert optimum(m) == pytest.approx(best, abs=1e-6)
    copy = m.clone()
    copy.rows[1].deactivate()
    with pytest.raises(ValueError, match="'table_rows' follows from constraints, bounds"):
        optimum(copy)
    del copy.table_rows
    optimum(copy)
    m.sold[0].setub(40)
    with pytest.raises(ValueError, match="relu.table_rows"):
        optimum(m)
    m.sold[0].setub(30)
    m.net[1].reformulate("bigm")
    with pytest.raises(ValueError, match="relu.table_rows"):
        optimum(m)
    pyo.TransformationFactory("relu.table_rows").apply_to(m)
    assert optimum(m) == pytest.approx(best, abs=1e-5)


def test_solvers_of_networks_leave_the_rows_aside():
    m = shop(1)
    best = optimum(m)
    add_table_rows(m)
    for solver in ("relu_highs", "relu_global"):
        pyo.SolverFactory(solver).solve(m)
        assert pyo.value(m.goal) == pytest.approx(best, rel=1e-3)
    assert read_problem(m).as_rows == []
    assert m.table_rows.active


@pytest.mark.parametrize("solver", ["relu", "relu_highs"])
def test_an_output_that_is_fixed_is_no_change(solver):
    """It is free while the rows are read, which the rows that tables imply don't mind."""
    m = shop(0)
    optimum(m)
    m.net[2].outputs[0].fix(m.net[2].outputs[0].value)
    best = optimum(m)
    add_table_rows(m)
    pyo.SolverFactory(solver).solve(m)
    assert pyo.value(m.goal) == pytest.approx(best, rel=1e-3)
    m.net[2].outputs[0].fix(m.net[2].outputs[0].value + 1.0)
    with pytest.raises(ValueError, match="relu.table_rows"):
        compile_with_networks(m)


def test_models_without_tables_get_no_rows():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(0, 1))
    m.goal = pyo.Objective(expr=m.x)
    pyo.TransformationFactory("relu.table_rows").apply_to(m)
    assert not list(m.component_data_objects(pyo.Constraint))
    with pytest.raises(ValueError, match="no option 'most'"):
        pyo.TransformationFactory("relu.table_rows").apply_to(m, most=3)


def test_the_transformation_is_known_from_the_start():
    code = (
        "import pyomo.environ as pyo, pyomo_relu, sys; "
        "assert 'pyomo_relu.presolve.table_rows' not in sys.modules; "
        "pyo.TransformationFactory('relu.table_rows').apply_to(pyo.ConcreteModel())"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
