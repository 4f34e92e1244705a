"""Optimized slopes: sound, never looser than crown, as tight as the triangle LP."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyomo_relu.bounds import compute_bounds
from pyomo_relu.bounds.alpha_crown import Optimizer
from pyomo_relu.bounds.backward import Backward
from pyomo_relu.bounds.chain import ChainSearch, is_chain
from pyomo_relu.bounds.crown import crown_arrays
from tests.bounds.soundness import assert_contains_samples, random_case
from tests.harness.random_networks import he_network, random_network
from tests.harness.strategies import boxes, networks


@given(st.data())
def test_no_activation_is_outside(data):
    network = data.draw(networks())
    lower, upper = data.draw(boxes(network.n_inputs))
    bounds = compute_bounds(network, lower, upper, "alpha_crown", iterations=12)
    assert_contains_samples(bounds, np.random.default_rng(0), 200)


def test_never_looser_than_crown():
    for seed in range(20):
        network, lower, upper = random_case(seed)
        a = compute_bounds(network, lower, upper, "crown")
        b = compute_bounds(network, lower, upper, "alpha_crown", start=a, iterations=8)
        assert a.contains(b)
        assert_contains_samples(b, np.random.default_rng(seed), 100)


def test_clearly_tighter_on_a_deep_network():
    network = he_network(0, [2, 20, 20, 20, 1])
    a = compute_bounds(network, -1, 1, "crown").statistics()["output_width"]
    b = compute_bounds(network, -1, 1, "alpha_crown").statistics()["output_width"]
    assert b < 0.8 * a


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "clip", "step", "pwl_jump"])
def test_gradient_is_the_slope_of_the_bound(name):
    rng = np.random.default_rng(5)
    network = random_network(rng, n_inputs=2, widths=(4, 4), activations=(name,))
    lower, upper = -np.ones((1, 2)), np.ones((1, 2))
    lows, highs = crown_arrays(network, lower, upper)
    engine = Backward(network, lower, upper, list(lows), list(highs))
    optimizer = Optimizer(engine, lower, upper)
    out = network.outputs[0]
    above = optimizer.ancestors(out)
    rows = np.array([[1.0], [-1.0]])
    shares = {
        (j, side): rng.uniform(0.2, 0.8, (2, network.nodes[j].size))
        for j in above
        if network.nodes[j].kind == "piecewise"
        for side, span in optimizer.family(j).span.items()
        if span is not None
    }

    def value():
        a, c, _ = engine.run(out, rows[:, None], optimizer._relaxed(above, shares))
        a = a[:, 0]
        return (np.maximum(a, 0) @ lower[0] + np.minimum(a, 0) @ upper[0]) + c[:, 0], a

    class Recorder:
        def climb(self, gradient, k, rate):
            self.gradient = gradient

    free = {key: Recorder() for key in shares}
    relaxed, trace = optimizer._relaxed(above, shares), {}
    engine.run(out, rows[:, None], relaxed, trace)
    corner = np.where(value()[1] > 0, lower, upper)
    optimizer._climb(above, corner, trace, relaxed, free, 1, 0.1)
    checked = 0
    for key, share in shares.items():
        for unit in range(share.shape[1]):
            before, h = share[:, unit].copy(), 1e-6
            share[:, unit] = before + h
            up = value()[0]
            share[:, unit] = before - h
            down = value()[0]
            share[:, unit] = before
            expected = (up - down) / (2 * h)
            assert free[key].gradient[:, unit] == pytest.approx(expected, abs=1e-5)
            checked += int((abs(expected) > 1e-6).sum())
    assert checked > 0


def chain_search(network, lower, upper):
    """The search for the output of a chain over crown bounds, and unit queries."""
    lows, highs = crown_arrays(network, lower, upper)
    target = network.outputs[0]
    engine = Backward(network, lower, upper, list(lows), list(highs))
    above = Optimizer(engine, lower, upper).ancestors(target)
    assert is_chain(network, target, above)
    box = engine.center[0], engine.radius[0]
    return ChainSearch(network, target, above, *box, lows, highs)


def test_gradient_along_a_chain_is_the_slope_of_the_bound():
    network = he_network(4, [3, 9, 8, 7, 2])
    search = chain_search(network, -0.5 * np.ones((1, 3)), np.ones((1, 3)))
    rng = np.random.default_rng(0)
    rows = np.concatenate([np.eye(2), -np.eye(2)])
    first, const = rows @ search.weights, rows @ search.bias
    slopes = rng.uniform(0.2, 0.8, (4, search.size))
    slopes[:, ~search.free] = 1.0
    _, signs, corner = search._pass(first, const, slopes)
    found = search._gradient(signs, corner, slopes)
    h, checked = 1e-6, 0
    for unit in np.flatnonzero(search.free):
        up, down = slopes.copy(), slopes.copy()
        up[:, unit] += h
        down[:, unit] -= h
        change = search._pass(first, const, up)[0] - search._pass(first, const, down)[0]
        assert found[:, unit] == pytest.approx(change / (2 * h), abs=1e-5)
        checked += int((abs(change) > 1e-9).sum())
    assert checked > 10
    assert not found[:, ~search.free].any()


def test_a_chain_is_as_tight_as_the_general_search(monkeypatch):
    for seed, sizes in enumerate([(2, 12, 12, 12, 2), (6, 20, 20, 1), (3, 9, 1)]):
        network = he_network(seed, sizes)
        a = compute_bounds(network, -0.7, 1.0, "alpha_crown")
        with monkeypatch.context() as patch:
            patch.setattr("pyomo_relu.bounds.alpha_crown.is_chain", lambda *x: False)
            b = compute_bounds(network, -0.7, 1.0, "alpha_crown")
        x, y = a.statistics(), b.statistics()
        assert x["output_width"] <= 1.01 * y["output_width"]
        assert x["mean_width"] <= 1.01 * y["mean_width"]
        assert_contains_samples(a, np.random.default_rng(seed), 1000)


def test_time_limit_keeps_crown():
    network = he_network(0, [2, 20, 20, 20, 1])
    a = compute_bounds(network, -1, 1, "crown")
    b = compute_bounds(network, -1, 1, "alpha_crown", time_limit=0.0)
    assert b.details["interrupted"]
    assert a.contains(b, 1e-9) and b.contains(a, 1e-9)
