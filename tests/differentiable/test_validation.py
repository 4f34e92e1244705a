"""Gradients of the validation margin, and the outer loops over weights and radius."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.differentiable import (
    MarginTraining,
    ValidationMargin,
    class_costs,
    largest_radius,
    tune_fit,
)
from pyomo_relu.differentiable.tune import on_simplex

XOR = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=float)
LABELS = np.array([-1, 1, 1, -1])


def split(seed: int = 0):
    """Seven points, the first with the wrong label, and five for validation."""
    rng = np.random.default_rng(seed)
    x, z = rng.uniform(-1, 1, (7, 2)), rng.uniform(-1, 1, (5, 2))
    y, v = (np.where(a @ [1, -0.6] > 0.1, 1, -1) for a in (x, z))
    y[0] *= -1
    return x, y, z, v, rng.uniform(0.2, 0.4, 7)


def model(y, v, hidden: int = 1, tilt: float = 1.0) -> ValidationMargin:
    return ValidationMargin(
        y, v, 2, validation_costs=class_costs(v, 2.0), hidden=hidden, tilt=tilt
    )


@pytest.mark.parametrize("seed", range(2))
def test_gradients_are_differences(seed):
    """In costs, radius and both sets of features, to 1e-6."""
    x, y, z, v, costs = split(seed)
    margin, radius, h = model(y, v), 0.03, 1e-5
    fit = margin.fit(x, z, costs, radius)
    rng = np.random.default_rng(seed)
    dx, dz, dc = rng.normal(size=x.shape), rng.normal(size=z.shape), rng.normal(size=7)
    for change, slope in (
        ((0 * dx, 0 * dz, dc, 0.0), fit.cost_gradient @ dc),
        ((0 * dx, 0 * dz, 0 * dc, 1.0), fit.radius_gradient),
        ((dx, dz, 0 * dc, 0.0),
         (fit.x_gradient * dx).sum() + (fit.x_validation_gradient * dz).sum()),
    ):  # fmt: skip
        ends = [
            margin.fit(
                *(a + s * h * d for a, d in zip((x, z, costs, radius), change)), start=fit
            ).value
            for s in (1, -1)
        ]
        assert slope == pytest.approx((ends[0] - ends[1]) / (2 * h), abs=1e-6)
    assert np.abs(fit.cost_gradient).max() > 1e-3
    assert abs(fit.radius_gradient) > 1e-3


def test_bounds_on_the_margin():
    """The value is above the trained network's margin, and rises with the tilt."""
    x, y, z, v, costs = split()
    values = []
    for tilt in (1e-3, 0.3, 10.0):
        margin = model(y, v, tilt=tilt)
        fit = margin.fit(x, z, costs)
        values.append(fit.value)
        assert fit.value >= fit.margin - 1e-6
        assert fit.tilted.value >= fit.trained.value + tilt * fit.margin - 1e-8
        best = fit.tilted.objective(z, v, margin.validation_costs)
        # a margin below 0 counts for units on the wrong side, above it is the network's
        if min(fit.tilted.margin, fit.tilted.validation_margin) >= 0:
            assert fit.value <= best + 1e-7
    assert (np.diff(values) >= -1e-6).all()
    assert values[-1] > values[0] + 0.1


def test_objective_of_a_network():
    """Of the exact network it is the program's; of the training points."""
    x, y, _, _, costs = split(1)
    fit = MarginTraining(y, 2, hidden=1, soft=True).fit(x, costs)
    assert fit.value > 0.01
    assert fit.objective(x, y, costs) == pytest.approx(fit.value, abs=1e-7)
    # without points for validation, the second margin is the first
    assert fit.validation_margin == 0.0


def test_weights_and_radius_are_learned():
    """The value rises, the sum of costs stays, the wrong label loses its weight."""
    x, y, z, v, _ = split()
    fit = tune_fit(x, y, z, v, hidden=1, iterations=2)
    assert (np.diff([h["value"] for h in fit.history]) > 0).all()
    assert len(fit.history) > 2
    for entry in fit.history:
        assert entry["costs"].sum() == pytest.approx(2.0)
        assert entry["costs"].min() >= 0.01 * 2 / 7 - 1e-12
        assert entry["radius"] >= 0
    assert max(h["radius"] for h in fit.history) > 0.01
    assert fit.history[-1]["costs"][0] < 0.5 * fit.history[0]["costs"][0]
    margins = [h["margin"] for h in fit.history]
    assert fit.network.objective(z, v, class_costs(v, 2.0)) == pytest.approx(max(margins))
    assert set(fit.predict(z)) <= {-1.0, 1.0}


def test_one_at_a_time():
    x, y, z, v, _ = split()
    costs = tune_fit(x, y, z, v, hidden=1, iterations=1, learn=["costs"], radius=0.02)
    assert {h["radius"] for h in costs.history} == {0.02}
    radius = tune_fit(x, y, z, v, hidden=1, iterations=1, learn=["radius"])
    assert len(radius.history) == 2
    assert (radius.history[1]["costs"] == radius.history[0]["costs"]).all()
    late = tune_fit(x, y, z, v, hidden=1, time_limit=0.0)
    assert late.status == "time limit" and len(late.history) == 1
    called = tune_fit(x, y, z, v, hidden=1, callback=lambda h: True)
    assert called.status == "callback"


@pytest.mark.parametrize("margin", [0.1, 0.3])
def test_largest_radius_of_xor(margin):
    """The margin is 1/2 - 2 r."""
    radius, fit = largest_radius(XOR, LABELS, margin)
    assert radius == pytest.approx((0.5 - margin) / 2, abs=1e-6)
    assert fit.value >= margin


def test_largest_radius_is_the_edge():
    """Beyond it the margin is missed, with slacks as well."""
    x, y, _, _, costs = split(1)
    training = MarginTraining(y, 2, hidden=1, soft=True)
    start = training.fit(x, costs)
    goal = 0.5 * start.value
    radius, fit = largest_radius(x, y, goal, hidden=1, costs=costs)
    assert fit.value >= goal and fit.radius_gradient < -0.1
    assert training.fit(x, costs, radius).value == pytest.approx(fit.value, abs=1e-8)
    assert training.fit(x, costs, radius + 1e-5).value < goal
    assert largest_radius(x, np.ones(7), 0.1, hidden=1) == (np.inf, None)


def test_on_simplex():
    rng = np.random.default_rng(0)
    for _ in range(20):
        point = rng.normal(size=6)
        found = on_simplex(point, 2.0, 0.05)
        assert found.sum() == pytest.approx(2.0) and found.min() >= 0.05 - 1e-12
        for other in 0.05 + rng.dirichlet(np.ones(6), 20) * 1.7:  # nearest: obtuse angles
            assert (point - found) @ (other - found) <= 1e-9


def test_refusals():
    x, y, z, v, _ = split()
    for options, message in (
        ({"learn": ["step"]}, "learn takes"),
        ({"step": 0.0}, "step"),
        ({"radius": 100.0}, "radius"),
        ({"floor": 1.0}, "floor"),
        ({"tilt": 0.0}, "tilt"),
    ):
        with pytest.raises(ValueError, match=message):
            tune_fit(x, y, z, v, **options)
    with pytest.raises(ValueError, match="label per row"):
        tune_fit(x, y, z[:2], v)
    with pytest.raises(ValueError, match="validation_costs"):
        ValidationMargin(y, v, 2, validation_costs=[1.0])
    with pytest.raises(ValueError, match="validation takes"):
        MarginTraining(y, 2, validation=2)
    with pytest.raises(ValueError, match="below the margin"):
        largest_radius(XOR, LABELS, 0.6)
    with pytest.raises(ValueError, match="positive"):
        largest_radius(XOR, LABELS, 0.0)
