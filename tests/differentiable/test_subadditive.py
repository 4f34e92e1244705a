"""Subadditive duals: what the definition asks for, re-solved programs, and differences."""

from __future__ import annotations

import doctest
from itertools import product

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu.base.deadline import Deadline, TimeUp
from pyomo_relu.differentiable import (
    Infeasible,
    NodeLimit,
    ParametricMILP,
    Program,
    SubadditiveDual,
    subadditive,
)
from pyomo_relu.differentiable.right_hand_sides import Binaries, sides_of
from pyomo_relu.programs.sharp import solve_mip
from tests.differentiable.instances import (
    guzelsoy_ralphs,
    random_change,
    random_program,
)


def value(program: Program) -> float:
    return program.objective(solve_mip(program))


def moved_sides(program: Program, rng: np.random.Generator, size: float) -> Program:
    """Other sides of rows and other bounds of continuous variables."""
    vector, at = program.to_vector(), program.slices()
    for part in ("row_lower", "row_upper"):
        vector[at[part]] += size * rng.normal(size=vector[at[part]].shape)
    crossed = vector[at["row_lower"]] > vector[at["row_upper"]]
    vector[at["row_lower"]][crossed] = vector[at["row_upper"]][crossed]
    free = ~program.integer
    vector[at["upper"]][free] += 0.3 * size * rng.random(int(free.sum()))
    vector[at["lower"]][free] -= 0.3 * size * rng.random(int(free.sum()))
    return program.with_vector(vector)


#: Seeds of random programs whose trees have 2 to 40 leaves.
SEEDS = (0, 2, 4, 8, 10, 13, 15, 19, 24)


@pytest.mark.parametrize("seed", SEEDS)
def test_it_is_an_optimal_subadditive_dual(seed):
    """Tight, nondecreasing, subadditive, 0 at 0, at most the costs at the columns."""
    program = random_program(seed)
    dual = SubadditiveDual(program)
    assert dual.leaves > 1 and dual.height > 0
    assert dual.bound() == pytest.approx(value(program), abs=2e-7)
    assert dual.bound() <= dual.value
    assert dual.slacks().min() > -1e-9
    assert -1e-9 <= dual(np.zeros(len(dual.right))) <= 0.0
    rng = np.random.default_rng(seed)
    d = rng.normal(size=(25, len(dual.right))) * rng.choice([0.1, 1, 10], (25, 1))
    found = dual(d)
    sums = (d[:, None] + d[None]).reshape(-1, d.shape[1])
    excess = dual(sums).reshape(25, 25) - found[:, None] - found[None]
    assert excess.max() < 1e-8
    assert (dual(d + np.abs(rng.normal(size=d.shape))) >= found - 1e-9).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_below_resolved_programs(seed):
    """A bound for other right-hand sides and other data, above the least leaf's."""
    program = random_program(seed)
    dual = SubadditiveDual(program)
    leaves = dual.least_leaf()
    rng, better = np.random.default_rng(seed), 0.0
    for size in (1e-3, 0.1, 0.5, 2.0) * 2:
        other = moved_sides(program, rng, size)
        bound = dual.bound(other)
        least = leaves(other)
        assert bound >= least - 1e-7 * max(1.0, abs(least))
        better = max(better, bound - least)
        for case, its in ((other, bound), (everything := random_change(other, rng, size),
                                           dual.bound(everything))):  # fmt: skip
            try:
                assert its <= value(case) + 1e-7
            except Infeasible:
                pass
    assert better > 1e-3


def test_table_of_guzelsoy_and_ralphs():
    grid = np.linspace(-5, 5, 41)
    exact = np.array([value(guzelsoy_ralphs(b)) for b in grid])
    for b in (-2, -0.5, 0.5, 1.25, 3.7):
        dual = SubadditiveDual(guzelsoy_ralphs(b))
        found = dual(np.array([dual.right_of(guzelsoy_ralphs(d)) for d in grid]))
        assert dual.bound() == pytest.approx(value(guzelsoy_ralphs(b)), abs=1e-7)
        assert (found - exact).max() <= 1e-7


@pytest.mark.parametrize("seed", SEEDS)
def test_gradient(seed):
    """Of F, equal to differences of F; at the base to differences of the value."""
    program = random_program(seed)
    dual = SubadditiveDual(program)
    rng = np.random.default_rng(seed)
    base = np.where(np.isinf(dual.right), 0.0, dual.right)
    for point in (base, base + rng.normal(size=base.shape)):
        step = 1e-6 * rng.normal(size=base.shape)
        slope = (dual(point + step) - dual(point - step)) / 2e-6
        assert dual.gradient(point) @ step / 1e-6 == pytest.approx(slope, abs=1e-5)
    assert (dual.gradient() == dual.gradient(dual.right)).all()
    assert dual.gradient(np.array([base, base])).shape == (2, len(base))
    milp = ParametricMILP.from_arrays(program, ["cost", "row_lower", "row_upper", "matrix"])
    own = milp.data_jacobian().T @ dual.data_gradient()
    assert np.abs(own - milp.value_and_grad()[1]).max() < 1e-5


def test_no_wrong_multiplier_goes_unseen():
    """What is asked for fails where multipliers, alpha or beta are wrong."""
    dual = SubadditiveDual(random_program(13))
    sharp = dual.slacks().min()
    dual.multipliers = dual.multipliers * 1.1
    assert sharp > -1e-9 > dual.slacks().min()
    dual = SubadditiveDual(random_program(13))
    for level in dual._levels:
        level.beta[:] = 0.0
    assert dual.bound() < dual.value - 1e-3 or dual.slacks().min() < -1e-3


def test_integers_as_binaries():
    program = Program.from_arrays(
        [1.0, -3.0, 0.0], [[2, 1, 1.0]], row_lower=-4, row_upper=5.5,
        lower=[-2.4, -1, 0.5], upper=[2, 5.2, 1], integer=[1, 1, 0],
    )  # fmt: skip
    written = Binaries(program).write(program)
    assert written.integer.tolist() == [False] * 3 + [True] * 6
    assert value(written) == value(program)
    for x in product(range(-2, 3), range(-1, 6)):
        bits = [x[0] + 2 >> i & 1 for i in range(3)] + [x[1] + 1 >> i & 1 for i in range(3)]
        point = np.array([*x, 0.7, *bits])
        assert (written.matrix @ point)[1:].tolist() == written.row_lower[1:].tolist()
    sides = sides_of(program)
    assert sides.constant == -2.4 + 3.0
    assert sides.right.tolist() == pytest.approx([-4 + 5.3, -5.3 - 5.5, -4.4, -6.2, -0.5])


def test_from_a_pyomo_model():
    """Without and with Params; a maximization is the negative."""
    m = pyo.ConcreteModel()
    m.need = pyo.Param(initialize=2.6, mutable=True)
    m.n = pyo.Var(domain=pyo.Integers, bounds=(0, 5))
    m.s = pyo.Var(bounds=(0, None))
    m.enough = pyo.Constraint(expr=2 * m.n + m.s >= m.need)
    m.gain = pyo.Objective(expr=-3 * m.n - 2 * m.s, sense=pyo.maximize)
    milp = ParametricMILP.from_pyomo(m, [m.need])
    assert milp.row_names == ["enough"]
    dual = milp.subadditive_dual()
    assert milp.sense * dual.bound() == pytest.approx(-4.2, abs=1e-6)
    for need in np.linspace(-1, 9, 11):
        bound = dual.bound(milp.program([need]))
        assert bound <= milp.sense * milp.solve([need]).value + 1e-9
    price = ParametricMILP.from_pyomo(m, []).subadditive_dual().gradient()[0]
    assert price == pytest.approx(2.0)


def test_refusals():
    free = Program.from_arrays([1.0], [[1.0]], row_lower=0.5, lower=-np.inf, upper=2)
    with pytest.raises(ValueError, match="variable 0 has no finite lower bound"):
        SubadditiveDual(free)
    program = random_program(10)
    with pytest.raises(NodeLimit):
        SubadditiveDual(program, node_limit=3)
    with pytest.raises(TimeUp):
        SubadditiveDual(program, deadline=Deadline(0.0))
    dual = SubadditiveDual(random_program(2))
    with pytest.raises(ValueError, match="has .* entries"):
        dual([1.0])
    with pytest.raises(ValueError, match="NaN"):
        dual(np.full(len(dual.right), np.nan))
    with pytest.raises(ValueError, match="is infinite"):
        dual(np.full(len(dual.right), -np.inf))
    with pytest.raises(ValueError, match="rows, columns"):
        dual.bound(random_program(3))
    other = dual.program.with_bounds(dual.program.lower, dual.program.upper + 1.0)
    with pytest.raises(ValueError, match="larger box"):
        dual.bound(other)


def test_docstring():
    assert doctest.testmod(subadditive).failed == 0
