"""Units of measurement: of variables, of inputs, and Pyomo's check of a model."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from tests.block.support import dense, optimum, small_network
from tests.formulations.test_swap import ALL

pytest.importorskip("pint")
from pyomo.core.base.units_container import UnitsError
from pyomo.util.check_units import assert_units_consistent

NET = dense([([[1.0, -0.5], [-1.0, 2.0]], [0.2, -0.5]), ([[1.0, 1.0]], [0.0])])
SETS = ("sos1", "indicator")


def reactor(formulation="bigm", net=NET, **options):
    """Temperature and pressure in units; the network reads hundreds of kelvin, and bar."""
    u = pyo.units
    m = pyo.ConcreteModel()
    m.T = pyo.Var(bounds=(300, 400), units=u.K)
    m.P = pyo.Var(bounds=(1e5, 3e5), units=u.Pa)
    m.flow = pyo.Var(bounds=(-50, 50), units=u.kg / u.s)
    m.net = ReLUNetBlock(
        network=net,
        inputs=[m.T / (100 * u.K) - 3.5, u.convert(m.P, to_units=u.bar) / u.bar - 2],
        formulation=formulation,
        **options,
    )
    m.yields = pyo.Constraint(expr=m.flow == m.net.outputs[0] * u.kg / u.s)
    m.cost = pyo.Objective(expr=m.flow + 0.01 * m.T * u.kg / u.s / u.K)
    return m


@pytest.mark.parametrize("name", sorted(set(ALL) - set(SETS)))
def test_a_model_with_a_block_is_consistent(name):
    m = reactor(name, **ALL[name])
    assert_units_consistent(m)
    assert np.allclose(m.net.bounds.input_box, ([-0.5, -1.0], [0.5, 1.0]))


@pytest.mark.parametrize("name", SETS)
def test_pyomos_check_knows_no_special_ordered_sets(name):
    with pytest.raises(TypeError, match="not supported for object of type .*SOSConstraint"):
        assert_units_consistent(reactor(name))


def test_the_optimum_is_the_one_without_units():
    rng = np.random.default_rng(0)
    for name in ("bigm", "hull", "partition", "disjunctive"):
        net = small_network(rng, 2, 1)
        m = reactor(name, net)
        plain = pyo.ConcreteModel()
        plain.x = pyo.Var([0, 1])
        for v, half in zip(plain.x.values(), (0.5, 1.0)):
            v.setlb(-half)
            v.setub(half)
        plain.net = ReLUNetBlock(network=net, inputs=plain.x)
        plain.obj = pyo.Objective(expr=plain.net.outputs[0] + plain.x[0] + 3.5)
        assert optimum(m) == pytest.approx(optimum(plain), abs=1e-5)
        assert m.net.error() < 1e-5


def test_inconsistent_use_is_still_found():
    m = reactor()
    m.wrong = pyo.Constraint(expr=m.net.outputs[0] <= m.T)
    with pytest.raises(UnitsError):
        assert_units_consistent(m)


def test_a_variable_with_a_unit_is_taken_by_its_number():
    """The network reads the number; the check says that the model doesn't say of what."""
    m = pyo.ConcreteModel()
    m.T = pyo.Var(bounds=(300, 400), units=pyo.units.K)
    net = dense([([[0.01]], [-3.5]), ([[1.0]], [0.0])])
    m.net = ReLUNetBlock(network=net, inputs=[m.T])
    m.obj = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    assert optimum(m) == pytest.approx(0.5)
    with pytest.raises(UnitsError):
        assert_units_consistent(m)
    m.del_component(m.obj)
    m.del_component(m.net)
    m.net = ReLUNetBlock(network=net, inputs=[m.T / pyo.units.K])
    assert_units_consistent(m)


def test_numbers_and_parameters_with_units():
    u = pyo.units
    m = pyo.ConcreteModel()
    m.T = pyo.Var(bounds=(0, 1), units=u.K)
    m.offset = pyo.Param(initialize=0.25, mutable=True, units=u.K)
    m.fixed = pyo.Param(initialize=0.5, units=u.K)
    net = dense([([[1.0, 1.0]], [0.0]), ([[1.0]], [0.0])])
    with pytest.raises(ValueError, match="depends on the mutable Param 'offset'"):
        m.a = ReLUNetBlock(network=net, inputs=[(m.T - m.offset) / u.K, 1.0])
    m.b = ReLUNetBlock(network=net, inputs=[m.T / u.K, 3 * u.K / u.K])
    assert m.b.bounds.input_box[0].tolist() == [0.0, 3.0]
    m.c = ReLUNetBlock(
        network=net, inputs=[(m.T - m.offset) / u.K, m.fixed / u.K], input_bounds=(-1, 1)
    )
    assert_units_consistent(m)
