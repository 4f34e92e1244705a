"""What columns can reach before relu_scip's tree: narrower than given, and every point within."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from pyomo_relu.base.deadline import NEVER
from pyomo_relu.presolve.functions import separate
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.solvers.scip.reach import Reach
from tests.harness.random_networks import he_network

pytest.importorskip("pyscipopt")

STEPS = 5


def chain(seed: int) -> tuple[pyo.ConcreteModel, list]:
    """States that follow from a given first one, controls that change little."""
    networks = he_network(seed, (3, 6, 6, 2))
    m = pyo.ConcreteModel()
    m.state = pyo.Var(range(STEPS + 1), range(2), bounds=(-20, 20))
    m.control = pyo.Var(range(STEPS), bounds=(-1, 1))
    m.net = ReLUNetBlock(
        range(STEPS),
        network=networks,
        inputs=lambda m, t: [m.state[t, 0], m.state[t, 1], m.control[t]],
    )
    m.first = pyo.Constraint(range(2), rule=lambda m, j: m.state[0, j] == 0.3 * (j + 1))

    @m.Constraint(range(STEPS), range(2))
    def step(m, t, j):
        return m.state[t + 1, j] == 0.5 * m.state[t, j] + 0.3 * m.net[t].outputs[j]

    @m.Constraint(range(STEPS - 1))
    def rate(m, t):
        return (-0.5, m.control[t + 1] - m.control[t], 0.5)

    m.cost = pyo.Objective(expr=pyo.quicksum(m.state[STEPS, j] for j in range(2)))
    return m, networks


@pytest.mark.parametrize("seed", range(4))
def test_states_narrow_and_no_trajectory_is_lost(seed):
    m, network = chain(seed)
    problem = read_problem(m, NEVER, "a test", general=True)
    separated = separate(problem, NEVER)
    given = separated.program.upper - separated.program.lower
    reach = Reach(separated, NEVER)
    program = separated.program
    assert reach.unreached is None
    assert len(reach.boxes) == len(separated.functions)
    width = program.upper - program.lower
    assert (width <= given).all() and width.sum() < 0.5 * given[np.isfinite(given)].sum()
    rng = np.random.default_rng(seed)
    for _ in range(200):
        control = np.clip(np.cumsum(rng.uniform(-0.5, 0.5, STEPS)), -1, 1)
        state = np.array([0.3, 0.6])
        for t in range(STEPS):
            m.control[t].value = float(control[t])
            for j in range(2):
                m.state[t, j].value = float(state[j])
            y = network.evaluate(np.append(state, control[t]))
            for j in range(2):
                m.net[t].outputs[j].value = float(y[j])
            state = 0.5 * state + 0.3 * y
        for j in range(2):
            m.state[STEPS, j].value = float(state[j])
        z = np.array([v.value for v in problem.columns])
        z = separated.complete(z)
        size = np.maximum(1.0, abs(z))
        assert (z >= program.lower - 1e-9 * size).all()
        assert (z <= program.upper + 1e-9 * size).all()


def test_an_output_that_no_input_reaches_is_named():
    m, _ = chain(0)
    m.far = pyo.Constraint(expr=m.net[0].outputs[0] >= 1e3)
    results = pyo.SolverFactory("relu_scip").solve(m, load_solutions=False)
    assert results.solver.termination_condition == pyo.TerminationCondition.infeasible
