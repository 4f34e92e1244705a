"""The encoder of networks as arrays: named, folded, and the region of a point."""

import numpy as np
import pytest

from pyomo_relu.bounds import compute_bounds
from pyomo_relu.bounds.array_model import ArrayModel
from tests.harness.random_networks import CONTINUOUS, random_network

pytest.importorskip("highspy")


def least(model: ArrayModel) -> float:
    cost, const, _ = model.objective(0)
    highs = model.in_highs(relaxed=False)
    highs.set(mip_rel_gap=0.0)
    highs.set_costs(cost)
    return highs.run().bound + const


@pytest.mark.parametrize("name", [*CONTINUOUS, "step"])
def test_folded_programs_have_the_same_optimum_with_fewer_columns(name):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        network = random_network(
            rng,
            n_inputs=3,
            widths=(6, 5),
            activations=(name,),
            max_pool=seed == 1,
            residual=seed == 2,
        )
        low, high = np.array([-0.3, -0.1, 0.2]), np.array([0.4, 0.3, 0.6])
        bounds = compute_bounds(network, low, high, "crown")
        args = (network, bounds.lower, bounds.upper, network.outputs[0], np.array([0]))
        named = ArrayModel(*args, integer=True)
        folded = ArrayModel(*args, integer=True, fold=True)
        if not named.n_columns:  # no unit is undecided
            continue
        assert folded.n_columns < named.n_columns
        assert folded.program.integer.sum() == named.program.integer.sum()
        assert least(folded) == pytest.approx(least(named), abs=1e-5)
        values = network.activations(low + rng.random((1, 3)) * (high - low))
        region = ArrayModel(*args, fold=True, pattern=[v[0] for v in values])
        assert not region.program.integer.any()
        assert least(named) - 1e-5 <= least(region) <= values[-1][0, 0] + 1e-5
