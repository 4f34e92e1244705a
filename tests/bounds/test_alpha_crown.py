"""Optimized slopes: sound, never looser than crown, as tight as the triangle LP."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyomo_relu.bounds import compute_bounds
from pyomo_relu.bounds.backward import Backward
from pyomo_relu.bounds.crown import crown_arrays
from pyomo_relu.bounds.slopes import SlopeProblems
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


def slopes_of_output(network, lower, upper):
    """The slopes of queries on the output over crown bounds."""
    lows, highs = crown_arrays(network, lower, upper)
    return SlopeProblems(Backward(network, lower, upper, lows, highs), network.outputs[0])


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "clip", "step", "pwl_jump"])
def test_gradient_is_the_slope_of_the_bound(name):
    rng = np.random.default_rng(5)
    network = random_network(rng, n_inputs=2, widths=(4, 4), activations=(name,))
    problems = slopes_of_output(network, -np.ones((1, 2)), np.ones((1, 2)))
    problems.rows = np.array([[[1.0]], [[-1.0]]])
    shares = rng.uniform(0.2, 0.8, (2, problems.size))
    if name == "relu":  # decided neurons keep their own slopes
        for (j, side), part in problems.parts.items():
            decided = problems.families[j].free[side][0] == 0
            shares[:, part][:, decided] = problems.families[j].chord[:, decided]
    problems.bounds([shares])
    (gradient,) = problems.gradients([shares])
    checked, h = 0, 1e-6
    for part in problems.parts.values():
        for k in range(part.start, part.stop):
            up, down = shares.copy(), shares.copy()
            up[:, k] += h
            down[:, k] -= h
            expected = (problems.bounds([up]) - problems.bounds([down])) / (2 * h)
            if name == "relu" and not gradient[:, k].any():
                continue
            assert gradient[:, k] == pytest.approx(expected, abs=1e-5)
            checked += int((abs(expected) > 1e-6).sum())
    assert checked > 0


def test_queries_that_are_left_keep_their_gradients():
    """What leaves a batch takes its own rows, coefficients and corner along."""
    network = he_network(4, [3, 9, 8, 7, 2])
    problems = slopes_of_output(network, -0.5 * np.ones((1, 3)), np.ones((1, 3)))
    rows = np.concatenate([np.eye(2), -np.eye(2)])
    shares = np.random.default_rng(0).uniform(0.2, 0.8, (4, problems.size))
    left = np.array([True, False, False, True])
    problems.rows = rows[:, None]
    values = problems.bounds([shares])
    (gradient,) = problems.gradients([shares])
    problems.keep(left)
    (part,) = problems.gradients([shares[left]])
    assert part == pytest.approx(gradient[left]) and abs(part).sum() > 0
    assert problems.bounds([shares[left]]) == pytest.approx(values[left])


def test_a_chain_is_as_tight_as_the_general_search(monkeypatch):
    for seed, sizes in enumerate([(2, 12, 12, 12, 2), (6, 20, 20, 1), (3, 9, 1)]):
        network = he_network(seed, sizes)
        a = compute_bounds(network, -0.7, 1.0, "alpha_crown")
        with monkeypatch.context() as patch:
            patch.setattr("pyomo_relu.bounds.alpha_crown.is_relu_chain", lambda *x: False)
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
