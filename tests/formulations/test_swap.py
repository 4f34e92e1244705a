"""Swapping formulations: any order, layer by layer, copies, values, failures."""

from __future__ import annotations

import io
import logging
import pickle
import random

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import NetworkBuilder, ReLUNetBlock, activations
from pyomo_relu.base import deadline
from pyomo_relu.formulations import FORMULATIONS, network_blocks
from pyomo_relu.formulations.ideal_cuts import Bend
from pyomo_relu.formulations.relaxed import RelaxedSolver
from tests.harness.checks import solver_or_skip
from tests.harness.clock import Clock
from tests.harness.formulations import boxed_model, primitive_network, violations
from tests.harness.random_networks import he_network

X = [0.3, -0.4]
# A table needs inputs of few values, and has tests of its own.
NAMES = [name for name in FORMULATIONS if name != "table"]
ALL = {name: {"at": X} if name == "fixed_pattern" else {} for name in NAMES}
MIP = ["bigm", "hull", "partition", "cuts", "disjunctive"]


def lp_text(m) -> str:
    out = io.StringIO()
    m.pprint(out)
    for block in network_blocks(m):
        block.pprint(out, verbose=True)
    return out.getvalue()


def best(m) -> float:
    pyo.assert_optimal_termination(pyo.SolverFactory("appsi_highs").solve(m))
    return pyo.value(m.obj)


@pytest.fixture
def m():
    model = boxed_model(he_network(3, [2, 5, 4, 2]))
    model.limit = pyo.Constraint(expr=model.net.outputs[1] <= 0.5)
    model.obj = pyo.Objective(expr=model.net.outputs[0], sense=pyo.maximize)
    return model


def test_any_order_any_number_of_times(m):
    expected = best(m)
    inputs, outputs = m.net.inputs, list(m.net.outputs.values())
    order = [*ALL, *ALL]
    random.Random(1).shuffle(order)
    for name in order:
        m.net.reformulate(name, **ALL[name])
        m.net.warm_start(X)
        assert [v for v in violations(m) if not v.startswith("limit")] == []
        assert m.net.inputs is inputs and list(m.net.outputs.values()) == outputs
        if name in MIP:
            assert best(m) == pytest.approx(expected, abs=1e-6)
    m.net.reformulate("bigm")
    fresh = boxed_model(m.net.network)
    kinds = [c.name for c in fresh.net.component_data_objects(pyo.Constraint)]
    assert [c.name for c in m.net.component_data_objects(pyo.Constraint)] == kinds


@pytest.mark.parametrize("name", ALL)
def test_transformation_is_the_same_as_reformulate(m, name):
    options = ALL[name]
    copy = pyo.TransformationFactory(f"relu.{name}").create_using(m, **options)
    m.net.reformulate(name, **options)
    assert lp_text(copy.net) == lp_text(m.net)


@pytest.mark.parametrize("name", ALL)
def test_values_follow_the_inputs(m, name):
    """After a swap what is new has the values that the inputs imply."""
    m.net.warm_start(X)
    m.net.reformulate(name, **ALL[name])
    assert [v for v in violations(m) if not v.startswith("limit")] == []


@pytest.mark.parametrize("name", ALL)
def test_clone_and_pickle(m, name):
    m.net.reformulate(name, **ALL[name])
    for copy in (m.clone(), pickle.loads(pickle.dumps(m))):
        assert lp_text(copy) == lp_text(m)
        copy.net.warm_start(X)
        assert [v for v in violations(copy) if not v.startswith("limit")] == []
        copy.net.reformulate("hull")
        assert best(copy) == pytest.approx(best_of_hull(m), abs=1e-6)


def best_of_hull(m) -> float:
    copy = m.clone()
    copy.net.reformulate("hull")
    return best(copy)


@pytest.mark.parametrize("name", sorted(set(ALL) - {"fixed_pattern", "complementarity"}))
def test_outputs_that_other_layers_read(name):
    """A hidden layer that is an output too: its variables are the user's."""
    rng = np.random.default_rng(0)
    b = NetworkBuilder()
    x = b.input("x", (2,))
    h = b.piecewise(
        "relu", b.affine("a", [(x, rng.normal(size=(3, 2)))], 0.1), activations.relu()
    )
    r = b.piecewise(
        "abs", b.affine("b", [(h, rng.normal(size=(2, 3)))], -0.3), activations.absolute()
    )
    net = b.build([h, r])
    m = boxed_model(net, -1.0, 1.0, name)
    for point in rng.uniform(-1, 1, (3, 2)):
        m.net.warm_start(point)
        assert violations(m) == []


@pytest.mark.parametrize("name", MIP)
def test_inputs_that_are_expressions_and_numbers(name):
    net = he_network(4, [3, 6, 1])
    m = pyo.ConcreteModel()
    m.t = pyo.Var(bounds=(0, 1))
    m.s = pyo.Var(bounds=(-1, 1))
    m.net = ReLUNetBlock(network=net, inputs=[2 * m.t - 1, m.s, 0.25], formulation=name)
    m.obj = pyo.Objective(expr=m.net.outputs[0])
    whole = boxed_model(net, [-1, -1, 0.25], [1, 1, 0.25])
    whole.obj = pyo.Objective(expr=whole.net.outputs[0])
    assert best(m) == pytest.approx(best(whole), abs=1e-6)
    assert m.net.error() < 1e-6


def test_layers_may_differ(m):
    expected = best(m)
    choice = {
        "relu_1": ("partition", {"parts": 2, "split": "sign"}),
        "...": "hull",
    }
    m.net.reformulate(choice)
    layers = m.net.layer
    assert "split" in layers["relu_1"].component_map()
    assert "split" not in layers["relu_2"].component_map()
    assert best(m) == pytest.approx(expected, abs=1e-6)
    m.net.reformulate(lambda layer: "cuts" if layer == "relu_1" else "disjunctive")
    assert "case" in layers_of(m)["relu_2"] and "on" in layers_of(m)["relu_1"]
    assert best(m) == pytest.approx(expected, abs=1e-6)


def layers_of(m) -> dict:
    return {k: set(b.component_map()) for k, b in m.net.layer.items()}


@pytest.mark.parametrize(
    "name,options,message",
    [
        ("fixed_pattern", {}, r"'x\[0\]' has none: solve first, or give the input"),
        ("fixed_pattern", {"at": [2.0, 0.0]}, "outside of its bounds"),
        ("partition", {"parts": 0}, "parts"),
        ("partition", {"split": "halves"}, "unknown"),
        ("partition", {"split": "equal_range"}, "parts >= 3"),
        ("partition", {"split": lambda w, parts: [[0]]}, "into one group"),
        ("cuts", {"solver": "no_such_solver"}, "not available"),
        ("cuts", {"time_limit": -1}, "time_limit"),
        ("disjunctive", {"transformation": "gdp.nothing"}, "unknown"),
        ("complementarity", {"mpec": "mpec.nothing"}, "unknown"),
        ("bigm", {"big": 3}, "no option 'big'"),
        ("convex", {}, "no formulation 'convex'"),
    ],
)
def test_a_failure_changes_nothing(m, name, options, message):
    before = lp_text(m)
    logging.disable(logging.ERROR)
    try:
        with pytest.raises(ValueError, match=message):
            m.net.reformulate(name, **options)
    finally:
        logging.disable(logging.NOTSET)
    assert lp_text(m) == before


def test_a_step_has_no_complementarity():
    m = boxed_model(primitive_network("step", 0))
    before = lp_text(m)
    with pytest.raises(ValueError, match="step.*choose another"):
        m.net.reformulate("complementarity")
    assert lp_text(m) == before
    m.net.reformulate({"step_1": "bigm", "step_2": "bigm", "...": "complementarity"})


def test_solvers_without_sets_say_so(m):
    for name in ("sos1", "indicator"):
        m.net.reformulate(name)
        with pytest.raises(NotImplementedError, match="SOS"):
            pyo.SolverFactory("appsi_highs").solve(m)


def test_cuts_of_the_whole_model(m, caplog):
    m.net.reformulate("cuts", scope="model")
    assert not caplog.records
    expected = best(m)
    m.net.reformulate("bigm")
    assert best(m) == pytest.approx(expected, abs=1e-6)
    m.obj.deactivate()
    with caplog.at_level(logging.WARNING):
        m.net.reformulate("cuts", scope="model")
    assert "needs one active objective" in caplog.text


def n_cuts(m) -> int:
    rows = [block.component("cut") for block in m.net.layer.values()]
    return sum(len(row) for row in rows if row is not None)


@pytest.mark.parametrize(
    "solver",
    [
        "appsi_highs",
        "highs",
        "cbc",
        "glpk",
        "scip_direct",
        "appsi_gurobi",
        "gurobi_direct_v2",
    ],
)
def test_cuts_of_other_solvers(m, solver):
    """Any LP solver separates them; options beyond its own interface aren't used."""
    solver_or_skip(solver)
    expected = best(m)
    m.net.reformulate("cuts", solver=solver, time_limit=600)
    assert n_cuts(m) > 0
    assert best(m) == pytest.approx(expected, abs=1e-6)


def test_cuts_without_time_are_bigm(m, caplog):
    m.net.reformulate("bigm")
    bigm = lp_text(m)
    with caplog.at_level(logging.WARNING):
        m.net.reformulate("cuts", time_limit=0)
    assert "ended after time_limit=0 seconds; the 0 found so far stay" in caplog.text
    assert lp_text(m).replace("outputs, cuts,", "outputs, bigm,") == bigm
    caplog.clear()
    m.net.reformulate("cuts", time_limit=None)
    assert n_cuts(m) > 0 and not caplog.records


def test_cuts_found_in_time_stay(m, monkeypatch, caplog):
    """Time is up in the second round: the first round's cuts are there, nothing else."""
    expected = best(m)
    checks = iter(range(10**9))
    end = 13  # one check for each relaxation, one for each of its 9 units
    monkeypatch.setattr(
        RelaxedSolver, "out_of_time", property(lambda self: next(checks) >= end)
    )
    point = [v.value for v in m.x.values()]
    m.net.reformulate("cuts")
    assert n_cuts(m) > 0 and "the cuts were ended" in caplog.text
    assert len(list(m.component_data_objects(pyo.Objective))) == 1
    assert all(v.is_binary() for v in m.net.layer["relu_1"].on.values())
    assert [v.value for v in m.x.values()] == point
    assert best(m) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("hidden", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_cuts_of_an_image_network_end_in_time(hidden, monkeypatch, caplog):
    """A round over thousands of neurons looks at the clock at each."""
    m = boxed_model(he_network(0, [784, hidden, hidden, 10]), 0.0, 1.0)
    separated = []
    separate = Bend.separate

    def spy(self, tolerance):
        separated.append(self)
        return separate(self, tolerance)

    monkeypatch.setattr(Bend, "separate", spy)
    monkeypatch.setattr(deadline, "time", Clock(0.1))  # the limit is twenty looks
    with caplog.at_level(logging.WARNING):
        m.net.reformulate("cuts", time_limit=2)
    assert "ended after time_limit=2 seconds" in caplog.text
    assert 0 < len(separated) <= 20


def test_cuts_leave_the_model_as_it_was(m):
    m.net.warm_start(X)
    values = {v.name: v.value for v in m.component_data_objects(pyo.Var)}
    m.net.reformulate("cuts")
    for v in m.component_data_objects(pyo.Var):
        assert v.value == values[v.name], v.name
    on = m.net.layer["relu_1"].on
    assert all(v.is_binary() and v.bounds == (0, 1) for v in on.values())
    assert len(list(m.component_data_objects(pyo.Objective))) == 1
