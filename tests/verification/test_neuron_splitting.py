"""Bounds with fixed sides hold whatever slopes and multipliers are; verdicts are right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pyomo_relu import read_network
from pyomo_relu.analysis import linear_regions
from pyomo_relu.bounds import compute_bounds
from pyomo_relu.sides.relu_chain import ReluChain
from pyomo_relu.verification import Box, always, read_vnnlib, rungs, verify
from pyomo_relu.verification.margins import Margins
from pyomo_relu.verification.neuron_splitting import split_neurons
from tests.harness.random_networks import he_network
from tests.paths import shared_data


def chain_of(network, low, high, row=(1.0,), linear=None):
    bounds = compute_bounds(network, low, high, "crown")
    return ReluChain(network, bounds.lower, bounds.upper, row, linear)


@pytest.mark.parametrize("seed", range(4))
def test_least_value_within_a_hair(seed):
    """Proved just below the least value seen, and refuted just above it."""
    base = he_network(seed, [2, 10, 10, 1])
    low, high = -np.ones(2), np.ones(2)
    exact = linear_regions(base, low, high).optimum([1.0], "max").value
    for shift, proved in ((1e-3, True), (-1e-3, False)):
        limit = exact + shift * (1 + abs(exact))
        margins = Margins(base, always([[1.0]], [limit]), Box(low, high))
        chain = chain_of(margins.network, low, high)

        def above(x: np.ndarray, limit: float = limit) -> bool:
            return bool(base.evaluate(x[None])[0, 0] > limit)

        found = split_neurons(chain, above)
        assert found.proved is proved
        assert proved or (found.witness is not None and found.lower <= 0)


def test_mnist_network_that_bounds_do_not_decide():
    pytest.importorskip("onnx")
    folder = shared_data("verification/mnistfc")
    net = read_network(str(folder / "mnist-net_256x2.onnx"))
    case = read_vnnlib(folder / "prop_13_0.03.vnnlib").cases[0]
    found = verify(net, (case.lower, case.upper), case.property, methods=("neurons",))
    assert found.status == "robust" and found.method == "neurons"
    assert found.details["splits"] > 2


@pytest.mark.slow
def test_mnist_network_that_needs_better_bounds_inside():
    """A property that 250 CPU seconds of the search alone leave open."""
    pytest.importorskip("onnx")
    folder = shared_data("verification/mnistfc")
    net = read_network(str(folder / "mnist-net_256x4.onnx"))
    case = read_vnnlib(folder / "prop_5_0.03.vnnlib").cases[0]
    found = verify(net, (case.lower, case.upper), case.property, time_limit=None)
    assert found.status == "robust" and found.method == "neurons"


@pytest.mark.parametrize("seed", range(3))
def test_bounds_inside_keep_the_verdict(seed, monkeypatch):
    """Where no set is decided at first, the search after the bounds inside is right."""
    few = replace(rungs.VERIFY, few_splits=1, refined_nodes=(0, 5, 100))
    monkeypatch.setattr(rungs, "VERIFY", few)
    base = he_network(seed, [2, 7, 6, 5, 1])
    low, high = -np.ones(2), np.ones(2)
    exact = linear_regions(base, low, high).optimum([1.0], "max").value
    points = np.random.default_rng(seed).uniform(low, high, (2000, 2))
    seen = []
    inside = rungs.side_bounds

    def spy(*args, **kwargs):
        found = inside(*args, **kwargs)
        seen.append(found.details["subproblems"])
        for i, value in enumerate(found.network.activations(points)):
            assert (found.lower[i] <= value + 1e-12).all()
            assert (value <= found.upper[i] + 1e-12).all()
        return found

    monkeypatch.setattr(rungs, "side_bounds", spy)
    for shift, status in ((1e-3, "robust"), (-1e-3, "counterexample")):
        limit = exact + shift * (1 + abs(exact))
        prop = always([[1.0]], [limit])
        found = verify(base, (low, high), prop, methods=("neurons",))
        assert found.status == status
    assert seen and seen[0] > 0
