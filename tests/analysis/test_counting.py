"""Counts of linear regions against the exact ones in the plane, and the upper bounds."""

from __future__ import annotations

from itertools import product
from math import comb, prod

import numpy as np
import pytest

from pyomo_relu.analysis import count_regions, linear_regions, max_regions
from pyomo_relu.analysis.cell_tree import CellTree
from pyomo_relu.bounds import compute_bounds
from pyomo_relu.network import NetworkBuilder
from pyomo_relu.network import activations as act
from tests.harness.random_networks import CONTINUOUS, he_network, random_network


@pytest.mark.parametrize("seed", range(4))
def test_cells_agree_with_polygons(seed):
    network = he_network(seed, (2, 8, 6, 1))
    exact = linear_regions(network, -1.0, 1.0).n_regions
    found = count_regions(network, -1.0, 1.0)
    assert (found.count, found.complete) == (exact, True)
    assert exact <= max_regions(network, compute_bounds(network, -1.0, 1.0))


@pytest.mark.parametrize("name", [*CONTINUOUS, "step"])
@pytest.mark.parametrize("seed", range(3))
def test_every_activation_and_maximum(name, seed):
    rng = np.random.default_rng(seed)
    network = random_network(rng, activations=[name], widths=(4, 4), n_inputs=2)
    exact = linear_regions(network, -1.0, 1.0)
    found = count_regions(network, -1.0, 1.0)
    assert found.count == exact.n_regions
    assert exact.n_regions <= max_regions(network, compute_bounds(network, -1.0, 1.0))
    assert exact.n_regions <= max_regions(network)


def test_counting_by_mip_agrees():
    for sizes in ((2, 4, 3, 1), (3, 4, 1)):
        network = he_network(1, sizes)
        cells = count_regions(network, -1.0, 1.0)
        mip = count_regions(network, -1.0, 1.0, "mip")
        assert mip.complete and mip.count == cells.count > 5


def test_three_inputs_by_witnesses_and_samples():
    network = he_network(2, (3, 6, 4, 1))
    tree = CellTree(network, compute_bounds(network, -1.0, 1.0), 1e-8)
    count, complete = tree.count(10_000)

    def patterns(x):
        values = network.activations(x)
        nodes = [n for n in network.nodes if n.kind == "piecewise"]
        signs = np.hstack([values[n.source] >= 0 for n in nodes])
        return set(map(bytes, np.packbits(signs, axis=1)))

    # Each counted region has a point of its own pattern, and none is missed.
    found = patterns(tree.points())
    assert complete and len(found) == count == count_regions(network, -1.0, 1.0).count
    seen = patterns(np.random.default_rng(0).uniform(-1, 1, (100_000, 3)))
    assert seen <= found and len(seen) > 50


def test_fixed_inputs_and_points():
    network = he_network(0, (3, 6, 1))
    lower, upper = np.array([-1.0, 0.3, -1.0]), np.array([1.0, 0.3, 1.0])
    exact = linear_regions(network, lower, upper).n_regions
    assert count_regions(network, lower, upper).count == exact
    assert count_regions(network, lower, lower).count == 1


def test_limits():
    network = he_network(0, (2, 8, 8, 1))
    found = count_regions(network, -1.0, 1.0, max_count=10)
    assert (found.count, found.complete) == (10, False)
    assert not count_regions(network, -1.0, 1.0, time_limit=0.0).complete
    with pytest.raises(ValueError, match="'cells' or 'mip'"):
        count_regions(network, -1.0, 1.0, "pool")


def test_mip_refuses_what_it_does_not_know():
    b = NetworkBuilder()
    h = b.affine("h", [(b.input("x", (2,)), np.eye(2))])
    network = b.build(
        [b.affine("y", [(b.piecewise("a", h, act.relu6()), np.ones((1, 2)))])]
    )
    with pytest.raises(ValueError, match="'a' is no activation of two pieces"):
        count_regions(network, -1.0, 7.0, "mip")


@pytest.mark.parametrize(
    "sizes", [(2, 20, 1), (2, 5, 4, 3, 1), (6, 3, 5, 2), (1, 4, 4, 4, 1)]
)
def test_formula_of_serra_et_al(sizes):
    n0, *hidden = sizes[:-1]
    total = 0
    for j in product(*(range(n + 1) for n in hidden)):
        room, fits = n0, True
        for n, k in zip(hidden, j):
            fits &= k <= min(room, n)
            room = min(room, n - k)
        total += prod(comb(n, k) for n, k in zip(hidden, j)) if fits else 0
    assert max_regions(he_network(0, sizes)) == total


def test_known_values():
    assert max_regions(he_network(0, (2, 20, 1))) == 211
    # Stable neurons don't count: on a tiny box there is one region.
    network = he_network(0, (2, 20, 20, 1))
    bounds = compute_bounds(network, 0.4, 0.4 + 1e-9)
    assert max_regions(network, bounds) == 1
