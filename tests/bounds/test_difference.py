"""Curves in place of smooth units: few pieces, and a proved error that is one."""

from __future__ import annotations

import importlib
from dataclasses import replace

import numpy as np
import pytest

from pyomo_relu.bounds import compute_bounds
from pyomo_relu.bounds.difference import proof, refine, units
from pyomo_relu.bounds.difference.approximate import approximate
from pyomo_relu.bounds.difference.curves import curves_of_units
from pyomo_relu.bounds.difference.refine import largest_found
from pyomo_relu.network import NetworkBuilder, PiecewiseLinear, Smooth, activations
from tests.harness.random_networks import SMOOTH, random_network


def least_pieces(node: Smooth, low: float, high: float, error: float) -> int:
    """How many lines, not joined, stay within the error of the function at some points: no
    continuous curve has fewer pieces."""
    x = np.linspace(low, high, 201)
    y = node(x[:, None])[:, 0]
    start, count = 0, 0
    while start < len(x) - 1:
        end, step = start + 1, 128
        while step:
            some = slice(start, end + step + 1)
            if end + step < len(x) and least_error(x[some], y[some]) <= error:
                end += step
            else:
                step //= 2
        start, count = end, count + 1
    return count


def least_error(x: np.ndarray, y: np.ndarray) -> float:
    """Of the best line through points: half the range of ``y - s x``, convex in s."""
    low, high = -3.0, 3.0
    for _ in range(30):
        a, b = low + (high - low) / 3.0, high - (high - low) / 3.0
        if np.ptp(y - a * x) < np.ptp(y - b * x):
            high = b
        else:
            low = a
    return 0.5 * float(np.ptp(y - 0.5 * (low + high) * x))


@pytest.mark.parametrize("function", SMOOTH)
def test_curves_stay_near_with_few_pieces(function):
    rng = np.random.default_rng(len(function))
    low = np.append(rng.uniform(-6.0, 2.0, 5), [-1.0, 0.0])
    high = np.append(low[:5] + rng.uniform(0.1, 7.0, 5), [1.0, 0.0])
    node = Smooth("unit", (7,), 0, function, 0.7 if function == "elu" else 1.0)
    for error in (0.05, 2e-3):
        curves = curves_of_units(node, low, high, np.full(7, error))
        assert curves.is_continuous
        assert (np.diff(curves.breakpoints, axis=1) > 0).all()
        x = low + (high - low) * np.linspace(0.0, 1.0, 5001)[:, None]
        gap = node(x) - curves(x)
        assert abs(gap).max() <= 1.02 * error
        pieces = (
            (low[:, None] < curves.breakpoints) & (curves.breakpoints < high[:, None])
        ).sum(axis=1) + 1
        if error > 0.01:
            least = [least_pieces(node, a, b, error) for a, b in zip(low[:5], high[:5])]
            assert (pieces[:5] <= np.array(least) + 1).all()
        found = units.unit_errors(node, curves, low, high)
        least_error, greatest = found.over(low[None], high[None])
        assert (least_error <= gap.min(axis=0)).all()
        assert (gap.max(axis=0) <= greatest).all()
        # And no more than that, but for the points in between.
        assert (
            np.maximum(-least_error, greatest)[0] <= abs(gap).max(axis=0) + 2e-3 * error
        ).all()


@pytest.mark.parametrize("function", ["tanh", "gelu", "hard_swish", "elu"])
def test_errors_of_units_hold_over_parts_of_the_interval(function):
    rng = np.random.default_rng(5)
    low, high = np.full(6, -4.0), np.full(6, 3.0)
    node = Smooth("unit", (6,), 0, function, 0.6 if function == "elu" else 1.0)
    curves = curves_of_units(node, low, high, np.geomspace(1e-4, 0.2, 6))
    found = units.unit_errors(node, curves, low, high)
    a = rng.uniform(-4.0, 3.0, (40, 6))
    b = np.minimum(a + rng.exponential(0.5, (40, 6)), 3.0)
    least, greatest = found.over(a, b)
    nearly = np.zeros(a.shape), np.zeros(a.shape)
    for share in np.linspace(0.0, 1.0, 301):
        x = a + share * (b - a)
        gap = node(x) - curves(x)
        assert (least <= gap).all() and (gap <= greatest).all()
        nearly = (
            (np.minimum(nearly[0], gap), np.maximum(nearly[1], gap))
            if share
            else (gap, gap)
        )
    # And they are no wider than the values that were met, but for what is between two points.
    assert (nearly[0] - least <= 0.02).all() and (greatest - nearly[1] <= 0.02).all()


def random_case(seed: int):
    """A random network with smooth units, and an accuracy."""
    rng = np.random.default_rng(seed)
    widths = [int(rng.integers(2, 6)) for _ in range(int(rng.integers(1, 4)))]
    kinds = [str(k) for k in rng.choice([*SMOOTH, "relu", "pwl"], len(widths))]
    kinds[0] = str(rng.choice(SMOOTH))
    network = random_network(
        rng,
        n_inputs=int(rng.integers(1, 5)),
        widths=widths,
        n_outputs=int(rng.integers(1, 4)),
        activations=kinds,
        residual=bool(rng.random() < 0.2),
        max_pool=bool(rng.random() < 0.2),
        output_activation="sigmoid" if rng.random() < 0.2 else None,
    )
    return rng, network, float(10.0 ** rng.uniform(-4.0, -1.0))


def check_error(seed: int, points: int, rounds: int) -> float:
    """Prove and search; returns how many times the largest error found was proved."""
    rng, network, accuracy = random_case(seed)
    n = network.n_inputs
    low = rng.uniform(-1.0, 0.0, n)
    high = low + rng.uniform(0.2, 1.5, n)
    curves = approximate(network, low, high, accuracy)
    assert not curves.smooth_layers
    assert (curves.errors <= accuracy).all()
    x = low + (high - low) * rng.random((points, n))
    x[: 2**n] = np.where(np.indices((2,) * n).reshape(n, -1).T, high, low)
    gap = network.evaluate(x) - curves.evaluate(x)
    assert (curves.found.low <= gap).all() and (gap <= curves.found.high).all()
    searched = np.maximum(
        largest_found(network, curves, low, high, rounds), abs(gap).max(axis=0)
    )
    assert (searched <= curves.errors).all()
    # Of a network that is affine over the box only rounding is left.
    k = np.argmax(curves.errors)
    return float(curves.errors[k] / max(searched[k], 1e-12))


def test_the_proved_error_is_never_below_what_is_found(monkeypatch):
    monkeypatch.setattr(refine, "SETTINGS", replace(refine.SETTINGS, boxes=60))
    assert max(check_error(seed, 1000, 12) for seed in range(8)) <= 3.0


def test_boxes_of_few_inputs_save_pieces(monkeypatch):
    network = random_network(
        np.random.default_rng(5),
        n_inputs=2,
        widths=(10, 10),
        n_outputs=1,
        activations=["tanh", "tanh"],
    )
    low, high = -np.ones(2), np.ones(2)
    few = approximate(network, low, high, 1e-3).pieces
    module = importlib.import_module(approximate.__module__)
    monkeypatch.setattr(module, "SETTINGS", replace(module.SETTINGS, few_inputs=1))
    assert few <= 0.97 * approximate(network, low, high, 1e-3).pieces


@pytest.mark.slow
def test_the_proved_error_is_at_most_three_times_what_is_found():
    ratios = [check_error(seed, 20_000, 100) for seed in range(500)]
    assert max(ratios) <= 3.0, sorted(ratios)[-10:]


@pytest.mark.parametrize("what", ["errors", "slopes", "gains"])
def test_a_proof_that_forgets_something_is_seen(monkeypatch, what):
    _, network, _ = random_case(9)
    n = network.n_inputs
    low, high = -np.ones(n), np.ones(n)
    curves = approximate(network, low, high, 1e-2)
    bounds = compute_bounds(network, low, high, "crown")
    errors = {
        i: units.unit_errors(node, curves.nodes[i], bounds.lower[s], bounds.upper[s])
        for i, node in enumerate(network.nodes)
        for s in node.sources
        if isinstance(node, Smooth)
    }
    differences = proof.Differences(network, curves, errors)
    found = largest_found(network, curves, low, high, 60)
    assert (found <= refine.proof(differences, bounds, 100).errors).all()
    over, back = units.UnitErrors.over, proof._back
    slope_range = PiecewiseLinear.slope_range
    if what == "errors":
        monkeypatch.setattr(
            units.UnitErrors,
            "over",
            lambda self, a, b: tuple(0.3 * e for e in over(self, a, b)),
        )
    elif what == "slopes":
        monkeypatch.setattr(
            PiecewiseLinear,
            "slope_range",
            lambda *args: tuple(0.1 * s for s in slope_range(*args)),
        )
    else:
        monkeypatch.setattr(
            proof, "_back", lambda w, a, b: tuple(0.2 * g for g in back(w, a, b))
        )
    assert (refine.proof(differences, bounds, 100).errors < found).any()


def test_an_accuracy_for_each_output():
    _, network, _ = random_case(1)
    q, n = network.n_outputs, network.n_inputs
    wanted = np.geomspace(1e-2, 1e-3, q) if q > 1 else np.array([1e-3])
    curves = approximate(network, -np.ones(n), np.ones(n), wanted)
    assert (curves.errors <= wanted).all()


def test_margins_of_outputs():
    _, network, _ = random_case(2)
    n, q = network.n_inputs, network.n_outputs
    curves = approximate(network, -np.ones(n), np.ones(n), 1e-2)
    wide = curves.with_margin()
    assert wide.n_inputs == n + q
    x = np.random.default_rng(0).uniform(-1.0, 1.0, (500, n))
    points = wide.extended(x)
    assert (abs(points[:, n:]) <= 1.0).all()
    # With the deviations the outputs are those of the true network.
    assert abs(wide.evaluate(points) - network.evaluate(x)).max() <= 1e-12


def step_behind(function: str):
    b = NetworkBuilder()
    x = b.input("x", (1,))
    h = b.smooth("unit", b.affine("dense", [(x, [[2.0]])]), function)
    return b.build(
        [b.piecewise("jump", b.affine("next", [(h, [[1.0]])]), activations.step())]
    )


def test_refusals():
    with pytest.raises(
        ValueError, match="layer 'jump' computes 'step', a step, behind smooth"
    ):
        approximate(step_behind("tanh"), np.array([-1.0]), np.array([1.0]), 1e-2)
    _, network, _ = random_case(2)
    n = network.n_inputs
    for bad in (0.0, -1.0, np.nan, np.inf, "much", [1e-2] * 7):
        with pytest.raises(ValueError, match="accuracy="):
            approximate(network, -np.ones(n), np.ones(n), bad)
    with pytest.raises(ValueError, match="would need curves of"):
        approximate(network, -np.ones(n), np.ones(n), 1e-13)
