"""Chvatal functions: exact values, and the properties of a subadditive dual."""

from __future__ import annotations

import doctest
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from pyomo_relu.base.deadline import Deadline, TimeUp
from pyomo_relu.differentiable import Infeasible, Program, chvatal
from pyomo_relu.differentiable.chvatal import ChvatalFunction, CutLimit
from pyomo_relu.programs.sharp import solve_mip


def exact(cost, matrix, right) -> float:
    upper = 40.0
    program = Program.from_arrays(cost, matrix, row_lower=right, upper=upper, integer=True)
    return program.objective(solve_mip(program))


def test_a_hundred_random_programs():
    rng = np.random.default_rng(0)
    solved = with_cuts = 0
    while solved < 100:
        matrix = rng.integers(-3, 8, size=(3, 3))
        cost, right = rng.integers(1, 10, size=3), rng.integers(1, 12, size=3)
        try:
            function = ChvatalFunction(cost, matrix, right, max_cuts=60)
        except (CutLimit, Infeasible):
            continue
        solved += 1
        with_cuts += bool(function.cuts)
        assert function(right) == function.value
        assert float(function.value) == pytest.approx(exact(cost, matrix, right))
        assert function.is_dual_feasible()
        others = rng.integers(-6, 12, size=(3, 3))
        assert function.subadditivity_gap(others.tolist()) <= 0
        for d in others[:1]:  # weak duality, and monotone
            assert function((d + 1).tolist()) >= function(d.tolist())
            try:
                assert float(function(d.tolist())) <= exact(cost, matrix, d) + 1e-9
            except Infeasible:
                pass
    assert with_cuts > 40


def perceptron(points, labels):
    """Fewest weights in {-1, 0, 1}: w = p - q, and a bias alike."""
    rows, right = [], []
    for x, y in zip(points, labels):
        signed = [*x, 1] if y else [-a for a in (*x, 1)]
        rows.append([*signed, *[-a for a in signed]])
        right.append(0 if y else 1)
    n = len(rows[0])
    for j in range(n):
        rows.append([-1 if k == j else 0 for k in range(n)])
        right.append(-1)
    return [1] * n, rows, right


@pytest.mark.parametrize("name", ["or", "majority"])
def test_training_of_a_perceptron(name):
    size = 2 if name == "or" else 3
    points = list(product((0, 1), repeat=size))
    if name == "majority":
        points = [tuple(2 * a - 1 for a in p) for p in points]
    labels = [any(p) if name == "or" else sum(p) > 0 for p in points]
    cost, rows, right = perceptron(points, labels)
    function = ChvatalFunction(cost, rows, right)
    assert function.value == 3
    assert function(right) == 3 and function.is_dual_feasible()
    rng = np.random.default_rng(1)
    sides = rng.integers(-3, 4, size=(8, len(right))).tolist()
    assert function.subadditivity_gap(sides) <= 0
    for d in sides:
        try:
            assert float(function(d)) <= exact(cost, rows, d) + 1e-9
        except Infeasible:
            pass


def covering(n: int, seed: int):
    """Rows of a random covering program in n binaries."""
    rng = np.random.default_rng(seed)
    matrix, cost = rng.integers(0, 10, size=(n // 2, n)), rng.integers(1, 10, size=n)
    rows = [*matrix.tolist(), *(-np.eye(n, dtype=int)).tolist()]
    return cost, rows, [*(matrix.sum(axis=1) // 3).tolist(), *[-1] * n]


@pytest.mark.parametrize(("n", "seed"), [(20, 0), (24, 1), (32, 0)])
def test_more_than_sixteen_variables(n, seed):
    cost, rows, right = covering(n, seed)
    function = ChvatalFunction(cost, rows, right)
    assert function(right) == function.value and function.is_dual_feasible()
    assert float(function.value) == exact(cost, rows, right)
    assert all(
        sum(a * x for a, x in zip(row, function.x)) >= b for row, b in zip(rows, right)
    )
    rng = np.random.default_rng(seed)
    others = (np.array(right) + rng.integers(-4, 5, size=(3, len(right)))).tolist()
    assert function.subadditivity_gap(others) <= 0
    for d in others:
        try:
            assert float(function(d)) <= exact(cost, rows, d) + 1e-9
        except Infeasible:
            pass


def test_costs_that_are_fractions_and_cuts_that_are_left_out():
    function = ChvatalFunction([Fraction(1, 3), Fraction(1, 2)], [[2, 2], [3, 1]], [3, 2])
    assert function.value == Fraction(2, 3) and function([3, 2]) == function.value
    every = ChvatalFunction(*covering(24, 1))
    assert len(every.cuts) < every.generated and every.pivots > 0


def test_from_a_program():
    program = Program.from_arrays(
        [2.0, -3.0, 1.0], [[2, 5, 3], [1, -4, 1]], row_lower=[-3, -np.inf],
        row_upper=[17, 5], lower=[-2, -5, 0], upper=[4, 3, 7], integer=True, offset=1.5,
    )  # fmt: skip
    function = ChvatalFunction.from_program(program)
    exact_value = program.objective(solve_mip(program))
    assert float(function.value + function.constant) == exact_value
    assert function.is_dual_feasible()
    with pytest.raises(ValueError, match="variable 1 is continuous"):
        ChvatalFunction.from_program(
            Program.from_arrays([1, 1], [[1, 1]], integer=[True, False])
        )
    with pytest.raises(ValueError, match="variable 0 has no finite bound"):
        ChvatalFunction.from_program(Program.from_arrays([-1.0], [[1]], integer=True))
    with pytest.raises(TimeUp):
        ChvatalFunction([1, 1], [[2, 2]], [3], deadline=Deadline(0.0))


def test_not_every_function_passes():
    function = ChvatalFunction([1, 1], [[2, 2]], [3])
    assert function.is_dual_feasible()
    function.duals = [d + 1 for d in function.duals]
    assert not function.is_dual_feasible()
    function.duals = [-1, 0]
    function.cuts = [{0: Fraction(-1, 2)}]
    assert not function.is_dual_feasible()
    function.duals = [0, -1]
    assert function.subadditivity_gap([[1], [3]]) > 0


def test_refusals():
    with pytest.raises(ValueError, match="integers"):
        ChvatalFunction([1], [[0.5]], [1])
    with pytest.raises(ValueError, match="at least 0"):
        ChvatalFunction([-1], [[1]], [1])
    with pytest.raises(ValueError, match="don't fit"):
        ChvatalFunction([1], [[1, 2]], [1])
    with pytest.raises(Infeasible):
        ChvatalFunction([1], [[-1]], [1])
    with pytest.raises(CutLimit):
        ChvatalFunction([1, 1], [[2, 2]], [3], max_cuts=0)
    with pytest.raises(ValueError, match="1 entries"):
        ChvatalFunction([1], [[1]], [1])([1, 2])


def test_docstring():
    assert doctest.testmod(chvatal).failed == 0
