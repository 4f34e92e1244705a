"""The package's own solvers and the units of inputs, outputs and inner values."""

from __future__ import annotations

import pyomo.environ as pyo
import pytest

from tests.harness.in_units import in_units


def assert_same_optimum(solver: str, seed: int, n_inputs: int | None) -> None:
    """As the plain network has it by HiGHS alone."""
    # HiGHS calls some models infeasible where an input moves by less than 1e-9.
    exponents = (-12.0 if solver == "relu_global" else -8.0, 12.0)
    world = in_units(seed, n_inputs=n_inputs, exponents=exponents)
    output = seed % len(world.outputs)
    spread = world.spread()[output]
    if spread < 1e-3:
        return
    sense = ("min", "max")[seed // 2 % 2]
    m = world.model(plain=True)
    world.set_objective(m, output, sense, plain=True)
    gaps = {"mip_rel_gap": 1e-9, "mip_abs_gap": 1e-9}
    pyo.SolverFactory("appsi_highs").solve(m, options=gaps)
    known = pyo.value(m.goal)
    m = world.model()
    factor = world.set_objective(m, output, sense)
    pyo.SolverFactory(solver).solve(m, rel_gap=1e-7, time_limit=600)
    found = pyo.value(m.goal) / factor
    assert abs(found - known) <= 2e-6 * max(spread, abs(known)), f"seed {seed}"


@pytest.mark.parametrize("solver", ["relu_highs", "relu_global"])
def test_optimum_does_not_depend_on_units(solver):
    for seed in range(6):
        assert_same_optimum(solver, seed, 1 + seed % 3)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["relu_highs", "relu_global"])
def test_optimum_does_not_depend_on_units_at_length(solver):
    for seed in range(100, 160):
        assert_same_optimum(solver, seed, 1 + seed % 4)
