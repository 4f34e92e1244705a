"""Lines below and above smooth units: valid for any slope, touching, steepest slopes."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.bounds.linear import RULES
from pyomo_relu.bounds.smooth_lines import (
    lines_of_units,
    smooth_lines,
    smooth_slope_range,
    smooth_support,
    steepest,
)
from pyomo_relu.network import Smooth
from pyomo_relu.network.smooth_functions import SMOOTH_FUNCTIONS

NAMES = list(SMOOTH_FUNCTIONS)


def intervals(seed, n=400):
    """Wide, narrow and point intervals, on and around all parts and kinks."""
    rng = np.random.default_rng(seed)
    c = rng.normal(0.0, 4.0, (n, 1))
    c[:20] = rng.choice([-3.0, 0.0, 3.0, 1.4142135623730951, -30.0], (20, 1))
    w = 10.0 ** rng.uniform(-8, 1.5, (n, 1))
    w[20:40] = 0.0
    return c - w, c + w


def samples(node, low, high):
    x = np.clip(low + (high - low) * np.linspace(0, 1, 201), low, high)
    return x, node(x)


def node_of(name):
    return Smooth("s", (1,), 0, name, 1.6 if name == "elu" else 1.0)


@pytest.mark.parametrize("name", NAMES)
def test_lines_hold_every_value(name):
    node = node_of(name)
    low, high = intervals(0)
    x, y = samples(node, low, high)
    for rule in (*RULES, "constant"):
        lines = smooth_lines(node, low, high, rule)
        assert (lines.lower_slope * x + lines.lower_const <= y).all(), rule
        assert (lines.upper_slope * x + lines.upper_const >= y).all(), rule


@pytest.mark.parametrize("name", NAMES)
def test_any_slope_gives_a_line_that_touches(name):
    node = node_of(name)
    low, high = intervals(1)
    x, y = samples(node, low, high)
    rng = np.random.default_rng(2)
    for sign in (1.0, -1.0):
        for slope in (rng.normal(0, 1, low.shape), rng.normal(0, 1e-3, low.shape)):
            const, touch = smooth_support(node, low, high, slope, sign)
            above = sign * y - slope * x
            assert (const <= above.min(axis=1, keepdims=True)).all()
            gap = sign * node(touch) - slope * touch - const
            size = 1.0 + abs(const) + abs(slope * touch)
            assert (
                (gap <= 1e-9 * size).all()
                and (low <= touch).all()
                and (touch <= high).all()
            )


@pytest.mark.parametrize("name", [n for n in NAMES if n != "exp"])
def test_slopes_are_those_of_the_hull(name):
    """The line with the slope of an end comes as near to that end as any line can."""
    node = node_of(name)
    low, high = intervals(3)
    for sign in (1.0, -1.0):
        for slope, end in zip(smooth_slope_range(node, low, high, sign), (low, high)):
            const, _ = smooth_support(node, low, high, slope, sign)
            gap = sign * node(end) - (slope * end + const)
            assert (gap <= 1e-3 * (1.0 + high - low)).all()


@pytest.mark.parametrize("name", NAMES)
def test_no_slope_is_steeper(name):
    node = node_of(name)
    low, high = intervals(4)
    x, _ = samples(node, low, high)
    bound = steepest(node, low, high)
    d = abs(node.derivative(x)).max(axis=1, keepdims=True)
    assert (d <= bound).all() and (bound <= 1.01 * d + 0.2 * (1 + abs(d))).all()


def test_rows_of_a_program_hold_every_value():
    node = Smooth("s", (400,), 0, "silu", 1.0)
    low, high = (a[:, 0] for a in intervals(5))
    x = low + (high - low) * np.random.default_rng(6).random(400)
    for slope, below, above in lines_of_units(node, low, high):
        rest = node(x) - slope * x
        assert (below <= rest).all() and (rest <= above).all()
