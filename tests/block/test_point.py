"""A block at a point: error and evaluate after a solve, and warm starts."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from tests.block.support import dense, optimum, small_network, wired
from tests.harness.formulations import violations


def partly_read(weights=((1.0, 0.0), (-1.0, 0.0)), **options):
    """A network that doesn't read its second input, at least not over the box."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var([0, 1], bounds=(-1, 1))
    net = dense([(weights, [0.0, 0.0]), ([[1.0, 1.0]], [0.0])])
    m.net = ReLUNetBlock(network=net, inputs=m.x, **options)
    m.obj = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    return m


@pytest.mark.parametrize("solver", ["appsi_highs", "highs", "cbc", "scip_direct"])
@pytest.mark.parametrize("formulation", ["bigm", "hull", "partition", "disjunctive"])
def test_an_input_in_no_row_needs_no_value(solver, formulation):
    m = partly_read(formulation=formulation)
    assert optimum(m, solver) == pytest.approx(1.0)
    assert m.net.error() < 1e-6
    assert m.net.evaluate() == pytest.approx([1.0])


def test_an_input_that_only_dead_units_read():
    """Outside of the box the second input would matter: an old value there is no error."""
    net = dense([([[1.0, 0.0], [0.0, 1.0]], [0.0, -2.0]), ([[1.0, 1.0]], [0.0])])
    m = pyo.ConcreteModel()
    m.x = pyo.Var([0, 1], bounds=(-1, 1))
    m.net = ReLUNetBlock(network=net, inputs=m.x)
    m.obj = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    m.x[1].set_value(7.0, skip_validation=True)
    optimum(m)
    assert m.x[1].value == 7.0 and m.net.error() < 1e-6
    assert m.net.evaluate() == pytest.approx([6.0])  # the point that the values are
    m.x[1].set_value(None)
    assert m.net.error() < 1e-6


def test_an_input_in_a_box_that_does_not_hold_zero():
    m = pyo.ConcreteModel()
    m.x = pyo.Var([0, 1], bounds=(3, 4))
    net = dense([([[1.0, 0.0]], [-3.5]), ([[1.0]], [0.0])])
    m.net = ReLUNetBlock(network=net, inputs=[m.x[0], 2 * m.x[1]])
    m.obj = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    optimum(m)
    assert m.net.error() < 1e-6


def test_without_a_solve_it_is_said():
    m = partly_read()
    with pytest.raises(ValueError, match="inputs without a value"):
        m.net.evaluate()
    with pytest.raises(ValueError, match="outputs without a value"):
        m.net.error()
    read = partly_read(((1.0, 0.5), (-1.0, 0.5)))
    optimum(read)
    read.x[1].set_value(None)
    with pytest.raises(ValueError, match="inputs without a value"):
        read.net.error()


@pytest.mark.parametrize("seed", range(10))
def test_random_networks_with_inputs_that_nothing_reads(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 5))
    first = rng.normal(size=(4, n)) * (rng.random((4, n)) < 0.4)
    low = rng.uniform(-2.0, 2.0, n)
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(n))
    for v, a in zip(m.x.values(), low.tolist()):
        v.setlb(a)
        v.setub(a + 0.5)
    net = dense([(first, rng.normal(size=4)), (rng.normal(size=(2, 4)), [0.0, 0.0])])
    m.net = ReLUNetBlock(network=net, inputs=m.x)
    m.obj = pyo.Objective(expr=m.net.outputs[0] + 0.1 * m.net.outputs[1])
    optimum(m)
    assert m.net.error() < 1e-6


# -------------------------------------------------------------------------- warm starts
def state(m) -> list:
    return [(v.name, v.value) for v in m.component_data_objects(pyo.Var)]


def test_a_start_outside_of_the_box_is_refused():
    m = wired(small_network(np.random.default_rng(0)))
    m.net.warm_start([0.2, -0.3])
    before = state(m)
    for x in ([0.2, 1.5], [-1.01, 0.0], [float("nan"), 0.0], [0.0, float("inf")]):
        with pytest.raises(ValueError, match=r"warm_start gives input \d \('x\[\d\]'\)"):
            m.net.warm_start(x)
        assert state(m) == before
    m.x[1].setub(0.5)  # the rows hold for more, the variable doesn't
    with pytest.raises(ValueError, match=r"0.7, outside of its bounds \[-1, 0.5\]"):
        m.net.warm_start([0.2, 0.7])
    m.x[1].setub(3.0)  # and the other way round
    with pytest.raises(ValueError, match=r"2, outside of its bounds \[-1, 1\]"):
        m.net.warm_start([0.2, 2.0])


@pytest.mark.parametrize("formulation", ["bigm", "hull", "partition", "disjunctive"])
def test_rounding_is_taken_away(formulation):
    net = small_network(np.random.default_rng(1))
    m = wired(net, formulation)
    m.row.deactivate()
    y = m.net.warm_start([1.0 + 1e-8, -1.0 - 1e-8])
    assert violations(m) == []
    assert np.array_equal(y, net.evaluate([1.0, -1.0]))


def test_a_fixed_input_keeps_its_value():
    m = wired(small_network(np.random.default_rng(2)))
    m.x[0].fix(0.25)
    before = state(m)
    with pytest.raises(ValueError, match=r"'x\[0\]'\) is fixed at 0.25, and warm_start"):
        m.net.warm_start([0.5, 0.5])
    assert state(m) == before
    m.net.warm_start([0.25, 0.5])
    assert m.x[1].value == 0.5


def test_starts_without_a_formulation():
    m = wired(small_network(np.random.default_rng(2)), None)
    with pytest.raises(ValueError, match="outside of its bounds"):
        m.net.warm_start([2.0, 0.0])
    m.net.warm_start([1.0, 0.0])
