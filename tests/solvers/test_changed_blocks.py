"""Blocks that were changed by hand: the solvers take their rows, or refuse by name."""

from __future__ import annotations

import io

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.contrib.iis.mis import compute_infeasibility_explanation
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory
from pyomo.contrib.solver.common.results import TerminationCondition
from pyomo.contrib.solver.common.util import IncompatibleModelError

from pyomo_relu import NetworkBuilder, ReLUNetBlock, activations, find_start
from pyomo_relu.presolve.reading import read_problem
from tests.harness.random_networks import he_network

pytest.importorskip("highspy")
SOLVERS = ("relu_highs", "relu_global")


def valley(**kwds):
    """``max relu(x) + relu(0.5 - x) + x / 10`` over [-1, 1]: 1.4 at the left end."""
    b = NetworkBuilder()
    x = b.input("x", (1,))
    pre = b.affine("pre", [(x, [[1.0], [-1.0]])], [0.0, 0.5])
    net = b.build(
        [b.affine("y", [(b.piecewise("relu", pre, activations.relu()), [[1, 1]])])]
    )
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(-1, 1))
    m.net = ReLUNetBlock(network=net, inputs=[m.x], **kwds)
    m.obj = pyo.Objective(expr=m.net.outputs[0] + 0.1 * m.x, sense=pyo.maximize)
    return m


def two_blocks():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-1, 1))
    m.a = ReLUNetBlock(network=he_network(0, (2, 5, 1)), inputs=m.x)
    m.b = ReLUNetBlock(network=he_network(1, (2, 5, 1)), inputs=m.x)
    m.k = pyo.Var(bounds=(0, 3), domain=pyo.Integers)
    m.row = pyo.Constraint(expr=m.a.outputs[0] + 0.5 * m.k <= m.b.outputs[0] + 1)
    m.obj = pyo.Objective(expr=m.a.outputs[0] + m.k + m.x[0], sense=pyo.maximize)
    return m


def solve(m, solver):
    NewFactory(solver).solve(m)
    return pyo.value(m.obj)


def reference(m):
    pyo.SolverFactory("appsi_highs").solve(m)
    return pyo.value(m.obj)


def row_on_a_binary(m):
    m.row = pyo.Constraint(expr=m.net.layer["relu"].on[1] <= 0)


def fixed_binary(m):
    m.net.layer["relu"].on[1].fix(0)


def bounded_neuron(m):
    m.net.layer["pre"].out[1].setub(0)


def binary_in_the_objective(m):
    m.obj.expr = m.obj.expr - m.net.layer["relu"].on[1]


def row_in_a_layer(m):
    m.net.layer["pre"].mine = pyo.Constraint(expr=m.net.layer["relu"].on[1] <= 0)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    "change",
    [
        row_on_a_binary,
        fixed_binary,
        bounded_neuron,
        binary_in_the_objective,
        row_in_a_layer,
    ],
)
def test_what_is_done_inside_counts(solver, change):
    m = valley()
    assert solve(m, solver) == pytest.approx(1.4, abs=1e-3)
    change(m)
    right = reference(m)
    assert right == pytest.approx(1.1)
    assert solve(m, solver) == pytest.approx(right, abs=1e-3)


def test_only_the_block_that_was_changed_counts_as_its_rows():
    m = two_blocks()
    assert not read_problem(m).as_rows
    m.b.layer_variables[0].setub(0.5)
    p = read_problem(m)
    assert [link.block for link in p.links] == [m.a]
    (note,) = p.as_rows
    assert note.startswith("'b' counts as its rows") and "tighter bound" in note
    text = io.StringIO()
    NewFactory("relu_global").solve(m, tee=text)
    assert "'b' counts as its rows" in text.getvalue()
    assert pyo.value(m.obj) == pytest.approx(reference(m), abs=1e-3)


def test_a_network_that_reads_a_neuron_of_another():
    m = two_blocks()
    v = next(v for v in m.a.layer_variables if v.is_continuous())
    m.c = ReLUNetBlock(network=he_network(2, (1, 4, 1)), inputs=[v])
    m.obj.expr = m.obj.expr + 0.3 * m.c.outputs[0]
    p = read_problem(m)
    assert {link.block.name for link in p.links} == {"b", "c"}
    assert "used outside" in p.as_rows[0]
    right = reference(m)
    for solver in SOLVERS:
        assert solve(m, solver) == pytest.approx(right, rel=3e-4)


@pytest.mark.parametrize("solver", SOLVERS)
def test_relaxed_and_back(solver):
    m = two_blocks()
    whole = reference(m)
    relax = pyo.TransformationFactory("core.relax_integer_vars")
    token = relax.apply_to(m)
    right = reference(m)
    assert right > whole + 1e-2
    assert solve(m, solver) == pytest.approx(right, rel=3e-4)
    relax.apply_to(m, reverse=token)
    assert not read_problem(m).as_rows
    assert solve(m, solver) == pytest.approx(whole, rel=3e-4)


@pytest.mark.parametrize("solver", ["appsi_highs", *SOLVERS])
@pytest.mark.parametrize("rename", [True, False])
@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_scaled_models(factor, rename, solver):
    m = two_blocks()
    right = reference(m)
    m.scaling_factor = pyo.Suffix(direction=pyo.Suffix.EXPORT)
    m.scaling_factor[m.x[0]] = factor
    m.scaling_factor[m.a.outputs[0]] = 3.0
    m.scaling_factor[m.obj] = 0.5
    scale = pyo.TransformationFactory("core.scale_model")
    s = scale.create_using(m, rename=rename)
    obj = next(s.component_data_objects(pyo.Objective))
    pyo.SolverFactory(solver).solve(s)
    assert pyo.value(obj) == pytest.approx(0.5 * right, rel=3e-4)
    assert s.a.error() < 1e-5 and s.b.error() < 1e-5
    if not rename:
        scale.propagate_solution(s, m)
        assert pyo.value(m.obj) == pytest.approx(right, rel=3e-4)
        assert m.a.error() < 1e-5


def test_scaling_nothing_leaves_networks_networks():
    m = two_blocks()
    m.scaling_factor = pyo.Suffix(direction=pyo.Suffix.EXPORT)
    m.scaling_factor[m.obj] = 0.5
    pyo.TransformationFactory("core.scale_model").apply_to(m, rename=False)
    assert not read_problem(m).as_rows


def test_scaled_without_a_formulation_is_refused():
    m = two_blocks()
    m.c = ReLUNetBlock(network=he_network(2, (2, 4, 1)), inputs=m.x, formulation=None)
    m.scaling_factor = pyo.Suffix(direction=pyo.Suffix.EXPORT)
    m.scaling_factor[m.x[0]] = 0.1
    pyo.TransformationFactory("core.scale_model").apply_to(m)
    with pytest.raises(ValueError, match="'c' has no formulation.*scale_model"):
        NewFactory("relu_global").solve(m)


@pytest.mark.parametrize("formulation", ["relaxation", {"relu": "relaxation"}])
def test_rows_that_are_only_a_relaxation_are_no_remedy(formulation):
    m = valley(formulation=formulation)
    assert solve(m, "relu_global") == pytest.approx(1.4, abs=1e-3)
    m.net.layer_variables[0].setub(0.5)
    with pytest.raises(ValueError, match="relaxation.*tighter bound.*reformulate"):
        solve(m, "relu_global")


def test_rows_that_highs_does_not_take():
    m = valley(formulation="sos1")
    assert solve(m, "relu_global") == pytest.approx(1.4, abs=1e-3)
    m.net.layer_variables[0].setub(0.3)
    with pytest.raises(IncompatibleModelError, match="SOSConstraint.*'bigm'"):
        solve(m, "relu_global")


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_deactivated_block_leaves_its_outputs_free(solver):
    m = two_blocks()
    m.b.deactivate()
    assert solve(m, solver) == pytest.approx(reference(m), rel=3e-4)
    m.b.activate()
    assert solve(m, solver) == pytest.approx(reference(m), rel=3e-4)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_copy_of_a_block_that_lost_a_component(solver):
    """The copy has no trace of the rows, but knows that there were some."""
    m = valley()
    m.net.layer["y"].del_component("affine")
    c = m.clone()
    assert solve(c, solver) == pytest.approx(reference(c), abs=1e-3)
    assert pyo.value(c.obj) > 1.5


def test_slacks_on_every_row():
    m = two_blocks()
    m.extra = pyo.Constraint(expr=m.x[0] + m.a.outputs[0] >= 20)
    pyo.TransformationFactory("core.add_slack_variables").apply_to(m)
    obj = next(m.component_data_objects(pyo.Objective, active=True))
    pyo.SolverFactory("appsi_highs").solve(m)
    right = pyo.value(obj)
    assert right > 0
    for solver in SOLVERS:
        NewFactory(solver).solve(m)
        assert pyo.value(obj) == pytest.approx(right, rel=3e-4)


# ----------------------------------------------------------------------------- starts
def test_a_start_holds_in_what_was_changed():
    m = valley()
    m.net.layer["relu"].on[1].fix(0)
    start = find_start(m, time_limit=300)
    assert start.feasible and start.value <= 1.1 + 1e-6
    m = two_blocks()
    pyo.TransformationFactory("core.relax_integer_vars").apply_to(m.b)
    start = find_start(m, time_limit=300)  # from the other block
    assert start.value is None or start.value <= reference(m) + 1e-6


def test_no_start_without_a_network():
    m = two_blocks()
    pyo.TransformationFactory("core.relax_integer_vars").apply_to(m)
    with pytest.raises(ValueError, match="'a' are not what was written.*was relaxed"):
        find_start(m)


def test_a_start_that_would_lose_the_change():
    m = valley(formulation="sos1")
    assert find_start(m, time_limit=300).feasible
    m.net.layer_variables[0].setub(0.3)
    with pytest.raises(ValueError, match="would lose.*tighter bound"):
        find_start(m)


def test_a_warm_start_of_a_scaled_model():
    m = two_blocks()
    right = reference(m)
    m.scaling_factor = pyo.Suffix(direction=pyo.Suffix.EXPORT)
    m.scaling_factor[m.x[0]] = 10.0
    pyo.TransformationFactory("core.scale_model").apply_to(m, rename=False)
    for v in m.a.layer_variables:
        v.set_value(None)
    NewFactory("relu_highs").solve(m, warmstart=True)
    assert pyo.value(m.obj) == pytest.approx(right, rel=3e-4)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("used", [True, False])
def test_a_constant_output_that_must_be_whole(solver, used):
    """Its network has no input that could move, and no row needs to use it."""
    m = two_blocks()
    m.c = ReLUNetBlock(network=he_network(2, (1, 4, 1)), inputs=[0.3])
    y = m.c.outputs[0]
    assert abs(y.lb - round(y.lb)) > 1e-3
    if used:
        m.user = pyo.Constraint(expr=m.x[0] + y <= 100)
    right = reference(m)
    assert solve(m, solver) == pytest.approx(right, rel=3e-4)
    y.domain = pyo.Integers
    limited = {"raise_exception_on_nonoptimal_result": False, "load_solutions": False}
    results = NewFactory(solver).solve(m, **limited)
    assert results.termination_condition is TerminationCondition.provenInfeasible


def test_looking_for_what_is_infeasible():
    """Pyomo's search makes rows of bounds, which the box of a network does not allow."""
    m = two_blocks()
    m.tight = pyo.Constraint(expr=m.a.outputs[0] >= 1e3)
    for v in m.component_data_objects(pyo.Var):
        v.set_value(0, skip_validation=True)
    with pytest.raises(ValueError, match="widened"):
        compute_infeasibility_explanation(m, pyo.SolverFactory("appsi_highs"))
    assert m.x[0].bounds == (-1, 1)
    pyo.TransformationFactory("contrib.strip_var_bounds").apply_to(m)
    for solver in SOLVERS:
        with pytest.raises(ValueError, match="widened"):
            solve(m, solver)


def test_inputs_fixed_outside_of_their_bounds():
    m = two_blocks()
    m.x[0].fix(5, skip_validation=True)
    for solver in SOLVERS:
        with pytest.raises(ValueError, match=r"x\[0\].*fixed at 5"):
            solve(m, solver)
    m = valley(formulation=None)  # no rows, so nothing that the box was needed for
    m.x.fix(3, skip_validation=True)
    assert solve(m, "relu_global") == pytest.approx(3.3)
    assert np.isclose(m.net.outputs[0].value, 3.0)
