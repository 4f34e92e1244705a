"""Programs over polytopes: against HiGHS on written rows, and their parts one by one."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pyomo.environ as pyo
import pytest

from pyomo_relu.formulations import network_blocks
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.solvers.global_search import divided
from pyomo_relu.solvers.global_search.shares import split_shares
from tests.solvers.subsystem_models import rivals_model, subsystems_model

pytest.importorskip("highspy")

TIGHT = {
    "mip_rel_gap": 1e-9,
    "mip_abs_gap": 1e-9,
    "mip_feasibility_tolerance": 1e-9,
    "primal_feasibility_tolerance": 1e-9,
}


def assert_agrees(make: Callable[[int, str | None], pyo.ConcreteModel], seed: int) -> str:
    """relu_global and HiGHS on the rows of the networks find the same; the status."""
    m = make(seed, None)
    results = pyo.SolverFactory("relu_global").solve(m, time_limit=600)
    found = str(results.solver.termination_condition)
    value = pyo.value(m.cost) if found == "optimal" else None
    errors = [b.error() for b in network_blocks(m)] if found == "optimal" else [0.0]
    m = make(seed, "bigm")
    other = pyo.SolverFactory("relu_highs").solve(m, options=TIGHT, start=None)
    assert found == str(other.solver.termination_condition), f"seed {seed}"
    if found != "optimal":
        return found
    exact = pyo.value(m.cost)
    scale = max(1.0, abs(exact))
    maximize = m.cost.sense == pyo.maximize
    problem = results.problem
    over = problem.upper_bound - exact if maximize else exact - problem.lower_bound
    assert over >= -1e-5 * scale, f"seed {seed}: the bound cuts off {exact} by {over}"
    assert abs(value - exact) <= 2e-4 * scale, f"seed {seed}: {value} for {exact}"
    assert max(errors) < 1e-6
    return found


@pytest.mark.parametrize("by_choice", [16, 1])
def test_random_models_agree_with_written_rows(by_choice, monkeypatch, caplog):
    """With a group for each combination of integers, and with one for all of them."""
    caplog.set_level(logging.ERROR, logger="pyomo_relu")
    setting = divided.PIECES.__class__(by_choice=by_choice)
    monkeypatch.setattr(divided, "PIECES", setting)
    found = [assert_agrees(subsystems_model, seed) for seed in range(14)]
    assert found.count("optimal") > 6 and "infeasible" in found


def test_inputs_of_few_values_may_be_shared(caplog):
    """Also where each is a subsystem, which has copies of them."""
    caplog.set_level(logging.ERROR, logger="pyomo_relu")
    found = [assert_agrees(rivals_model, seed) for seed in range(12)]
    assert found.count("optimal") > 8
    shares = [split_shares(read_problem(rivals_model(seed, None))) for seed in range(12)]
    assert sum(any(s.shared.any() for s in some) for some in shares) > 8


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 2000, 100))
def test_many_random_models_agree_with_written_rows(first):
    for seed in range(first, first + 100):
        assert_agrees(subsystems_model, seed)
        assert_agrees(rivals_model, seed)
