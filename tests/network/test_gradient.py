"""The backward pass against differences, on random graphs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyomo_relu.network.gradient import jacobian, value_and_gradient
from tests.harness.random_networks import CONTINUOUS, he_network
from tests.harness.strategies import networks


@given(networks(activations=CONTINUOUS, magnitudes=("plain",)), st.integers(0, 99))
def test_gradient_is_the_slope_within_a_region(network, seed):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (4, network.n_inputs))
    w = rng.normal(size=(4, network.n_outputs))
    y, g = value_and_gradient(network, x, w)
    np.testing.assert_allclose(y, network.evaluate(x))
    h = 1e-7
    for j in range(network.n_inputs):
        step = np.zeros(network.n_inputs)
        step[j] = h
        right = ((network.evaluate(x + step) - y) * w).sum(axis=1) / h
        left = ((y - network.evaluate(x - step)) * w).sum(axis=1) / h
        smooth = abs(right - left) <= 1e-4 * (1 + abs(right))  # not on a border
        np.testing.assert_allclose(g[smooth, j], right[smooth], rtol=1e-4, atol=1e-4)


def test_jacobian_and_shared_weights():
    network = he_network(3, (4, 8, 8, 3))
    x = np.array([0.1, -0.4, 0.3, 0.9])
    found = jacobian(network, x)
    assert found.shape == (3, 4)
    for k in range(3):
        _, g = value_and_gradient(network, x[None], np.eye(3)[k])
        np.testing.assert_allclose(found[k], g[0])


def test_jacobians_of_some_outputs_in_parts(monkeypatch):
    from pyomo_relu.network import gradient

    network = he_network(2, (3, 7, 5))
    x = np.random.default_rng(1).normal(size=(6, 3))
    whole = gradient.jacobians(network, x)
    assert whole.shape == (6, 5, 3)
    for point, found in zip(x, whole):
        assert found == pytest.approx(jacobian(network, point))
    monkeypatch.setattr(gradient, "MOST_VALUES", 60)
    some = gradient.jacobians(network, x, np.array([3, 1]))
    assert some == pytest.approx(whole[:, [3, 1]])
