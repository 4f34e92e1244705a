"""What may change after a network was written: bounds, fixed values, Params; the remedy."""

from __future__ import annotations

import re

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.common.errors import InfeasibleConstraintException

from pyomo_relu import ReLUNetBlock, compute_bounds
from pyomo_relu.formulations import Partition
from tests.block.support import dense, optimum, small_network, wired

BEND = dense([([[1.0]], [-3.0]), ([[1.0]], [0.0])])  # max(0, x - 3)
#: Plain solvers; those of this package are tested in tests/solvers.
PLAIN = ["appsi_highs", "highs", "cbc", "scip_direct"]


# ------------------------------------------------------------------------------- fixed
def above_the_bend(x, given=None):
    m = pyo.ConcreteModel()
    m.x, m.y = pyo.Var(bounds=(0, 2)), pyo.Var(bounds=(-100, 100))
    m.z, m.p = pyo.Var(bounds=(0, 1)), pyo.Param(initialize=1.0, mutable=True)
    m.net = ReLUNetBlock(network=BEND, inputs=[x(m)], input_bounds=given)
    m.c = pyo.Constraint(expr=m.y >= m.net.outputs[0] + m.x)
    m.obj = pyo.Objective(expr=m.y)
    return m


@pytest.mark.parametrize("solver", PLAIN)
def test_a_variable_fixed_outside_its_bounds_is_named(solver):
    m = above_the_bend(lambda m: m.x)
    m.x.fix(5, skip_validation=True)
    with pytest.raises(ValueError, match=r"input 'x' is fixed at 5, outside of its bounds"):
        optimum(m, solver)
    m.x.setub(5)
    m.net.reformulate()
    assert optimum(m, solver) == pytest.approx(7.0)


@pytest.mark.parametrize("ext", ["lp", "nl", "mps"])
def test_nor_is_it_written(ext, tmp_path):
    m = above_the_bend(lambda m: m.x)
    m.x.fix(-5, skip_validation=True)
    # The NL writer looks at fixed values by itself.
    wrong = (ValueError, InfeasibleConstraintException)
    with pytest.raises(wrong, match="'x' .*fixed.* -5.* outside"):
        m.write(str(tmp_path / f"m.{ext}"))


def test_what_solvers_leave_of_a_bound_is_no_matter():
    m = above_the_bend(lambda m: m.x)
    for number in (2.0 + 1e-9, -1e-9, 2.0 + 1e-6):
        m.x.fix(number, skip_validation=True)
        assert optimum(m) == pytest.approx(number, abs=1e-5)
    tiny = pyo.ConcreteModel()
    tiny.x = pyo.Var(bounds=(0, 1e-9))
    tiny.net = ReLUNetBlock(network=BEND, inputs=[tiny.x])
    tiny.x.fix(1e-8, skip_validation=True)  # ten widths outside
    with pytest.raises(ValueError, match="is fixed at 1e-08, outside of its bounds"):
        tiny.net.check_box()


def test_expressions_of_fixed_variables():
    m = above_the_bend(lambda m: m.x + 2 * m.z)
    m.x.fix(1.5)
    assert optimum(m) == pytest.approx(1.5)
    m.x.fix(3.5, skip_validation=True)
    with pytest.raises(ValueError, match=r"fixed variables, which give \[3.5, 5.5\], out"):
        optimum(m)
    m.z.fix(0.1)
    assert optimum(m) == pytest.approx(0.7 + 3.5)  # the sum is inside again
    m.z.fix(1.0)
    with pytest.raises(ValueError, match="which give 5.5, outside of its bounds"):
        optimum(m)


def test_given_bounds_are_rows_and_no_error():
    """With input_bounds= a point outside is infeasible, which every solver says."""
    m = above_the_bend(lambda m: m.x, given=(0, 1))
    m.x.fix(1.5)
    assert optimum(m) is None
    m.x.fix(0.5)
    assert optimum(m) == pytest.approx(0.5)


@pytest.mark.parametrize("solver", PLAIN)
def test_parameters_are_looked_at_when_they_are_used(solver):
    m = above_the_bend(lambda m: m.p + 0.5, given=(0, 4))
    assert m.net.component("input_box") is None  # rows without variables say nothing
    for number, right in ((1.0, 0.0), (3.0, 0.5)):
        m.p = number
        assert optimum(m, solver) == pytest.approx(right)
    m.p = 4.0
    with pytest.raises(ValueError, match=r"is 4.5, outside of its bounds \[0, 4\].*Param"):
        optimum(m, solver)


@pytest.mark.parametrize("solver", PLAIN)
def test_parameters_times_variables(solver):
    m = above_the_bend(lambda m: m.p * m.x, given=(0, 4))
    m.p = 3.0
    m.obj.set_value(-m.net.outputs[0] + m.x)
    assert optimum(m, solver) == pytest.approx(0.0, abs=1e-6)
    m.x.fix(1.2)
    assert optimum(m, solver) == pytest.approx(1.2 - 0.6)


# ---------------------------------------------------------------------------- the remedy
def follow(error: ValueError, m) -> None:
    """Do what the message says."""
    (call,) = re.findall(r"call ([\w.\[\]]+\(.*?\))", str(error))
    eval(f"m.{call}", {"m": m})


WAYS = {
    "as it was made": lambda m: None,
    "tightened": lambda m: m.net.tighten("lp"),
    "tightened twice": lambda m: (m.net.tighten("crown"), m.net.tighten("lp")),
    "an object": lambda m: m.net.reformulate(Partition(parts=2)),
    "with options": lambda m: m.net.reformulate("partition", parts=2, split="sign"),
    "by layer": lambda m: m.net.reformulate({"...": "hull"}),
    "by a function": lambda m: m.net.reformulate(lambda layer: "bigm"),
    "given bounds": lambda m: m.net.reformulate(
        bounds=compute_bounds(m.net.network, *m.net.bounds.input_box)
    ),
    "then tightened": lambda m: (
        m.net.reformulate(bounds=compute_bounds(m.net.network, *m.net.bounds.input_box)),
        m.net.tighten("lp"),
    ),
    "with the model": lambda m: m.net.tighten("model"),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_remedy_in_the_message_works(way):
    """Whatever the block was written with, and for every way of leaving the box."""
    rng = np.random.default_rng(len(way))
    net = small_network(rng)
    m = wired(net)
    WAYS[way](m)
    m.x[0].setub(1.8)
    with pytest.raises(ValueError) as e:
        optimum(m)
    follow(e.value, m)
    if "model" in str(e.value):
        assert m.net.bounds.scope != "box"
    fresh = wired(net)
    fresh.x[0].setub(1.8)
    fresh.net.reformulate()
    assert optimum(m) == pytest.approx(optimum(fresh), abs=1e-5)
    assert m.net.formulation is not None


def test_reformulate_alone_keeps_formulation_and_options():
    m = wired(small_network(np.random.default_rng(3)), "partition", parts=3)
    m.net.reformulate()
    assert m.net.formulation == "partition" and m.net._options == {"parts": 3}
    m.net.reformulate(parts=1)
    assert m.net._options == {"parts": 1}
    m.net.reformulate("bigm")
    with pytest.raises(ValueError, match="no option 'parts'"):
        m.net.reformulate(parts=2)
    bare = wired(small_network(np.random.default_rng(3)), None)
    with pytest.raises(ValueError, match="no formulation yet; name one"):
        bare.net.reformulate()


def test_tightened_bounds_stay_as_long_as_they_hold():
    m = wired(small_network(np.random.default_rng(5)))
    found = m.net.tighten("lp")
    m.net.reformulate("hull")
    assert m.net.bounds is found
    m.x[0].setub(0.5)
    m.net.reformulate()
    assert m.net.bounds is found  # of a larger box, so they hold
    m.x[0].setub(5)
    m.net.reformulate()
    assert m.net.bounds is not found and m.net.bounds.input_box[1][0] == 5
    m.net.reformulate(bounds="interval")
    assert m.net.bounds.method == "interval"


def test_bounds_in_a_file_are_read_once(tmp_path):
    net = small_network(np.random.default_rng(6))
    path = tmp_path / "bounds.npz"
    compute_bounds(net, -1, 1).save(path)
    m = wired(net, bounds=path)
    path.unlink()
    m.net.reformulate("hull")
    with pytest.raises(ValueError, match="smaller box"):
        wired(net, bounds=compute_bounds(net, -0.5, 1))
    with pytest.raises(ValueError, match="smaller box"):
        wired(net, None, bounds=compute_bounds(net, -0.5, 1))


@pytest.mark.parametrize("other", [0.2, None])
def test_bounds_from_the_model_know_the_users_bounds_on_outputs(other):
    """A network's own bounds on its outputs change with every write; the user's don't."""
    net = dense([([[1.0], [-1.0]], [0.0, 0.5]), ([[1.0, 1.0]], [0.0])])
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(-2, 2))
    m.net = ReLUNetBlock(network=net, inputs=[m.x])
    m.obj = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    m.net.outputs[0].setub(1.0)
    m.net.tighten("model")
    m.net.reformulate("hull")
    m.net.reformulate("bigm")
    assert optimum(m) == pytest.approx(1.0)
    m.net.outputs[0].setub(None if other is None else 1.0 + other)
    with pytest.raises(ValueError, match="changed since"):
        optimum(m)
    m.net.reformulate()
    assert optimum(m) == pytest.approx(2.5 if other is None else 1.2)


@pytest.mark.parametrize("rung", ["interval", "crown", "lp", "mip", "boxes"])
def test_any_rung_after_the_model(rung):
    """The model keeps an input in a smaller box; bounds found there rely on it, too."""
    net = dense([([[1.0], [-1.0]], [0.0, 0.5]), ([[1.0, 1.0]], [0.0])])
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(-2, 2))
    m.row = pyo.Constraint(expr=m.x <= 0.5)
    m.net = ReLUNetBlock(network=net, inputs=[m.x])
    m.obj = pyo.Objective(expr=m.net.outputs[0] + m.x, sense=pyo.maximize)
    right = optimum(m)
    m.net.tighten("model")
    assert m.net.bounds.input_box[1][0] == pytest.approx(0.5, abs=1e-5)
    m.net.tighten(rung)
    assert m.net.bounds.scope != "box"
    assert optimum(m) == pytest.approx(right, abs=1e-6)
    m.row.deactivate()
    with pytest.raises(ValueError, match="changed since"):
        optimum(m)
    m.net.reformulate()
    assert optimum(m) == pytest.approx(4.0)
