"""Bounds of columns by choices, through networks: they hold, and they say more than big M."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory

from pyomo_relu import ReLUNetBlock
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.programs.linear_program import Rows
from pyomo_relu.programs.scip import ScipModel
from pyomo_relu.solvers.scip import handler, implied
from pyomo_relu.solvers.scip.end_game import EndGame
from pyomo_relu.solvers.scip.implied import ImpliedBounds, Propagation
from pyomo_relu.solvers.scip.settings import HANDLER, IMPLIED
from tests.harness.random_networks import he_network
from tests.solvers.against_rows import by_rows, wrong_by_rows
from tests.solvers.test_scip_all_on import units

pytest.importorskip("pyscipopt")
pytest.importorskip("highspy")


def prices(seed: int, formulation: str | None) -> pyo.ConcreteModel:
    """Products at one of four prices; demand reads the own price and that of a rival."""
    rng = np.random.default_rng(seed)
    grid, n = np.array([0.5, 1.0, 1.5, 2.0]), 3
    m = pyo.ConcreteModel()
    m.i, m.k = pyo.RangeSet(0, n - 1), pyo.RangeSet(0, 3)
    m.z = pyo.Var(m.i, m.k, domain=pyo.Binary)
    m.price = pyo.Var(m.i, bounds=(0.5, 2.0))
    m.sold = pyo.Var(m.i, bounds=(0, 8))
    m.margin = pyo.Var(m.i, bounds=(-10, 30))
    m.net = ReLUNetBlock(
        m.i,
        network={i: he_network(7 * seed + i, (2, 6, 4, 1)) for i in m.i},
        inputs=lambda m, i: [m.price[i], m.price[(i + 1) % n]],
        formulation=formulation,
    )
    m.rows = pyo.ConstraintList()
    for i in m.i:
        # Some products may be left out.
        chosen = pyo.quicksum(m.z[i, k] for k in m.k)
        m.rows.add(chosen == 1 if rng.random() < 0.7 else chosen <= 1)
        m.rows.add(
            m.price[i] == pyo.quicksum((grid[k] - 0.5) * m.z[i, k] for k in m.k) + 0.5
        )
        m.rows.add(m.sold[i] <= 2.0 + m.net[i].outputs[0])
        m.rows.add(m.sold[i] <= 8 * chosen)
        for k in m.k:
            m.rows.add(m.margin[i] <= grid[k] * m.sold[i] + 40 * (1 - m.z[i, k]))
        m.rows.add(m.margin[i] <= 30 * chosen)
    m.rows.add(pyo.quicksum(m.sold.values()) <= float(rng.uniform(3, 10)))
    profit = pyo.quicksum(float(rng.uniform(0.5, 1.5)) * m.margin[i] for i in m.i)
    m.cost = pyo.Objective(expr=profit, sense=pyo.maximize)
    return m


@pytest.fixture
def all_rows(monkeypatch):
    """Rows that are broken by anything, few planes, no small programs; how many rows."""
    monkeypatch.setattr(implied, "IMPLIED", replace(IMPLIED, worth=1e-6))
    monkeypatch.setattr(handler, "HANDLER", replace(HANDLER, rounds=1, root_rounds=2))
    monkeypatch.setattr(EndGame, "suits", lambda *parts: False)
    names, plain = [], ScipModel.add_cut

    def add_cut(self, name, *what):
        names.append(name)
        return plain(self, name, *what)

    monkeypatch.setattr(ScipModel, "add_cut", add_cut)
    return names


@pytest.mark.parametrize("make", [prices, units])
def test_no_optimum_is_lost(make, all_rows):
    wrong = {}
    for seed in range(8):
        fault = wrong_by_rows(make(seed, None), make(seed, "bigm"), start=None)
        if fault is not None:
            wrong[seed] = fault
    assert wrong == {}
    assert all_rows.count("implied") > 10


@pytest.mark.slow
@pytest.mark.parametrize("make", [prices, units])
@pytest.mark.parametrize("part", range(5))
def test_five_hundred_models_lose_no_optimum(make, part, all_rows):
    for seed in range(1000 + 50 * part, 1050 + 50 * part):
        fault = wrong_by_rows(make(seed, None), make(seed, "bigm"), start=None)
        assert fault is None, seed


def test_the_first_bound_is_far_better(monkeypatch):
    how = {"node_limit": 1, "start": None, "load_solutions": False}
    how["raise_exception_on_nonoptimal_result"] = False
    monkeypatch.setattr(EndGame, "suits", lambda *parts: False)
    best = by_rows(prices(0, "bigm"))
    bounds = []
    for _ in range(2):
        results = NewFactory("relu_scip").solve(prices(0, None), **how)
        bounds.append(results.objective_bound - best)
        monkeypatch.setattr(ImpliedBounds, "include", lambda self: None)
    assert -1e-6 <= bounds[0] < 0.5 * bounds[1]


@pytest.mark.parametrize("seed", range(20))
def test_points_stay_in_their_boxes(seed):
    """Many points of rows, each within the boxes that hold it at first."""
    rng = np.random.default_rng(seed)
    m, r, count = 6, 5, 40
    matrix = rng.normal(size=(r, m)) * (rng.random((r, m)) < 0.5)
    points = rng.normal(size=(m, 30))
    at = matrix @ points
    lower = np.where(rng.random(r) < 0.5, at.min(axis=1), -np.inf)
    upper = np.where(rng.random(r) < 0.7, at.max(axis=1), np.inf)
    first = rng.integers(0, 30, count)
    low = points[:, first] - rng.random((m, count))
    high = points[:, first] + rng.random((m, count)) * 3.0
    low[0, :10] = -np.inf
    high[1, 5:15] = np.inf
    held = [
        np.flatnonzero(((points >= a[:, None]) & (points <= b[:, None])).all(axis=0))
        for a, b in zip(low.T, high.T)
    ]
    before = np.where(np.isfinite(high - low), high - low, 1e6).sum()
    rows = Rows(sp.csr_array(matrix), lower, upper)
    possible = Propagation(rows).tighten(low, high, 4)
    assert possible.all()
    assert np.where(np.isfinite(high - low), high - low, 1e6).sum() < before
    for k, some in enumerate(held):
        inside = points[:, some]
        assert (inside >= low[:, k, None] - 1e-9).all()
        assert (inside <= high[:, k, None] + 1e-9).all()


def test_boxes_without_a_point_are_told():
    rows = Rows(sp.csr_array(np.array([[1.0, 1.0]])), np.array([1.5]), np.array([np.inf]))
    low, high = np.zeros((2, 2)), np.array([[1.0, 0.4], [1.0, 1.0]])
    assert Propagation(rows).tighten(low, high, 1).tolist() == [True, False]
    assert low[0, 0] == pytest.approx(0.5, abs=1e-6)
