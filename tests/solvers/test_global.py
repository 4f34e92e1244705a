"""relu_global against the MIP, against exact optima, and its behaviour as a solver."""

from __future__ import annotations

import io
import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory
from pyomo.contrib.solver.common.util import IncompatibleModelError

from pyomo_relu import ReLUNetBlock
from pyomo_relu.analysis import linear_regions
from pyomo_relu.formulations import network_blocks
from tests.harness.random_networks import ALL_ACTIVATIONS, he_network, random_network
from tests.solvers.global_models import random_model

pytest.importorskip("highspy")

TIGHT = {
    "mip_rel_gap": 1e-9,
    "mip_abs_gap": 1e-9,
    "mip_feasibility_tolerance": 1e-9,
    "primal_feasibility_tolerance": 1e-9,
}


def solve(model, **options):
    return pyo.SolverFactory("relu_global").solve(model, **options)


def status(results) -> str:
    return str(results.solver.termination_condition)


def box_model(network, low=-1.0, high=1.0, sense=pyo.maximize, formulation=None):
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(network.n_inputs), bounds=(low, high))
    m.net = ReLUNetBlock(network=network, inputs=m.x, formulation=formulation)
    m.obj = pyo.Objective(expr=m.net.outputs[0], sense=sense)
    return m


def assert_agrees(seed: int) -> str:
    """relu_global and the MIP find the same; returns the status.

    Every other model is left to the boxes, without small MIPs but the smallest, and ends
    after a few hundred: its bound must hold all the same.
    """
    m = random_model(seed)
    boxes = {"leaf_neurons": 1, "node_limit": 300, "hand_over": False}
    results = solve(m, time_limit=600, **(boxes if seed % 2 else {}))
    found = status(results)
    ended = found == "maxIterations" and seed % 2 == 1
    value, errors = None, []
    bound, best = results.problem.lower_bound, results.problem.upper_bound
    sign = 1.0
    if m.obj.sense == pyo.maximize:
        bound, best, sign = best, bound, -1.0
    if found == "optimal":
        value = pyo.value(m.obj)
        errors = [b.error() for b in network_blocks(m)]
    other = pyo.SolverFactory("relu_highs").solve(m, options=TIGHT, start=None)
    truth = status(other)
    assert found == truth or ended, f"seed {seed}: {found} for {truth}"
    if truth != "optimal":
        assert best is None or not np.isfinite(best), f"seed {seed}: not infeasible"
        return found
    exact = pyo.value(m.obj)
    scale = max(1.0, abs(exact))
    assert sign * (bound - exact) <= 1e-5 * scale, f"seed {seed}: {bound} cuts off {exact}"
    if ended:
        assert best is None or sign * (best - exact) >= -1e-5 * scale, f"seed {seed}"
        return found
    assert max(errors) < 1e-6
    assert abs(value - exact) <= 2e-4 * scale, f"seed {seed}: {value} for {exact}"
    return found


def test_random_models_agree_with_the_mip(caplog):
    caplog.set_level(logging.ERROR, logger="pyomo_relu")
    found = [assert_agrees(seed) for seed in range(3000, 3040)]
    assert found.count("optimal") > 20 and "infeasible" in found


@pytest.mark.slow
@pytest.mark.parametrize("first", range(10_000, 12_000, 100))
def test_many_random_models_agree_with_the_mip(first):
    for seed in range(first, first + 100):
        assert_agrees(seed)


@pytest.mark.parametrize("seed", range(12))
def test_exact_optimum_in_the_plane(seed):
    rng = np.random.default_rng(seed)
    network = random_network(
        rng,
        n_inputs=int(rng.integers(1, 3)),
        widths=[6, 6][: int(rng.integers(1, 3))],
        activations=[str(rng.choice(ALL_ACTIVATIONS))],
        max_pool=seed % 3 == 0,
        residual=seed % 4 == 1,
    )
    regions = linear_regions(network, -1.0, 1.0)
    for sense, name in ((pyo.minimize, "min"), (pyo.maximize, "max")):
        m = box_model(network, sense=sense)
        results = solve(m, time_limit=600)
        exact = regions.optimum([1.0] + [0.0] * (network.n_outputs - 1), name).value
        problem = results.problem
        bound = problem.lower_bound if name == "min" else problem.upper_bound
        sign = 1.0 if name == "min" else -1.0
        assert status(results) == "optimal"
        assert sign * (bound - exact) <= 1e-7 * max(1.0, abs(exact))
        assert abs(pyo.value(m.obj) - exact) <= 2e-4 * max(1.0, abs(exact))


def test_known_optimum_and_results():
    m = box_model(he_network(1, (5, 20, 20, 1)))
    log = io.StringIO()
    results = NewFactory("relu_global").solve(m, tee=[log])
    # The optimum by big-M and HiGHS with a gap of 1e-9.
    assert pyo.value(m.obj) == pytest.approx(1.1109486, rel=1e-4)
    assert results.objective_bound >= results.incumbent_objective - 1e-12
    assert results.extra_info.mip_gap <= 1e-4
    assert results.extra_info.mip_node_count > 10
    assert results.timing_info.wall_time > 0
    assert "incumbent" in log.getvalue()
    assert m.net.error() == 0.0


def test_formulation_is_left_aside_and_its_variables_get_values():
    network = he_network(2, (3, 8, 8, 1))
    values = []
    for formulation in (None, "bigm"):
        m = box_model(network, formulation=formulation)
        solve(m)
        values.append(pyo.value(m.obj))
        if formulation:
            for c in m.component_data_objects(pyo.Constraint, active=True):
                body = pyo.value(c.body)
                assert c.lower is None or body >= pyo.value(c.lower) - 1e-6
                assert c.upper is None or body <= pyo.value(c.upper) + 1e-6
    assert values[0] == values[1]


def test_same_search_with_and_without_executor():
    m = box_model(he_network(4, (5, 20, 20, 1)))
    runs = []
    with ThreadPoolExecutor(3) as pool:
        for executor in (None, pool, None):
            results = solve(m, batch_size=200, executor=executor)
            tree = results.solver.statistics.branch_and_bound
            runs.append(
                (
                    int(tree.number_of_created_subproblems),
                    pyo.value(m.obj),
                    results.problem.upper_bound,
                )
            )
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize("options", [{"node_limit": 40}, {"time_limit": 0.0}])
def test_limits_keep_a_valid_bound(options):
    m = box_model(he_network(0, (5, 20, 20, 1)))
    solve(m)
    best = pyo.value(m.obj)
    results = solve(m, **options)
    assert status(results) in ("maxIterations", "maxTimeLimit")
    assert results.problem.upper_bound >= best
    if "node_limit" in options:
        assert results.problem.lower_bound <= results.problem.upper_bound


@pytest.mark.parametrize("kind", ["stop", "ctrl-c"])
def test_interrupts_keep_the_best_point(kind):
    m = box_model(he_network(0, (5, 20, 20, 1)))
    seen = []

    def progress(event):
        seen.append(event)
        if event.kind == "log" and event.nodes > 20:
            if kind == "ctrl-c":
                raise KeyboardInterrupt
            return True
        return False

    results = solve(m, batch_size=4, progress=progress)
    assert status(results) == "resourceInterrupt"
    assert m.net.error() == 0.0
    assert results.problem.lower_bound == pytest.approx(pyo.value(m.obj))
    assert 1.6851 <= results.problem.upper_bound < np.inf
    assert seen[-1].bound >= seen[-1].incumbent


def test_infeasible_model_is_proved():
    m = box_model(he_network(0, (2, 10, 10, 1)))
    m.row = pyo.Constraint(expr=m.net.outputs[0] >= 100.0)
    m.x[0].set_value(0.25)
    results = solve(m)
    assert status(results) == "infeasible"
    assert m.x[0].value == 0.25
    new = NewFactory("relu_global").solve(
        m, raise_exception_on_nonoptimal_result=False, load_solutions=False
    )
    assert new.termination_condition.name == "provenInfeasible"


def test_what_is_not_taken_is_refused_by_name():
    network = he_network(0, (2, 5, 1))
    m = box_model(network)
    with pytest.raises(ValueError, match="no option 'gap'"):
        solve(m, options={"gap": 1e-3})
    with pytest.raises(ValueError, match="executor="):
        solve(m, executor=3)
    m.square = pyo.Constraint(expr=m.x[0] ** 2 <= 0.5)
    with pytest.raises(IncompatibleModelError, match="square"):
        solve(m)
    m.del_component("square")
    m.x[1].setub(None)
    with pytest.raises(ValueError, match=r"x\[1\]"):
        solve(m)
    m.x[1].setub(1)
    m.x[1].fix(4.0)
    solve(m)  # a fixed variable need not respect its bounds in Pyomo
    n = pyo.ConcreteModel()
    n.x = pyo.Var(range(2), bounds=(-1, 1))
    n.net = ReLUNetBlock(
        network=network, inputs=[n.x[0] * n.x[1], n.x[0]], formulation=None
    )
    n.obj = pyo.Objective(expr=n.net.outputs[0])
    with pytest.raises(ValueError, match="nonlinear expression"):
        solve(n)


def test_unbounded_rest_is_said():
    m = box_model(he_network(0, (2, 5, 1)))
    m.z = pyo.Var()
    m.obj.set_value(m.net.outputs[0] + m.z)
    results = solve(m)
    assert status(results) in ("infeasibleOrUnbounded", "unbounded")


def recycle(formulation):
    """Two networks that read each other."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(-1, 1))
    m.loop = pyo.Var(bounds=(-2, 2))
    m.a = ReLUNetBlock(
        network=he_network(4, (2, 6, 1)), inputs=[m.x, m.loop], formulation=formulation
    )
    m.b = ReLUNetBlock(
        network=he_network(5, (1, 6, 1)),
        inputs=[m.a.outputs[0]] if formulation else [0.5 * m.x + 0.1 * m.loop],
        input_bounds=(-20, 20),
        formulation=formulation,
    )
    m.close = pyo.Constraint(expr=m.loop == 0.3 * m.b.outputs[0])
    m.obj = pyo.Objective(expr=m.a.outputs[0] + m.x)
    return m


def test_recycle_through_an_equality():
    m = recycle("bigm")
    assert status(solve(m, time_limit=600)) == "optimal"
    value = pyo.value(m.obj)
    pyo.SolverFactory("relu_highs").solve(m, options=TIGHT, start=None)
    assert value == pytest.approx(pyo.value(m.obj), rel=2e-4, abs=1e-5)


def test_networks_that_read_each_other_directly():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(-1, 1))
    m.y = pyo.Var(bounds=(-3, 3))
    m.a = ReLUNetBlock(
        network=he_network(4, (2, 6, 1)), inputs=[m.x, m.y], formulation="bigm"
    )
    m.b = ReLUNetBlock(
        network=he_network(6, (1, 6, 1)), inputs=[m.a.outputs[0]], formulation="bigm"
    )
    m.link = pyo.Constraint(expr=m.y == 0.2 * m.b.outputs[0])
    m.obj = pyo.Objective(expr=m.b.outputs[0] - m.x, sense=pyo.maximize)
    assert status(solve(m, time_limit=600)) == "optimal"
    value = pyo.value(m.obj)
    pyo.SolverFactory("relu_highs").solve(m, options=TIGHT, start=None)
    assert value == pytest.approx(pyo.value(m.obj), rel=2e-4, abs=1e-5)


def subsystems(count: int, formulation, inputs: int = 2):
    """Subsystems with some inputs each, on or off, and one shared limit."""
    m = pyo.ConcreteModel()
    m.unit = pyo.RangeSet(0, count - 1)
    m.x = pyo.Var(m.unit, range(inputs), bounds=(-1, 1))
    m.on = pyo.Var(m.unit, domain=pyo.Binary)
    m.value = pyo.Var(m.unit, bounds=(0, 8))
    m.use = pyo.Var(m.unit, bounds=(0, 8))

    def net(block, k):
        block.build(
            he_network(20 + k, (inputs, 8, 8, 2)),
            [m.x[k, i] for i in range(inputs)],
            formulation=formulation,
        )

    m.net = ReLUNetBlock(m.unit, rule=net)
    m.rows = pyo.ConstraintList()
    for k in m.unit:
        m.rows.add(m.value[k] <= m.net[k].outputs[0] + 4 + 8 * (1 - m.on[k]))
        m.rows.add(m.value[k] <= 8 * m.on[k])
        m.rows.add(m.use[k] >= m.net[k].outputs[1] + 2 - 8 * (1 - m.on[k]))
    m.limit = pyo.Constraint(expr=sum(m.use[k] for k in m.unit) <= 0.9 * count)
    m.obj = pyo.Objective(
        expr=sum(m.value[k] - 4.2 * m.on[k] for k in m.unit), sense=pyo.maximize
    )
    return m


@pytest.mark.parametrize("count, inputs", [(3, 2), (2, 3)])
def test_subsystems_with_a_shared_limit(count, inputs):
    m = subsystems(count, "bigm", inputs)
    results = solve(m, time_limit=600)
    value, bound = pyo.value(m.obj), results.problem.upper_bound
    assert status(results) == "optimal"
    assert max(m.net[k].error() for k in m.unit) < 1e-6
    pyo.SolverFactory("relu_highs").solve(m, options=TIGHT, start=None)
    exact = pyo.value(m.obj)
    assert value == pytest.approx(exact, rel=2e-4)
    assert bound >= exact - 1e-6
    m.need = pyo.Constraint(expr=sum(m.value[k] for k in m.unit) >= 8.0 * count)
    assert status(solve(m, time_limit=600)) == "infeasible"


def test_many_inputs_go_to_the_mip():
    rng = np.random.default_rng(0)
    network = random_network(rng, n_inputs=30, widths=(8,))
    m = box_model(network, formulation="bigm")
    m.row = pyo.Constraint(expr=m.x[0] + m.x[1] <= 1.5)
    results = solve(m)
    assert status(results) == "optimal"
    value = pyo.value(m.obj)
    pyo.SolverFactory("relu_highs").solve(m, options=TIGHT, start=None)
    assert value == pytest.approx(pyo.value(m.obj), rel=2e-4)
    assert (
        int(results.solver.statistics.branch_and_bound.number_of_created_subproblems) == 1
    )


def test_models_without_a_network_or_without_a_variable():
    m = pyo.ConcreteModel()
    m.k = pyo.Var(bounds=(0, 7), domain=pyo.Integers)
    m.z = pyo.Var(bounds=(0, 7))
    m.row = pyo.Constraint(expr=2 * m.k + m.z <= 7.5)
    m.obj = pyo.Objective(expr=m.k + 0.2 * m.z, sense=pyo.maximize)
    assert status(solve(m)) == "optimal"
    assert pyo.value(m.obj) == pytest.approx(3.3)
    network = he_network(0, (2, 5, 1))
    n = pyo.ConcreteModel()
    n.net = ReLUNetBlock(network=network, inputs=[0.5, -0.25], formulation=None)
    n.obj = pyo.Objective(expr=n.net.outputs[0])
    assert status(solve(n)) == "optimal"
    assert pyo.value(n.obj) == pytest.approx(float(network.evaluate([0.5, -0.25])[0]))


def test_warm_start_is_offered():
    m = box_model(he_network(0, (5, 20, 20, 1)))
    solve(m)
    best = pyo.value(m.obj)
    first = []
    solve(
        m,
        warmstart=True,
        progress=lambda e: first.append(e.incumbent) or True,
    )
    assert first[0] == pytest.approx(best)


@pytest.mark.parametrize("count", [1, 2])
def test_rest_without_bounds_in_rows(count):
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(count), bounds=(-1, 1))
    m.z = pyo.Var(range(2))
    m.unit = pyo.RangeSet(0, count - 1)

    def net(block, k):
        block.build(he_network(k, (1, 5, 1)), [m.x[k]], formulation="bigm")

    m.net = ReLUNetBlock(m.unit, rule=net)
    total = sum(m.net[k].outputs[0] for k in m.unit)
    m.row = pyo.Constraint(expr=m.z[0] - m.z[1] <= total)
    m.obj = pyo.Objective(expr=m.z[0] - 0.5 * m.z[1], sense=pyo.maximize)
    assert status(solve(m, time_limit=600)) in ("infeasibleOrUnbounded", "unbounded")
    m.low = pyo.Constraint(expr=m.z[1] + 0.1 * m.z[0] <= 3.0)
    results = solve(m, time_limit=600)
    value = pyo.value(m.obj)
    assert status(results) == "optimal"
    pyo.SolverFactory("relu_highs").solve(m, options=TIGHT, start=None)
    assert value == pytest.approx(pyo.value(m.obj), rel=2e-4)


def test_reported_bound_never_cuts_off_the_optimum():
    for seed in range(6):
        rng = np.random.default_rng(seed)
        network = random_network(rng, n_inputs=2, widths=(8, 8))
        exact = linear_regions(network, -1.0, 1.0).optimum([1.0], "max").value
        m = box_model(network)
        # A loose gap needs a loose bound; a tight one without MIPs is up to the boxes.
        gap, neurons = ((1e-3, 0), (0.05, 12))[seed % 2]
        results = solve(m, rel_gap=gap, leaf_neurons=neurons)
        assert results.problem.upper_bound >= exact - 1e-9 * max(1.0, abs(exact))
