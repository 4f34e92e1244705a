"""No network is farther from its maps on cells than is said, in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from pyomo_relu.bounds.plane_regions import linear_regions
from pyomo_relu.bounds.region_errors import map_errors
from tests.bounds.planes.exact import dot, exact_outputs, fractions
from tests.harness.random_networks import CONTINUOUS, random_network


@pytest.mark.parametrize("seed", range(12))
def test_networks_are_near_their_maps(seed):
    rng = np.random.default_rng(seed)
    network = random_network(
        rng,
        n_inputs=1 + seed % 2,
        widths=(4, 4),
        n_outputs=2,
        activations=[str(rng.choice(CONTINUOUS)) for _ in range(2)],
        max_pool=bool(seed % 3 == 0),
        residual=bool(seed % 4 == 0),
    )
    n = network.n_inputs
    regions = linear_regions(network, -np.ones(n), np.ones(n))
    off, size = map_errors(regions), abs(regions.output_values()).max(axis=0)
    assert (off <= 1e-7 * (1.0 + size)).all()
    for r in rng.permutation(len(regions.cells))[:6]:
        corners, (slope, const) = regions.vertices(r), regions.output_map(int(r))
        weights = np.concatenate(
            [np.eye(len(corners)), rng.dirichlet(np.ones(len(corners)), 4)]
        )
        for x in weights @ corners:
            at = fractions(x[regions.free])
            for y in (exact_outputs(network, x), fractions(network.evaluate(x))):
                for k, v in enumerate(y):
                    line = dot(slope[k], at) + Fraction(float(const[k]))
                    assert abs(v - line) <= Fraction(float(off[k]))
