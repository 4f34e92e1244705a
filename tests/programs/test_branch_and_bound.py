"""Branch and bound that keeps its leaves: they partition the box; what it refuses."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from pyomo_relu.programs.branch_and_bound import (
    NodeLimit,
    branch_and_bound,
    optimal_point,
    optimum,
)
from pyomo_relu.programs.program import Program
from pyomo_relu.programs.sharp import Infeasible
from tests.differentiable.instances import guzelsoy_ralphs, random_program


def test_leaves_partition_the_box():
    rng = np.random.default_rng(0)
    for seed in range(6):
        program = random_program(seed)
        tree = branch_and_bound(program)
        whole = program.integer
        for _ in range(50):
            u = rng.integers(0, 4, size=whole.sum())
            inside = [
                (leaf.lower[whole] <= u).all() and (u <= leaf.upper[whole]).all()
                for leaf in tree.leaves
            ]
            assert sum(inside) == 1


def test_leaves_partition_the_box_where_optima_tie():
    """An optimum that is integral is split at its value, below and above."""
    program = Program.from_arrays([1.0, 1.0], [[1, 1]], row_lower=2, upper=4, integer=True)
    tree = branch_and_bound(program)
    assert tree.value == pytest.approx(2.0)
    for u in product(range(5), repeat=2):
        inside = [
            (leaf.lower <= u).all() and (u <= leaf.upper).all() for leaf in tree.leaves
        ]
        assert sum(inside) == 1, u


def test_refusals():
    whole = Program.from_arrays([1.0], [[1.0]], row_lower=0.5, integer=True)
    with pytest.raises(ValueError, match="infinite bound"):
        branch_and_bound(whole)
    nothing = Program.from_arrays(
        [1.0], [[2.0]], row_lower=1, row_upper=1, upper=5, integer=1
    )
    with pytest.raises(Infeasible):
        branch_and_bound(nothing)
    with pytest.raises(NodeLimit, match="more than 2 nodes"):
        branch_and_bound(guzelsoy_ralphs(0.5), node_limit=2)


@pytest.mark.parametrize("seed", range(6))
def test_its_optimum_is_the_one_of_highs(seed):
    program = random_program(seed)
    tree, solution = branch_and_bound(program), optimum(program)
    assert tree.value == pytest.approx(solution.value, abs=1e-7)
    assert program.objective(tree.x) == pytest.approx(tree.value, abs=1e-6)
    whole = solution.x[program.integer]
    assert (whole == np.round(whole)).all()
    assert program.objective(optimal_point(program)) == pytest.approx(solution.value)
