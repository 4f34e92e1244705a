"""Polishing: the same pattern, no leak, no worse objective."""

from __future__ import annotations

import logging

import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from pyomo_relu.heuristics import polish
from tests.harness.random_networks import he_network

pytest.importorskip("highspy")


def solved():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(3), bounds=(-1, 1))
    m.net = ReLUNetBlock(network=he_network(0, (3, 8, 8, 1)), inputs=m.x)
    m.cap = pyo.Constraint(expr=m.net.outputs[0] + 0.2 * m.x[0] <= 0.4)
    m.obj = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    pyo.SolverFactory("relu_highs").solve(m)
    return m


def test_a_leak_is_removed():
    m = solved()
    best = pyo.value(m.obj)
    # What integrality tolerance times big-M does: an output off by 1e-3.
    m.net.outputs[0].set_value(m.net.outputs[0].value + 1e-3)
    assert m.net.error() > 5e-4
    result = m.net.polish()
    assert result.changed
    assert result.error_before > 5e-4 and result.error_after < 1e-9
    assert m.net.error() < 1e-9
    assert result.violation < 1e-6
    assert pyo.value(m.obj) == pytest.approx(best, abs=1e-4)
    assert result.after == pytest.approx(pyo.value(m.obj))


def test_a_point_within_its_region_moves_to_the_best_of_it():
    m = solved()
    m.net.warm_start([0.0, 0.0, 0.0])
    before = pyo.value(m.obj)
    result = polish(m)
    assert result.after >= before - 1e-9
    assert pyo.value(m.obj) == pytest.approx(result.after)
    assert m.net.error() < 1e-9


def test_users_integers_stay():
    m = solved()
    m.n = pyo.Var(domain=pyo.Integers, bounds=(0, 3), initialize=2)
    m.obj.deactivate()
    m.new = pyo.Objective(expr=m.net.outputs[0] + m.n, sense=pyo.maximize)
    polish(m)
    assert m.n.value == 2


def test_infeasible_patterns_change_nothing(caplog):
    m = solved()
    m.net.warm_start([0.0, 0.0, 0.0])
    m.far = pyo.Constraint(expr=m.net.outputs[0] >= 1e3)
    old = [v.value for v in m.component_data_objects(pyo.Var)]
    with caplog.at_level(logging.WARNING):
        result = polish(m)
    assert not result.changed and result.violation > 1
    assert "couldn't be polished" in caplog.text
    assert [v.value for v in m.component_data_objects(pyo.Var)] == old


def test_missing_values_are_refused():
    m = solved()
    m.x[0].set_value(None)
    with pytest.raises(ValueError, match="without a value"):
        polish(m)
