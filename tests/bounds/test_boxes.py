"""Boxes: a union that covers, near exact for few inputs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyomo_relu.analysis import linear_regions
from pyomo_relu.base.progress import Interruptible
from pyomo_relu.bounds import compute_bounds
from pyomo_relu.bounds.box_covers import BoxCovers, even_cover
from tests.bounds.soundness import assert_contains_samples, random_case
from tests.harness.random_networks import he_network
from tests.harness.strategies import boxes, networks, points_in


@settings(max_examples=10)
@given(st.data())
def test_no_activation_is_outside(data):
    network = data.draw(networks())
    lower, upper = data.draw(boxes(network.n_inputs))
    bounds = compute_bounds(network, lower, upper, "boxes", count=40)
    assert_contains_samples(bounds, np.random.default_rng(0), 300)


def test_never_looser_than_crown():
    for seed in range(12):
        network, lower, upper = random_case(seed)
        a = compute_bounds(network, lower, upper, "crown")
        b = compute_bounds(network, lower, upper, "boxes", start=a, count=30)
        assert a.contains(b)
        assert_contains_samples(b, np.random.default_rng(seed), 200)


def test_even_cover_covers_and_does_not_overlap():
    rng = np.random.default_rng(0)
    lower, upper = np.array([-1.0, 0.0, 2.0, 0.5]), np.array([1.0, 3.0, 2.0, 0.6])
    for n in (1, 2, 7, 64, 100):
        lows, highs = even_cover(lower, upper, n, np.ones(4))
        assert 1 <= len(lows) <= n
        x = points_in(rng, lower, upper, 300)
        inside = (lows <= x[:, None]) & (x[:, None] <= highs)
        assert inside.all(axis=2).any(axis=1).all()
        volume = (highs - lows)[:, [0, 1, 3]].prod(axis=1).sum()
        assert volume == pytest.approx((upper - lower)[[0, 1, 3]].prod())


def test_more_inputs_than_an_array_has_axes():
    rng = np.random.default_rng(1)
    lower, upper = -np.ones(100), np.ones(100)
    lows, highs = even_cover(lower, upper, 12, rng.random(100))
    assert 2 <= len(lows) <= 12
    assert (highs - lows).prod(axis=1).sum() == pytest.approx((upper - lower).prod())
    network = he_network(0, [100, 6, 1])
    bounds = compute_bounds(network, -0.1, 0.1, "boxes", count=20)
    assert_contains_samples(bounds, rng, 200)


def test_splits_keep_covering():
    network = he_network(0, [2, 10, 10, 1])
    start = compute_bounds(network, -1, 1, "crown")
    box = [side[None] for side in start.input_box]
    known = [a[None] for a in start.lower], [a[None] for a in start.upper]
    cover = BoxCovers(network, *box, known, ("adaptive",), Interruptible())
    assert cover.begin(*box, 8)
    for _ in range(5):
        n, which = len(cover), cover.worst(np.array([4]))
        assert cover.split(which) and len(cover) == n + len(which) > n
        volumes = (cover.pool["upper"] - cover.pool["lower"]).prod(axis=1)
        assert volumes.sum() == pytest.approx(4.0)


def test_nearly_exact_for_two_inputs():
    network = he_network(3, [2, 16, 16, 2])
    regions = linear_regions(network, -1.0, 1.0)
    bounds = compute_bounds(network, -1, 1, "boxes", count=2048)
    weaker = compute_bounds(network, -1, 1, "lp")
    for i in range(len(network.nodes)):
        low, high = regions.range(i)
        width = np.maximum(high - low, 1e-9)
        assert (bounds.lower[i] <= low + 1e-9).all()
        assert (high - 1e-9 <= bounds.upper[i]).all()
        assert (bounds.upper[i] - bounds.lower[i] <= 1.1 * width + 1e-6).all()
    assert weaker.statistics()["output_width"] > 1.5 * bounds.statistics()["output_width"]


def test_more_boxes_are_tighter():
    network = he_network(0, [5, 30, 30, 1])
    widths = [
        compute_bounds(network, -1, 1, "boxes", count=n).statistics()["output_width"]
        for n in (16, 128, 1024)
    ]
    assert widths[0] > widths[1] > widths[2]


def test_a_point_and_a_time_limit():
    network = he_network(0, [3, 8, 8, 1])
    a = compute_bounds(network, 0.5, 0.5, "boxes")
    assert a.outputs[1] - a.outputs[0] == pytest.approx([0.0], abs=1e-9)
    b = compute_bounds(network, -1, 1, "boxes", time_limit=0.0)
    crown = compute_bounds(network, -1, 1, "crown")
    assert b.details["interrupted"] and b.details["boxes"] == 0
    assert crown.contains(b) and b.contains(crown)
    with pytest.raises(ValueError, match="count"):
        compute_bounds(network, -1, 1, "boxes", count=0)
