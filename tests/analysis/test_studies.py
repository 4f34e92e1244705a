"""Pieces of the study scripts that a table depends on."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
from scipy.optimize import linprog

from pyomo_relu.bounds import compute_bounds
from tests.harness.random_networks import he_network
from tests.paths import ROOT


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_reach_is_the_optimum_of_its_linear_program():
    reach = load("mnist_attack").reach
    rng = np.random.default_rng(0)
    w, image = rng.normal(size=(5, 30)), rng.uniform(0, 1, 30)
    image[:10] = 0.0
    for radius in (0.3, 4.0, 50.0):
        for row, value in zip(w, reach(w, image, radius)):
            # d = p - q with p, q >= 0 and their sum at most the radius.
            found = linprog(
                np.concatenate([-row, row]),
                A_ub=np.ones((1, 60)),
                b_ub=[radius],
                bounds=[(0, 1 - v) for v in image] + [(0, v) for v in image],
            )
            assert value == pytest.approx(-found.fun, abs=1e-8)


def test_bounds_around_an_image_hold_in_the_ball():
    around = load("mnist_attack").bounds_around
    network = he_network(0, (30, 8, 6, 4))
    rng = np.random.default_rng(1)
    image, radius = rng.uniform(0, 1, 30), 1.5
    bounds = compute_bounds(network, 0.0, 1.0, "lp")
    local = around(bounds, image, radius)
    d = rng.normal(size=(2000, 30)) * (rng.random((2000, 30)) < 0.2)
    d *= radius / np.maximum(abs(d).sum(axis=1, keepdims=True), 1e-9)
    x = np.clip(image + d, 0.0, 1.0)
    for v, low, high in zip(network.activations(x), local.lower, local.upper):
        assert (v >= low - 1e-9).all() and (v <= high + 1e-9).all()
    assert local.statistics()["mean_width"] < 0.7 * bounds.statistics()["mean_width"]


def test_attack_satisfies_the_rule():
    module = load("mnist_attack")
    network = he_network(2, (30, 12, 8, 4))
    image = np.random.default_rng(0).uniform(0, 1, 30)
    for target in range(4):
        found = module.attack(network, image, target)
        if found is None:
            continue
        y = network.evaluate(found)
        assert (found >= 0).all() and (found <= 1).all() and y[target] >= 0
        assert (y[target] >= module.FACTOR * np.delete(y, target) - 1e-9).all()
    assert module.attack(network, image, int(network.evaluate(image).argmax())) is not None


def test_test_functions_have_their_known_minima():
    plate = load("plate")
    assert plate.peaks(0.228, -1.626) == pytest.approx(-6.551, abs=1e-3)
    assert plate.ackley(0.0, 0.0) == pytest.approx(0.0, abs=1e-12)
    assert plate.himmelblau(3.0, 2.0) == 0.0
