"""Starts for whole models: feasible points, near the optimum, in every kind of model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory

from pyomo_relu import NetworkBuilder, ReLUNetBlock, activations, find_start
from pyomo_relu.formulations import FORMULATIONS
from pyomo_relu.heuristics import start as start_module
from pyomo_relu.heuristics.network_columns import NetworkProblem
from pyomo_relu.heuristics.start import begin_start
from pyomo_relu.heuristics.start_settings import START
from pyomo_relu.programs.standard_form import compile_standard_form
from tests.harness.random_networks import ALL_ACTIVATIONS, he_network, random_network

pytest.importorskip("highspy")

#: CPU seconds of a search; all of these end by themselves after a small part of them.
LIMIT = 120.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """In models this small a few walks without success are enough."""
    monkeypatch.setattr(start_module, "START", replace(START, patience=4))


def worst_violation(m) -> float:
    """By Pyomo alone: rows, bounds, domains."""
    worst = 0.0
    for c in m.component_data_objects(pyo.Constraint, active=True):
        body = pyo.value(c.body)
        scale = max(1.0, *(abs(pyo.value(b)) for b in (c.lower, c.upper) if b is not None))
        if c.lower is not None:
            worst = max(worst, (pyo.value(c.lower) - body) / scale)
        if c.upper is not None:
            worst = max(worst, (body - pyo.value(c.upper)) / scale)
    for v in m.component_data_objects(pyo.Var):
        low, high = v.bounds
        worst = max(worst, 0 if low is None else low - v.value)
        worst = max(worst, 0 if high is None else v.value - high)
        if v.is_integer():
            worst = max(worst, abs(v.value - round(v.value)))
    return worst


def check(m, gap=0.05):
    """The start holds, says what it is, and is near the proven optimum."""
    start = find_start(m, time_limit=LIMIT)
    assert start.feasible, start
    assert worst_violation(m) <= 2e-6
    assert pyo.value(next(m.component_data_objects(pyo.Objective))) == pytest.approx(
        start.value, abs=1e-6
    )
    for block in m.block_data_objects():
        if getattr(type(block), "is_network_block", False):
            assert block.error() < 1e-6
    best = NewFactory("relu_highs").solve(m, warmstart=True, time_limit=600)
    span = gap * max(1.0, abs(best.incumbent_objective))
    assert abs(start.value - best.incumbent_objective) <= span
    return start


def box_model(sizes, seed=0, **kwds):
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(sizes[0]), bounds=(-1, 1))
    m.net = ReLUNetBlock(network=he_network(seed, sizes), inputs=m.x, **kwds)
    m.obj = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    return m


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sense", [pyo.maximize, pyo.minimize])
def test_box(seed, sense):
    m = box_model((3, 8, 8, 1), seed)
    m.obj.sense = sense
    check(m, gap=0.01)


def test_linear_constraints_and_auxiliary_variables():
    m = box_model((4, 10, 10, 2))
    m.mix = pyo.Constraint(expr=sum(m.x.values()) == 0.7)
    m.t, m.u = pyo.Var(), pyo.Var(bounds=(0, 5))
    m.low = pyo.Constraint([0, 1], rule=lambda m, k: m.t <= m.net.outputs[k] + m.u)
    m.pay = pyo.Constraint(expr=m.u <= 0.5 - 0.25 * m.x[0])
    m.obj.deactivate()
    m.least = pyo.Objective(expr=m.t - 0.1 * m.u, sense=pyo.maximize)
    start = find_start(m, time_limit=LIMIT)
    assert start.feasible
    assert worst_violation(m) <= 2e-6
    best = NewFactory("relu_highs").solve(m, warmstart=True, time_limit=600)
    assert start.value >= best.incumbent_objective - 0.05


def test_equality_on_an_output():
    m = box_model((3, 10, 10, 2))
    target = float(m.net.network.evaluate([0.3, -0.7, 0.1])[1])
    m.fix = pyo.Constraint(expr=m.net.outputs[1] == target)
    check(m, gap=0.05)


def test_fixed_and_tightened_outputs():
    m = box_model((3, 10, 10, 3))
    y = m.net.network.evaluate([0.3, -0.7, 0.1])
    m.net.outputs[1].setub(float(y[1]))
    m.net.outputs[1].setlb(float(y[1]) - 0.05)
    m.net.outputs[2].fix(float(y[2]))
    start = find_start(m, time_limit=LIMIT)
    assert start.feasible, start
    assert worst_violation(m) <= 2e-6


def test_chained_and_several_blocks():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-1, 1))
    m.a = ReLUNetBlock(network=he_network(0, (2, 6, 2)), inputs=m.x)
    # Declared before the block it reads from would be found by walking the model.
    m.b = ReLUNetBlock(
        network=he_network(1, (3, 6, 1)),
        inputs=[m.a.outputs[0], m.a.outputs[1], m.x[0] - 0.5 * m.x[1]],
    )
    m.c = ReLUNetBlock(network=he_network(2, (1, 5, 1)), input_bounds=(-2, 2))
    m.link = pyo.Constraint(expr=m.c.inputs[0] == m.x[1])
    m.obj = pyo.Objective(
        expr=m.b.outputs[0] - m.c.outputs[0] + 0.1 * m.x[0], sense=pyo.maximize
    )
    check(m)


def test_integers_of_the_user():
    m = box_model((3, 8, 8, 1))
    m.n = pyo.Var(range(3), domain=pyo.Integers, bounds=(-4, 4))
    m.grid = pyo.Constraint(range(3), rule=lambda m, i: m.x[i] == 0.25 * m.n[i])
    m.pick = pyo.Var(range(2), domain=pyo.Binary)
    m.one = pyo.Constraint(expr=m.pick[0] + m.pick[1] == 1)
    m.side = pyo.Constraint(expr=m.x[0] <= 0.3 * m.pick[0] - 0.3 * m.pick[1])
    start = find_start(m, time_limit=LIMIT)
    assert start.feasible, start
    assert worst_violation(m) <= 2e-6


def test_integer_inputs():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(3), domain=pyo.Integers, bounds=(-3, 3))
    m.net = ReLUNetBlock(network=he_network(4, (3, 8, 1)), inputs=m.x)
    m.obj = pyo.Objective(expr=m.net.outputs[0])
    check(m, gap=0.2)


@pytest.mark.parametrize("seed", range(6))
def test_random_graphs(seed):
    rng = np.random.default_rng(seed)
    network = random_network(
        rng,
        n_inputs=2,
        widths=(4, 4),
        n_outputs=2,
        activations=rng.choice(ALL_ACTIVATIONS, 2).tolist(),
        residual=bool(seed % 2),
        max_pool=seed % 3 == 0,
        dead=seed % 2,
        stable=1,
    )
    m = pyo.ConcreteModel()
    m.net = ReLUNetBlock(network=network, input_bounds=(-1, 1))
    m.obj = pyo.Objective(expr=m.net.outputs[0] - m.net.outputs[1])
    start = find_start(m, time_limit=LIMIT)
    assert start.feasible, start
    x = [v.value for v in m.net.inputs.values()]
    y = network.evaluate(x)
    assert start.value == pytest.approx(y[0] - y[1], abs=1e-6)


def test_without_a_formulation_a_copy_serves():
    m = box_model((3, 6, 1), formulation=None)
    start = find_start(m, time_limit=LIMIT)
    assert start.feasible
    y = m.net.network.evaluate([m.x[i].value for i in range(3)])
    assert m.net.outputs[0].value == pytest.approx(float(y[0]))
    assert m.net.formulation is None
    m.net.reformulate("bigm")
    assert pyo.value(m.obj) == pytest.approx(start.value)


def test_infeasible_models_are_reported():
    m = box_model((3, 6, 1))
    m.no = pyo.Constraint(expr=m.net.outputs[0] >= 1e3)
    start = find_start(m, time_limit=0.5)
    assert not start.feasible
    assert start.violation > 0.1
    assert "violated" in repr(start) or "none" in repr(start)


def test_refusals():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(0, 1))
    m.obj = pyo.Objective(expr=m.x)
    with pytest.raises(ValueError, match="no active network block"):
        find_start(m)
    m = box_model((2, 4, 1))
    m.x[0].setub(3)
    with pytest.raises(ValueError, match="widened"):
        find_start(m)
    m.x[0].setub(1)
    m.curve = pyo.Constraint(expr=m.x[0] ** 2 <= 0.5)
    start = find_start(m, time_limit=LIMIT)  # no refusal: formulas are taken, too
    assert start.feasible and m.x[0].value ** 2 <= 0.5 + 1e-6


def test_networks_in_a_circle_are_refused():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-1, 1))
    m.a = ReLUNetBlock(network=he_network(0, (1, 3, 1)), inputs=[m.x[0]])
    m.b = ReLUNetBlock(
        network=he_network(1, (1, 3, 1)), inputs=[m.a.outputs[0]], input_bounds=(-9, 9)
    )
    m.c = ReLUNetBlock(
        network=he_network(2, (2, 3, 1)),
        inputs=[m.b.outputs[0], m.x[1]],
        input_bounds=(-99, 99),
    )
    m.obj = pyo.Objective(expr=m.c.outputs[0])
    assert find_start(m, time_limit=LIMIT).feasible
    m.d, m.e = pyo.Var(bounds=(-1, 1)), pyo.Var(bounds=(-1, 1))
    m.f = ReLUNetBlock(network=he_network(0, (1, 3, 1)), inputs=[m.d], formulation=None)
    m.g = ReLUNetBlock(
        network=he_network(0, (1, 3, 1)),
        inputs=[m.f.outputs[0]],
        input_bounds=(-9, 9),
    )
    m.f._entries = (m.g.outputs[0],)
    m.g.outputs[0].setlb(-1)
    m.g.outputs[0].setub(1)
    m.f.reformulate("bigm")
    with pytest.raises(ValueError, match="in a circle"):
        find_start(m)
    # The solver goes on without a start.
    results = NewFactory("relu_highs").solve(m, time_limit=600)
    assert results.incumbent_objective is not None


def test_search_leaves_the_values_alone():
    m = box_model((3, 6, 1))
    for v in m.component_data_objects(pyo.Var):
        v.set_value(0.125, skip_validation=True)
    problem = NetworkProblem(compile_standard_form(m), [m.net])
    start = begin_start(problem, LIMIT).run(None)
    assert start.feasible
    assert all(v.value == 0.125 for v in m.component_data_objects(pyo.Var))


def test_what_the_user_fixed_inside_a_network_stays():
    """The heuristics and warm_start fill layers in, but a fixed binary is meant."""
    m = box_model((2, 8, 8, 1))
    z = next(v for v in m.component_data_objects(pyo.Var) if v.is_binary())
    for fixed in (0, 1):
        z.fix(fixed)
        form = compile_standard_form(m)
        start = begin_start(NetworkProblem(form, [m.net]), LIMIT).run(None)
        assert z.value == fixed
        assert start.feasible and form.violation(start.point) <= 1e-6
        m.net.warm_start([0.1, -0.2])
        assert z.value == fixed
        NewFactory("relu_highs").solve(m)
        assert z.value == fixed
        assert worst_violation(m) <= 1e-5


@pytest.mark.parametrize("name", ["bigm", "hull", "partition", "cuts"])
def test_layers_filled_in_satisfy_every_row(name):
    m = box_model((2, 8, 8, 1), formulation=name)
    form = compile_standard_form(m)
    problem = NetworkProblem(form, [m.net])
    rng = np.random.default_rng(0)
    for _ in range(5):
        point = np.zeros(len(form.columns))
        point[problem.drivers] = rng.uniform(-1, 1, len(problem.drivers))
        assert form.violation(problem.fill_layers(point)) <= 1e-9
    assert m.x[0].value is None


def test_present_values_are_a_candidate():
    m = box_model((3, 6, 1))
    find_start(m, time_limit=LIMIT)
    first = pyo.value(m.obj)
    assert find_start(m, time_limit=0.0).value >= first - 1e-9
    assert pyo.value(m.obj) >= first - 1e-9


def test_same_seed_same_start():
    values = [find_start(box_model((3, 8, 1)), time_limit=LIMIT).value for _ in range(2)]
    assert values[0] == values[1]


def test_a_network_without_unstable_units():
    b = NetworkBuilder()
    x = b.input("x", (2,))
    h = b.affine("h", [(x, [[1.0, -1.0]])], [5.0])
    network = b.build([b.piecewise("r", h, activations.relu())])
    m = pyo.ConcreteModel()
    m.net = ReLUNetBlock(network=network, input_bounds=(-1, 1))
    m.obj = pyo.Objective(expr=m.net.outputs[0])
    start = find_start(m, time_limit=LIMIT)
    assert start.feasible
    assert start.value == pytest.approx(3.0)


@pytest.mark.parametrize("name", sorted(set(FORMULATIONS) - {"fixed_pattern", "table"}))
def test_every_formulation_gets_a_start_and_is_polished(name):
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-1, 1))
    m.net = ReLUNetBlock(network=he_network(1, (2, 5, 4, 1)), inputs=m.x)
    m.cap = pyo.Constraint(expr=m.net.outputs[0] + m.x[0] <= 0.5)
    m.obj = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    NewFactory("relu_highs").solve(m)
    best = pyo.value(m.obj)
    m.net.reformulate(name)
    start = find_start(m, time_limit=LIMIT)
    assert start.feasible, start
    if name != "relaxation":  # there the point need not be one of the network
        assert m.net.error() < 1e-6
        assert start.value == pytest.approx(best, abs=0.02)
        assert m.net.polish().changed
        assert m.net.error() < 1e-9
        assert pyo.value(m.obj) >= start.value - 1e-6
