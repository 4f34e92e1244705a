"""The pattern of the present point: what it holds on, and the duals that it gives."""

from __future__ import annotations

import io

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from pyomo_relu.formulations import network_blocks
from tests.harness.formulations import boxed_model, violations
from tests.harness.random_networks import he_network

X = [0.3, -0.4]


def text(m) -> str:
    out = io.StringIO()
    m.pprint(out)
    for block in network_blocks(m):
        block.pprint(out, verbose=True)
    return out.getvalue()


def plan(capacity: float) -> pyo.ConcreteModel:
    """Two networks in a row, an integer, and a row whose dual is wanted."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-1, 1))
    m.on = pyo.Var(domain=pyo.Binary)
    m.first = ReLUNetBlock(network=he_network(3, [2, 6, 2]), inputs=m.x)
    m.second = ReLUNetBlock(
        network=he_network(4, [2, 5, 1]), inputs=[m.first.outputs[0], m.x[1]]
    )
    m.capacity = pyo.Constraint(expr=m.x[0] + m.first.outputs[1] - m.on <= capacity)
    m.value = pyo.Objective(
        expr=m.second.outputs[0] + m.x[0] - 0.2 * m.on, sense=pyo.maximize
    )
    return m


def best(m) -> float:
    solver = pyo.SolverFactory("appsi_highs")
    solver.options["mip_rel_gap"] = 1e-9
    pyo.assert_optimal_termination(solver.solve(m))
    return pyo.value(m.value)


def test_the_present_point_is_the_default():
    m, given = (boxed_model(he_network(3, [2, 5, 4, 2])) for _ in range(2))
    for x in (X, [-0.8, 0.9]):  # the second write takes the second point
        m.net.warm_start(x)
        given.net.warm_start(x)
        m.net.reformulate("fixed_pattern")
        given.net.reformulate("fixed_pattern", at=x)
        assert text(m) == text(given)
        assert violations(m) == []


def test_a_new_block_takes_the_values_that_its_inputs_have():
    m = pyo.ConcreteModel()
    m.t = pyo.Var(bounds=(0, 1), initialize=0.65)
    net = he_network(4, [2, 6, 1])
    m.net = ReLUNetBlock(
        network=net, inputs=[2 * m.t - 1, -0.4], formulation="fixed_pattern"
    )
    m.value = pyo.Objective(expr=m.net.outputs[0])
    pyo.SolverFactory("appsi_highs").solve(m)
    assert m.net.error() < 1e-6
    assert pyo.value(m.value) <= net.evaluate(X)[0] + 1e-6


def test_one_layer_may_be_held():
    m = boxed_model(he_network(3, [2, 5, 4, 2]))
    m.net.warm_start(X)
    m.net.reformulate({"relu_1": "fixed_pattern", "...": "bigm"})
    binaries = [v.name for v in m.component_data_objects(pyo.Var) if v.is_binary()]
    assert binaries and not any("relu_1" in name for name in binaries)
    assert violations(m) == []


@pytest.mark.parametrize("capacity", [-1.5, -1.25])
def test_duals_are_the_derivative_of_the_optimum(capacity):
    m = plan(capacity)
    value = best(m)
    for name in ("relu.fixed_pattern", "core.fix_integer_vars", "core.relax_integer_vars"):
        pyo.TransformationFactory(name).apply_to(m)
    assert not any(v.is_integer() for v in m.component_data_objects(pyo.Var))
    m.dual = pyo.Suffix(direction=pyo.Suffix.IMPORT)  # a MIP has none, so not before
    assert best(m) == pytest.approx(value, abs=1e-6)
    step = 1e-3
    moved = (best(plan(capacity + step)) - best(plan(capacity - step))) / (2 * step)
    assert moved > 1.0
    assert m.dual[m.capacity] == pytest.approx(moved, rel=1e-3)


def test_a_bound_that_a_solver_missed_by_its_tolerance_is_no_error():
    m = boxed_model(he_network(3, [2, 5, 4, 2]))
    m.x[0].set_value(1.0 + 1e-8, skip_validation=True)
    m.x[1] = -0.4
    m.net.reformulate("fixed_pattern")
    m.net.warm_start([1.0, -0.4])
    assert violations(m) == []


def test_a_present_value_far_outside_is_named():
    m = boxed_model(he_network(3, [2, 5, 4, 2]))
    m.x[0], m.x[1] = 0.0, -0.4
    m.x[1].set_value(-2.0, skip_validation=True)
    before = text(m)
    with pytest.raises(ValueError, match=r"present value of input 1 is -2, outside"):
        m.net.reformulate("fixed_pattern")
    assert text(m) == before


def test_a_box_of_small_numbers_has_a_small_tolerance():
    """An input in units of 1e-9 isn't taken from far outside of its box."""
    net = he_network(3, [2, 5, 1])
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-1e-9, 1e-9))
    m.net = ReLUNetBlock(
        network=net, inputs=m.x, input_scaler=(np.zeros(2), np.full(2, 1e-9))
    )
    m.x[0].set_value(5e-9, skip_validation=True)
    m.x[1] = 0.0
    with pytest.raises(ValueError, match="outside of its bounds"):
        m.net.reformulate("fixed_pattern")
