"""Lines of units of many pieces: those of a look at every piece, and valid."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.bounds import compute_bounds, many_pieces
from pyomo_relu.bounds.difference.curves import curves_of_units
from pyomo_relu.bounds.linear import RULES, piecewise_lines
from pyomo_relu.bounds.many_pieces import PiecesHull, has_many_pieces
from pyomo_relu.network import PiecewiseLinear, Smooth
from tests.bounds.soundness import assert_contains_samples, random_case
from tests.harness.random_networks import MANY_PIECES, random_pieces


def curve(function: str) -> PiecewiseLinear:
    """Curves of six smooth units, from coarse to fine."""
    node = Smooth("unit", (6,), 0, function, 0.7 if function == "elu" else 1.0)
    return curves_of_units(
        node, np.full(6, -4.0), np.full(6, 3.0), np.geomspace(1e-3, 0.02, 6)
    )


def zigzag(seed: int) -> PiecewiseLinear:
    """Random functions, with bends of both signs in any order."""
    rng = np.random.default_rng(seed)
    return PiecewiseLinear("unit", (6,), 0, *random_pieces(rng, *MANY_PIECES, 6))


def intervals(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Long and short ones, some of them points, and some beyond all breakpoints."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(-4.5, 3.5, (12, 6))
    return low, low + rng.exponential([0.02, 0.7, 3.0], (4, 3)).reshape(12, 1) * (
        low > -4.2
    )


#: Of one run each way, of two, and of one way alone.
CURVES = ("tanh", "silu", "softplus", "hard_swish")
NODES = {name: lambda name=name: curve(name) for name in CURVES}
NODES |= {f"zigzag{seed}": lambda seed=seed: zigzag(seed) for seed in range(3)}


@pytest.mark.parametrize("name", NODES)
def test_lines_are_those_of_a_look_at_every_piece(name):
    node = NODES[name]()
    assert has_many_pieces(node)
    low, high = intervals(len(name))
    middle = 0.5 * (low + high)
    hull = PiecesHull(node, low, high)
    x = low + (high - low) * np.linspace(0.0, 1.0, 101)[:, None, None]
    y = node(x.reshape(-1, 6)).reshape(x.shape)
    for rule in (*RULES, "constant"):
        found, known = hull.lines(rule), piecewise_lines(node, low, high, rule)
        assert (found.lower_slope * x + found.lower_const <= y).all()
        assert (y <= found.upper_slope * x + found.upper_const).all()
        for side in ("lower", "upper"):
            own, other = (
                getattr(lines, f"{side}_slope") * middle + getattr(lines, f"{side}_const")
                for lines in (found, known)
            )
            assert abs(own - other).max() <= 1e-9, (rule, side)


def test_a_run_that_is_forgotten_is_seen(monkeypatch):
    node = zigzag(1)
    low, high = np.full((1, 6), -1.0), np.full((1, 6), 3.0)
    x = np.linspace(-1.0, 3.0, 2001)[:, None] * np.ones(6)

    def valid() -> bool:
        lines = PiecesHull(node, low, high).lines("adaptive")
        return bool((lines.lower_slope * x + lines.lower_const <= node(x)).all())

    assert valid()
    runs_of = many_pieces._runs_of
    monkeypatch.setattr(many_pieces, "_runs_of", lambda *args: runs_of(*args)[:1])
    many_pieces._KNOWN.clear()
    assert not valid()
    many_pieces._KNOWN.clear()


def test_small_steps_of_a_function_that_counts_as_continuous():
    plain = zigzag(2)
    intercepts = plain.intercepts.copy()
    intercepts[:, 1::2] += 3e-14
    node = PiecewiseLinear(
        "unit", (6,), 0, "pwl", plain.breakpoints, plain.slopes, intercepts
    )
    assert has_many_pieces(node)
    low, high = intervals(0)
    lines = PiecesHull(node, low, high).lines("adaptive")
    ends = np.concatenate([node.breakpoints, np.nextafter(node.breakpoints, -9.0)], axis=1)
    for t in ends.T:
        inside = (low <= t) & (t <= high)
        y = node(np.broadcast_to(t, low.shape))
        assert (lines.lower_slope * t + lines.lower_const <= y)[inside].all()
        assert (y <= lines.upper_slope * t + lines.upper_const)[inside].all()


@pytest.mark.parametrize("method", ["crown", "alpha_crown", "boxes"])
def test_bounds_hold(method):
    for seed in range(3 if method == "boxes" else 8):
        network, lower, upper = random_case(seed, activations=MANY_PIECES, width=5)
        bounds = compute_bounds(network, lower, upper, method)
        assert_contains_samples(bounds, np.random.default_rng(seed), 300)


@pytest.mark.slow
def test_bounds_hold_for_many_networks():
    for seed in range(100, 400):
        network, lower, upper = random_case(seed, activations=MANY_PIECES)
        for method in ("crown", "alpha_crown", "boxes"):
            bounds = compute_bounds(network, lower, upper, method)
            assert_contains_samples(bounds, np.random.default_rng(seed), 2000)
