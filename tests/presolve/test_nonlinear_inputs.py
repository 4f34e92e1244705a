"""Inputs of networks that are nonlinear expressions."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.contrib.solver.common.util import IncompatibleModelError

from pyomo_relu import ReLUNetBlock, find_start
from pyomo_relu.formulations import network_blocks
from pyomo_relu.presolve.reading import read_problem
from tests.harness.random_networks import he_network

pytest.importorskip("pyscipopt")
pytest.importorskip("highspy")


def build(seed: int, formulation: str | None = None, apart: bool = False):
    """Products and a sine as inputs, one of another network's output.

    With ``apart`` the user has written variables for them.
    """
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(3), bounds=(0.2, 2))
    m.k = pyo.Var(domain=pyo.Integers, bounds=(0, 3))
    options = {"formulation": formulation}
    inputs = [m.x[0] * m.x[1] - m.k, pyo.sin(m.x[2]) + m.x[0]]
    if apart:
        m.u = pyo.Var(range(3), bounds=(-9, 9))
        m.first = pyo.Constraint(range(2), rule=lambda m, i: m.u[i] == inputs[i])
        inputs = [m.u[0], m.u[1]]
    m.net = ReLUNetBlock(network=he_network(seed, (2, 8, 2)), inputs=inputs, **options)
    last = m.net.outputs[1] * m.x[2]
    if apart:
        m.last = pyo.Constraint(expr=m.u[2] == last)
        last = m.u[2]
    m.then = ReLUNetBlock(
        network=he_network(seed + 10, (2, 6, 1)),
        inputs=[last, m.x[1]],
        input_bounds=[(-1, 2), (0, 3)],
        **options,
    )
    m.row = pyo.Constraint(expr=m.net.outputs[0] + m.x[2] + 0.3 * m.k <= 2.5)
    m.obj = pyo.Objective(
        expr=m.net.outputs[1] + m.x[0] + m.then.outputs[0], sense=pyo.maximize
    )
    return m


@pytest.mark.parametrize("seed, formulation", [(0, None), (1, "bigm"), (2, None)])
def test_as_if_the_user_had_written_variables(seed, formulation):
    m, apart = build(seed, formulation), build(seed, apart=True)
    for model in (m, apart):
        results = pyo.SolverFactory("relu_scip").solve(model)
        assert results.solver.termination_condition == "optimal"
    assert pyo.value(m.obj) == pytest.approx(pyo.value(apart.obj), rel=2e-4)
    # Networks are evaluated at the expressions, not at what stands for them.
    assert max(b.error() for b in network_blocks(m)) <= 1e-9
    assert m.row.uslack() >= -1e-6
    assert -1 - 1e-6 <= m.net.outputs[1].value * m.x[2].value <= 2 + 1e-6


def test_relu_hands_them_on_and_starts_are_found():
    m = build(0)
    pyo.SolverFactory("relu").solve(m)
    best = pyo.value(m.obj)
    start = find_start(m, 0.3)
    assert start.feasible and start.value <= best + 1e-4 * abs(best)
    assert max(b.error() for b in network_blocks(m)) <= 1e-9


def test_points_are_completed_in_their_order():
    m = build(3)
    p = read_problem(m, general=True)
    names = [[p.columns[j].name for j in pair] for pair in p.stand_ins]
    assert ["input 0 of net", "nonlinear part of input 0 of net"] in names
    assert len(names) == 3
    place = {v.name: j for j, v in enumerate(p.columns)}
    z = np.zeros((1, len(p.columns)))
    for name, x in {"x[0]": 0.5, "x[1]": 1.5, "x[2]": 0.4, "k": 1.0}.items():
        z[0, place[name]] = x
    p.complete(z)
    assert z[0, place["input 0 of net"]] == -0.25
    first = he_network(3, (2, 8, 2)).evaluate(np.array([-0.25, np.sin(0.4) + 0.5]))
    last = np.clip(first[1] * 0.4, -1, 2)
    assert z[0, place["input 0 of then"]] == pytest.approx(last)
    then = he_network(13, (2, 6, 1)).evaluate(np.array([last, 1.5]))
    assert z[0, place["then.outputs[0]"]] == pytest.approx(then[0])


def test_solvers_of_linear_models_name_who_takes_them():
    m = build(0)
    with pytest.raises((ValueError, IncompatibleModelError), match="relu_scip"):
        pyo.SolverFactory("relu_global").solve(m)
    # Without bounds of its variables an input has none, and no solver takes it.
    m.x[0].setub(None)
    with pytest.raises(ValueError, match="net.* has no finite upper bound"):
        pyo.SolverFactory("relu_scip").solve(m)
