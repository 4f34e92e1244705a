"""Time limits hold, with thousands of blocks as with one."""

import math
import time

import pyomo.environ as pyo
import pytest
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory
from pyomo.contrib.solver.common.results import TerminationCondition

from pyomo_relu import ReLUNetBlock, find_start
from pyomo_relu.base.deadline import Deadline, TimeUp
from pyomo_relu.programs.standard_form import compile_standard_form
from tests.harness.random_networks import he_network

pytest.importorskip("highspy")

NETWORK = he_network(0, [3, 10, 10, 1])


def fleet(count: int) -> pyo.ConcreteModel:
    """Blocks with inputs of their own and an on/off choice each, joined by two rows."""
    m = pyo.ConcreteModel()
    m.units = pyo.RangeSet(0, count - 1)
    m.x = pyo.Var(m.units, range(3), bounds=(-1, 1))
    m.on = pyo.Var(m.units, domain=pyo.Binary)
    m.net = ReLUNetBlock(
        m.units,
        network=NETWORK,
        inputs=lambda b, i: [b.x[i, j] for j in range(3)],
        bounds="interval",
    )
    m.supply = pyo.Constraint(expr=sum(m.x[i, 0] for i in m.units) <= 0.1 * count)
    m.demand = pyo.Constraint(
        expr=sum(m.net[i].outputs[0] for i in m.units) >= 0.05 * count
    )
    m.value = pyo.Objective(
        expr=sum(
            (1 + 0.1 * (i % 7)) * m.net[i].outputs[0] - 0.1 * m.on[i] for i in m.units
        ),
        sense=pyo.maximize,
    )
    return m


def solve(m, name, limit):
    return NewFactory(name).solve(
        m,
        time_limit=limit,
        load_solutions=False,
        raise_exception_on_nonoptimal_result=False,
    )


@pytest.mark.parametrize("name", ["relu_highs", "relu_global"])
def test_no_time_at_all(name):
    results = solve(fleet(3), name, 0.0)
    assert results.termination_condition is TerminationCondition.maxTimeLimit
    assert results.incumbent_objective is None and results.objective_bound == math.inf
    assert results.solution_loader.get_number_of_solutions() == 0


def test_reading_a_model_minds_the_clock():
    m = fleet(30)
    with pytest.raises(TimeUp):
        compile_standard_form(m, deadline=Deadline(0.0))
    start = find_start(m, time_limit=0.0)
    assert start.point is None or start.violation < math.inf


def test_bounds_from_a_model_without_time_are_those_it_had():
    m = fleet(3)
    before = m.net[1].bounds
    after = m.net[1].tighten("model", time_limit=0.0)
    for a, b in zip((*before.lower, *before.upper), (*after.lower, *after.upper)):
        assert (a == b).all()


@pytest.fixture(scope="module")
def many():
    return fleet(2000)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1.0, 4.0, 15.0])
@pytest.mark.parametrize("name", ["relu_highs", "relu_global", "find_start"])
def test_two_thousand_blocks(name, limit, many):
    """Minutes of work without a limit; how exactly one is kept, a benchmark can say."""
    begin = time.process_time()
    if name == "find_start":
        find_start(many, time_limit=limit)
    else:
        solve(many, name, limit)
    # HiGHS's own threads count, and it has as many as it likes.
    threads = 2 if name == "relu_highs" else 1
    assert time.process_time() - begin <= 10 * threads * (limit + 2.0)
