"""Networks whose inputs one choice determines are rows, exactly."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.presolve.reading import read_problem
from tests.harness.random_networks import he_network, random_network
from tests.presolve.test_substitute import view_optimum, written_optimum

pytest.importorskip("highspy")


def random_tables(seed: int) -> pyo.ConcreteModel:
    """Blocks on prices of a grid, some read by others; one may read a free variable."""
    rng = np.random.default_rng(seed)
    m = pyo.ConcreteModel()
    size = int(rng.integers(2, 5))
    m.z = pyo.Var(range(2), range(size), domain=pyo.Binary)
    m.p = pyo.Var(range(2), bounds=(-2, 2))
    m.u, m.free = pyo.Var(bounds=(-1, 1)), pyo.Var(bounds=(-2, 2))
    m.rows = pyo.ConstraintList()
    for i in range(2):
        chosen = sum(m.z[i, k] for k in range(size))
        m.rows.add(chosen == 1 if rng.random() < 0.6 else chosen <= 1)
        values = np.round(rng.uniform(-1, 1, size), 2).tolist()
        m.rows.add(m.p[i] == 0.1 + sum(a * m.z[i, k] for k, a in enumerate(values)))
    box = (-1, 0.5) if rng.random() < 0.3 else None

    def block(k: int, inputs: list) -> ReLUNetBlock:
        net = he_network(7 * seed + k, (len(inputs), 4, 1))
        return ReLUNetBlock(
            network=net,
            inputs=inputs,
            formulation="bigm",
            input_bounds=box if k < 2 else None,
        )

    m.a = block(0, [m.p[0], m.z[0, 0], 0.5])
    m.b = block(1, [0.5 * m.p[1] + 0.1, m.p[1]])
    m.c = block(2, [m.a.outputs[0], m.p[0]])
    m.d = block(3, [m.a.outputs[0], m.u])
    m.e = block(4, [m.p[0], m.p[1]])
    y = [m.component(name).outputs[0] for name in "abcde"]
    weights = np.round(rng.uniform(-1, 1, 7), 2).tolist()
    if rng.random() < 0.5:
        m.rows.add(y[1] + y[2] <= m.free)
    if rng.random() < 0.3:
        y[2].setub(0.4)
    m.cost = pyo.Objective(
        expr=sum(a * v for a, v in zip(weights, [*y, m.free, m.u])),
        sense=pyo.maximize if rng.random() < 0.5 else pyo.minimize,
    )
    return m


def tables(p: Problem) -> list[str]:
    return [link.block.name for link in p.tabulated]


@pytest.mark.parametrize("seed", range(25))
def test_the_optimum_is_that_of_the_written_rows(seed):
    m = random_tables(seed)
    expected = written_optimum(m)
    p = read_problem(m)
    assert tables(p) == ["a", "b", "c"]
    for view in (p, p.for_points()):
        value, _ = view_optimum(view)
        if expected is None:
            assert value is None
        else:
            assert value == pytest.approx(expected, rel=1e-5, abs=1e-5)
    results = pyo.SolverFactory("relu_global").solve(m, load_solutions=False)
    if expected is None:
        assert str(results.solver.termination_condition) == "infeasible"
        return
    pyo.SolverFactory("relu_global").solve(m)
    assert pyo.value(m.cost) == pytest.approx(expected, rel=2e-4, abs=2e-4)
    assert max(m.component(name).error() for name in "abcde") < 1e-9
    for row in m.rows.values():
        assert min(row.lslack(), row.uslack()) > -1e-6


def test_a_network_on_a_grid_is_gone():
    m = pyo.ConcreteModel()
    grid = np.linspace(0, 2, 30).tolist()
    m.z, m.p = pyo.Var(range(30), domain=pyo.Binary), pyo.Var(bounds=(0, 2))
    m.one = pyo.Constraint(expr=sum(m.z.values()) == 1)
    m.price = pyo.Constraint(expr=m.p == sum(a * m.z[k] for k, a in enumerate(grid)))
    m.net = ReLUNetBlock(network=he_network(0, (1, 9, 1)), inputs=[m.p], formulation=None)
    m.row = pyo.Constraint(expr=m.net.outputs[0] - 0.5 * m.p <= 1)
    m.cost = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    p = read_problem(m)
    assert p.network is None and p.n == p.q == 0
    # What the binaries choose is known to the last digit, whatever a solver left there.
    names = [v.name for v in p.columns]
    z = np.full((1, len(names)), 0.123)
    z[0, [names.index(f"z[{k}]") for k in range(30)]] = np.eye(30)[7]
    p.settle(z)
    assert z[0, names.index("p")] == pytest.approx(grid[7], abs=1e-15)
    at = names.index("net.outputs[0]")
    assert z[0, at] == pytest.approx(m.net.network.evaluate([grid[7]])[0], abs=1e-15)
    values = m.net.network.evaluate(np.array(grid)[:, None])[:, 0]
    best = values[values - 0.5 * np.array(grid) <= 1].max()
    pyo.SolverFactory("relu_global").solve(m)
    assert pyo.value(m.cost) == pytest.approx(best) and m.net.error() < 1e-12


def test_a_given_box_forbids_values():
    m = pyo.ConcreteModel()
    m.z, m.p = pyo.Var(range(3), domain=pyo.Binary), pyo.Var(bounds=(0, 2))
    m.one = pyo.Constraint(expr=sum(m.z.values()) == 1)
    m.price = pyo.Constraint(expr=m.p == m.z[1] + 2 * m.z[2])
    m.net = ReLUNetBlock(
        network=he_network(0, (1, 9, 1)),
        inputs=[m.p],
        input_bounds=(0, 1.5),
        formulation=None,
    )
    m.cost = pyo.Objective(expr=m.p + 0.001 * m.net.outputs[0], sense=pyo.maximize)
    assert tables(read_problem(m)) == ["net"]
    pyo.SolverFactory("relu_global").solve(m)
    assert m.p.value == pytest.approx(1)


@pytest.mark.parametrize("activation", ["step", "relu"])
def test_steps_are_no_table(activation):
    m = pyo.ConcreteModel()
    m.z = pyo.Var(domain=pyo.Binary)
    net = random_network(
        np.random.default_rng(0), n_inputs=1, widths=[3], n_outputs=1,
        activations=[activation],
    )  # fmt: skip
    m.net = ReLUNetBlock(network=net, inputs=[m.z], formulation=None)
    m.cost = pyo.Objective(expr=m.net.outputs[0] + 0.1 * m.z)
    assert tables(read_problem(m)) == (["net"] if activation == "relu" else [])
