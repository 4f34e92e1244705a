"""Bounds widened after the network was written: nothing solves or writes the model."""

from __future__ import annotations

import io
import pickle

import pyomo.environ as pyo
import pytest

from pyomo_relu import NetworkBuilder, ReLUNetBlock, activations

FORMULATIONS = ("bigm", "hull", "partition", "cuts", "sos1", "disjunctive", "relaxation")


def network(low: float = -0.5, width: int = 1):
    """``sum of max(x + low, 0)`` over ``width`` equal units."""
    b = NetworkBuilder()
    x = b.input("x", (1,))
    h = b.affine("h", [(x, [[1.0]] * width)], low)
    return b.build(
        [b.affine("y", [(b.piecewise("r", h, activations.relu()), [[1.0] * width])])]
    )


def model(formulation="bigm", net=None, **options) -> pyo.ConcreteModel:
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(0, 1), initialize=0.25)
    m.net = ReLUNetBlock(
        network=net or network(), inputs=[m.x], formulation=formulation, **options
    )
    m.obj = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    if formulation == "disjunctive":
        pyo.TransformationFactory("gdp.bigm").apply_to(m)
    return m


def solve(m: pyo.ConcreteModel, name: str = "appsi_highs") -> float:
    solver = pyo.SolverFactory(name)
    if not solver.available(exception_flag=False):
        pytest.skip(f"{name} is not installed")
    solver.solve(m)
    return pyo.value(m.obj)


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_no_writer_writes_a_box_that_was_widened(formulation, tmp_path):
    m = pickle.loads(pickle.dumps(model(formulation))).clone()
    suffixes = ["lp", "nl", "mps"] + ["gms"] * (formulation != "sos1")
    for suffix in suffixes:
        m.write(str(tmp_path / f"m.{suffix}"))
    m.x.setub(5)
    for suffix in suffixes:
        with pytest.raises(ValueError, match=r"bounds of 'x' were widened"):
            m.write(str(tmp_path / f"m.{suffix}"))
    # Looking at the model is no use of it.
    m.pprint(ostream=io.StringIO())
    m.display(ostream=io.StringIO())
    m.net.deactivate()
    m.write(str(tmp_path / "m.lp"))


@pytest.mark.parametrize(
    "solver", ["appsi_highs", "highs", "cbc", "scip_direct", "gurobi_direct", "gurobi"]
)
def test_no_interface_solves_a_box_that_was_widened(solver):
    m = model()
    assert solve(m, solver) == pytest.approx(0.5)
    m.x.setub(5)
    with pytest.raises(ValueError, match=r"widened from \[0, 1\] to \[0, 5\]"):
        solve(m, solver)
    m.net.reformulate("bigm")
    assert solve(m, solver) == pytest.approx(4.5)
    m.x.setub(2)
    assert solve(m, solver) == pytest.approx(1.5)


def test_a_bound_that_is_a_parameter():
    m = model()
    m.top = pyo.Param(initialize=1.0, mutable=True)
    m.x.setub(m.top)
    assert solve(m) == pytest.approx(0.5)
    m.top = 5
    with pytest.raises(ValueError, match="widened"):
        solve(m)


def test_stable_networks_are_guarded_too():
    # No unit needs a binary, and the rows are too many to be expressions.
    for net in (network(0.5), network(0.5, width=6_000)):
        m = model(net=net)
        m.x.setlb(-5)
        with pytest.raises(ValueError, match="widened"):
            solve(m)


def test_a_given_box_holds_whatever_the_bounds():
    m = model(input_bounds=[(0, 1)])
    m.x.setub(5)
    with pytest.raises(ValueError, match="widened"):
        solve(m)
    m.net.reformulate("bigm")
    assert solve(m) == pytest.approx(0.5)
    m.x.setub(50)
    assert solve(m) == pytest.approx(0.5)


def test_persistent_solver_that_sees_the_change():
    from pyomo.contrib.appsi.solvers import Highs

    m, solver = model(), Highs()
    solver.solve(m)
    m.net.reformulate("hull")
    m.x.setub(0.75)
    solver.solve(m)
    assert pyo.value(m.obj) == pytest.approx(0.25)


def test_rows_set_anew_stay_rows():
    m = model()
    row = next(m.component_data_objects(pyo.Constraint))
    row.set_value(m.x <= 0.8)
    assert row.expr is not None and row() == pytest.approx(0.25)
    assert solve(m) <= 0.5 + 1e-9
