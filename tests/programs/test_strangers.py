"""Variables of networks that are gone, and models of another kind, are refused."""

from __future__ import annotations

import gc

import pyomo.environ as pyo
import pyomo.kernel as pmo
import pytest
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory
from pyomo.contrib.solver.common.util import IncompatibleModelError

from pyomo_relu import ReLUNetBlock, find_start
from pyomo_relu.programs.standard_form import compile_standard_form
from tests.harness.random_networks import he_network

pytest.importorskip("highspy")
SOLVERS = ("relu_highs", "relu_global")


def solved_by(tool):
    return (lambda m: find_start(m)) if tool == "start" else NewFactory(tool).solve


START = solved_by("start")
TOOLS = pytest.mark.parametrize(
    "tool", [*map(solved_by, SOLVERS), START], ids=(*SOLVERS, "start")
)


def model(formulation="bigm"):
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-1, 1))
    net = he_network(0, (2, 5, 1))
    m.net = ReLUNetBlock(network=net, inputs=m.x, formulation=formulation)
    m.row = pyo.Constraint(expr=m.net.outputs[0] + m.x[0] <= 5)
    m.obj = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    return m


def refused(tool, m, *words):
    with pytest.raises(ValueError) as error:
        tool(m)
    for word in words:
        assert word in str(error.value)


@TOOLS
@pytest.mark.parametrize("held", [True, False])
def test_outputs_of_a_block_that_was_deleted(tool, held):
    """With the block held by someone its name is known, else nothing of it is left."""
    m = model()
    old = m.net
    m.del_component(m.net)
    m.net = ReLUNetBlock(network=he_network(1, (2, 4, 1)), inputs=m.x)
    if held:
        refused(tool, m, "objective 'obj'", "outputs[0]", "block 'net'", "replace_network")
        assert old.outputs
        return
    del old
    gc.collect()
    refused(tool, m, "objective 'obj'", "removed from the model", "replace_network")


@TOOLS
def test_outputs_of_another_model(tool):
    m, other = model(), model()
    m.stolen = pyo.Constraint(expr=other.net.outputs[0] <= m.x[0])
    refused(tool, m, "constraint 'stolen'", "net.outputs[0]", "another one")


@TOOLS
def test_variables_of_a_formulation_that_was_replaced(tool):
    m = model()
    m.inside = pyo.Constraint(expr=m.net.layer["relu_1"].on[0] + m.x[0] <= 1)
    m.net.reformulate("bigm")
    refused(tool, m, "constraint 'inside'", "'net.layer[relu_1].on[0]' of a formulation")


@TOOLS
def test_variables_of_layers_that_were_deleted(tool):
    m = model()
    layers = m.net.layer
    m.inside = pyo.Constraint(expr=layers["relu_1"].on[0] + m.x[0] <= 1)
    m.net.del_component("layer")
    words = ("layers were removed",) if tool is START else ("constraint 'inside'", "on[0]")
    refused(tool, m, *words)


@TOOLS
def test_rows_that_lost_their_expression(tool):
    """Pyomo copies a row with a variable that was deleted as one that says nothing."""
    m = model()
    m.lost = pyo.Constraint(expr=m.net.layer["relu_1"].on[0] + m.x[0] <= 1)
    m.net.reformulate("bigm")
    gc.collect()
    refused(tool, m.clone(), "constraint 'lost'", "no expression")


def test_variables_elsewhere_that_are_no_networks():
    """Pyomo's subsystems and decompositions rely on variables of other models."""
    m, other = model(), pyo.ConcreteModel()
    other.y = pyo.Var(bounds=(0, 1))
    m.outside = pyo.Constraint(expr=m.net.outputs[0] <= other.y)
    pyo.SolverFactory("appsi_highs").solve(m)
    right = pyo.value(m.obj)
    for solver in SOLVERS:
        NewFactory(solver).solve(m)
        assert pyo.value(m.obj) == pytest.approx(right, rel=3e-4)


def test_a_part_of_a_model():
    """Its rows may read what the rest of the model determines, as with any solver."""
    m = model()
    m.part = pyo.Block()
    m.part.y = pyo.Var(bounds=(0, 9))
    m.part.row = pyo.Constraint(expr=m.part.y <= m.net.outputs[0])
    m.part.obj = pyo.Objective(expr=m.part.y, sense=pyo.maximize)
    m.net.outputs[0].setub(2)
    for solver in SOLVERS:
        NewFactory(solver).solve(m.part)
        assert m.part.y.value == pytest.approx(2)


@TOOLS
def test_models_of_the_kernel(tool):
    k = pmo.block()
    k.x = pmo.variable(lb=0, ub=1)
    k.o = pmo.objective(k.x)
    refused(tool, k, "pyomo.kernel")
    with pytest.raises(IncompatibleModelError, match="ConcreteModel or Block.*not"):
        tool(7)


def test_variables_of_the_kernel():
    m = model()
    v = pmo.variable(lb=0, ub=1)
    m.mixed = pyo.Constraint(expr=m.net.outputs[0] <= v)
    with pytest.raises(IncompatibleModelError, match="variables of pyomo.environ only"):
        compile_standard_form(m)
