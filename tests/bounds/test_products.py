"""Bounds, relaxations and proved errors of networks with products, which are squares."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from pyomo_relu.bounds import compute_bounds
from tests.harness.checks import assert_sound
from tests.harness.random_products import random_product_network

RUNGS = {
    "interval": {},
    "improved_interval": {},
    "crown": {},
    "alpha_crown": {"iterations": 8},
    "boxes": {"count": 16},
    "lp": {},
}


def case(seed):
    """A network and a box around or beside the origin."""
    rng = np.random.default_rng(seed)
    network = random_product_network(rng, int(rng.integers(1, 4)))
    middle = rng.normal(0.0, 0.7, network.n_inputs)
    radius = 10.0 ** rng.uniform(-2.0, 0.5, network.n_inputs)
    return network, middle - radius, middle + radius


def check_bounds(seed, count=200):
    network, low, high = case(seed)
    for method, options in RUNGS.items():
        found = compute_bounds(network, low, high, method, **options)
        assert_sound(found, count=count, seed=seed)


@pytest.mark.parametrize("seed", range(12))
def test_bounds_are_sound(seed):
    check_bounds(seed)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(5))
def test_bounds_of_many_networks_are_sound(block):
    for seed in range(1000 + 100 * block, 1100 + 100 * block):
        check_bounds(seed, 1000)


def violation(m):
    """How far the values of a model are off its rows, at most."""
    worst = 0.0
    for c in m.component_data_objects(pyo.Constraint, active=True):
        body = pyo.value(c.body)
        size = 1.0 + abs(body)
        for side, sign in ((c.lower, -1.0), (c.upper, 1.0)):
            if side is not None:
                worst = max(worst, sign * (body - pyo.value(side)) / size)
    return worst


@pytest.mark.parametrize("formulation", ["smooth", "relaxation"])
@pytest.mark.parametrize("seed", range(4))
def test_rows_hold_at_every_point(seed, formulation):
    network, low, high = case(seed)
    m = pyo.ConcreteModel()
    m.net = ReLUNetBlock(network=network, input_bounds=(low, high), formulation=formulation)
    for x in np.random.default_rng(seed).uniform(low, high, (20, len(low))):
        m.net.warm_start(x)
        assert violation(m) <= 1e-9
        if formulation == "smooth":
            assert m.net.error() <= 1e-9


def check_accuracy(seed, count=4000):
    """The share of the proved errors that was found."""
    network, low, high = case(seed)
    rng = np.random.default_rng(seed)
    x = np.vstack([
        rng.uniform(low, high, (count, len(low))),
        np.where(rng.random((200, len(low))) < 0.5, low, high),
    ])  # fmt: skip
    y = network.evaluate(x)
    accuracy = 0.02 * (np.ptp(y, axis=0).max() + 1e-3)
    m = pyo.ConcreteModel()
    m.net = ReLUNetBlock(network=network, input_bounds=(low, high), accuracy=accuracy)
    proved = np.array(list(m.net.accuracy().values()))
    found = abs(m.net.network.evaluate(x) - y).max(axis=0)
    assert (found <= proved).all() and (proved <= accuracy).all(), seed
    return float((found / proved).max())


@pytest.mark.parametrize("seed", [0, 1, 4, 2013])  # the last: a constant over the box
def test_errors_of_curves_are_proved(seed):
    assert check_accuracy(seed) > 0.2


@pytest.mark.slow
def test_errors_of_many_curves_are_proved():
    shares = [check_accuracy(seed) for seed in range(2000, 2100)]
    assert np.median(shares) > 1.0 / 3.0
