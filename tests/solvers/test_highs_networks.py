"""relu_highs on models with network blocks: what it refuses, starts, interrupts."""

from __future__ import annotations

import math
import os
import signal
import threading

import pyomo.environ as pyo
import pytest
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory
from pyomo.contrib.solver.common.results import TerminationCondition

from pyomo_relu import ReLUNetBlock
from pyomo_relu.programs import HighsModel
from tests.harness.random_networks import he_network

pytest.importorskip("highspy")


def model(sizes=(2, 8, 8, 1), seed=0, **kwds):
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(sizes[0]), bounds=(-1, 1))
    m.net = ReLUNetBlock(network=he_network(seed, sizes), inputs=m.x, **kwds)
    m.obj = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    return m


@pytest.mark.parametrize("start", ["auto", None])
def test_optimum_is_that_of_appsi(start):
    m = model()
    results = NewFactory("relu_highs").solve(m, start=start)
    best = pyo.value(m.obj)
    assert m.net.error() < 1e-5
    assert ("start" in results.extra_info) == (start == "auto")
    if start == "auto":
        assert results.extra_info.start <= best + 1e-6
    pyo.SolverFactory("appsi_highs").solve(m)
    assert pyo.value(m.obj) == pytest.approx(best, rel=2e-4)


def test_refuses_a_block_without_formulation():
    m = model(formulation=None)
    with pytest.raises(ValueError, match="'net' has no formulation.*reformulate"):
        pyo.SolverFactory("relu_highs").solve(m)
    m.net.reformulate("bigm")
    pyo.SolverFactory("relu_highs").solve(m)
    assert m.net.error() < 1e-5


def test_refuses_widened_inputs_and_values_outside():
    m = model()
    m.x[1].setub(2)
    with pytest.raises(ValueError, match=r"x\[1\].*widened"):
        pyo.SolverFactory("relu_highs").solve(m)
    m.x[1].setub(1)
    m.x[0].fix(1.5)
    with pytest.raises(ValueError, match=r"x\[0\].*fixed at 1.5"):
        pyo.SolverFactory("relu_highs").solve(m)
    m.x[0].fix(0.5)
    pyo.SolverFactory("relu_highs").solve(m)
    assert m.net.error() < 1e-5
    m.net.deactivate()
    m.x[0].fix(1.5)
    m.obj.deactivate()
    pyo.SolverFactory("relu_highs").solve(m)


def test_start_from_inputs_alone_is_carried_through_the_network():
    m = model()
    m.net.outputs[0].set_value(None)
    for i in m.x:
        m.x[i].set_value(0.3)
    options = {"mip_max_nodes": 0, "mip_heuristic_effort": 0.0}
    seen = []
    results = NewFactory("relu_highs").solve(
        m,
        warmstart=True,
        progress=seen.append,
        solver_options=options,
        raise_exception_on_nonoptimal_result=False,
    )
    first = m.net.network.evaluate([0.3, 0.3])[0]
    assert results.incumbent_objective >= first - 1e-9
    firsts = [p.incumbent for p in seen if p.incumbent > -1e20]
    assert firsts[0] >= first - 1e-6


def test_interrupt_keeps_the_incumbent():
    m, pressed = model((8, 40, 40, 1)), []

    def progress(event):
        if event.kind == "log" and math.isfinite(event.incumbent) and not pressed:
            pressed.append(event)
            os.kill(os.getpid(), signal.SIGINT)

    results = NewFactory("relu_highs").solve(
        m,
        raise_exception_on_nonoptimal_result=False,
        start_time=0.5,
        time_limit=600,
        progress=progress,
    )
    assert results.termination_condition is TerminationCondition.interrupted
    assert results.incumbent_objective is not None
    assert results.objective_bound >= results.incumbent_objective
    assert m.net.error() < 1e-5


def test_time_limit_covers_the_start_and_bounds_stay_valid(monkeypatch):
    m = model((8, 40, 40, 1))
    m.net.warm_start([0.0] * 8)  # there is a point, however busy the machine
    run, limits = HighsModel.run, []

    def spy(self, time_limit=None, **options):
        limits.append(time_limit)
        return run(self, time_limit, **options)

    monkeypatch.setattr(HighsModel, "run", spy)
    results = pyo.SolverFactory("relu_highs").solve(m, timelimit=1.5, warmstart=True)
    assert limits and all(limit < 1.5 for limit in limits)  # what the start has left
    assert results.solver.termination_condition == pyo.TerminationCondition.maxTimeLimit
    assert results.problem.lower_bound <= results.problem.upper_bound
    assert pyo.value(m.obj) == pytest.approx(results.problem.lower_bound)


def test_runs_outside_the_main_thread():
    m = model((2, 4, 1))
    found = []

    def work():
        found.append(NewFactory("relu_highs").solve(m, start=None).incumbent_objective)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found[0] is not None


def test_a_failure_while_highs_runs_costs_no_solve(monkeypatch, caplog):
    """What looks for points while HiGHS searches may fail; the optimum is as without it."""
    from pyomo_relu.heuristics.start import Start, StartSearch
    from pyomo_relu.programs.highs import Event
    from pyomo_relu.solvers.starting import OngoingStart

    def fail(self, seconds):
        raise ZeroDivisionError("no point today")

    monkeypatch.setattr(StartSearch, "more", fail)
    search = StartSearch.__new__(StartSearch)
    search.best = Start()
    ongoing = OngoingStart(search)
    ongoing.began -= 100.0
    event = Event(0.0, math.inf, -math.inf, math.inf, 0)
    assert ongoing(event) is None and ongoing.failed
    assert "no point today" in caplog.text
    assert ongoing(event) is None
