"""Networks in units in which a solver resolves every number."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.bounds import compute_bounds
from pyomo_relu.bounds.well_scaled import LIMITS, well_scaled
from pyomo_relu.network import NetworkBuilder, activations
from tests.harness.checks import assert_sound
from tests.harness.in_units import in_units
from tests.harness.random_networks import he_network, random_network


def test_ordinary_networks_are_returned_as_they_are():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        net = random_network(rng, n_inputs=3, widths=(6, 6), n_outputs=2)
        bounds = compute_bounds(net, -1, 1)
        found = well_scaled(bounds)
        assert found.factors is None and found.bounds is bounds
    for box in ((0, 1), (0, 255), (0.3, 0.32)):
        assert (
            well_scaled(compute_bounds(he_network(0, (20, 30, 30, 4)), *box)).factors
            is None
        )


@pytest.mark.parametrize("seed", range(30))
def test_the_scaled_network_is_the_same_bit_by_bit(seed):
    world = in_units(seed)
    low, high = world.lower * world.inputs, world.upper * world.inputs
    bounds = compute_bounds(world.network, low, high)
    found = well_scaled(bounds)
    if found.factors is None:
        return
    assert all((np.frexp(f)[0] == 0.5).all() for f in found.factors)
    x = np.random.default_rng(seed).uniform(low, high, (50, len(low)))
    old = world.network.activations(x)
    new = found.network.activations(found.point(x))
    for i, (a, b, f) in enumerate(zip(old, new, found.factors)):
        assert b == pytest.approx(
            a * f, rel=1e-12, abs=1e-12 * abs(a * f).max(initial=1e-300)
        )
        assert np.array_equal(found.bounds.lower[i], bounds.lower[i] * f)
        assert np.array_equal(found.bounds.upper[i], bounds.upper[i] * f)
    box = found.input_box
    assert np.array_equal(box[0], low) and np.array_equal(box[1], high)
    assert well_scaled(found.bounds).factors is None


@pytest.mark.parametrize("seed", range(30))
def test_ranges_of_inputs_and_outputs_are_of_order_one(seed):
    world = in_units(seed)
    low, high = world.lower * world.inputs, world.upper * world.inputs
    found = well_scaled(compute_bounds(world.network, low, high)).bounds
    widths = np.subtract(*found.outputs[::-1])
    size = np.maximum(*map(abs, found.outputs))
    assert (widths <= LIMITS.largest_range).all()
    assert ((widths >= LIMITS.smallest_range / 2) | (widths <= 1e-4 * size)).all()


def test_a_nearly_dead_neuron_is_left_alone():
    b = NetworkBuilder()
    x = b.input("x", (2,))
    h = b.affine("h", [(x, [[1.0, 1.0], [1.0, -1.0]])], [0.0, -1.99999])
    r = b.piecewise("relu", h, activations.relu())
    net = b.build([b.affine("out", [(r, [[1.0, 1.0]])])])
    bounds = compute_bounds(net, -1, 1)
    assert bounds.upper[2][1] < LIMITS.smallest_range
    assert well_scaled(bounds).factors is None


def test_a_tiny_step_stays_a_step():
    t = np.array([[0.0]])
    pieces = ("tiny", t, np.zeros((1, 2)), np.array([[0.0, 1e-13]]))
    b = NetworkBuilder()
    node = b.piecewise("unit", b.input("x", (1,)), pieces)
    net = b.build([node])
    assert not net.nodes[1].is_continuous


@pytest.mark.parametrize("method", ["lp", "rolling", "mip"])
def test_bounds_of_programs_do_not_depend_on_units(method):
    for seed in (8, 17, 24):
        world = in_units(seed, n_inputs=3)
        low, high = world.lower * world.inputs, world.upper * world.inputs
        found = compute_bounds(world.network, low, high, method)
        assert found.network is world.network
        assert_sound(found, count=200, seed=seed)
        plain = compute_bounds(world.plain, world.lower, world.upper, method)
        for a, c in zip(found.outputs, plain.outputs):
            width = np.subtract(*plain.outputs[::-1])
            assert (abs(a / world.outputs - c) <= 1e-4 * width + 1e-6).all()
