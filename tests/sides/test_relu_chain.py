"""Bounds with fixed sides hold whatever slopes and multipliers are."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu import NetworkBuilder, activations
from pyomo_relu.bounds import compute_bounds
from pyomo_relu.sides.relu_chain import ReluChain
from tests.harness.random_networks import he_network


def chain_of(network, low, high, row=(1.0,), linear=None):
    bounds = compute_bounds(network, low, high, "crown")
    return ReluChain(network, bounds.lower, bounds.upper, row, linear)


@pytest.mark.parametrize("seed", range(2))
def test_bounds_hold_for_any_multipliers(seed):
    net = he_network(seed, [5, 9, 8, 7, 2])
    rng = np.random.default_rng(seed)
    row, linear = rng.normal(size=2), rng.normal(size=5)
    chain = chain_of(net, -np.ones(5), np.ones(5), row, linear)
    x = rng.uniform(-1, 1, (4000, 5))
    values = net.activations(x)
    z = np.hstack([values[n.source] for n in net.nodes if n.kind == "piecewise"])
    y = net.evaluate(x) @ row + x @ linear
    for k in rng.integers(0, len(x), 60):
        # Fix the sides that a point has, for a third of the neurons.
        fixed = np.where(rng.random(chain.count) < 0.33, np.sign(z[k]), 0)
        fixed = fixed.astype(np.int8)[None]
        alpha = rng.random((1, chain.count))
        beta = 3 * rng.random((1, chain.count)) * (fixed != 0)
        agrees = (fixed * z >= 0).all(axis=1)
        assert agrees[k]
        value, *_ = chain.backward(chain.sides(fixed), alpha, beta)
        assert value[0] <= y[agrees].min() + 1e-12
        best = chain.ascend(fixed, alpha, beta, 20).value
        # The ascent is in single precision: what it starts from may be as good.
        assert value[0] - 1e-5 <= best[0] <= y[agrees].min() + 1e-12


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
    best = chain.ascend(fixed, np.zeros((1, 3)), np.zeros((1, 3)), 200).value
    assert exact - 0.05 * (1 + abs(exact)) <= best[0] <= exact + 1e-9


def test_other_networks_are_refused():
    b = NetworkBuilder()
    x = b.input("x", (2,))
    h = b.affine("h", [(x, np.eye(2))])
    net = b.build([b.affine("y", [(b.max("m", h, [(0, 1)]), [[1.0]])])])
    assert not ReluChain.fits(net)
    with pytest.raises(ValueError, match="no chain"):
        chain_of(net, -np.ones(2), np.ones(2))


def test_neurons_whose_children_are_best_are_chosen():
    """A neuron that the row doesn't see is not split; where none is open it says so."""
    b = NetworkBuilder()
    x = b.input("x", (2,))
    r = b.piecewise("r", b.affine("h", [(x, np.eye(2))]), activations.relu())
    net = b.build([b.affine("y", [(r, [[-1.0, 0.0]])])])
    chain = chain_of(net, -np.ones(2), np.ones(2))
    fixed = np.array([[0, 0], [1, -1]], dtype=np.int8)
    found = chain.ascend(fixed, np.zeros((2, 2)), np.zeros((2, 2)), 3)
    chosen = chain.choose(fixed, found.alpha, found.beta, found.posts)
    assert list(chosen) == [0, -1]


@pytest.mark.parametrize("seed", range(6))
def test_decided_subproblems_are_linear_programs(seed):
    """The bound with all sides fixed is the least value of that region."""
    net = he_network(seed, [3, 5, 4, 1])
    linear = np.random.default_rng(seed).normal(size=3)
    chain = chain_of(net, -np.ones(3), np.ones(3), [1.0], linear)
    x = np.random.default_rng(seed).uniform(-1, 1, (1, 3))
    values = net.activations(x)
    z = np.hstack([values[n.source] for n in net.nodes if n.kind == "piecewise"])
    fixed = np.where(z[0] >= 0, 1, -1).astype(np.int8)
    bound, best = chain.decided(fixed)
    at = float(net.evaluate(best[None])[0, 0] + best @ linear)
    assert bound <= at <= net.evaluate(x)[0, 0] + x[0] @ linear + 1e-9
    assert bound == pytest.approx(at, abs=1e-6)


def test_multipliers_beyond_all_numbers_prove_nothing():
    net = he_network(0, [3, 5, 4, 1])
    chain = chain_of(net, -np.ones(3), np.ones(3))
    fixed = np.zeros((2, chain.count), dtype=np.int8)
    fixed[:, 0] = 1
    beta = np.zeros(fixed.shape)
    beta[0, 0] = 1e300  # infinite in single precision
    value = chain.ascend(fixed, np.zeros(fixed.shape), beta, 1).value
    assert value[0] == -np.inf and np.isfinite(value[1])
