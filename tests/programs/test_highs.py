"""The door to HiGHS: what an answer may be used for, limits, callbacks, silence."""

import math
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import scipy.sparse as sp

from pyomo_relu.programs import (
    HighsModel,
    LinearProgram,
    ProgramError,
    Status,
    highs_version,
    runner,
)
from pyomo_relu.programs import answer as answers
from tests.harness.ctrl_c import CtrlC

pytest.importorskip("highspy")


def program(cost, matrix, low, high, lower=0.0, upper=3.0, integer=None, **more):
    cost = np.asarray(cost, dtype=float)
    n = len(cost)
    return LinearProgram(
        cost,
        np.full(n, lower, dtype=float),
        np.full(n, upper, dtype=float),
        sp.csr_array(np.atleast_2d(np.asarray(matrix, dtype=float))),
        np.atleast_1d(np.asarray(low, dtype=float)),
        np.atleast_1d(np.asarray(high, dtype=float)),
        None if integer is None else np.full(n, integer),
        **more,
    )


def small(**more):
    """Best at (3, 1.5) with -6, in integers at (2, 2) with -6 or (3, 1) with -5."""
    return program([-1, -2], [[1, 1]], -np.inf, 4.5, **more)


def knapsack(n=60, m=30, seed=0):
    """A search without an end in sight."""
    rng = np.random.default_rng(seed)
    a = rng.integers(1, 100, size=(m, n)).astype(float)
    return program(
        -rng.integers(50, 100, n), a, np.full(m, -np.inf), a.sum(1) // 2, 0, 1, integer=True
    )


def test_an_optimum_has_point_bound_and_duals():
    answer = HighsModel(small()).run()
    assert answer.optimal and answer.status is Status.OPTIMAL
    assert answer.point == pytest.approx([1.5, 3.0])
    assert answer.objective == answer.bound == pytest.approx(-7.5)
    assert answer.row_duals == pytest.approx([-1.0])
    assert answer.reduced_costs == pytest.approx([0.0, -1.0])
    whole = HighsModel(small(integer=True, offset=10.0)).run()
    assert whole.objective == pytest.approx(3.0) and whole.bound == pytest.approx(3.0)
    top = HighsModel(program([1, 2], [[1, 1]], -np.inf, 4.5, maximize=True)).run()
    assert top.objective == top.bound == pytest.approx(7.5)


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("integer", [None, True])
def test_no_point_is_a_bound_of_its_own(integer, maximize):
    p = program([1, 1], [[1, 1]], 7.0, np.inf, integer=integer, maximize=maximize)
    answer = HighsModel(p).run()
    assert answer.infeasible and answer.point is None and answer.objective is None
    assert answer.bound == (-math.inf if maximize else math.inf)
    if integer is None:
        model = HighsModel(p, presolve="off")
        model.run()
        ray = model.dual_ray()
        assert ray is not None and abs(ray[0]) > 0


def test_an_unbounded_program_has_no_bound():
    p = program([-1, 0], [[0, 1]], -np.inf, 1.0, upper=np.inf)
    answer = HighsModel(p, presolve="off").run()
    assert answer.status is Status.UNBOUNDED and answer.bound == -math.inf


@pytest.mark.parametrize("low, infeasible", [(1.0, True), (0.0, False)])
def test_rows_without_columns_are_looked_at(low, infeasible):
    none = np.zeros(0)
    p = LinearProgram(
        none, none, none, sp.csr_array((1, 0)), np.array([low]), np.array([np.inf])
    )
    answer = HighsModel(p).run()
    assert answer.infeasible is infeasible
    assert answer.bound == (math.inf if infeasible else 0.0)
    assert (answer.point is None) is infeasible


def test_a_run_that_fails_gives_neither_point_nor_bound():
    """HiGHS 1.16 leaves a bound of 0 behind when it refuses a number of threads."""
    import highspy

    def run(threads):
        h = highspy.Highs()
        h.setOptionValue("output_flag", False)
        h.setOptionValue("threads", threads)
        h.addVar(0, 3)
        h.changeColCost(0, 1.0)
        h.changeColIntegrality(0, highspy.HighsVarType.kInteger)
        return h, h.run()

    seen = {}

    def in_a_thread():  # whose scheduler is not that of other tests
        run(2)
        seen["refused"] = run(1)

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    h, status = seen["refused"]
    assert status == highspy.HighsStatus.kError  # else this test tests nothing
    for maximize in (False, True):
        answer = answers.read_answer(h, False, True, maximize, False)
        assert answer.status is Status.FAILED and answer.point is None
        assert answer.objective is None
        assert answer.bound == (math.inf if maximize else -math.inf)


@pytest.mark.parametrize(
    "name",
    ["kNotset", "kLoadError", "kModelError", "kPresolveError", "kSolveError",
     "kPostsolveError", "kUnknown", "kOfTomorrow"],
)  # fmt: skip
def test_endings_that_prove_nothing(name):
    class Fake:
        """An object that says it has an optimum of 0, and ended like this."""

        def __getattr__(self, _):
            return lambda: self

        primal_solution_status, objective_function_value, mip_dual_bound = 2, 0.0, 0.0
        mip_gap, mip_node_count, simplex_iteration_count = 0.0, 1, 1

    fake = Fake()
    fake.name = name
    for ran in (False, True):
        answer = answers.read_answer(fake, ran, True, False, False)
        assert answer.status is Status.FAILED
        assert answer.point is None and answer.bound == -math.inf


def test_threads_of_any_number_after_each_other():
    for threads in (0, 1, 2, 1, 3, 0, 2):
        answer = HighsModel(small(integer=True), threads=threads).run()
        assert answer.optimal and answer.objective == pytest.approx(-7.0)


def test_a_time_limit_counts_from_each_run():
    model = HighsModel(knapsack())
    model.start_at(np.zeros(60))
    spent, first = 0.0, 0.0
    for _ in range(3):
        answer = model.run(0.2)
        assert answer.status is Status.TIME_LIMIT
        assert answer.objective is None or answer.bound <= answer.objective
        # HiGHS counts the time of all runs together: each had its own.
        spent, before = model._highs.getRunTime(), spent
        first = first or spent
        assert spent - before >= 0.5 * first > 0.0
    assert model.run(0.0).status is Status.TIME_LIMIT
    model.set(time_limit=0.1)
    assert model.run(3600.0).status is Status.TIME_LIMIT


def test_callbacks_see_the_search_and_can_end_it():
    model = HighsModel(knapsack())
    lines, better, text = [], [], []
    model.on_line(lines.append)
    model.on_incumbent(better.append)
    model.on_log(text.append)
    model.stop_when(lambda event: len(better) >= 1 and math.isfinite(event.bound))
    answer = model.run(600.0)
    assert answer.status is Status.INTERRUPTED and not answer.keyboard
    assert better[0].point is not None and len(better[0].point) == 60
    assert answer.bound <= answer.objective <= better[0].incumbent + 1e-6
    assert lines and "".join(text)


def test_what_a_callback_raises_is_raised_after_the_run():
    model = HighsModel(knapsack())

    def fail(event):
        raise ZeroDivisionError("of the user's")

    model.on_incumbent(fail)
    with pytest.raises(ZeroDivisionError, match="of the user's"):
        model.run(600.0)
    other = HighsModel(knapsack())
    other.stop_when(fail)
    with pytest.raises(ZeroDivisionError):
        other.run(600.0)


@pytest.mark.parametrize("threads", [0, 1, 2])
@pytest.mark.parametrize("keep", [False, True])
def test_ctrl_c_ends_a_search_without_a_limit(keep, threads, monkeypatch):
    model = HighsModel(knapsack(), threads=threads)
    key = CtrlC()

    class Told(runner.Job):
        """A job that Ctrl-C interrupts while the user's thread waits for it."""

        def __init__(self, function):
            super().__init__(function)
            wait = self.done.wait

            def heard():
                with key.within():
                    wait()

            self.done.wait = heard

    monkeypatch.setattr(runner, "Job", Told)
    with key.listening():
        if keep:
            answer = model.run(keep=True)
            assert answer.status is Status.INTERRUPTED and answer.keyboard
            assert answer.objective is None or answer.bound <= answer.objective
        else:
            with pytest.raises(KeyboardInterrupt):
                model.run()
    monkeypatch.undo()
    assert HighsModel(small()).run().optimal


def test_programs_change_in_place():
    model = HighsModel(small())
    assert model.run().objective == pytest.approx(-7.5)
    model.set_costs(np.array([-2.0, -1.0]))
    assert model.run().objective == pytest.approx(-7.5)
    model.set_bounds([0.0], [1.0], np.array([0]))
    assert model.run().objective == pytest.approx(-5.0)
    model.set_bounds(np.zeros(2), np.ones(2))
    assert model.run().objective == pytest.approx(-3.0)
    model.add_row(np.arange(2), np.array([1.0, 0.0]), -np.inf, 0.5)
    model.add_rows(sp.csr_array([[0.0, 1.0]]), [-np.inf], [0.25])
    assert model.n_rows == 3 and model.run().objective == pytest.approx(-1.25)
    model.drop_rows(1)
    assert model.n_rows == 2 and model.run().objective == pytest.approx(-2.0)
    model.set_row_bounds(1, 0.0, 0.75)
    model.set_coefficients(0, np.arange(2), np.array([4.0, 4.0]))
    assert model.run().objective == pytest.approx(-1.5 - 0.375)
    model.minimize()
    model.set_costs(np.array([1.0, 1.0]))
    assert model.run().objective == pytest.approx(0.0)


def test_starts():
    model = HighsModel(small(integer=True))
    model.start_at(np.array([2.0, 2.0]))
    seen = []
    model.on_incumbent(seen.append)
    assert model.run().objective == pytest.approx(-7.0)
    with pytest.raises(ValueError, match="1 values for 2 columns"):
        model.start_at(np.array([2.0]))
    lp = HighsModel(small(), presolve="off")
    first = lp.run()
    lp.load(small())
    lp.start_basis(first.basis)
    again = lp.run()
    assert again.optimal and again.iterations == 0
    columns, rows = lp.basic(again.basis)
    assert columns.tolist() == [True, False] and rows.tolist() == [False]


def test_what_highs_refuses_is_named():
    model = HighsModel()
    with pytest.raises(ValueError, match="no option 'mip_rel_gab'; did you mean 'mip_rel_"):
        model.set(mip_rel_gab=0.1)
    with pytest.raises(ValueError, match="'threads' doesn't take"):
        model.set(threads="many")
    with pytest.raises(ProgramError, match="crossed bounds"):
        HighsModel(program([1.0], [[1.0]], 0, 1, lower=np.nan))
    assert model.has_option("mip_rel_gap") and not model.has_option("mip_rel_gab")


def test_nothing_is_printed_unless_asked_for():
    code = """
import numpy as np, scipy.sparse as sp
from pyomo_relu.programs import HighsModel, LinearProgram
z = np.zeros(2)
p = LinearProgram(z - 1, z, z + 1, sp.csr_array(np.ones((1, 2))), z[:1], z[:1] + 1, z == 0)
for threads in (0, 1, 2):
    HighsModel(p, threads=threads).run()
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    assert done.stdout == "" and done.stderr == ""


def test_version():
    assert highs_version() >= (1, 15)


def test_runs_side_by_side():
    """Several threads of the user's, and a forked child, each with their own runs."""
    found = []

    def work(k):
        for _ in range(5):
            answer = HighsModel(small(integer=True), threads=1 + k % 2).run()
            found.append(answer.objective)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert found == pytest.approx([-7.0] * 20)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_has_runs_of_its_own():
    HighsModel(small(integer=True), threads=2).run()
    child = os.fork()
    if child == 0:
        good = HighsModel(small(integer=True), threads=2).run().optimal
        os._exit(0 if good else 1)
    end = time.monotonic() + 600
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the child waits for a thread of its parent's")
