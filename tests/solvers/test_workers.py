"""Searches on workers: the same bits however many there are and whatever becomes of them."""

from __future__ import annotations

import concurrent.futures as cf
import math
import os
import queue
import signal
import threading
from typing import Any

import pytest
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory

from pyomo_relu.base import deadline
from pyomo_relu.base.deadline import Deadline, waiting, work_time
from pyomo_relu.bounds import parallel
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.sides import row_tree
from pyomo_relu.sides import tree as side_tree
from pyomo_relu.sides.row_splitter import split_chunk as split_among_rows
from pyomo_relu.sides.tree import split_chunk
from pyomo_relu.solvers.global_search.limits import Limits
from pyomo_relu.solvers.global_search.neuron_search import NeuronSearch
from pyomo_relu.solvers.global_search.race import Race
from pyomo_relu.solvers.global_search.strategy import choose_search
from tests.harness.clock import Clock
from tests.harness.clusters import dask_client, run_by_mpi
from tests.solvers.parallel_cases import (
    CASES,
    Counted,
    box,
    run,
    sides,
    sides_among_rows,
    small_chunks,
)

pytest.importorskip("highspy")

BY_SIDES = ["sides", "sides among rows"]


@pytest.fixture(scope="module")
def here():
    """What each case finds without an executor."""
    return {case: run(case) for case in CASES}


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_any_number_of_processes_finds_the_same(workers, here):
    with cf.ProcessPoolExecutor(workers) as pool:
        assert {case: run(case, pool) for case in CASES} == here


class LastFirst(cf.Executor):
    """One thread that takes the work that came last."""

    def __init__(self) -> None:
        self.work: queue.LifoQueue = queue.LifoQueue()
        self.order: list[int] = []
        self.count = 0
        threading.Thread(target=self._run, daemon=True).start()

    def submit(self, function: Any, /, *args: Any, **kwds: Any) -> cf.Future:
        future: cf.Future = cf.Future()
        self.work.put((self.count, future, function, args))
        self.count += 1
        return future

    def _run(self) -> None:
        while True:
            number, future, function, args = self.work.get()
            self.order.append(number)
            if future.set_running_or_notify_cancel():
                future.set_result(function(*args))


@pytest.mark.parametrize("case", CASES)
def test_the_order_of_coming_back_changes_nothing(case, here):
    pool = LastFirst()
    assert run(case, pool) == here[case]
    assert pool.order != sorted(pool.order)


def dying(splitter, token, aims, parts):
    """A worker that dies at its first chunk; single chunks are computed by the search itself."""
    died, parent = os.environ["DIED"], int(os.environ["PARENT"])
    if os.getpid() != parent and not os.path.exists(died):
        open(died, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    function = split_chunk if isinstance(aims, float) else split_among_rows
    return function(splitter, token, aims, parts)


@pytest.mark.parametrize("case", BY_SIDES)
def test_a_dead_worker_costs_nothing_but_time(case, here, tmp_path, monkeypatch, caplog):
    loky = pytest.importorskip("loky")
    monkeypatch.setenv("DIED", str(tmp_path / "died"))
    monkeypatch.setenv("PARENT", str(os.getpid()))
    for module in (side_tree, row_tree):
        monkeypatch.setattr(module, "split_chunk", dying)
    pool = loky.get_reusable_executor(max_workers=2, kill_workers=True)
    try:
        assert run(case, pool) == here[case]
    finally:
        pool.shutdown(wait=True)
    assert (tmp_path / "died").exists()
    assert "a worker was lost" in caplog.text or "computing here" in caplog.text


class Silent(cf.Executor):
    """Answers so many tasks at once, and no more."""

    def __init__(self, answers: int) -> None:
        self.answers, self.futures = answers, []

    def submit(self, function: Any, /, *args: Any, **kwds: Any) -> cf.Future:
        future: cf.Future = cf.Future()
        self.futures.append(future)
        if self.answers:
            self.answers -= 1
            future.set_result(function(*args))
        return future


@pytest.mark.parametrize("make", [sides, sides_among_rows])
@pytest.mark.parametrize("answers", [0, 3, 40])
def test_a_limit_ends_the_wait_for_workers(make, answers, monkeypatch):
    """What is not back stays open: the bound is valid."""
    with small_chunks():
        whole = make(None)
        whole.run()
        pool = Silent(answers)
        search = make(pool)
        search.limits = Limits()
        monkeypatch.setattr(parallel, "ASK_EVERY", 1e-3)
        search._out_of_limits = lambda: ended(search, pool)
        search.run()
    assert search.stopped == "time" and not search.proved
    assert -math.inf < search.bound <= whole.incumbent.cost + 1e-9
    assert search.incumbent.cost >= whole.bound - 1e-9
    assert search.open_boxes
    assert all(future.cancelled() for future in pool.futures if not future.done())


def ended(search: Any, pool: Silent) -> bool:
    """Time is up as soon as nobody answers."""
    if not pool.answers and any(not future.done() for future in pool.futures):
        search.stopped = "time"
    return search.stopped is not None


@pytest.mark.parametrize("make", [sides, sides_among_rows])
def test_ctrl_c_ends_the_wait_for_workers(make, monkeypatch):
    monkeypatch.setattr(parallel, "ASK_EVERY", 1e-3)
    pool = Silent(5)

    def pressed(search: Any, kind: str) -> None:
        if kind == "within" and any(not future.done() for future in pool.futures):
            raise KeyboardInterrupt

    with small_chunks():
        search = make(pool)
        search.report = pressed
        search.run()
    assert search.stopped == "interrupt"
    assert -math.inf < search.bound <= search.incumbent.cost
    assert all(future.done() for future in pool.futures)


@pytest.mark.parametrize("make", [sides, sides_among_rows])
def test_parts_that_are_not_back_are_searched_again(make, here):
    """Rounds that were cut off lose nothing: the search goes on to the same proof."""
    with small_chunks():
        search = make(None)
        search.begin()
        tree, crew = search.tree, search.tree.crew
        while not (search.done or search.counts.rounds > 500):
            cut = search.counts.rounds % 3 == 0
            tree.crew = parallel.Crew(Silent(2), lambda: True) if cut else crew
            search.round()
    case = "sides" if make is sides else "sides among rows"
    assert search.proved
    assert search.incumbent.cost == pytest.approx(here[case][3], rel=2e-4)
    assert search.bound <= here[case][3] + 1e-9


def test_what_workers_do_counts_as_time_of_the_search(monkeypatch):
    """Turns of a search whose work is elsewhere are as long as those of any other."""
    monkeypatch.setattr(deadline, "_waited", 0.0)
    monkeypatch.setattr(deadline, "time", Clock(1.0))
    turn, before = Deadline(cpu_seconds=10.0), work_time()
    with waiting():
        for _ in range(20):
            deadline.time.perf_counter()
    assert work_time() - before >= 20.0 and turn.expired()


def test_the_wait_for_workers_is_counted(monkeypatch):
    monkeypatch.setattr(deadline, "_waited", 0.0)
    monkeypatch.setattr(parallel, "ASK_EVERY", 1e-3)
    asked = iter([False] * 3 + [True] * 9)
    crew = parallel.Crew(Silent(0), lambda: next(asked))
    kept = named()
    assert crew.results(split_chunk, kept, 0.0, [{}, {}], "x") == [None, None]
    assert deadline._waited >= 3e-3


def named() -> Any:
    """Something with a name, which no worker ever asks for."""
    return type("Named", (), {"fingerprint": "name"})()


def test_all_parts_of_a_search_by_turns_have_the_executor():
    pool = Counted(None)
    problem = read_problem(box(2, [10, 30, 30, 1]))
    race = choose_search(problem, Limits(), pool)
    assert isinstance(race, Race)
    part = next(part for part in race.parts if isinstance(part, NeuronSearch))
    assert part.crew.executor is pool
    # What a search asks of its user while workers are busy is asked by the whole one.
    asked = []
    race.report = lambda search, kind: asked.append((search, kind))
    part.crew.poll()
    assert asked == [(race, "within")]


@pytest.mark.parametrize("rows", [False, True])
def test_relu_by_turns_on_processes_agrees(rows):
    m = box(2, [10, 16, 16, 1], rows=rows)
    alone = NewFactory("relu").solve(m, load_solutions=False)
    with small_chunks(), cf.ProcessPoolExecutor(2) as pool:
        found = NewFactory("relu").solve(m, load_solutions=False, executor=pool)
    best, other = alone.incumbent_objective, found.incumbent_objective
    assert other == pytest.approx(best, rel=2e-4)
    assert found.objective_bound <= best + 1e-9


@pytest.fixture(scope="module")
def dask(tmp_path_factory):
    with dask_client(tmp_path_factory.mktemp("dask")) as client:
        yield client


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_dask_finds_the_same(case, dask, here):
    assert run(case, dask.get_executor()) == here[case]


MPI_SCRIPT = """
from mpi4py.futures import MPIPoolExecutor
from tests.solvers.parallel_cases import CASES, run

if __name__ == "__main__":
    with MPIPoolExecutor() as pool:
        for case in CASES:
            assert run(case, pool) == run(case), case
        print("workers:", pool.num_workers)
"""


@pytest.mark.slow
def test_mpi_finds_the_same(tmp_path):
    assert "workers: 2" in run_by_mpi(MPI_SCRIPT, tmp_path)
