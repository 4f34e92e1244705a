"""The search by sides among rows beside SCIP's tree: bounds, points and ends go both ways."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory

from pyomo_relu import ReLUNetBlock
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.sides import row_bounds
from pyomo_relu.solvers.global_search.row_side_search import RowSideSearch
from pyomo_relu.solvers.scip import sides_beside
from pyomo_relu.solvers.scip.end_game import EndGame
from pyomo_relu.solvers.scip.settings import SIDES_BESIDE
from pyomo_relu.solvers.scip.sides_beside import SidesBeside
from tests.harness.random_networks import he_network
from tests.solvers.against_rows import SOLVED, by_rows, wrong_by_rows
from tests.solvers.row_models import rows_model

pytest.importorskip("pyscipopt")
pytest.importorskip("highspy")


def chosen(seed: int, sense=pyo.minimize) -> pyo.ConcreteModel:
    """Eighteen inputs, some whole, in few rows, and a network of all in the cost."""
    rng = np.random.default_rng(seed)
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(18), bounds=(0, 1))
    for j in range(4):
        m.x[j].domain = pyo.Binary
    m.net = ReLUNetBlock(
        network=he_network(seed, (18, 14, 1)), inputs=list(m.x.values()), formulation=None
    )
    m.rows = pyo.ConstraintList()
    for _ in range(2):
        a = rng.random(18)
        m.rows.add(pyo.quicksum(a[j] * m.x[j] for j in m.x) <= 0.4 * float(a.sum()))
    rest = pyo.quicksum(rng.uniform(-0.1, 0.1) * m.x[j] for j in m.x)
    m.cost = pyo.Objective(expr=m.net.outputs[0] + rest, sense=sense)
    return m


@pytest.fixture
def at_once(monkeypatch):
    """It begins at the second node, has nearly all the time, and no end game is played."""
    now = replace(SIDES_BESIDE, nodes=1, after=0.0, trial=1e9)
    monkeypatch.setattr(sides_beside, "SIDES_BESIDE", now)
    monkeypatch.setattr(EndGame, "close", lambda *node: None)
    monkeypatch.setattr(EndGame, "close_all", lambda *tree: None)
    monkeypatch.setattr(
        SidesBeside,
        "suits",
        lambda problem: RowSideSearch.fits(problem) and RowSideSearch.leads(problem),
    )
    turns, plain = [], SidesBeside.turn

    def turn(self, bound):
        turns.append(plain(self, bound))
        return turns[-1]

    monkeypatch.setattr(SidesBeside, "turn", turn)
    return turns


def test_which_models_it_suits():
    problem = read_problem(chosen(0))
    assert SidesBeside.suits(problem)
    in_row = chosen(0)
    in_row.least = pyo.Constraint(expr=in_row.net.outputs[0] + in_row.x[0] <= 5.0)
    in_row.cost.set_value(in_row.x[0])
    assert not SidesBeside.suits(read_problem(in_row))


@pytest.mark.parametrize("sense", [pyo.minimize, pyo.maximize])
def test_it_proves_what_rows_say(sense, at_once, monkeypatch):
    """Leaves of no neuron: the bound has to come from multipliers."""
    settings = replace(row_bounds.SETTINGS, leaf=4)
    monkeypatch.setattr(RowSideSearch, "settings", settings)
    m, other = chosen(1, sense), chosen(1, sense)
    results = NewFactory("relu_scip").solve(m, rel_gap=1e-5)
    other.net.reformulate("bigm")
    best = by_rows(other)
    assert at_once[-1] is True
    assert results.extra_info.subproblems_beside > 20
    assert results.termination_condition.name == SOLVED
    assert pyo.value(m.cost) == pytest.approx(best, rel=1e-4)
    assert results.objective_bound == pytest.approx(best, rel=1e-4)
    assert sense * (results.objective_bound - best) <= 1e-6 * abs(best)


def test_its_bound_is_kept_where_a_limit_ends_the_search(at_once, monkeypatch):
    """SCIP's own bound is far behind after so few nodes."""
    told = []
    monkeypatch.setattr(
        sides_beside,
        "SIDES_BESIDE",
        replace(sides_beside.SIDES_BESIDE, trial=0.0, lead=0.5),
    )
    m, other = chosen(1), chosen(1)
    other.net.reformulate("bigm")
    best = by_rows(other)
    how = {"node_limit": 4, "rel_gap": 1e-9, "raise_exception_on_nonoptimal_result": False}
    results = NewFactory("relu_scip").solve(
        m, progress=lambda now: told.append(now.bound), **how
    )
    plain = chosen(1)
    monkeypatch.setattr(SidesBeside, "suits", lambda problem: False)
    without = NewFactory("relu_scip").solve(plain, **how)
    assert without.objective_bound < results.objective_bound - 1e-3
    assert results.objective_bound <= best + 1e-6 * abs(best)
    assert max(told) <= best + 1e-6 * abs(best)


@pytest.mark.parametrize("seed", range(12))
def test_random_rows_have_the_optimum_of_rows(seed, at_once):
    assert wrong_by_rows(rows_model(seed), rows_model(seed)) is None


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_five_hundred_random_rows(part, at_once):
    for seed in range(1000 + 50 * part, 1050 + 50 * part):
        assert wrong_by_rows(rows_model(seed), rows_model(seed)) is None, seed
