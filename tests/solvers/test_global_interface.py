"""relu_global as a solver: statuses, limits, interrupts, logs, workers, the switch to MIPs."""

from __future__ import annotations

import io
import logging
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory
from pyomo.contrib.solver.common.util import (
    IncompatibleModelError,
    NoFeasibleSolutionError,
    NoOptimalSolutionError,
)

from pyomo_relu import ReLUNetBlock
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.solvers.global_search.box_search import BoxSearch
from pyomo_relu.solvers.global_search.cost_search import CostSearch
from pyomo_relu.solvers.global_search.limits import Limits
from tests.harness.random_networks import he_network
from tests.solvers.global_models import random_model
from tests.solvers.test_global import TIGHT, box_model, solve, status, subsystems

pytest.importorskip("highspy")


def many_inputs():
    """Thirty inputs: a MIP at once."""
    return box_model(he_network(3, (30, 12, 12, 1)))


def mip(model) -> float:
    """The optimum by HiGHS alone."""
    pyo.SolverFactory("relu_highs").solve(model, options=TIGHT, start=None)
    return pyo.value(model.obj)


KINDS = {
    "boxes": lambda: box_model(he_network(0, (5, 20, 20, 1))),
    "polytopes": lambda: subsystems(3, None),
    "prices": lambda: subsystems(2, None, inputs=3),
    "mip": many_inputs,
}


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("how", ["stop", "ctrl-c", "nodes", "time"])
def test_every_search_ends_early_with_a_valid_bound(kind, how):
    m = KINDS[kind]()
    assert status(solve(m)) == "optimal"
    best = pyo.value(m.obj)
    m = KINDS[kind]()

    def progress(event):
        if how == "ctrl-c":
            raise KeyboardInterrupt
        return how == "stop"

    options = {
        "stop": {"progress": progress},
        "ctrl-c": {"progress": progress},
        "nodes": {"node_limit": 1},
        "time": {"time_limit": 0.0},
    }[how]
    results = solve(m, **options)
    wanted = {"nodes": "maxIterations", "time": "maxTimeLimit"}
    if (kind, how) == ("polytopes", "nodes"):
        wanted["nodes"] = "optimal"  # by the first program, which nothing cuts short
    assert status(results) == wanted.get(how, "resourceInterrupt")
    assert results.problem.upper_bound >= best - 1e-9
    low = results.problem.lower_bound
    assert low is None or not np.isfinite(low) or low <= best * (1 + 2e-4)
    if low is not None and np.isfinite(low):
        assert pyo.value(m.obj) == pytest.approx(low)


def test_a_limit_with_a_point_is_feasible_in_the_new_interface():
    m = KINDS["boxes"]()
    results = NewFactory("relu_global").solve(
        m, node_limit=20, raise_exception_on_nonoptimal_result=False
    )
    assert results.solution_status.name == "feasible"
    assert results.termination_condition.name == "iterationLimit"
    assert results.incumbent_objective == pytest.approx(pyo.value(m.obj))
    assert results.objective_bound > results.incumbent_objective
    assert results.extra_info.mip_gap > 1e-4 and results.extra_info.open_boxes > 0
    with pytest.raises(NoOptimalSolutionError):
        NewFactory("relu_global").solve(m, node_limit=20)
    m.row = pyo.Constraint(expr=m.net.outputs[0] >= 1e3)
    with pytest.raises(NoFeasibleSolutionError):
        NewFactory("relu_global").solve(m, raise_exception_on_nonoptimal_result=False)


def test_legacy_results_carry_nodes_times_and_bounds():
    results = solve(KINDS["boxes"]())
    tree = results.solver.statistics.branch_and_bound
    assert int(tree.number_of_created_subproblems) > 10
    assert 0 < results.solver.wallclock_time < 100
    gap = results.problem.upper_bound - results.problem.lower_bound
    assert 0 <= gap <= 1.01e-4 * abs(results.problem.lower_bound)


def test_the_log_has_bound_incumbent_gap_and_open_boxes(capsys):
    solve(KINDS["boxes"](), tee=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("relu_global: 5 inputs, 1 networks")
    titles = ["seconds", "boxes", "open", "bound", "incumbent", "gap", "search"]
    assert lines[1].split() == titles
    assert lines[2].startswith("*") and lines[2].split()[-1] == "boxes"
    assert float(lines[-2].split()[-2].rstrip("%")) <= 0.01
    assert lines[-1].startswith("relu_global: optimal to ")
    log = io.StringIO()
    solve(KINDS["prices"](), tee=log)
    assert "incumbent" in log.getvalue()


def test_tolerances_are_kept():
    m = KINDS["boxes"]()
    loose, tight = solve(m, rel_gap=0.05), solve(m, rel_gap=1e-7)
    boxes = [
        int(r.solver.statistics.branch_and_bound.number_of_created_subproblems)
        for r in (loose, tight)
    ]
    assert boxes[0] < boxes[1]
    gap = tight.problem.upper_bound - tight.problem.lower_bound
    assert gap <= 1.2e-6 + 1e-7 * abs(tight.problem.lower_bound)


def test_errors_name_this_solver():
    m = KINDS["boxes"]()
    m.square = pyo.Constraint(expr=m.x[0] ** 2 <= 0.5)
    with pytest.raises(IncompatibleModelError, match="relu_global takes linear"):
        solve(m)
    m.square.deactivate()
    m.sos = pyo.SOSConstraint(var=m.x, sos=1)
    with pytest.raises(IncompatibleModelError, match="relu_global can't pass"):
        solve(m)


def test_worker_processes_change_nothing():
    runs = []
    for executor in (None, ProcessPoolExecutor(1)):
        m = KINDS["boxes"]()
        results = solve(m, batch_size=300, executor=executor)
        tree = results.solver.statistics.branch_and_bound
        boxes = int(tree.number_of_created_subproblems)
        runs.append((boxes, pyo.value(m.obj), results.problem.upper_bound))
        if executor is not None:
            executor.shutdown()
    assert runs[0] == runs[1]


@pytest.mark.parametrize("kind", ["polytopes", "prices", "mip", "one mip"])
def test_a_search_in_one_process_says_so(kind, caplog):
    """That is one MIP of a model with rows; without rows, sides take turns with it."""
    m = KINDS[kind.removeprefix("one ")]()
    if kind == "one mip":
        m.few = pyo.Constraint(expr=sum(m.x.values()) <= 1)
    with ThreadPoolExecutor(1) as pool, caplog.at_level(logging.WARNING, "pyomo_relu"):
        assert status(solve(m, executor=pool)) == "optimal"
    assert ("no use for this model" in caplog.text) == (kind == "one mip")


@pytest.mark.parametrize("sizes", [(12, 12, 12, 1), (8, 12, 12, 1)])
def test_a_mip_takes_over_where_boxes_grow(sizes):
    m = box_model(he_network(0, sizes), formulation="bigm")
    results = NewFactory("relu_global").solve(m, time_limit=600)
    value, bound = pyo.value(m.obj), results.objective_bound
    # Without the MIP, 40,000 boxes and more leave a gap of a third.
    assert results.extra_info.mip_node_count < 20_000
    exact = mip(m)
    assert value == pytest.approx(exact, rel=2e-4)
    assert exact - 1e-9 <= bound <= exact + 2e-4 * abs(exact)


def test_a_plateau_is_left_to_a_small_mip():
    """The best outputs of one subsystem lie on a whole face of its function."""
    m = random_model(10943)
    results = solve(m, time_limit=600)
    value, bound = pyo.value(m.obj), results.problem.upper_bound
    assert status(results) == "optimal"
    exact = mip(m)
    assert value == pytest.approx(exact, abs=1e-5) and bound >= exact - 1e-9


def test_images_are_handed_over_and_agree():
    rng = np.random.default_rng(0)
    image = rng.random(784)
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(784))
    for j, x in enumerate(image.tolist()):
        m.x[j].setlb(max(0.0, x - 0.002))
        m.x[j].setub(min(1.0, x + 0.002))
    network = he_network(0, (784, 50, 50, 10))
    m.net = ReLUNetBlock(network=network, inputs=m.x, formulation="bigm")
    m.obj = pyo.Objective(expr=m.net.outputs[1] - m.net.outputs[0], sense=pyo.maximize)
    results = solve(m, time_limit=600)
    value = pyo.value(m.obj)
    assert status(results) == "optimal"
    assert value == pytest.approx(mip(m), rel=2e-4)


def test_a_search_is_more_than_its_limits():
    problem = read_problem(KINDS["boxes"]())
    with pytest.raises(TypeError, match="abstract"):
        CostSearch(problem, Limits())
    assert BoxSearch(problem, Limits()).bound == -np.inf  # nothing is known before it runs


def test_every_round_is_told_where_boxes_are_alone():
    """With rows of the user's nothing else takes part, and no point may be found."""
    m = box_model(he_network(0, (4, 16, 16, 2)))
    m.row = pyo.Constraint(expr=m.net.outputs[1] <= 0.2)
    kinds = []
    results = NewFactory("relu_global").solve(
        m, hand_over=False, progress=lambda event: kinds.append(event.kind)
    )
    assert results.extra_info.rounds > 3
    assert kinds.count("log") == results.extra_info.rounds + 1


@pytest.mark.parametrize("limit", ["time_limit", "cpu_time_limit"])
def test_a_search_minds_the_clock_and_its_cpu_time(limit):
    search = BoxSearch(read_problem(KINDS["boxes"]()), Limits(**{limit: 0.0}))
    search.run()
    assert search.stopped == "time" and search.bound <= search.incumbent.cost
