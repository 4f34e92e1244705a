"""Every formulation of every primitive against the exact optimum, solver by solver."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.formulations import FORMULATIONS
from tests.formulations.support import model_of, violations
from tests.harness.checks import assert_embedding_matches, assert_optimum_matches
from tests.harness.random_networks import ALL_ACTIVATIONS, random_network

#: Formulations that a mixed-integer solver takes as they are, with options to try.
EXACT = {
    "bigm": {},
    "hull": {},
    "partition": {"parts": 2},
}
LINEAR = ["appsi_highs", "scip_direct", "cbc", "glpk"]
CASES = [*ALL_ACTIVATIONS, "max"]


def case(name: str, seed: int, n_inputs: int = 2):
    """A small random network of an activation, or with maxima."""
    rng = np.random.default_rng(seed)
    if name == "max":
        return random_network(
            rng, n_inputs=n_inputs, widths=(4, 3), max_pool=True, n_outputs=1
        )
    return random_network(rng, n_inputs=n_inputs, widths=(3, 2), activations=[name])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("formulation", EXACT)
def test_optimum(formulation, name):
    net = case(name, 1)
    m = model_of(net, -1.0, 1.0, formulation, **EXACT[formulation])
    assert_optimum_matches(m, m.net, objectives=[0], samples=300)


@pytest.mark.slow
@pytest.mark.parametrize("solver", LINEAR)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("formulation", EXACT)
def test_product(formulation, name, solver):
    options = None if solver == "appsi_highs" else {}
    tolerance = 1e-6 if solver == "appsi_highs" else 1e-5
    for seed in range(2, 6):
        net = case(name, seed, n_inputs=1 + seed % 2)
        m = model_of(net, -1.0, 1.0, formulation, **EXACT[formulation])
        assert_optimum_matches(
            m, m.net, objectives=[0], solver=solver, options=options, tolerance=tolerance
        )
        assert_embedding_matches(
            m, m.net, solver=solver, options=options, tolerance=tolerance
        )


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("formulation", EXACT)
def test_values_of_a_point(formulation, name):
    """After warm_start every constraint and every bound of the block holds."""
    rng = np.random.default_rng(0)
    for seed in range(3):
        net = case(name, seed)
        m = model_of(net, -1.0, 1.0, formulation, **EXACT[formulation])
        for x in rng.uniform(-1, 1, (5, 2)):
            y = m.net.warm_start(x)
            assert violations(m) == []
            assert np.array_equal(y, net.evaluate(x))


def test_all_formulations_are_here():
    assert set(FORMULATIONS) >= set(EXACT)
