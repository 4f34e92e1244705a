"""Walks by linearization: derivatives, feasible steps, balls that a gradient can't see."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory

from pyomo_relu import ReLUNetBlock
from pyomo_relu.base.deadline import Deadline
from pyomo_relu.heuristics.linearized import LinearizedProgram, walk_linearized
from pyomo_relu.heuristics.network_columns import NetworkProblem
from pyomo_relu.heuristics.start import search_start
from pyomo_relu.programs.standard_form import compile_standard_form
from tests.harness.random_networks import he_network

pytest.importorskip("highspy")


def ball(n=8, radius=0.5, seed=0, sense=pyo.maximize):
    """The best point of an L1 ball around a point, by auxiliary variables."""
    center = np.random.default_rng(seed).uniform(-0.8, 0.8, n).tolist()
    m = pyo.ConcreteModel()
    m.x, m.d = pyo.Var(range(n), bounds=(-1, 1)), pyo.Var(range(n), bounds=(0, 2))
    m.up = pyo.Constraint(range(n), rule=lambda m, i: m.d[i] >= m.x[i] - center[i])
    m.down = pyo.Constraint(range(n), rule=lambda m, i: m.d[i] >= center[i] - m.x[i])
    m.ball = pyo.Constraint(expr=sum(m.d.values()) <= radius)
    m.net = ReLUNetBlock(network=he_network(seed, (n, 12, 12, 3)), inputs=m.x)
    m.obj = pyo.Objective(expr=m.net.outputs[0] - m.net.outputs[2], sense=sense)
    form = compile_standard_form(m)
    return m, form, NetworkProblem(form, [m.net])


def test_jacobian_is_that_of_differences():
    m, form, problem = ball()
    program = LinearizedProgram(problem)
    names = {id(v): k for k, v in enumerate(m.net.outputs.values())}
    used = [names[id(form.columns[j])] for j in program.outputs]
    assert sorted(used) == [0, 2]  # what objective and rows read
    point = np.zeros(len(form.columns))
    point[problem.drivers] = x = np.random.default_rng(1).uniform(-1, 1, 8)
    slopes, step = program.jacobian(point), 1e-6
    for i in range(8):
        moved = x.copy()
        moved[i] += step
        change = m.net.network.evaluate(moved) - m.net.network.evaluate(x)
        assert slopes[:, i] == pytest.approx(change[used] / step, abs=1e-4)


@pytest.mark.parametrize("sense", [pyo.maximize, pyo.minimize])
def test_every_step_obeys_the_users_rows_and_the_score_rises(sense):
    m, form, problem = ball(sense=sense)
    sign, seen = (1 if sense == pyo.maximize else -1), []

    def judge(point):
        full = problem.fill_layers(point.copy())
        assert form.violation(full) <= 1e-6
        seen.append(sign * form.objective_value(full))
        return seen[-1]

    walk_linearized(problem, np.zeros(8), judge, Deadline(20))
    best = NewFactory("relu_highs").solve(m, load_solutions=False).incumbent_objective
    assert max(seen) <= sign * best + 1e-4
    assert max(seen) > seen[0] - 1e-9
    assert max(seen) >= sign * best - 0.25 * abs(best)


def test_search_uses_it_where_the_user_has_variables(monkeypatch):
    """With everything else switched off it still brings a feasible point."""
    from pyomo_relu.heuristics import start

    monkeypatch.setattr(start._Search, "_complete", lambda self, point: None)
    monkeypatch.setattr(start._Search, "_walk", lambda *a: False)
    m, form, problem = ball()
    found = search_start(problem, 20.0)
    assert found.feasible and found.source == "linearization"
