"""Soundness in numbers: a million sampled activations, every rung, every kind."""

import numpy as np
import pytest

from pyomo_relu.analysis import linear_regions
from pyomo_relu.bounds import compute_bounds, ladder
from pyomo_relu.network import NetworkBuilder, activations
from tests.bounds.soundness import random_case
from tests.harness.checks import assert_sound
from tests.harness.random_networks import CONTINUOUS, SMOOTH, he_network, random_network

RUNGS = {
    "interval": {},
    "improved_interval": {},
    "crown": {},
    "alpha_crown": {"iterations": 8},
    "boxes": {"count": 24},
    "lp": {},
    "lp with cuts": {"cuts": 2},
    "lp with parts": {"parts": 3},
    "lp with parts and cuts": {"parts": 2, "cuts": 1},
    "rolling": {"window": 1, "neuron_time_limit": 1.0},
    "mip": {"neuron_time_limit": 1.0},
}

#: Rungs whose models have pieces; they refuse smooth units by name.
OF_PIECES = ("rolling", "mip")

#: What is left to a few of many networks, because it takes its time.
SLOW_RUNGS = ("lp with parts and cuts", "rolling", "mip")


def bounds_by(rung, network, lower, upper, start=None):
    """The bounds of a rung of the table above."""
    method = rung.split(" ")[0]
    return compute_bounds(network, lower, upper, method, start, **RUNGS[rung])


def test_every_rung_is_tried():
    assert {rung.split(" ")[0] for rung in RUNGS} == set(ladder.RUNGS)


@pytest.mark.parametrize("method", list(RUNGS))
def test_contains_the_exact_ranges(method):
    """Against the oracle that walks all linear regions, for every node."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        network = random_network(
            rng,
            n_inputs=1 + seed % 2,
            widths=(5, 4),
            activations=[CONTINUOUS[(3 * seed) % len(CONTINUOUS)], "relu"],
            residual=seed % 2 == 1,
            max_pool=seed % 4 == 2,
        )
        regions = linear_regions(network, -1.0, 1.0)
        bounds = bounds_by(method, network, -1, 1)
        for i in range(len(network.nodes)):
            low, high = regions.range(i)
            tolerance = 1e-9 * (1 + abs(low) + abs(high))
            assert (bounds.lower[i] <= low + tolerance).all()
            assert (high - tolerance <= bounds.upper[i]).all()


@pytest.mark.parametrize("method", list(RUNGS))
def test_float32_weights_and_a_point(method):
    """Where lower == upper every computed value is a corner that rounding can miss."""
    rng = np.random.default_rng(0)
    for scale in (1e-6, 1.0, 1e3):
        b = NetworkBuilder()
        x = b.input("x", (40,))
        for k in range(3):
            w = (scale * rng.standard_normal((40, 40))).astype(np.float32)
            x = b.affine(f"d{k}", [(x, w)], np.float32(rng.standard_normal(40)))
            x = b.piecewise(f"r{k}", x, activations.leaky_relu(0.01))
        network = b.build([x])
        point = rng.standard_normal(40)
        bounds = bounds_by(method, network, point, point)
        assert_sound(bounds, np.vstack([point, point]))
        low, high = bounds.outputs
        assert (high - low <= 1e-8 * (1e-3 + abs(low) + abs(high))).all()


def test_a_degenerate_box_is_no_wider_than_rounding():
    network = he_network(0, [6, 20, 20, 3])
    x = np.linspace(-1, 1, 6)
    for method in RUNGS:
        bounds = bounds_by(method, network, x, x)
        assert bounds.outputs[0] == pytest.approx(network.evaluate(x), abs=1e-10)
        assert bounds.outputs[1] == pytest.approx(network.evaluate(x), abs=1e-10)


def check_smooth(seed, count):
    """Every rung that takes smooth units, on a random network with some."""
    choices = (*SMOOTH, *SMOOTH, *CONTINUOUS)
    network, lower, upper = random_case(seed, activations=choices, width=6, depth=3)
    for method in RUNGS:
        if method in OF_PIECES and network.smooth_layers:
            with pytest.raises(ValueError, match="is smooth: the bounds"):
                bounds_by(method, network, lower, upper)
        elif method not in SLOW_RUNGS:
            assert_sound(bounds_by(method, network, lower, upper), count=count, seed=seed)
    return network


@pytest.mark.parametrize("seed", range(12))
def test_smooth_units(seed):
    check_smooth(seed, 200)


@pytest.mark.slow
def test_smooth_units_in_many_networks():
    networks = [check_smooth(seed, 500) for seed in range(30_000, 30_500)]
    assert sum(bool(network.smooth_layers) for network in networks) > 300


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_a_million_activations_over_thousands_of_networks(block):
    """200 networks a block, every rung on each; the slow ones on every fifth."""
    activations_seen = networks_seen = 0
    for seed in range(10_000 + 300 * block, 10_200 + 300 * block):
        network, lower, upper = random_case(seed, width=6, depth=2 + seed % 2)
        for method in RUNGS:
            if method in SLOW_RUNGS and seed % 5:
                continue
            bounds = bounds_by(method, network, lower, upper)
            assert_sound(bounds, count=150, seed=seed)
            activations_seen += 150 * sum(n.size for n in network.nodes)
        networks_seen += 1
    assert networks_seen == 200 and activations_seen > 1_000_000


@pytest.mark.slow
def test_monotone_over_many_networks():
    for seed in range(20_000, 20_150):
        network, lower, upper = random_case(seed, width=6, depth=2)
        below = compute_bounds(network, lower, upper, "interval")
        for method in ("crown", "lp", "lp with parts", "mip"):
            bounds = bounds_by(method, network, lower, upper, below)
            assert below.contains(bounds, 1e-9), (seed, method)
            if method == "lp":
                cut = bounds_by("lp with cuts", network, lower, upper, bounds)
                assert bounds.contains(cut, 1e-9), seed
            below = bounds


@pytest.mark.slow
def test_exact_ranges_of_many_networks():
    for seed in range(60):
        network, lower, upper = random_case(
            seed, activations=CONTINUOUS, magnitudes=("plain",), width=6, depth=2
        )
        if network.n_inputs > 2:
            continue
        regions = linear_regions(network, lower, upper)
        for method in RUNGS:
            bounds = bounds_by(method, network, lower, upper)
            for i in range(len(network.nodes)):
                low, high = regions.range(i)
                tolerance = 1e-8 * (1 + abs(low) + abs(high))
                assert (bounds.lower[i] <= low + tolerance).all(), (seed, method, i)
                assert (high - tolerance <= bounds.upper[i]).all(), (seed, method, i)
