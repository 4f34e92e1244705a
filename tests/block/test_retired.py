"""Rows on variables of a formulation that was replaced are refused by every solver."""

from __future__ import annotations

import pickle

import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from tests.harness.random_networks import he_network


def model():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-1, 1))
    m.net = ReLUNetBlock(network=he_network(0, (2, 5, 1)), inputs=m.x)
    m.row = pyo.Constraint(expr=m.net.layer["relu_1"].on[0] + m.x[0] <= 1)
    m.obj = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    return m


def by_lp(m, path):
    m.write(str(path / "m.lp"))


def by_nl(m, path):
    m.write(str(path / "m.nl"))


def by(solver):
    def run(m, path):
        pyo.SolverFactory(solver).solve(m)

    run.__name__ = solver
    return run


@pytest.mark.parametrize(
    "ask", [by_lp, by_nl, by("appsi_highs"), by("highs"), by("relu_highs")]
)
@pytest.mark.parametrize(
    "replace",
    [
        lambda m: m.net.reformulate("hull"),
        lambda m: m.net.tighten("crown"),
        lambda m: m.net.replace_network(he_network(1, (2, 4, 1))),
        lambda m: pyo.TransformationFactory("relu.bigm").apply_to(m),
    ],
)
def test_rows_on_what_was_replaced(ask, replace, tmp_path):
    m = model()
    replace(m)
    with pytest.raises(ValueError, match="no longer has.*anew"):
        ask(m, tmp_path)
    m.row.deactivate()
    ask(m, tmp_path)


def test_a_copy_of_such_a_model_is_refused_too():
    m = model()
    layers = m.net.layer  # without this Pyomo itself can't copy the row
    m.net.reformulate("bigm")
    for copy in (m.clone(), pickle.loads(pickle.dumps(m))):
        with pytest.raises(ValueError, match=r"'net.layer\[relu_1\].on\[0\]'.*no longer"):
            pyo.SolverFactory("appsi_highs").solve(copy)
    assert layers is not m.net.layer


@pytest.mark.parametrize("solver", ["appsi_highs", "relu_highs", "relu_global"])
def test_fixed_ones_are_no_numbers(solver):
    m = model()
    m.net.layer["relu_1"].on[0].fix(1)
    m.net.reformulate("bigm")
    with pytest.raises(ValueError, match="no longer has"):
        pyo.SolverFactory(solver).solve(m)


def test_taking_a_relaxation_back_after_the_block_was_written_anew():
    m = model()
    m.row.deactivate()
    relax = pyo.TransformationFactory("core.relax_integer_vars")
    token = relax.apply_to(m)
    m.net.reformulate("bigm")
    relax.apply_to(m, reverse=token)
    assert all(v.is_binary() for v in m.net.layer["relu_1"].on.values())
