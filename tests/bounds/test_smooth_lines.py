"""Lines below and above smooth units: valid for any slope, touching, steepest slopes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pyomo_relu.bounds import smooth_lines as module
from pyomo_relu.bounds.linear import RULES
from pyomo_relu.bounds.s_shaped import is_s_shaped
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


S_SHAPED = [name for name in NAMES if is_s_shaped(node_of(name))]


@pytest.mark.parametrize("rule", [*RULES, "constant"])
@pytest.mark.parametrize("name", S_SHAPED)
def test_lines_of_s_shaped_units_are_as_tight_as_others(name, rule, monkeypatch):
    """Both sides at once give what the general way gives, or less area."""
    node = node_of(name)
    low, high = intervals(7)
    x, y = samples(node, low, high)
    found = smooth_lines(node, low, high, rule)
    monkeypatch.setattr(module, "is_s_shaped", lambda node: False)
    known = smooth_lines(node, low, high, rule)
    middle = 0.5 * (low + high)
    widths = [
        (a.upper_slope - a.lower_slope) * middle + a.upper_const - a.lower_const
        for a in (found, known)
    ]
    assert (widths[0] <= widths[1] + 1e-9 * (1.0 + abs(widths[1]))).all()
    # Each side on its own gives the same bits.
    monkeypatch.undo()
    for sign, slope, const in (
        (1.0, found.lower_slope, found.lower_const),
        (-1.0, -found.upper_slope, -found.upper_const),
    ):
        with np.errstate(under="ignore"):
            assert (smooth_support(node, low, high, slope, sign)[0] == const).all()


@pytest.mark.parametrize("move", [-0.3, 0.2])
@pytest.mark.parametrize("name", S_SHAPED)
def test_a_wrong_place_costs_tightness_alone(name, move, monkeypatch):
    """What a line may be above the function is taken off, wherever it was to touch."""
    form = node_of(name).form
    wrong = replace(form, left_of_center=lambda s: form.left_of_center(s) + move)
    monkeypatch.setitem(SMOOTH_FUNCTIONS, name, wrong)
    low, high = intervals(9)
    node = node_of(name)
    x, y = samples(node, low, high)
    for rule in RULES:
        lines = smooth_lines(node, low, high, rule)
        assert (lines.lower_slope * x + lines.lower_const <= y).all(), rule
        assert (lines.upper_slope * x + lines.upper_const >= y).all(), rule


def test_s_shaped_units():
    assert set(S_SHAPED) == {"sigmoid", "tanh", "softsign", "arctan", "erf"}


@pytest.mark.parametrize("name", S_SHAPED)
def test_where_an_s_shaped_function_has_a_slope(name):
    form = node_of(name).form
    x = -np.abs(np.random.default_rng(8).normal(0.0, 2.0, 500))
    with np.errstate(divide="ignore", under="ignore"):
        back = form.left_of_center(form.derivative(x, 1.0))
        ends = form.left_of_center(np.array([-1.0, -0.0, 0.0, 2.0]))
    # Near 0 the derivative hardly changes.
    assert (abs(form.derivative(back, 1.0) - form.derivative(x, 1.0)) <= 1e-14).all()
    assert (abs(back - x)[x < -0.1] <= 1e-9 * (1.0 - x[x < -0.1])).all()
    assert (ends[:3] == -np.inf).all() and ends[3] == 0.0


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
