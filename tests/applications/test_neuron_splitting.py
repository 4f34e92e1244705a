"""Bounds with fixed sides hold whatever slopes and multipliers are; verdicts are right."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu import NetworkBuilder, activations, read_network
from pyomo_relu.analysis import linear_regions
from pyomo_relu.applications import Box, always, read_vnnlib, verify
from pyomo_relu.applications.margins import Margins
from pyomo_relu.applications.neuron_splitting import ReluChain, split_neurons
from pyomo_relu.bounds import compute_bounds
from tests.harness.random_networks import he_network
from tests.paths import shared_data


def chain_of(network, low, high):
    bounds = compute_bounds(network, low, high, "crown")
    return ReluChain(network, bounds.lower, bounds.upper)


@pytest.mark.parametrize("seed", range(2))
def test_bounds_hold_for_any_multipliers(seed):
    net = he_network(seed, [5, 9, 8, 7, 2])
    chain = chain_of(net, -np.ones(5), np.ones(5))
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (4000, 5))
    values = net.activations(x)
    z = np.hstack([values[n.source] for n in net.nodes if n.kind == "piecewise"])
    y = net.evaluate(x)
    for k in rng.integers(0, len(x), 60):
        # Fix the sides that a point has, for a third of the neurons.
        fixed = np.where(rng.random(chain.count) < 0.33, np.sign(z[k]), 0)
        fixed = fixed.astype(np.int8)[None]
        alpha = rng.random((1, chain.count))
        beta = 3 * rng.random((1, chain.count)) * (fixed != 0)
        agrees = (fixed * z >= 0).all(axis=1)
        assert agrees[k]
        for row in range(2):
            value, *_ = chain.backward(row, fixed, alpha, beta)
            assert value[0] <= y[agrees, row].min() + 1e-12
            best, *_ = chain.ascend(row, fixed, alpha, beta, 20)
            assert value[0] <= best[0] <= y[agrees, row].min() + 1e-12


def test_ascent_reaches_the_optimum_of_a_decided_region():
    """With every side fixed the multipliers are those of a linear program."""
    from scipy.optimize import linprog

    rng = np.random.default_rng(0)
    w, b, c = rng.normal(size=(3, 4)), rng.normal(size=3), rng.normal(size=3)
    builder = NetworkBuilder()
    x = builder.input("x", (4,))
    r = builder.piecewise("r", builder.affine("h", [(x, w)], b), activations.relu())
    net = builder.build([builder.affine("y", [(r, c[None])])])
    chain = chain_of(net, -np.ones(4), np.ones(4))
    side = np.sign(w @ rng.uniform(-1, 1, 4) + b)
    exact = linprog(
        (c * (side > 0)) @ w,
        A_ub=-side[:, None] * w,
        b_ub=side * b,
        bounds=[(-1, 1)] * 4,
    )
    exact = exact.fun + (c * (side > 0)) @ b
    fixed = side.astype(np.int8)[None]
    best, *_ = chain.ascend(0, fixed, np.zeros((1, 3)), np.zeros((1, 3)), 200)
    assert exact - 0.05 * (1 + abs(exact)) <= best[0] <= exact + 1e-9


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

        found = split_neurons(chain, 0, above)
        assert found.proved is proved
        assert proved or (found.witness is not None and found.lower <= 0)


def test_other_networks_are_refused():
    b = NetworkBuilder()
    x = b.input("x", (2,))
    h = b.affine("h", [(x, np.eye(2))])
    net = b.build([b.affine("y", [(b.max("m", h, [(0, 1)]), [[1.0]])])])
    assert not ReluChain.fits(net)
    with pytest.raises(ValueError, match="no chain"):
        chain_of(net, -np.ones(2), np.ones(2))


def test_mnist_network_that_bounds_do_not_decide():
    pytest.importorskip("onnx")
    folder = shared_data("verification/mnistfc")
    net = read_network(str(folder / "mnist-net_256x2.onnx"))
    case = read_vnnlib(folder / "prop_13_0.03.vnnlib").cases[0]
    found = verify(net, (case.lower, case.upper), case.property, methods=("neurons",))
    assert found.status == "robust" and found.method == "neurons"
    assert found.details["splits"] > 2
