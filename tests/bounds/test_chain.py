"""Chains are told from other networks; what is never active can be left out of them."""

import numpy as np
import pytest

from pyomo_relu import NetworkBuilder, activations
from pyomo_relu.bounds import compute_bounds
from pyomo_relu.bounds.chain import is_relu_chain, without_inactive
from tests.harness.random_networks import he_network


@pytest.mark.parametrize("seed", range(3))
def test_networks_without_inactive_neurons_are_equal(seed):
    net = he_network(seed, [2, 12, 12, 3])
    low, high = np.array([0.2, -0.4]), np.array([0.5, -0.1])
    bounds = compute_bounds(net, low, high, "crown")
    x = np.random.default_rng(0).uniform(low, high, (200, 2))
    for end in (3, 5):
        part, lows, highs = without_inactive(net, bounds.lower, bounds.upper, end)
        assert part.n_neurons < sum(
            n.size for n in net.nodes[:end] if n.kind == "piecewise"
        )
        values = part.activations(x)
        np.testing.assert_allclose(values[-1], net.activations(x)[end], atol=1e-12)
        for value, a, b in zip(values, lows, highs):
            assert value.shape[1:] == a.shape == b.shape
            assert (a <= value + 1e-12).all() and (value <= b + 1e-12).all()


def test_a_chain_inside_a_network_of_two_heads_and_inputs():
    """Other nodes between those of the chain don't matter, nor do other inputs."""
    b, rng = NetworkBuilder(), np.random.default_rng(0)
    b.input("unused", (2,))
    x = b.input("x", (3,))
    ends = []
    for k in range(2):
        h = b.affine(f"h{k}", [(x, rng.normal(size=(9, 3)))], -1.0 * np.ones(9))
        r = b.piecewise(f"r{k}", h, activations.relu())
        ends.append(b.affine(f"y{k}", [(r, rng.normal(size=(2, 9)))]))
    both = b.affine("both", [(ends[0], np.eye(2)), (ends[1], np.eye(2))])
    net = b.build([*ends, both], fuse=False)
    bounds = compute_bounds(net, -0.4, 0.4, "crown")
    y = next(i for i, n in enumerate(net.nodes) if n.name == "y1")
    assert is_relu_chain(net, y)
    assert not is_relu_chain(net, y - 1) and not is_relu_chain(net, len(net.nodes) - 1)
    part, *_ = without_inactive(net, bounds.lower, bounds.upper, y)
    assert part.n_inputs == 3 and part.n_neurons < 9
    points = np.random.default_rng(1).uniform(-0.4, 0.4, (50, 5))
    expected = net.activations(points)[y]
    assert part.evaluate(points[:, 2:]) == pytest.approx(expected, abs=1e-12)
    found = compute_bounds(net, -0.4, 0.4, "alpha_crown")
    assert bounds.contains(found, 1e-12)
    assert (found.lower[y] <= expected).all() and (expected <= found.upper[y]).all()
