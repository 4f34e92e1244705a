"""Gradients against differences, from arrays and from Pyomo models; kinks."""

from __future__ import annotations

import doctest

import numpy as np
import pyomo.environ as pyo
import pytest

import pyomo_relu.differentiable.parametric as parametric
from pyomo_relu.differentiable import (
    Infeasible,
    ParametricMILP,
    Program,
    SolverError,
    Unbounded,
)
from pyomo_relu.programs import branch_and_bound
from tests.differentiable.instances import random_program

PARTS = ["cost", "row_lower", "row_upper", "matrix"]


def difference(milp: ParametricMILP, theta, direction, h: float = 1e-5) -> float:
    high = milp.solve(theta + h * direction).value
    return (high - milp.solve(theta - h * direction).value) / (2 * h)


@pytest.mark.parametrize("block", range(10))
def test_a_hundred_generic_instances(block):
    """Certified, and equal to central differences to 1e-6, by both methods."""
    for seed in range(10 * block, 10 * block + 10):
        milp = ParametricMILP.from_arrays(random_program(seed), PARTS)
        found = milp.certificate()
        assert found.differentiable, (seed, found.reason)
        value, gradient = milp.value_and_grad()
        assert value == pytest.approx(found.value, abs=1e-8)
        assert np.abs(found.gradient - gradient).max() < 1e-6
        by_tree = milp.value_and_grad(method="tree")
        assert by_tree[0] == pytest.approx(value, abs=1e-8)
        assert np.abs(by_tree[1] - gradient).max() < 1e-6
        rng = np.random.default_rng(seed + 1000)
        direction = rng.normal(size=len(gradient))
        direction /= np.linalg.norm(direction)
        slope = difference(milp, milp.initial, direction)
        assert abs(slope - gradient @ direction) <= 1e-6 * max(1.0, abs(slope)), seed


def test_bounds_of_variables_and_offset():
    program = Program.from_arrays(
        [1.0, 2.0], [[1.0, 1.0]], row_lower=3.3, lower=[0.2, 0], upper=[2, 2.5], offset=4
    )
    milp = ParametricMILP.from_arrays(program, ["offset", "lower", "upper"])
    value, gradient = milp.value_and_grad()
    assert value == pytest.approx(4 + 2 + 2 * 1.3)
    assert milp.names == ["offset[0]", "lower[0]", "lower[1]", "upper[0]", "upper[1]"]
    assert gradient == pytest.approx([1, 0, 0, -1, 0])


def model() -> pyo.ConcreteModel:
    m = pyo.ConcreteModel()
    m.p = pyo.Param(initialize=1.3, mutable=True)
    m.q = pyo.Param([1, 2], initialize={1: 0.7, 2: -0.4}, mutable=True)
    m.rate = pyo.Param(initialize=2.0, mutable=True)  # not differentiated
    m.n = pyo.Var([1, 2], domain=pyo.Integers, bounds=(0, 4))
    m.x = pyo.Var(bounds=(-1, m.q[1] * 5))
    m.fixed = pyo.Var(initialize=0.5)
    m.fixed.fix()
    m.c1 = pyo.Constraint(expr=m.p**2 * m.n[1] + m.n[2] + m.x >= 2.6 + pyo.exp(m.q[2]))
    m.c2 = pyo.Constraint(expr=(m.q[2], m.x - m.q[1] * m.n[1] + m.q[1], 3 + m.p))
    m.c3 = pyo.Constraint(expr=m.x + m.q[1] * m.n[2] == m.p * m.fixed + m.n[1])
    m.o = pyo.Objective(
        expr=-(m.rate + m.p) * m.x * m.q[1]
        - pyo.exp(m.q[2]) * (m.x + m.n[1])
        - m.n[2] * pyo.sin(m.p)
        + m.p**3,
        sense=pyo.maximize,
    )
    return m


def test_pyomo_parameters():
    m = model()
    milp = ParametricMILP.from_pyomo(m, [m.p, m.q])
    assert milp.names == ["p", "q[1]", "q[2]"]
    solution = milp.solve()
    pyo.SolverFactory("appsi_highs").solve(m)
    assert solution.value == pytest.approx(pyo.value(m.o), abs=1e-7)
    found = milp.certificate()
    assert found.differentiable, found.reason
    _, gradient = milp.value_and_grad()
    assert np.abs(gradient).min() > 1e-3
    slopes = [difference(milp, milp.initial, e) for e in np.eye(3)]
    assert gradient == pytest.approx(slopes, abs=1e-6)
    assert m.p.value == 1.3
    # the same program when the model itself is changed
    m.p, m.q[1] = 1.35, 0.72
    again = milp.solve([1.35, 0.72, -0.4]).value
    pyo.SolverFactory("appsi_highs").solve(m)
    assert again == pytest.approx(pyo.value(m.o), abs=1e-7)


def test_pyomo_zero_parameter_keeps_its_place():
    m = pyo.ConcreteModel()
    m.p = pyo.Param(initialize=0.0, mutable=True)
    m.x = pyo.Var(bounds=(0, 2))
    m.c = pyo.Constraint(expr=m.x * m.p <= 1)
    m.o = pyo.Objective(expr=m.p * m.x - m.x)
    assert ParametricMILP.from_pyomo(m, [m.p]).value_and_grad()[1] == pytest.approx([2.0])


def test_solution_jacobian():
    checked = 0
    for seed in range(12):
        milp = ParametricMILP.from_arrays(random_program(seed), [*PARTS, "upper"])
        theta = milp.initial
        if not milp.certificate().nondegenerate:
            continue
        jacobian = milp.solution_jacobian()
        direction = np.random.default_rng(seed).normal(size=len(theta))
        h = 1e-6
        high = milp.solve(theta + h * direction).x
        low = milp.solve(theta - h * direction).x
        slope = (high - low) / (2 * h)
        assert jacobian @ direction == pytest.approx(slope, abs=1e-4, rel=1e-4)
        checked += np.abs(jacobian).max() > 0
    assert checked >= 8


def test_kink_of_two_assignments():
    """max(...) of two binaries: min(a, b) has a kink where a == b."""
    program = Program.from_arrays(
        [1.0, 1.0], [[1.0, 1.0]], row_lower=1, row_upper=1, upper=1, integer=True
    )
    milp = ParametricMILP.from_arrays(program, ["cost"])
    found = milp.certificate()
    assert found.kink and not found.differentiable and not found.unique_leaf
    assert sorted(map(tuple, found.elements.round(9))) == [(0, 1), (1, 0)]
    assert "2 assignments" in found.reason
    _, element = milp.value_and_grad()
    assert tuple(element) in {(0, 1), (1, 0)}
    off = milp.certificate([1.0, 1.2])
    assert off.differentiable and off.gap == pytest.approx(0.2)
    assert off.gradient == pytest.approx([1, 0])
    with pytest.raises(ValueError, match="may not be differentiable"):
        milp.solution_jacobian()


@pytest.mark.parametrize("what", ["primal", "dual"])
def test_kink_of_the_linear_program(what):
    # primal: min over x in [-1, 1] of c x at c = 0; dual: min x, x >= b, x >= 0 at b = 0
    if what == "primal":
        program = Program.from_arrays([0.0], [[1.0]], lower=-1, upper=1)
        milp = ParametricMILP.from_arrays(program, ["cost"])
    else:
        program = Program.from_arrays([1.0], [[1.0]], row_lower=0.0, upper=5)
        milp = ParametricMILP.from_arrays(program, ["row_lower"])
    found = milp.certificate()
    assert found.kink and not found.differentiable and found.unique_leaf
    slopes = sorted(found.elements[:, 0])
    assert slopes[0] == pytest.approx(-1 if what == "primal" else 0)
    assert slopes[-1] == pytest.approx(1)
    for theta in (-0.1, 0.1):
        assert milp.certificate([theta]).differentiable


def test_edge_of_feasibility():
    """x >= b with x <= 1: beyond b = 1 there is no value, so no gradient at 1."""
    program = Program.from_arrays([1.0], [[1.0]], row_lower=1.0, upper=1.0)
    milp = ParametricMILP.from_arrays(program, ["row_lower"])
    found = milp.certificate()
    assert not found.differentiable and "edge of feasibility" in found.reason
    assert milp.certificate([0.9]).differentiable


def test_ties_with_one_gradient_are_smooth():
    """Two equal units may swap; the value doesn't care."""
    program = Program.from_arrays(
        [1.0, 1.0, 0.5],
        [[1.0, 1.0, 1.0]],
        row_lower=1.4,
        upper=1,
        integer=[True, True, False],
    )
    found = ParametricMILP.from_arrays(program, {"row_lower": None}).certificate()
    assert found.differentiable and not found.unique_leaf
    assert found.gradient == pytest.approx([0.5])


def test_redundant_rows_are_no_kink():
    """A degenerate basis is not yet a kink."""
    program = Program.from_arrays(
        [1.0, 0.0], [[1.0, 0.0], [1.0, 1.0]], row_lower=[1.0, 1.0], upper=5
    )
    milp = ParametricMILP.from_arrays(program, {"cost": [0]})
    found = milp.certificate()
    assert found.differentiable and not found.nondegenerate
    assert found.gradient == pytest.approx([1.0])


def test_concave_random_kinks_are_found():
    """Between two points with different gradients on a line there is a kink."""
    found = 0
    for seed in range(20):
        program = random_program(seed)
        milp = ParametricMILP.from_arrays(program, ["cost"])
        rng = np.random.default_rng(seed)
        a, b = milp.initial, milp.initial + rng.normal(size=len(milp.initial))
        (za, ga), (zb, gb) = milp.value_and_grad(a), milp.value_and_grad(b)
        for _ in range(60):  # where the two tangents cross, until they touch the value
            slope = (gb - ga) @ (b - a)
            if abs(slope) < 1e-9:
                break
            s = (za - zb + gb @ (b - a)) / slope
            middle = a + s * (b - a)
            value, gradient = milp.value_and_grad(middle)
            if abs(value - (za + s * (ga @ (b - a)))) < 1e-10:
                assert milp.certificate(middle).kink, seed
                found += 1
                break
            b, zb, gb = middle, value, gradient
    assert found >= 8


def test_refusals():
    program = random_program(0)
    with pytest.raises(ValueError, match="no part of a program"):
        ParametricMILP.from_arrays(program, ["rhs"])
    with pytest.raises(ValueError, match="infinite entry"):
        ParametricMILP.from_arrays(program, {"row_lower": [0]})
    with pytest.raises(ValueError, match="isn't stored"):
        base = Program.from_arrays([1.0, 1.0], [[1.0, 0.0]])
        ParametricMILP.from_arrays(base, {"matrix": ([0], [1])})
    milp = ParametricMILP.from_arrays(program, ["cost"])
    with pytest.raises(ValueError, match="parameters"):
        milp.solve([1.0])
    with pytest.raises(ValueError, match="NaN"):
        milp.solve(np.full(len(milp.initial), np.nan))
    with pytest.raises(ValueError, match="method"):
        milp.value_and_grad(method="magic")
    with pytest.raises(ValueError, match="cross"):
        Program.from_arrays([1.0], [[1.0]], lower=2, upper=1)
    with pytest.raises(ValueError, match="bound of integer variable 0"):
        ParametricMILP.from_arrays(program, {"upper": [0]}).value_and_grad()
    m = model()
    with pytest.raises(ValueError, match="mutable Param"):
        ParametricMILP.from_pyomo(m, [m.x])
    m.bad = pyo.Constraint(expr=m.x**2 <= 1)
    with pytest.raises(ValueError, match="'bad' is nonlinear"):
        ParametricMILP.from_pyomo(m, [m.p])
    with pytest.raises(Infeasible):
        nothing = Program.from_arrays([1.0], [[1.0]], row_lower=2, upper=1, integer=True)
        ParametricMILP.from_arrays(nothing, ["cost"]).solve()
    with pytest.raises(Unbounded):
        free = Program.from_arrays([-1.0], [[1.0]], row_lower=2)
        ParametricMILP.from_arrays(free, ["cost"]).solve()


def test_own_tree_where_highs_fails(monkeypatch):
    def fail(program, start=None, time_limit=None):
        raise SolverError("solve error")

    milp = ParametricMILP.from_arrays(random_program(3), ["cost"])
    expected = milp.solve().value
    monkeypatch.setattr(branch_and_bound, "solve_mip", fail)
    assert milp.solve().value == pytest.approx(expected, abs=1e-8)


def test_docstring():
    assert doctest.testmod(parametric).failed == 0
