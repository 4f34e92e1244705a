"""The exactly trained step network as a function of its data.

Of the fifteen checks for differentiable training, in the order of their list: optima by
enumeration (1), XOR tables (2), local search (4), partitions (5) and fixed activations
(6) are in ``tests/training``: ``test_anchors``, ``test_robust_xor``,
``test_local_search_never_rises``, ``test_refining_never_raises_the_loss``,
``test_refining_keeps_predictions``; the table of Guzelsoy and Ralphs (7) and lower bounds
(10) in ``test_dual_function``; Chvatal functions (11) in ``test_chvatal``. Here are
activations (3), gradients and kinks (8), Lipschitz bounds (9), bounds on other data (10),
weights of points (12), the radius (13), the outer loop (14), the chain rule (15). More on
weights and radius is in ``test_validation``.
"""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.differentiable import (
    DualFunction,
    MarginTraining,
    implicit_fit,
    straight_through_fit,
)
from tests.paths import shared_data

XOR = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=float)
LABELS = np.array([-1, 1, 1, -1])


@pytest.fixture(scope="module")
def xor() -> MarginTraining:
    return MarginTraining(LABELS, 2)


def noisy(seed: int, size: float = 0.15) -> np.ndarray:
    return XOR + size * np.random.default_rng(seed).normal(size=XOR.shape)


def check_activations(training: MarginTraining, fit, x, radius: float = 0.0) -> None:
    """The network re-evaluated has the program's activations, margin and slacks."""
    w, v = fit.weights
    pre = x @ w.T + fit.biases[0]
    on = fit.point[training.columns["u"]] > 0.5
    spread = radius * np.abs(w).sum(axis=1)
    signed = np.where(on, pre, -pre) - spread
    assert signed.min() >= fit.margin - 1e-7
    if fit.margin > 1e-6:
        assert ((pre >= 0) == on).all()
        slack = fit.slacks if len(fit.slacks) else 0.0
        assert (training.y * fit.scores(x) + slack >= fit.margin - 1e-7).all()


def test_activations():  # 3
    for seed in range(4):
        rng = np.random.default_rng(seed)
        x, y = rng.uniform(-1, 1, (5, 2)), np.where(rng.random(5) < 0.5, -1, 1)
        for soft in (False, True):
            training = MarginTraining(y, 2, hidden=1 + seed % 2, soft=soft)
            costs = np.full(5, 0.5) if soft else None
            check_activations(training, training.fit(x, costs), x)
            check_activations(training, training.fit(x, costs, 0.05), x, 0.05)


def test_order_of_units_changes_nothing():
    for seed in range(3):
        free = MarginTraining(LABELS, 2, order=False).fit(noisy(seed))
        held = MarginTraining(LABELS, 2).fit(noisy(seed))
        assert free.value == pytest.approx(held.value, abs=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_gradient(xor, seed):  # 8
    x = noisy(seed)
    fit = xor.fit(x)
    found = xor.certificate(x)
    assert found.differentiable, found.reason
    assert -found.value == pytest.approx(fit.value, abs=1e-8)
    assert -found.gradient[:8] == pytest.approx(fit.x_gradient.reshape(-1), abs=1e-7)
    rng = np.random.default_rng(seed)
    for h in (1e-4, 1e-5):
        direction = rng.normal(size=x.shape)
        slope = (
            (xor.fit(x + h * direction).value - xor.fit(x - h * direction).value) / h / 2
        )
        assert (fit.x_gradient * direction).sum() == pytest.approx(slope, abs=1e-6)


def test_kink_of_exact_xor(xor):  # 8
    assert xor.fit(XOR).value == pytest.approx(0.5, abs=1e-8)
    found = xor.certificate(XOR)
    assert found.kink and not found.differentiable
    # one-sided slopes differ somewhere, by finite differences
    h, jumps = 1e-4, []
    for direction in np.eye(8).reshape(8, 4, 2):
        high = (xor.fit(XOR + h * direction).value - 0.5) / h
        low = (0.5 - xor.fit(XOR - h * direction).value) / h
        jumps.append(abs(high - low))
        if jumps[-1] > 0.1:
            break
    assert jumps[-1] > 0.1


def test_lipschitz():  # 9
    largest = 0.0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        y = np.array([-1, 1, 1, -1])
        training = MarginTraining(y, 2)
        x = rng.uniform(-1, 1, (4, 2))
        other = x + rng.normal(size=x.shape) * 10.0 ** -rng.integers(0, 3)
        a, b = training.fit(x), training.fit(other)
        distance = np.abs(x - other).sum(axis=1).max()
        assert abs(a.value - b.value) <= distance + 1e-8
        for fit in (a, b):
            assert np.abs(fit.x_gradient).max(axis=1).sum() <= 1 + 1e-7
        largest = max(largest, a.value, b.value)
    assert largest > 0.1


def test_dual_function_on_other_data(xor):  # 10
    x = noisy(0)
    base = xor.program(xor.theta(x))
    function = DualFunction(base)
    assert function(base) == pytest.approx(-xor.fit(x).value, abs=1e-8)
    rng = np.random.default_rng(0)
    for size in (1e-4, 1e-2, 0.3, 2.0) * 3:
        other = x + size * rng.normal(size=x.shape)
        bound, value = function(xor.program(xor.theta(other))), -xor.fit(other).value
        assert bound <= value + 1e-8
        if size < 1e-3:
            assert bound >= value - 1e-2


def test_weights_of_points():  # 12
    """The negative value is concave in the costs, its gradient the slacks."""
    rng = np.random.default_rng(3)
    x, y = rng.uniform(-1, 1, (7, 2)), np.array([-1, 1, 1, -1, 1, -1, 1])
    training = MarginTraining(y, 2, hidden=1, soft=True)
    costs = rng.uniform(0.2, 0.5, (6, 7))
    fits = [training.fit(x, c) for c in costs]
    assert max(f.slacks.max() for f in fits) > 0.01
    for c, f in zip(costs, fits):
        assert f.cost_gradient == pytest.approx(-f.slacks, abs=1e-9)
        for other, g in zip(costs, fits):  # a concave function is below its tangents
            assert -g.value <= -f.value + f.slacks @ (other - c) + 1e-8
    direction, h = rng.normal(size=7), 1e-5
    ends = [training.fit(x, costs[0] + s * h * direction).value for s in (1, -1)]
    slope = (ends[0] - ends[1]) / (2 * h)
    assert fits[0].cost_gradient @ direction == pytest.approx(slope, abs=1e-6)


def test_margin_of_robust_xor(xor):  # 13
    for radius in (0.0, 0.05, 0.1, 0.2, 0.25):
        fit = xor.fit(XOR, radius=radius)
        assert fit.value == pytest.approx(0.5 - 2 * radius, abs=1e-8)
        if radius < 0.25:
            assert fit.radius_gradient == pytest.approx(-2.0, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_derivative_in_the_radius(xor, seed):  # 13
    x, r, h = noisy(seed), 0.05, 1e-5
    fit = xor.fit(x, radius=r)
    slope = (xor.fit(x, radius=r + h).value - xor.fit(x, radius=r - h).value) / (2 * h)
    assert fit.radius_gradient == pytest.approx(slope, abs=1e-6)
    # by hand: the multipliers of a unit's rows times the norm of its weights
    solution = xor.milp.solve(xor.theta(x, radius=r))
    pi = solution.lp.y[: 2 * xor.n * xor.h].reshape(2, xor.n, xor.h).sum(axis=(0, 1))
    norms = np.abs(fit.weights[0]).sum(axis=1)
    assert -fit.radius_gradient == pytest.approx(pi @ norms, abs=1e-6)


def six_points():
    rng = np.random.default_rng(2)
    return rng.normal(size=(6, 3)), np.array([-1, 1, 1, -1, 1, -1])


def test_outer_loop_rises():  # 14
    x, y = six_points()
    fit = implicit_fit(x, y, cost=None, iterations=8, seed=1)
    values = [h["value"] for h in fit.history]
    assert (np.diff(values) > 0).all()
    assert values[-1] > values[0] + 0.1
    assert np.linalg.norm(fit.projection) == pytest.approx(1)
    assert (fit.predict(x) == y).all()
    network = fit.step_network()
    assert network.scores(x)[:, 0] == pytest.approx(fit.scores(x))


def test_outer_loop_options():
    x, y = six_points()
    stopped = implicit_fit(x, y, iterations=5, callback=lambda h: True)
    assert stopped.status == "callback" and len(stopped.history) == 1
    late = implicit_fit(x, y, iterations=5, time_limit=0.0)
    assert late.status == "time limit" and len(late.history) == 1
    robust = implicit_fit(x, y, iterations=1, radius=0.02, costs=np.full(6, 0.6))
    assert len(robust.history) <= 2
    for options, message in (
        ({"projection": np.zeros((3, 2))}, "nonzero"),
        ({"step": 0}, "step"),
        ({"costs": -np.ones(6)}, "positive"),
    ):
        with pytest.raises(ValueError, match=message):
            implicit_fit(x, y, **options)
    with pytest.raises(ValueError, match="one label"):
        implicit_fit(x, y[:3])


def test_straight_through_learns():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    y = np.where(x[:, 0] > 0, 1.0, -1.0)
    p, (w, b, v, v0) = straight_through_fit(x, y)[-1]
    scores = (x @ p @ w.T + b >= 0) @ v + v0
    assert np.mean(np.where(scores >= 0, 1, -1) == y) > 0.85
    assert max(np.abs(a).max() for a in (w, b, v)) <= 1


def curve(points):
    """A random curve through the middle of two data sets, as position and velocity."""
    a, bend, b = points
    return (
        lambda s: (1 - s) * a + s * b + s * (1 - s) * bend,
        lambda s: b - a + (1 - 2 * s) * bend,
    )


def integral(training, position, velocity, steps: int, costs=None):
    """Midpoint rule of the formula's inner product with the curve's velocity.

    Also the number of networks' patterns it passes.
    """
    total, patterns, point = 0.0, set(), None
    for k in range(steps):
        s = (k + 0.5) / steps
        fit = training.fit(position(s), costs, start=point)
        point = fit.point
        total += (fit.x_gradient * velocity(s)).sum() / steps
        patterns.add(tuple(np.round(point[training.columns["u"]]).reshape(-1)))
    return total, len(patterns)


def change_along(training, position, costs=None) -> float:
    return (
        training.fit(position(1.0), costs).value - training.fit(position(0.0), costs).value
    )


@pytest.mark.parametrize("seed", range(2))
def test_conservative_chain_rule(seed):  # 15
    """Along a curve across kinks the integral of the selection is the difference."""
    rng = np.random.default_rng(seed)
    training = MarginTraining([-1, 1, 1, -1, 1], 2, hidden=1, soft=True)
    position, velocity = curve(rng.uniform(-1, 1, (3, 5, 2)))
    costs = np.full(5, 0.3)
    change = change_along(training, position, costs)
    found, patterns = integral(training, position, velocity, 60, costs)
    assert patterns >= 3
    assert found == pytest.approx(change, abs=0.02)
    assert abs(change) > 0.03


@pytest.mark.slow
def test_conservative_chain_rule_converges(xor):  # 15
    """Straight lines between noisy XOR sets, and bent curves."""
    for seed in range(4):
        ends = noisy(seed, 0.3), noisy(seed + 10, 0.3)
        bend = 0.5 * (seed % 2) * np.random.default_rng(seed).normal(size=XOR.shape)
        position, velocity = curve((ends[0], bend, ends[1]))
        change = change_along(xor, position)
        errors = [abs(integral(xor, position, velocity, k)[0] - change) for k in (40, 240)]
        assert errors[1] < 0.004


@pytest.mark.slow
def test_outer_loop_on_breast_cancer():
    """Ten seeds: the margin rises in each, the mean test accuracy over the fixed one."""
    data = np.genfromtxt(shared_data("bdnn/breast-cancer-wisconsin.csv"), delimiter=";")
    x, y = (data[:, :-1] - 1) / 9, 2 * data[:, -1] - 1
    before, after = [], []
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(len(x))
        train, test = order[:14], order[14:]
        fit = implicit_fit(x[train], y[train], iterations=10, seed=seed)
        assert (np.diff([h["value"] for h in fit.history]) > 0).all()
        first = fit.history[0]
        scores = first["network"].scores((x[test] - fit.center) @ first["projection"])
        before.append(np.mean(np.where(scores >= 0, 1, -1) == y[test]))
        after.append(np.mean(fit.predict(x[test]) == y[test]))
    assert np.mean(after) > np.mean(before) + 0.02
    assert np.mean(after) > 0.93
