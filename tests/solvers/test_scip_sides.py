"""Networks of many inputs in relu_scip: sides, polytopes, and what both know of points."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory

from pyomo_relu import ReLUNetBlock
from pyomo_relu.solvers.scip import branching, polytope, together
from pyomo_relu.solvers.scip.end_game import EndGame
from pyomo_relu.solvers.scip.handler import NetworkHandler
from pyomo_relu.solvers.scip.settings import HANDLER, POLYTOPE
from tests.harness.random_networks import he_network

pytest.importorskip("pyscipopt")
pytest.importorskip("highspy")


def diet(seed: int, formulation: str | None) -> pyo.ConcreteModel:
    """Eight amounts of least cost, some whole, with rows that bind them and an output."""
    rng = np.random.default_rng(seed)
    network = he_network(seed, (8, 7, 5, 1))
    inside = rng.uniform(0.0, 1.0, 8)
    inside[:2] = np.round(inside[:2])
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(8), bounds=(0, 2))
    m.x[0].domain = m.x[1].domain = pyo.Integers
    m.net = ReLUNetBlock(
        network=network, inputs=list(m.x.values()), formulation=formulation
    )
    m.liked = pyo.Constraint(expr=m.net.outputs[0] >= float(network.evaluate(inside)[0]))
    m.rows = pyo.ConstraintList()
    for _ in range(3):
        a = rng.random(8)
        m.rows.add(pyo.quicksum(a[j] * m.x[j] for j in m.x) >= 0.8 * float(a @ inside))
    cost = rng.uniform(0.5, 2.0, 8)
    sense = pyo.maximize if seed % 2 else pyo.minimize
    sign = -1.0 if seed % 2 else 1.0
    expr = sign * pyo.quicksum(cost[j] * m.x[j] for j in m.x) + 3.0
    m.cost = pyo.Objective(expr=expr, sense=sense)
    return m


@pytest.mark.parametrize("seed", range(4))
def test_better_points_cut_off_no_optimum(seed, monkeypatch):
    """Points come from the tree alone, so each better one bounds neurons anew."""
    monkeypatch.setattr(EndGame, "suits", lambda *parts: False)
    # Diets need their output at its least only: moved, the LP's points would do at once.
    monkeypatch.setattr(NetworkHandler, "_moved", lambda self, wrong, z: (wrong, False))
    for module in (branching, together):
        monkeypatch.setattr(module, "HANDLER", replace(HANDLER, few_inputs=5))
    monkeypatch.setattr(polytope, "POLYTOPE", replace(POLYTOPE, nodes=0, better=0.0))
    m = diet(seed, None)
    results = NewFactory("relu_scip").solve(m, start=None, rel_gap=1e-6)
    other = diet(seed, "bigm")
    pyo.SolverFactory("appsi_highs").solve(other)
    best = pyo.value(other.cost)
    assert pyo.value(m.cost) == pytest.approx(best, rel=1e-4)
    assert results.objective_bound == pytest.approx(best, rel=1e-4)
    assert m.net.error() < 1e-5
    assert results.extra_info.side_branchings > 0
