"""Executors: the same bounds bit by bit, lost workers, Ctrl-C, broken pools."""

import concurrent.futures as cf
import os
import pickle
import signal

import numpy as np
import pytest

from pyomo_relu.base.progress import Interruptible
from pyomo_relu.bounds import compute_bounds, parallel
from pyomo_relu.bounds import layers as layers_module
from pyomo_relu.bounds.layers import Settings
from pyomo_relu.bounds.lp import lp_chunk
from pyomo_relu.bounds.parallel import run_chunks
from tests.harness.clusters import dask_client, run_by_mpi
from tests.harness.random_networks import he_network

NETWORK = he_network(0, [4, 30, 30, 2])
METHODS = [
    ("lp", {}),
    ("lp", {"cuts": 2, "parts": 2}),
    ("boxes", {"count": 600}),
]


def same(a, b) -> bool:
    return all(
        np.array_equal(x, y) for x, y in zip((*a.lower, *a.upper), (*b.lower, *b.upper))
    )


@pytest.fixture(scope="module")
def here():
    """The bounds of ``lp`` and ``boxes`` without an executor."""
    plain = [(m, o) for m, o in METHODS if "cuts" not in o]
    return {m: compute_bounds(NETWORK, -1, 1, m, **o) for m, o in plain}


@pytest.mark.parametrize("method, options", METHODS)
def test_processes_give_the_same_bits(method, options):
    with cf.ProcessPoolExecutor(2) as pool:
        found = compute_bounds(NETWORK, -1, 1, method, executor=pool, **options)
    assert same(found, compute_bounds(NETWORK, -1, 1, method, **options))


def test_threads_give_the_same_bits(here):
    with cf.ThreadPoolExecutor(1) as pool:
        found = compute_bounds(NETWORK, -1, 1, "boxes", executor=pool, count=600)
    assert same(found, here["boxes"])


def test_loky_gives_the_same_bits(here):
    loky = pytest.importorskip("loky")
    pool = loky.get_reusable_executor(max_workers=2)
    try:
        found = compute_bounds(NETWORK, -1, 1, "lp", executor=pool)
    finally:
        pool.shutdown(wait=True)
    assert same(found, here["lp"])


def test_a_dead_loky_worker_costs_nothing_but_time(tmp_path, caplog):
    loky = pytest.importorskip("loky")
    pool, died = loky.get_reusable_executor(max_workers=2), tmp_path / "died"
    try:
        found = dict(
            run_chunks(die_once, NETWORK, str(died), range(6), pool, Interruptible(), "x")
        )
    finally:
        pool.shutdown(wait=True)
    assert died.exists() and found == {k: 10 * k for k in range(6)}
    assert caplog.text


@pytest.mark.parametrize("method", ["mip", "rolling"])
def test_mips_in_processes_give_the_same_bits(method, monkeypatch):
    monkeypatch.setattr(layers_module, "SETTINGS", Settings(chunk=3))
    network = he_network(1, [2, 8, 8, 1])
    options = {"neuron_time_limit": None}
    with cf.ProcessPoolExecutor(2) as pool:
        a = compute_bounds(network, -1, 1, method, executor=pool, **options)
    assert same(a, compute_bounds(network, -1, 1, method, **options))


def die_once(network, token, common, chunk):
    """A worker that dies the first time it sees the third chunk."""
    if chunk == 2 and not os.path.exists(common):
        open(common, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return chunk * 10


def test_a_dead_worker_costs_nothing_but_time(tmp_path, caplog):
    with cf.ProcessPoolExecutor(2) as pool:
        found = dict(
            run_chunks(
                die_once,
                NETWORK,
                str(tmp_path / "died"),
                range(6),
                pool,
                Interruptible(),
                "x",
            )
        )
    assert found == {k: 10 * k for k in range(6)}
    assert "computing here" in caplog.text


class Counting(cf.Executor):
    """Runs at once, in this process, and counts what is shipped."""

    def __init__(self, fail: int = 0) -> None:
        self.tasks, self.networks, self.fail = 0, 0, fail

    def submit(self, function, *args):
        self.tasks += 1
        self.networks += isinstance(args[2], bytes)
        future = cf.Future()
        if self.fail > 0:
            self.fail -= 1
            future.set_exception(OSError("lost"))
            return future
        future.set_result(function(*pickle.loads(pickle.dumps(args))))
        return future


def test_the_network_travels_once(here, monkeypatch):
    monkeypatch.setattr(parallel, "_networks", {})
    pool = Counting()
    monkeypatch.setattr(layers_module, "SETTINGS", Settings(chunk=5))
    found = compute_bounds(NETWORK, -1, 1, "lp", executor=pool)
    assert pool.tasks > 6
    # Every chunk of the first layer was out before the first answer came.
    assert pool.networks <= 6
    assert found.contains(here["lp"], 1e-7) and here["lp"].contains(found, 1e-7)


class Thing:
    """What a worker keeps, by name."""

    def __init__(self, name: str) -> None:
        self.fingerprint = name


def double(kept, token, common, chunk):
    return kept.fingerprint, 2 * chunk


def test_what_takes_turns_travels_once_and_no_more_is_kept(monkeypatch):
    """The parts of one search stay with a worker; the oldest goes where there is one more."""
    monkeypatch.setattr(parallel, "_networks", {})
    pool, things = Counting(), [Thing(f"part {k}") for k in range(parallel.KEPT)]
    crew = parallel.Crew(pool)
    for _ in range(3):
        for thing in things:
            found = crew.results(double, thing, None, [1, 2], "x")
            assert found == [(thing.fingerprint, 2), (thing.fingerprint, 4)]
    first = pool.networks
    # Both chunks of the first call were out before the first answer came.
    assert first == 2 * len(things)
    crew.results(double, Thing("one more"), None, [1, 2], "x")
    assert [*parallel._networks] == [*(t.fingerprint for t in things[1:]), "one more"]
    crew.results(double, things[1], None, [1, 2], "x")
    assert pool.networks == first + 2


def test_a_lost_chunk_is_repeated(here):
    found = compute_bounds(NETWORK, -1, 1, "lp", executor=Counting(fail=2))
    assert same(found, here["lp"])
    found = compute_bounds(NETWORK, -1, 1, "lp", executor=Counting(fail=100))
    assert same(found, here["lp"])  # given up on the executor, computed here


def test_ctrl_c_keeps_what_is_proved(monkeypatch):
    from pyomo_relu.bounds import lp as lp_module

    calls = []

    def interrupted(network, token, task, rows):
        calls.append(task.node)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return lp_chunk(network, token, task, rows)

    monkeypatch.setattr(lp_module, "lp_chunk", interrupted)
    crown = compute_bounds(NETWORK, -1, 1, "crown")
    found = compute_bounds(NETWORK, -1, 1, ["crown", "lp", "mip"])
    assert found.method == "lp" and found.details["keyboard"]
    assert 0 < found.details["solves"]
    assert crown.contains(found, 1e-9) and not found.contains(crown, 1e-9)


def test_ctrl_c_in_alpha_crown_keeps_what_is_proved(monkeypatch):
    from pyomo_relu.bounds.alpha_crown import Optimizer

    def interrupted(self, *args):
        raise KeyboardInterrupt

    monkeypatch.setattr(Optimizer, "maximize", interrupted)
    crown = compute_bounds(NETWORK, -1, 1, "crown")
    found = compute_bounds(NETWORK, -1, 1, "alpha_crown")
    assert found.details["keyboard"]
    assert crown.contains(found, 1e-9) and found.contains(crown, 1e-9)


@pytest.fixture(scope="module")
def dask(tmp_path_factory):
    with dask_client(tmp_path_factory.mktemp("dask")) as client:
        yield client


@pytest.mark.slow
@pytest.mark.parametrize("method, options", METHODS)
def test_dask_cluster_gives_the_same_bits(dask, method, options):
    pool = dask.get_executor()
    found = compute_bounds(NETWORK, -1, 1, method, executor=pool, **options)
    assert same(found, compute_bounds(NETWORK, -1, 1, method, **options))


@pytest.mark.slow
def test_a_dead_dask_worker_costs_nothing_but_time(dask, tmp_path):
    pool, died = dask.get_executor(), tmp_path / "died"
    found = dict(
        run_chunks(die_once, NETWORK, str(died), range(6), pool, Interruptible(120), "x")
    )
    assert died.exists() and found == {k: 10 * k for k in range(6)}


MPI_SCRIPT = """
import numpy as np
from mpi4py.futures import MPIPoolExecutor
from pyomo_relu.bounds import compute_bounds
from tests.bounds.test_parallel import METHODS, NETWORK, same

if __name__ == "__main__":
    with MPIPoolExecutor() as pool:
        for method, options in METHODS:
            found = compute_bounds(NETWORK, -1, 1, method, executor=pool, **options)
            assert same(found, compute_bounds(NETWORK, -1, 1, method, **options))
        print("workers:", pool.num_workers)
"""


@pytest.mark.slow
def test_mpi4py_executor_gives_the_same_bits(tmp_path):
    assert "workers: 2" in run_by_mpi(MPI_SCRIPT, tmp_path)
