"""Which side of an output's graph a model needs, and that no other optimum comes of it."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.gdp import Disjunct, Disjunction
from pyomo.mpec import Complementarity, complements
from pyomo.network import Port

from pyomo_relu import ReLUNetBlock
from pyomo_relu.presolve.directions import needed_sides
from tests.harness.random_networks import random_network


def blocks_on_inputs(seed: int, n_blocks: int = 2, **options):
    """A model with curves of variables ``x[k]``."""
    rng = np.random.default_rng(seed)
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(n_blocks), bounds=(-1.5, 2.0))
    m.net = ReLUNetBlock(
        range(n_blocks),
        network={k: random_network(rng, n_inputs=1, widths=(5, 4)) for k in m.x},
        inputs=lambda m, k: [m.x[k]],
        **options,
    )
    return m


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


def wired(seed: int, **options):
    """A random bounded model: rows in both directions, definitions, integers.

    Mostly an output is wanted large, or small, by all that uses it.
    """
    rng = np.random.default_rng(seed)
    m = blocks_on_inputs(seed, 2, **options)
    ends = [float(rng.uniform(0.2, 4)) for _ in range(2)]
    m.t = pyo.Var(range(3), bounds=lambda m, k: (-ends[k], ends[k]) if k < 2 else None)
    m.n = pyo.Var(domain=pyo.Integers, bounds=(-2, 2))
    m.rows = pyo.ConstraintList()
    way = rng.choice([-1.0, 1.0], 2)
    used = [m.net[k].outputs[0] for k in m.x]
    for k in range(2):  # where an output is defined as a variable, that is used instead
        if rng.random() < 0.6:
            t = m.t[int(rng.choice([k, 2]))]
            factor = float(rng.choice([-1, 1]) * rng.uniform(0.3, 1))
            more = float(rng.normal()) * m.n if rng.random() < 0.3 else 0.0
            m.rows.add(t == factor * used[k] + more)
            used[k], way[k] = t, way[k] * np.sign(factor)
    for _ in range(rng.integers(0, 4)):
        odd = rng.choice([1.0, -1.0], 2, p=[0.85, 0.15])
        body = sum(float(w * o * rng.uniform(0, 2)) * v for w, o, v in zip(way, odd, used))
        body += float(rng.normal()) * m.n + float(rng.normal()) * m.x[0]
        if rng.random() < 0.5:
            m.rows.add(body >= float(rng.uniform(-2, 0)))
        else:
            m.rows.add(-body <= float(rng.uniform(0, 2)))
    m.rows.add(m.x[0] + m.x[1] + m.n <= float(rng.uniform(0, 3)))
    cost = sum(float(-w * rng.uniform(0, 2)) * v for w, v in zip(way, used))
    rest = sum(float(c) * v for c, v in zip(rng.normal(size=3), [*m.x.values(), m.n]))
    m.goal = pyo.Objective(expr=cost + rest)
    if rng.random() < 0.5:
        m.goal.set_value(-(cost + rest))
        m.goal.sense = pyo.maximize
    return m


def optimum(m) -> float | None:
    solver = pyo.SolverFactory("appsi_highs")
    solver.highs_options = {"mip_rel_gap": 1e-9}
    found = solver.solve(m, load_solutions=False)
    if found.solver.termination_condition != pyo.TerminationCondition.optimal:
        return None
    return found.problem.upper_bound


def test_no_optimum_changes():
    """The sides that a model needs have its optimum; random models of every kind."""
    kinds = set()
    for seed in range(80):
        m = wired(seed, formulation=None)
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
