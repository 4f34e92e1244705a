"""The tree's dual function: tight at the base, below the value everywhere, concave."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.differentiable import (
    DualFunction,
    Infeasible,
    ParametricMILP,
    Program,
)
from pyomo_relu.programs.sharp import solve_mip
from tests.differentiable.instances import (
    guzelsoy_ralphs,
    random_change,
    random_program,
)

#: Guzelsoy and Ralphs (2007): right-hand side, optimal value
VALUES = {-2: 0.5, -1.3: 0.4, -0.5: 0.5, 0: 0, 0.3: 0.6, 0.5: 1, 1: 0.5, 1.25: 1,
          2.2: 1.4, 3.7: 2.3}  # fmt: skip
SLOPES = {-1.3: 2.0, 0.3: 2.0, 2.2: 2.0, 3.7: -1.0}


def value(b: float) -> float:
    program = guzelsoy_ralphs(b)
    return program.objective(solve_mip(program))


def slope_of(function: DualFunction, b: float) -> float:
    gradient, at = function.supergradient(guzelsoy_ralphs(b)), function.base.slices()
    return float(gradient[at["row_lower"]][0] + gradient[at["row_upper"]][0])


def test_table_of_guzelsoy_and_ralphs():
    """Values, tightness, and validity on 101 right-hand sides for each base."""
    grid = np.linspace(-5, 5, 101)
    exact = np.array([value(b) for b in grid])
    for b, z in VALUES.items():
        function = DualFunction(guzelsoy_ralphs(b))
        assert function.value == pytest.approx(z, abs=1e-8)
        assert function(guzelsoy_ralphs(b)) == pytest.approx(z, abs=1e-8)
        bounds = np.array([function(guzelsoy_ralphs(d)) for d in grid])
        assert (bounds - exact).max() <= 1e-8
        assert (exact - bounds).max() > 0.1  # not the value itself


def test_slopes_of_guzelsoy_and_ralphs():
    h = 1e-5
    for b, expected in SLOPES.items():
        found = slope_of(DualFunction(guzelsoy_ralphs(b)), b)
        assert found == pytest.approx((value(b + h) - value(b - h)) / (2 * h), abs=1e-6)
        assert found == pytest.approx(expected)
    for b in (-2, 0, 0.5, 1):  # kinks of the value or of a tied leaf
        low, high = (value(b) - value(b - h)) / h, (value(b + h) - value(b)) / h
        milp = ParametricMILP.from_functions(
            lambda t: guzelsoy_ralphs(t[0]),
            lambda t: _both_sides(guzelsoy_ralphs(0.0).slices()),
            [b],
        )
        certificate = milp.certificate()
        assert not certificate.differentiable
        if low < high:  # convex: between the slopes
            assert low - 1e-3 <= certificate.gradient[0] <= high + 1e-3
        elif low > high:  # concave: one of them, and both are found
            slopes = certificate.elements[:, 0]
            assert np.abs(slopes - low).min() < 1e-3
            assert np.abs(slopes - high).min() < 1e-3


def _both_sides(at) -> np.ndarray:
    jacobian = np.zeros((at["matrix"].stop, 1))
    jacobian[at["row_lower"]] = jacobian[at["row_upper"]] = 1.0
    return jacobian


@pytest.mark.parametrize("seed", range(8))
def test_below_the_value_for_all_data(seed):
    program = random_program(seed)
    function = DualFunction(program)
    assert function(program) == pytest.approx(function.value, abs=1e-7)
    assert function(program) <= program.objective(solve_mip(program)) + 1e-9
    gradient = function.supergradient(program)
    rng = np.random.default_rng(seed)
    near = 0
    for size in (1e-3, 0.1, 1.0, 10.0) * 4:
        other = random_change(program, rng, size)
        bound = function(other)
        before = program.to_vector()
        finite = np.isfinite(before)  # infinite sides stay
        step = np.zeros(len(before))
        step[finite] = other.to_vector()[finite] - before[finite]
        assert bound <= function.value + gradient @ step + 1e-6 * max(1.0, size)
        try:
            exact = other.objective(solve_mip(other))
        except Infeasible:
            continue
        assert bound <= exact + 1e-8 * max(1.0, abs(exact))
        near += bound > exact - 0.05
    assert near >= 2


def test_other_bounds():
    program = random_program(1)
    function = DualFunction(program)
    upper = program.upper.copy()
    upper[program.integer] = 2.0
    upper[~program.integer] = 2.5
    smaller = program.with_bounds(program.lower, upper)
    try:
        exact = smaller.objective(solve_mip(smaller))
    except Infeasible:
        exact = np.inf
    assert function(smaller) <= exact + 1e-8
    upper[program.integer] = 4.0
    with pytest.raises(ValueError, match="leave the box"):
        function(program.with_bounds(program.lower, upper))
    with pytest.raises(ValueError, match="rows, columns"):
        function(random_program(2))


def test_refusals():
    free = Program.from_arrays([1.0], [[1.0]], row_lower=0.5)
    with pytest.raises(ValueError, match="finite box"):
        DualFunction(free)


def test_infeasible_leaves_stay_out_of_the_way():
    """The elastic duals lift leaves without a point above the optimum."""
    for seed in range(10):
        function = DualFunction(random_program(seed))
        for leaf, bound in zip(function.points, function.leaf_bounds(function.base)):
            if leaf is None:
                assert bound > function.value + 0.5
