"""GRU and LSTM over time within a model: one optimum by several ways."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from pyomo_relu.readers import read_network

STEPS, SIDE = 3, np.linspace(-1.0, 1.0, 21)
GRID = np.stack(np.meshgrid(*[SIDE] * STEPS), axis=-1).reshape(-1, STEPS)


def recurrent(name, seed):
    torch = pytest.importorskip("torch")

    class Last(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(seed)
            self.layer = getattr(torch.nn, name)(1, 2, batch_first=True).double()
            self.head = torch.nn.Linear(2, 1).double()
            with torch.no_grad():
                for p in self.parameters():
                    p.mul_(2.0)

        def forward(self, x):
            return self.head(self.layer(x)[0][:, -1])

    return read_network(Last().eval(), input_shape=(STEPS, 1))


def model_of(network, **options):
    """Steps within a budget, and the optimum over a grid of them."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(STEPS), bounds=(-1, 1))
    m.net = ReLUNetBlock(network=network, inputs=m.x, **options)
    m.budget = pyo.Constraint(expr=pyo.quicksum(m.x.values()) <= 0.5)
    m.goal = pyo.Objective(expr=m.net.outputs[0] + 0.1 * m.x[0])
    fine = GRID[GRID.sum(axis=1) <= 0.5 + 1e-9]
    return m, float((network.evaluate(fine)[:, 0] + 0.1 * fine[:, 0]).min())


def check_optimum(name, seed, solvers):
    network, found = recurrent(name, seed), []
    for solver in solvers:
        m, known = model_of(network, formulation=None)
        results = pyo.SolverFactory(solver).solve(m)
        assert pyo.check_optimal_termination(results)
        assert m.net.error() <= 1e-9 and pyo.value(m.budget.body) <= 0.5 + 1e-6
        found.append(pyo.value(m.goal))
        assert known - 0.02 <= found[-1] <= known + 1e-4 * max(1.0, abs(known))
    assert max(found) - min(found) <= 2e-4 * max(1.0, abs(known))
    return found[0]


@pytest.mark.parametrize("name", ["GRU", "LSTM"])
def test_an_optimum_is_proved(name):
    optimum = check_optimum(name, 0, ["relu_global"])
    m, _ = model_of(recurrent(name, 0), accuracy=1e-2)
    pyo.SolverFactory("relu_global").solve(m)
    assert abs(pyo.value(m.goal) - optimum) <= m.net.accuracy()[0] + 1e-3
    assert m.net.error() <= m.net.accuracy()[0] + 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["GRU", "LSTM"])
def test_two_solvers_prove_one_optimum(name):
    pytest.importorskip("pyscipopt")
    for seed in range(5):
        check_optimum(name, seed, ["relu_global", "relu_scip", "relu"])
