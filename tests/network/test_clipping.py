"""Clipping at proven bounds: equal on the box, capped beyond it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from pyomo_relu.bounds import compute_bounds
from pyomo_relu.network import PiecewiseLinear
from pyomo_relu.network.clipping import clip_activations
from tests.harness.random_networks import he_network
from tests.harness.strategies import networks, points_in


@given(networks())
def test_equal_on_the_box(network):
    lower, upper = np.full(network.n_inputs, -1.0), np.full(network.n_inputs, 1.0)
    clipped = clip_activations(network, compute_bounds(network, lower, upper, "interval"))
    x = points_in(np.random.default_rng(0), lower, upper, 200)
    y = network.evaluate(x)
    assert clipped.evaluate(x) == pytest.approx(y, rel=1e-12, abs=1e-12)
    for node in clipped.nodes:
        if isinstance(node, PiecewiseLinear) and node.is_continuous:
            assert node.function not in ("relu", "abs")


def test_bounded_beyond_the_box_and_tighter_by_intervals():
    network = he_network(0, (2, 12, 12, 12, 1))
    exact = compute_bounds(network, -1.0, 1.0, "boxes")
    clipped = clip_activations(network, exact)
    far = 1e6 * np.random.default_rng(0).normal(size=(50, 2))
    for i, node in enumerate(network.nodes):
        if isinstance(node, PiecewiseLinear):
            top = np.maximum(exact.upper[node.source], 0)
            assert (clipped.activations(far)[i] <= top * (1 + 1e-12)).all()
            assert (network.activations(far)[i] > top + 1).any()
    plain = compute_bounds(network, -1.0, 1.0, "interval").statistics()
    capped = compute_bounds(clipped, -1.0, 1.0, "interval").statistics()
    assert capped["output_width"] < 0.7 * plain["output_width"]


def test_bounds_of_another_network():
    with pytest.raises(ValueError, match="another network"):
        clip_activations(
            he_network(0, (2, 3, 1)), compute_bounds(he_network(1, (2, 3, 1)), -1, 1)
        )
