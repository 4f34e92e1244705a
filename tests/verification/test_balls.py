"""L1 balls: bounds against linear programs and samples, verdicts against a fine grid."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from pyomo_relu.bounds import compute_bounds
from pyomo_relu.bounds.balls import bounds_in_ball, least_in_ball
from pyomo_relu.verification import Ball, always, verify
from tests.harness.random_networks import he_network


def test_least_in_ball_is_the_optimum_of_its_linear_program():
    rng = np.random.default_rng(0)
    slopes, const = rng.normal(size=(5, 30)), rng.normal(size=5)
    center = rng.uniform(0, 1, 30)
    center[:10] = 0.0
    for radius in (0.3, 4.0, 50.0):
        ball = Ball(center, radius, "l1", lower=0, upper=1)
        for row, c, value in zip(slopes, const, least_in_ball(slopes, const, ball)):
            # x = center + p - q with p, q >= 0 and their sum at most the radius
            found = linprog(
                np.concatenate([row, -row]),
                A_ub=np.ones((1, 60)),
                b_ub=[radius],
                bounds=[(0, 1 - v) for v in center] + [(0, v) for v in center],
            )
            assert value == pytest.approx(found.fun + row @ center + c, abs=1e-8)


def samples(ball: Ball, count: int, seed: int = 0) -> np.ndarray:
    """Points of the ball, many on its border and with few changed inputs."""
    rng = np.random.default_rng(seed)
    d = rng.normal(size=(count, ball.size)) * (rng.random((count, ball.size)) < 0.2)
    size = np.maximum(abs(d).sum(axis=1, keepdims=True), 1e-9)
    d *= ball.radius * (1 - 1e-12) * np.maximum(rng.random((count, 1)), 0.5) / size
    return np.clip(ball.center + d, ball.lower, ball.upper)


@pytest.mark.parametrize("seed", range(3))
def test_bounds_in_a_ball_hold_and_are_tighter(seed):
    network = he_network(seed, (30, 12, 8, 4))
    center = np.random.default_rng(seed).uniform(0, 1, 30)
    ball = Ball(center, 1.0, "l1", lower=0, upper=1)
    lows, highs = bounds_in_ball(network, ball)
    box = compute_bounds(network, ball.lower, ball.upper, "crown")
    for v, a, b in zip(network.activations(samples(ball, 3000)), lows, highs):
        assert (v >= a - 1e-9).all() and (v <= b + 1e-9).all()
    width = [(b - a).mean() for a, b in zip(lows, highs)]
    before = [(b - a).mean() for a, b in zip(box.lower, box.upper)]
    assert width[1] < 0.5 * before[1] and width[-1] < 0.7 * before[-1]


@pytest.mark.parametrize(
    "methods", [("attack", "bounds", "mip"), ("mip",), ("relu_global",)]
)
@pytest.mark.parametrize("seed", range(3))
def test_verdicts_against_a_grid(methods, seed):
    network = he_network(seed, (3, 8, 8, 1))
    center = np.array([0.4, 0.0, 0.7])
    ball = Ball(center, 0.6, "l1", lower=0, upper=1)
    axes = np.meshgrid(*[np.linspace(0, 1, 101)] * 3, indexing="ij")
    points = np.stack([a.ravel() for a in axes], axis=1)
    points = points[abs(points - center).sum(axis=1) <= 0.6 + 1e-12]
    best = network.evaluate(points).max()
    # The slope is bounded by the weights; the grid is within 0.015 in L1 of any point.
    slope = 1.0
    for node in network.nodes:
        for w in getattr(node, "weights", ()):
            slope *= abs(w).max() if slope == 1.0 else np.linalg.norm(w, 2)
    limit = best + 0.02 * max(1.0, slope)
    assert verify(network, ball, always([[1.0]], [limit]), methods=methods).status == (
        "robust"
    )
    found = verify(network, ball, always([[1.0]], [best - 1e-4]), methods=methods)
    assert found.status == "counterexample"
    assert ball.contains(found.counterexample)
    assert network.evaluate(found.counterexample)[0] > best - 1e-4


def test_program_of_a_ball_has_no_binaries_for_its_norm():
    network = he_network(3, (60, 10, 10, 3))
    center = np.random.default_rng(0).uniform(0, 1, 60)
    ball = Ball(center, 4.0, "l1", lower=0, upper=1)
    y = network.evaluate(samples(ball, 20_000))[:, 0]
    near = verify(network, ball, always([[1.0, 0, 0]], [y.max() + 0.3 * y.std()]))
    assert near.status in ("robust", "counterexample")
    if near.method == "mip":
        assert near.details["binaries"] <= 20
