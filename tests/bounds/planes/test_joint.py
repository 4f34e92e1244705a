"""Planes of two outputs together hold in exact arithmetic and cut off what single ones can't."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from pyomo_relu.bounds.planes import box_planes
from pyomo_relu.bounds.planes.polygons import PolygonPlanes
from tests.bounds.planes.exact import exact_outputs
from tests.harness.random_networks import he_network


def polygons(seed: int, outputs: int) -> PolygonPlanes:
    network = he_network(seed, (2, 7, 6, outputs))
    found = box_planes(network, np.full(2, -1.0), np.array([1.0, 2.0]))
    assert isinstance(found, PolygonPlanes)
    return found


def rectangle(rng) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.sort(rng.uniform([-1, -1], [1, 2], (2, 2)), axis=0)
    if rng.random() < 0.1:
        high[0] = low[0]
    return low, high


@pytest.mark.parametrize("seed", range(25))
def test_joint_planes_hold_exactly(seed):
    rng = np.random.default_rng(seed)
    box = polygons(seed, 2 + seed % 2)
    low, high = rectangle(rng)
    at = rng.uniform(low, high)
    found = None
    for size in (1.0, 0.3, 0.1):
        y = box.evaluate(at) + size * rng.normal(size=box.q)
        found = box.joint(low, high, at, y) or found
        if found is None:
            continue
        weights, row = found
        assert np.count_nonzero(weights) <= 2
        inside = box.points[((box.points >= low) & (box.points <= high)).all(axis=1)]
        for x in [low, high, *rng.uniform(low, high, (12, 2)), *inside]:
            z = [Fraction(float(v)) for v in x]
            total = sum(
                Fraction(float(c)) * v
                for c, v in zip(weights, exact_outputs(box.network, x))
            )
            plane = sum(Fraction(float(a)) * v for a, v in zip(row[:-1], z))
            assert total >= plane + Fraction(float(row[-1]))
    assert found is not None


def test_two_outputs_say_more_together_than_each_alone():
    cut = 0
    for seed in range(10):
        box, rng = polygons(seed, 2), np.random.default_rng(seed)
        at = rng.uniform(box.low, box.high)
        # Each output at the end of its own hull over the point.
        planes = box.over(box.low, box.high, None, at)
        one = np.append(at, 1.0)
        floor = np.array([(planes.below[planes.of_below == j] @ one).max() for j in (0, 1)])
        top = np.array([(planes.above[planes.of_above == j] @ one).min() for j in (0, 1)])
        for y in (np.array([floor[0], top[1]]), np.array([floor[0], floor[1]])):
            y = y + 1e-3 * (box.evaluate(at) - y)
            found = box.joint(box.low, box.high, at, y)
            if found is not None:
                weights, row = found
                size = abs(weights) @ (planes.high - planes.low)
                cut += row @ one - weights @ y > 0.02 * size
    assert cut >= 6  # of 20; it is 8


def test_a_point_of_the_graph_is_left_alone():
    box = polygons(3, 2)
    at = np.array([0.2, 0.4])
    assert box.joint(box.low, box.high, at, box.evaluate(at)) is None


def test_one_output_has_none():
    box = polygons(3, 1)
    assert box.joint(box.low, box.high, np.zeros(2), np.array([99.0])) is None
