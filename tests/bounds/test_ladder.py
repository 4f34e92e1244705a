"""The ladder: lists of rungs with budgets, defaults, refusals, progress."""

import io

import numpy as np
import pytest

from pyomo_relu.base.progress import Interruptible, progress
from pyomo_relu.bounds import Bounds, compute_bounds
from tests.harness.random_networks import he_network

NETWORK = he_network(0, [7, 10, 10, 1])


def test_a_list_of_rungs_with_budgets():
    found = compute_bounds(NETWORK, -1, 1, ["interval", ("lp", {"time_limit": 600})])
    assert found.method == "lp" and found.details["solves"] > 0
    one = compute_bounds(NETWORK, -1, 1, ("alpha_crown", {"iterations": 3}))
    assert one.method == "alpha_crown"
    last = compute_bounds(NETWORK, -1, 1, ["crown", "lp"], time_limit=0.0)
    assert last.details["interrupted"]
    assert last.seconds >= 0


def test_a_saved_start_and_its_box(tmp_path):
    a = compute_bounds(NETWORK, -1, 1, "lp")
    a.save(tmp_path / "b.npz")
    b = Bounds.load(tmp_path / "b.npz", NETWORK, np.full(7, -0.5), np.full(7, 1.0))
    c = compute_bounds(NETWORK, -0.5, 0.5, "crown", start=b)
    assert b.contains(c)
    with pytest.raises(ValueError, match="wider box"):
        Bounds.load(tmp_path / "b.npz", NETWORK, np.full(7, -2.0), np.full(7, 1.0))
    with pytest.raises(ValueError, match="input 0 in"):
        compute_bounds(NETWORK, -2, 1, "crown", start=b)
    with pytest.raises(ValueError, match="another network"):
        compute_bounds(he_network(1, [7, 10, 10, 1]), -1, 1, "crown", start=b)


def test_saved_bounds_that_were_changed_are_refused(tmp_path):
    a = compute_bounds(NETWORK, -1, 1, "crown")
    a.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as data:
        kept = dict(data)
    for key, change in [("lower0", -1.0), ("upper3", -1e-9), ("scope", None)]:
        other = dict(kept)
        other[key] = np.array("model m") if change is None else kept[key] + change
        np.savez(tmp_path / "b.npz", **other)
        with pytest.raises(ValueError, match="changed after they were saved"):
            Bounds.load(tmp_path / "b.npz", NETWORK)
    old = {k: v for k, v in kept.items() if k != "own_fingerprint"}
    np.savez(tmp_path / "b.npz", **old)
    with pytest.raises(ValueError, match="older version.*compute them anew"):
        Bounds.load(tmp_path / "b.npz", NETWORK)
    np.savez(tmp_path / "b.npz", **kept)
    assert Bounds.load(tmp_path / "b.npz", NETWORK).fingerprint == a.fingerprint


def test_a_block_refuses_saved_bounds_of_another_box(tmp_path):
    import pyomo.environ as pyo

    from pyomo_relu import ReLUNetBlock

    path = tmp_path / "b.npz"
    compute_bounds(NETWORK, -1, 1, "crown").save(path)
    for radius, fits in [(0.5, True), (1.0, True), (1.1, False)]:
        m = pyo.ConcreteModel()
        m.x = pyo.Var(range(7), bounds=(-radius, radius))
        if fits:
            m.net = ReLUNetBlock(network=NETWORK, inputs=m.x, bounds=str(path))
            assert m.net.bounds.input_box[1].min() >= radius
        else:
            with pytest.raises(ValueError, match="smaller box"):
                m.net = ReLUNetBlock(network=NETWORK, inputs=m.x, bounds=str(path))


@pytest.mark.parametrize(
    "method", ["crown", "alpha_crown", "boxes", "lp", "rolling", "mip"]
)
def test_a_scope_is_kept(method):
    network = he_network(0, [3, 4, 4, 1])
    a = compute_bounds(network, -1, 1, "interval").scoped("model 'm'")
    assert compute_bounds(network, -1, 1, method, start=a).scope == "model 'm'"


def test_defaults():
    assert compute_bounds(NETWORK, -1, 1).method == "crown"
    assert compute_bounds(he_network(0, [2, 60, 1]), -1, 1).method == "boxes"
    assert compute_bounds(he_network(0, [2, 10, 1]), -1, 1).method == "crown"
    assert compute_bounds(he_network(0, [2, 500, 1]), -1, 1).method == "crown"


def test_refusals():
    with pytest.raises(ValueError, match="no bounds 'best'"):
        compute_bounds(NETWORK, -1, 1, ["crown", "best"])
    with pytest.raises(ValueError, match="no bounds were named"):
        compute_bounds(NETWORK, -1, 1, [])
    with pytest.raises(ValueError, match="'crown' have no option 'time_limit'"):
        compute_bounds(NETWORK, -1, 1, "crown", time_limit=3)
    with pytest.raises(ValueError, match="take none"):
        compute_bounds(NETWORK, -1, 1, "interval", rules=["zero"])
    with pytest.raises(ValueError, match="no slope rule 'two'"):
        compute_bounds(NETWORK, -1, 1, "crown", rules=["two"])
    with pytest.raises(ValueError, match="negative"):
        compute_bounds(NETWORK, -1, 1, "lp", time_limit=-1)


def test_progress_is_quiet_unless_it_takes_long_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    now = 0.0
    monkeypatch.setattr("tqdm.std.time", lambda: now)
    for stream, delay, shown in (
        (Terminal(), 1.2, True),
        (Terminal(), 0.8, False),
        (io.StringIO(), 1.2, False),
    ):
        monkeypatch.setattr("sys.stderr", stream)
        with progress(3, "lp: dense", "chunk") as bar:
            now += delay
            bar.update()
        assert ("lp: dense" in stream.getvalue()) == shown


def test_ctrl_c_brings_a_deadline_forward():
    clock = Interruptible()
    assert not clock.expired() and clock.limit is None and clock.details() == {}
    with clock.guard():
        raise KeyboardInterrupt
    assert clock.expired() and clock.details() == {"interrupted": True, "keyboard": True}
    late = Interruptible(0.0)
    assert late.expired() and late.details() == {"interrupted": True}
