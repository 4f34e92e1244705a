"""Bounds refined on sides of neurons hold, and are tight; inactive neurons don't matter."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from pyomo_relu import NetworkBuilder, activations
from pyomo_relu.bounds import compute_bounds
from pyomo_relu.bounds.chain import without_inactive
from pyomo_relu.sides.refined import side_bounds
from pyomo_relu.sides.relu_chain import ReluChain
from tests.harness.random_networks import he_network

BOX = -np.ones(2), np.ones(2)


def grid(n: int = 201) -> np.ndarray:
    axis = np.linspace(-1, 1, n)
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)


@pytest.mark.parametrize("seed", range(3))
def test_bounds_hold_and_are_near_what_is_attained(seed):
    net = he_network(seed, [2, 7, 6, 5, 2])
    start = compute_bounds(net, *BOX, "crown")
    values = net.activations(grid())
    found = side_bounds(net, start, gap=0.01, nodes=3000)
    assert found.method == "sides" and found.details["subproblems"] > 0
    assert start.contains(found, 1e-12)
    for i, value in enumerate(values):
        least, most = value.min(axis=0), value.max(axis=0)
        assert (found.lower[i] <= least + 1e-12).all()
        assert (found.upper[i] >= most - 1e-12).all()
    for i in (3, 5):  # inside; the grid misses the extremes by a little
        low, high = found.lower[i], found.upper[i]
        least, most = values[i].min(axis=0), values[i].max(axis=0)
        open_ = (low < 0) & (high > 0)
        before = start.upper[i] - start.lower[i]
        # Decided sides end at zero, not at the extreme.
        assert open_.any()
        assert (low >= least - 0.03 * before - 0.02)[open_].all()
        assert (high <= most + 0.03 * before + 0.02)[open_].all()
        assert ((least < 0) & (most > 0))[open_ & (before > 0.1)].all()
    width = found.upper[-1] - found.lower[-1]
    assert (width <= start.upper[-1] - start.lower[-1]).all()


def test_no_time_leaves_the_bounds():
    net = he_network(1, [2, 9, 8, 1])
    start = compute_bounds(net, *BOX, "crown")
    found = side_bounds(net, start, time_limit=0.0)
    assert found.details["subproblems"] == 0
    for a, b in zip(start.lower + start.upper, found.lower + found.upper):
        np.testing.assert_array_equal(a, b)


def test_it_stops_when_the_caller_has_enough():
    net = he_network(1, [2, 9, 8, 7, 1])
    start = compute_bounds(net, *BOX, "crown")
    seen = []
    found = side_bounds(
        net, start, nodes=20, enough=lambda bounds: seen.append(bounds) or True
    )
    assert len(seen) == 1
    more = side_bounds(net, start, nodes=20)
    assert more.details["subproblems"] > found.details["subproblems"]


def test_one_subproblem_is_enough_to_be_valid(monkeypatch):
    """Searches that are cut short keep what their open subproblems know."""
    net = he_network(2, [2, 9, 8, 7, 1])
    start = compute_bounds(net, *BOX, "crown")
    values = net.activations(grid(81))
    monkeypatch.setattr(ReluChain, "settings", replace(ReluChain.settings, batch=1))
    for nodes in (1, 2, 5):
        found = side_bounds(net, start, nodes=nodes)
        for i, value in enumerate(values):
            assert (found.lower[i] <= value.min(axis=0) + 1e-12).all()
            assert (found.upper[i] >= value.max(axis=0) - 1e-12).all()


def test_a_layer_that_is_never_active():
    b = NetworkBuilder()
    last = b.input("x", (2,))
    for k, bias in enumerate((-9.0, 0.1)):
        last = b.affine(f"h{k}", [(last, np.eye(2))], np.full(2, bias))
        last = b.piecewise(f"r{k}", last, activations.relu())
    net = b.build([b.affine("y", [(last, [[1.0, 2.0]])])])
    bounds = compute_bounds(net, *BOX, "crown")
    part, *_ = without_inactive(net, bounds.lower, bounds.upper, 5)
    assert part.evaluate(np.zeros((1, 2)))[0, 0] == pytest.approx(0.3)
    found = side_bounds(net, bounds)
    assert found.lower[-1][0] == pytest.approx(0.3) and math.isfinite(found.upper[-1][0])


def test_other_networks_are_refused():
    b = NetworkBuilder()
    h = b.affine("h", [(b.input("x", (2,)), np.eye(2))])
    net = b.build([b.affine("y", [(b.max("m", h, [(0, 1)]), [[1.0]])])])
    with pytest.raises(ValueError, match="no chain"):
        side_bounds(net, compute_bounds(net, *BOX, "crown"))
