"""Which side of an output's graph a model needs, and that no other optimum comes of it."""

from __future__ import annotations

import pyomo.environ as pyo
import pytest
from pyomo.gdp import Disjunct, Disjunction
from pyomo.mpec import Complementarity, complements
from pyomo.network import Port

from pyomo_relu import ReLUNetBlock
from pyomo_relu.presolve.directions import needed_sides
from tests.presolve.random_wired import blocks_on_inputs, optimum, random_pushed


@pytest.fixture
def m():
    """One curve ``m.y`` and the variables ``t`` (free) and ``b`` (in [-1, 1])."""
    model = blocks_on_inputs(0, 1)
    model.t, model.b = pyo.Var(), pyo.Var(bounds=(-1, 1))
    return model


def side(m) -> str:
    (found,) = needed_sides(m.net[0])
    return found


def test_rows_and_objectives(m):
    y = m.net[0].outputs[0]
    assert side(m) == "both"  # nothing uses it
    m.goal = pyo.Objective(expr=2 * y - m.x[0])
    assert side(m) == "epigraph"
    m.goal.sense = pyo.maximize
    assert side(m) == "hypograph"
    m.row = pyo.Constraint(expr=m.x[0] + y >= 0)
    assert side(m) == "hypograph"
    m.other = pyo.Constraint(expr=m.x[0] - y >= -5)
    assert side(m) == "both"
    m.other.deactivate()
    assert side(m) == "hypograph"
    m.net[0].outputs[0].setub(0.0)
    assert side(m) == "both"
    m.net[0].outputs[0].setub(1e9)
    assert side(m) == "hypograph"
    m.net[0].outputs[0].fix(0.0)
    assert side(m) == "both"


def test_a_variable_that_follows(m):
    y = m.net[0].outputs[0]
    m.define = pyo.Constraint(expr=m.t == 3 * y + m.b)
    m.goal = pyo.Objective(expr=m.t, sense=pyo.maximize)
    assert side(m) == "hypograph"
    m.t.setub(1e9)  # with two others in the row it isn't asked whether that can bind
    assert side(m) == "both"
    m.define.set_value(m.t == 3 * y)
    assert side(m) == "hypograph"
    m.t.setub(1e-9)
    assert side(m) == "both"
    m.t.setub(None)
    m.t.domain = pyo.Integers
    assert side(m) == "both"
    m.t.domain = pyo.Reals
    m.cap = pyo.Constraint(expr=m.t <= 7)
    assert side(m) == "both"
    m.cap.set_value(m.t >= -7)
    assert side(m) == "hypograph"
    m.again = pyo.Constraint(expr=m.t == 2 * m.b)  # what follows it can't
    assert side(m) == "both"


@pytest.mark.parametrize("what", ["nonlinear", "input", "set", "mpec", "port", "two"])
def test_what_holds_an_output(m, what):
    y = m.net[0].outputs[0]
    m.goal = pyo.Objective(expr=y, sense=pyo.maximize)
    assert side(m) == "hypograph"
    if what == "nonlinear":
        m.row = pyo.Constraint(expr=m.t * y >= -3)
    elif what == "input":
        m.next = ReLUNetBlock(
            network=m.net[0].network, inputs=[y + 0.5], input_bounds=(-9, 9)
        )
    elif what == "set":
        m.v = pyo.Reference([y, m.t, m.b])
        m.s = pyo.SOSConstraint(var=m.v, sos=1)
    elif what == "mpec":
        m.c = Complementarity(expr=complements(y >= 0, m.t >= 0))
    elif what == "port":
        m.p = Port(initialize={"y": (y, Port.Equality)})
    else:
        m.second = pyo.Objective(expr=-y)
    assert side(m) == "both"


def test_rows_in_disjuncts_count(m):
    y = m.net[0].outputs[0]
    m.goal = pyo.Objective(expr=y, sense=pyo.maximize)
    m.one, m.two = Disjunct(), Disjunct()
    m.two.row = pyo.Constraint(expr=y >= 0)
    m.either = Disjunction(expr=[m.one, m.two])
    assert side(m) == "hypograph"
    m.one.row = pyo.Constraint(expr=m.t == y)
    assert side(m) == "both"


@pytest.mark.parametrize(
    "first, last", [(0, 25), pytest.param(25, 80, marks=pytest.mark.slow)]
)
def test_no_optimum_changes(first, last):
    """The sides that a model needs have its optimum; random models of every kind."""
    kinds = set()
    for seed in range(first, last):
        m = random_pushed(seed, formulation=None)
        pyo.TransformationFactory("relu.bigm").apply_to(m)
        true = optimum(m)
        for k in m.net:
            m.net[k].reformulate("regions", side="model")
            kinds.update(needed_sides(m.net[k]))
        found = optimum(m)
        assert (found is None) == (true is None), seed
        if true is not None:
            assert found == pytest.approx(true, abs=1e-5), seed
    assert kinds == {"both", "hypograph", "epigraph"}


def test_a_row_that_comes_later_is_refused():
    m = blocks_on_inputs(3, formulation=None)
    y = [m.net[k].outputs[0] for k in m.x]
    m.goal = pyo.Objective(expr=y[0] + y[1], sense=pyo.maximize)
    pyo.TransformationFactory("relu.regions").apply_to(m, side="model")
    best = optimum(m)
    m.row = pyo.Constraint(expr=y[1] - m.x[0] <= 0.1)
    with pytest.raises(ValueError, match=r"hypograph of 'net\[1\].*reformulate\(\)"):
        optimum(m)
    m.net[1].reformulate()
    assert optimum(m) <= best + 1e-9
    copy = m.clone()
    copy.row.deactivate()
    copy.goal.deactivate()
    copy.other = pyo.Objective(expr=copy.x[0])
    optimum(copy)  # outputs that nothing uses can have any value
