"""Present values that are offered count, however little time there is."""

import math

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory
from pyomo.contrib.solver.common.results import TerminationCondition
from pyomo.contrib.solver.common.util import IncompatibleModelError
from pyomo.gdp import Disjunction

from pyomo_relu import ReLUNetBlock
from pyomo_relu.programs.scip import has_scip
from pyomo_relu.solvers.offered import offered_point
from tests.harness.random_networks import he_network

pytest.importorskip("highspy")

NETWORK = he_network(0, [2, 6, 6, 1])
SOLVERS = [
    "relu",
    "relu_global",
    "relu_highs",
    pytest.param(
        "relu_scip", marks=pytest.mark.skipif(not has_scip(), reason="needs pyscipopt")
    ),
]


def planned(formulation="bigm", **options) -> pyo.ConcreteModel:
    """Two units, one after the other, with an on/off choice and a point that is feasible."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(3), bounds=(-1, 1))
    m.on = pyo.Var(domain=pyo.Binary)
    m.first = ReLUNetBlock(
        network=NETWORK, inputs=[m.x[0], m.x[1]], formulation=formulation, **options
    )
    m.middle = pyo.Var(bounds=(-20, 20))
    m.joint = pyo.Constraint(expr=m.middle == m.first.outputs[0] + m.on)
    m.second = ReLUNetBlock(
        network=NETWORK, inputs=[m.middle, 0.5 * m.x[2]], formulation=formulation, **options
    )
    m.row = pyo.Constraint(expr=m.x[0] + m.x[1] + m.on <= 1.5)
    m.value = pyo.Objective(expr=m.second.outputs[0] - m.on, sense=pyo.maximize)
    for v, x in zip(m.x.values(), (0.3, -0.4, 0.9)):
        v.value = x
    m.on.value = 1
    m.first.outputs[0].value = float(NETWORK.evaluate([0.3, -0.4])[0])
    m.middle.value = m.first.outputs[0].value + 1
    m.second.outputs[0].value = float(NETWORK.evaluate([m.middle.value, 0.45])[0])
    return m


def values(m) -> dict[str, float | None]:
    return {v.name: v.value for v in m.component_data_objects(pyo.Var)}


@pytest.mark.parametrize("name", SOLVERS)
def test_no_time_at_all(name):
    m = planned()
    for block, x in ((m.first, [0.3, -0.4]), (m.second, [m.middle.value, 0.45])):
        block.warm_start(x)  # relu_highs asks for the rows, too
    before, cost = values(m), pyo.value(m.value)
    results = NewFactory(name).solve(
        m, time_limit=0.0, warmstart=True, raise_exception_on_nonoptimal_result=False
    )
    assert results.termination_condition is TerminationCondition.maxTimeLimit
    assert results.incumbent_objective == pytest.approx(cost, rel=1e-12)
    assert results.objective_bound == math.inf
    assert results.solution_loader.get_vars()[m.x[2]] == 0.9
    assert values(m) == before
    legacy = pyo.SolverFactory(name).solve(m, timelimit=0.0, warmstart=True)
    assert legacy.problem.lower_bound == pytest.approx(cost, rel=1e-12)
    assert values(m) == before


@pytest.mark.parametrize("formulation", [None, "bigm", "sos1", "disjunctive"])
def test_networks_count_by_what_they_compute(formulation):
    m = planned(formulation)
    loader, cost = offered_point(m, "relu")
    assert cost == pytest.approx(pyo.value(m.value), rel=1e-12)
    found = loader.get_vars()
    assert all(v in found for v in (*m.x.values(), m.on, m.middle))


def no_value(m):
    m.x[2].value = None


def wrong_output(m):
    m.second.outputs[0].value += 1e-6


def moved_input(m):
    m.x[2].value -= 0.01


def input_outside(m):
    m.x[2].setub(0.8)


def broken_row(m):
    m.row.set_value(m.x[0] + m.x[1] + m.on <= 0.8)


def broken_whole(m):
    m.on.value = 0.5
    m.middle.value -= 0.5
    m.second.outputs[0].value = float(NETWORK.evaluate([m.middle.value, 0.45])[0])


def whole_input(m):
    m.x[2].domain = pyo.Integers


def broken_product(m):
    m.more = pyo.Constraint(expr=m.x[0] * m.x[1] >= 0)


def outside_its_function(m):
    m.more = pyo.Constraint(expr=pyo.log(m.x[1]) <= 5)


def broken_set(m):
    m.more = pyo.SOSConstraint(var=m.x, sos=1)


def output_bound(m):
    m.first.outputs[0].setub(m.first.outputs[0].value - 0.1)


def layer_variable(m):
    v = m.first.layer_variables[0]
    v.value = v.lb
    m.more = pyo.Constraint(expr=v <= 100)


def changed_block(m):
    layer = next(iter(m.first.layer.values()))
    layer.more = pyo.Constraint(expr=m.first.outputs[0] <= m.first.outputs[0].value - 0.1)


def widened(m):
    m.x[0].setub(5)


EDITS = [
    no_value, wrong_output, moved_input, input_outside, broken_row, broken_whole,
    whole_input, broken_product, outside_its_function, broken_set, output_bound,
    layer_variable, changed_block, widened,
]  # fmt: skip


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_what_does_not_fit_is_not_taken(edit):
    m = planned()
    assert offered_point(m, "relu") is not None
    edit(m)
    assert offered_point(m, "relu") is None


@pytest.mark.parametrize("formulation", [None, "bigm"])
def test_bounds_that_the_block_was_given_count(formulation):
    assert (
        offered_point(planned(formulation, input_bounds=[(-20, 20), (-0.5, 0.5)]), "relu")
        is not None
    )
    assert (
        offered_point(planned(formulation, input_bounds=[(-20, 20), (-0.3, 0.5)]), "relu")
        is None
    )


def test_rows_of_a_formulation_count_for_a_solver_of_rows():
    m = planned("fixed_pattern", at=[0.0, 0.0])
    assert offered_point(m, "relu") is not None
    assert offered_point(m, "relu_highs", by_rows=True) is None  # the layers have no values


def test_what_no_solver_takes_is_refused():
    m = planned()
    m.choice = Disjunction(expr=[m.on == 0, m.on == 1])
    with pytest.raises(IncompatibleModelError, match="Disjunct"):
        offered_point(m, "relu")


def test_random_points_are_taken_only_where_all_rows_hold():
    """Against the rows of big-M, by values of every variable."""
    rng = np.random.default_rng(0)
    taken = 0
    for _ in range(30):
        m = planned()
        x = rng.uniform(-1.2, 1.2, 3)
        for v, a in zip(m.x.values(), x):
            v.value = float(a)
        m.on.value = int(rng.integers(2))
        m.first.outputs[0].value = float(NETWORK.evaluate(x[:2])[0])
        m.middle.value = m.first.outputs[0].value + m.on.value
        y = NETWORK.evaluate([m.middle.value, 0.5 * x[2]])
        m.second.outputs[0].value = float(y[0])
        fits = bool((abs(x) <= 1).all()) and x[0] + x[1] + m.on.value <= 1.5
        assert (offered_point(m, "relu") is not None) == fits
        taken += fits
    assert 5 <= taken <= 25
