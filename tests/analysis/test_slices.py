"""Regions along lines and planes through many inputs."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.analysis import (
    breakpoints,
    linear_regions,
    regions_on_line,
    regions_on_plane,
    restrict,
)
from tests.harness.random_networks import ALL_ACTIVATIONS, he_network, random_network


@pytest.mark.parametrize("name", ALL_ACTIVATIONS)
def test_restriction_is_the_network_on_the_subspace(name):
    rng = np.random.default_rng(3)
    network = random_network(rng, activations=[name], n_inputs=5)
    origin, directions = rng.normal(size=5), rng.normal(size=(2, 5))
    t = rng.normal(size=(100, 2))
    y = network.evaluate(origin + t @ directions)
    assert restrict(network, origin, directions).evaluate(t) == pytest.approx(
        y, rel=1e-9, abs=1e-9
    )


def test_breakpoints_of_a_line_are_where_the_slope_changes():
    network = he_network(0, (20, 15, 10, 1))
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-2, 2, (2, 20))
    t = breakpoints(regions_on_line(network, a, b))
    assert len(t) > 5 and (np.diff(t) > 0).all() and 0 < t[0] and t[-1] < 1

    def y(s):
        return network.evaluate(a + np.asarray(s)[:, None] * (b - a))[:, 0]

    edges = np.concatenate([[0.0], t, [1.0]])
    left, right = edges[:-1], edges[1:]
    middle = 0.5 * (left + right)
    # Affine between the breakpoints ...
    assert y(middle) == pytest.approx(0.5 * (y(left) + y(right)), abs=1e-9)
    # ... and every pattern change of a fine grid has a breakpoint in its cell.
    s = np.linspace(0, 1, 20001)
    values = network.activations(a + s[:, None] * (b - a))
    signs = np.hstack(
        [values[n.source] >= 0 for n in network.nodes if n.kind == "piecewise"]
    )
    changed = np.flatnonzero((signs[1:] != signs[:-1]).any(axis=1))
    cells = np.unique(np.searchsorted(s, t) - 1)
    assert set(changed) <= set(cells)


def test_plane_through_three_points():
    network = he_network(1, (10, 8, 8, 2))
    points = np.random.default_rng(1).uniform(-1, 1, (3, 10))
    regions = regions_on_plane(network, *points)
    st = np.random.default_rng(2).uniform(0, 1, (50, 2))
    x = points[0] + st @ (points[1:] - points[0])
    assert regions.network.evaluate(st) == pytest.approx(network.evaluate(x), abs=1e-12)
    assert regions.n_regions > 5
    best = regions.optimum(0, "min")
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 60)] * 2), axis=-1).reshape(-1, 2)
    least = network.evaluate(points[0] + grid @ (points[1:] - points[0]))[:, 0].min()
    assert best.value <= least + 1e-9


def test_a_plane_along_two_inputs_has_the_regions_of_the_box():
    network = he_network(2, (2, 8, 8, 1))
    on_plane = regions_on_plane(network, [0, 0], [1, 0], [0, 1], -1.0, 1.0)
    assert on_plane.n_regions == linear_regions(network, -1.0, 1.0).n_regions


def test_errors():
    network = he_network(0, (3, 4, 1))
    with pytest.raises(ValueError, match="two different points"):
        regions_on_line(network, np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match="on one line"):
        regions_on_plane(network, np.zeros(3), np.ones(3), 2 * np.ones(3))
    with pytest.raises(ValueError, match="has 3 inputs"):
        regions_on_line(network, np.zeros(2), np.ones(2))
    with pytest.raises(ValueError, match="those of a line"):
        breakpoints(linear_regions(he_network(0, (2, 4, 1)), -1, 1))
