"""Bounds in a model: lists of rungs, rows written anew by ``tighten``, a real Ctrl-C."""

import concurrent.futures as cf
from contextlib import contextmanager

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from pyomo_relu.base.progress import Interruptible
from pyomo_relu.bounds import compute_bounds, parallel
from tests.bounds.soundness import assert_contains_samples
from tests.harness.checks import solver_or_skip
from tests.harness.ctrl_c import CtrlC
from tests.harness.random_networks import he_network

NETWORK = he_network(0, [3, 10, 10, 2])


def model(bounds="interval", **options):
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(3), bounds=(-1, 1))
    m.net = ReLUNetBlock(network=NETWORK, inputs=m.x, bounds=bounds, **options)
    m.user = pyo.Constraint(expr=m.net.outputs[0] + m.x[0] <= 1)
    m.objective = pyo.Objective(expr=m.net.outputs[1], sense=pyo.maximize)
    return m


def largest_coefficient(m) -> float:
    """Of all rows with a binary in the block: the largest big-M."""
    from pyomo.repn import generate_standard_repn

    found = 0.0
    for row in m.net.component_data_objects(pyo.Constraint, active=True):
        repn = generate_standard_repn(row.body)
        for c, v in zip(repn.linear_coefs, repn.linear_vars):
            if v.is_binary():
                found = max(found, abs(c))
    return found


def test_a_block_takes_rungs_with_budgets():
    rungs = ["crown", ("lp", {"time_limit": 600, "cuts": 1}), ("mip", {"time_limit": 0.0})]
    m = model(rungs)
    assert m.net.bounds.method == "mip" and m.net.bounds.details["interrupted"]
    lp = model("lp").net.bounds
    assert lp.contains(m.net.bounds, 1e-9)


def test_tighten_writes_the_rows_anew_in_place():
    solver = solver_or_skip()
    m = model()
    inputs, outputs = list(m.x.values()), list(m.net.outputs.values())
    solver.solve(m)
    best, before = pyo.value(m.objective), largest_coefficient(m)
    was = m.net.bounds
    found = m.net.tighten("lp", time_limit=600)
    assert found is m.net.bounds and was.contains(found) and found.method == "lp"
    after = largest_coefficient(m)
    assert after < 0.8 * before
    # Same variables, and the user's rows still speak of them.
    assert all(a is b for a, b in zip(inputs, m.x.values()))
    assert all(a is b for a, b in zip(outputs, m.net.outputs.values()))
    widths = [v.ub - v.lb for v in m.net.outputs.values()]
    low, high = found.outputs
    assert widths == pytest.approx(high - low)
    solver.solve(m)
    assert pyo.value(m.objective) == pytest.approx(best, abs=1e-5)
    assert m.net.error() < 1e-5
    # Nothing is lost by a weaker rung, or one without time.
    for method, options in (("interval", {}), ("mip", {"time_limit": 0.0})):
        assert found.contains(m.net.tighten(method, **options), 1e-12)
        assert largest_coefficient(m) <= after + 1e-12


def test_tighten_with_workers_is_the_same_bit_by_bit():
    a, b = model("crown"), model("crown")
    here = a.net.tighten("lp")
    with cf.ProcessPoolExecutor(2) as pool:
        there = b.net.tighten("lp", executor=pool)
    for x, y in zip((*here.lower, *here.upper), (*there.lower, *there.upper)):
        assert np.array_equal(x, y)


@pytest.fixture
def key(monkeypatch):
    """Ctrl-C for this process while a rung computes, or waits for its workers."""
    key = CtrlC()
    guard, wait = Interruptible.guard, parallel.wait

    @contextmanager
    def guarded(clock):
        with guard(clock), key.within():
            yield

    def waiting(*args):
        with key.within():
            return wait(*args)

    monkeypatch.setattr(Interruptible, "guard", guarded)
    monkeypatch.setattr(parallel, "wait", waiting)
    with key.listening():
        yield key


@pytest.mark.parametrize("workers", [False, True])
@pytest.mark.parametrize("method", ["alpha_crown", "boxes", "lp", "mip"])
def test_ctrl_c_for_real_keeps_what_is_proved(method, workers, key):
    if workers and method == "alpha_crown":
        pytest.skip("alpha_crown takes no executor")
    wide = 500 if method == "alpha_crown" else 90  # no method may end before Ctrl-C
    network = he_network(1, [12, wide, wide, wide, 5])
    start = compute_bounds(network, -1, 1, "crown")
    if method == "mip":
        start = start.renamed("lp")  # what it starts from is not what is asked here
    options = {
        "boxes": {"count": 20_000},
        "alpha_crown": {"iterations": 5000},
        "mip": {"neuron_time_limit": None},
    }.get(method, {})
    pool = cf.ProcessPoolExecutor(2) if workers else None
    if pool is not None:
        list(pool.map(abs, range(4)))
        options["executor"] = pool
    try:
        found = compute_bounds(network, -1, 1, [(method, options), "lp"], start=start)
    finally:
        if pool is not None:
            workers_of = list(pool._processes.values())
            pool.shutdown(wait=False, cancel_futures=True)
            for process in workers_of:
                process.kill()
    assert found.details["keyboard"] and found.details["interrupted"]
    assert found.method == method
    assert start.contains(found, 1e-9)
    assert_contains_samples(found, np.random.default_rng(0), 500)
