"""Planes of products hold in exact arithmetic, and are nearly the best at a point."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import linprog

from pyomo_relu.bounds.planes.products import between, plane_of_product


def random_curve(rng):
    """Points of a curve over more than [-1, 2], or none."""
    if rng.random() < 0.25:
        return None
    at = np.unique(np.concatenate([[-2.0, 3.0], rng.uniform(-2, 3, rng.integers(0, 9))]))
    return at, rng.normal(size=len(at)) * 10.0 ** rng.integers(-2, 3)


def exact(curve, x: Fraction) -> Fraction:
    """The curve at a point, without rounding."""
    at, values = curve
    k = min(int(np.searchsorted(at, float(x), side="right")), len(at) - 1)
    a, b, u, v = (Fraction(float(n)) for n in (*at[k - 1 : k + 1], *values[k - 1 : k + 1]))
    return u + (v - u) * (x - a) / (b - a)


@pytest.mark.parametrize("seed", range(60))
def test_planes_hold_exactly(seed):
    rng = np.random.default_rng(seed)
    low, high = np.sort(rng.uniform(-1, 2, 2)).tolist()
    if seed % 5 == 0:
        high = low + 1e-6
    least, most = np.sort(rng.normal(size=2) * 10.0 ** rng.integers(-2, 3)).tolist()
    lower, upper = random_curve(rng), random_curve(rng)
    part = between(low, high, least, most, lower, upper)
    margin = float(rng.choice([0.0, 1e-7]))
    for sign in (1.0, -1.0):
        at = rng.uniform([low, least], [high, most])
        plane = plane_of_product(part, *at.tolist(), sign, margin)
        a, b, c = (Fraction(n) for n in plane)
        inside = [Fraction(n) for n in rng.uniform(low, high, 20).tolist()]
        kinks = [n for own in (lower, upper) if own for n in own[0].tolist()]
        kinks = [Fraction(n) for n in kinks if low <= n <= high]
        for x in [Fraction(low), Fraction(high), *inside, *kinks]:
            ends = [Fraction(least), Fraction(most)]
            if lower is not None:
                ends[0] = max(ends[0], exact(lower, x) - Fraction(margin))
            if upper is not None:
                ends[1] = min(ends[1], exact(upper, x) + Fraction(margin))
            if ends[0] > ends[1]:
                continue
            for s in ends:
                assert a * x + b * s + c >= Fraction(sign) * x * s


@pytest.mark.parametrize("seed", range(20))
def test_planes_are_nearly_the_lowest_at_a_point(seed):
    """Compared with the hull of many points, by a linear program."""
    rng = np.random.default_rng(seed)
    upper = random_curve(rng)
    if upper is not None:
        upper = upper[0], abs(upper[1]) / abs(upper[1]).max() * 3.0
    part = between(0.5, 2.0, 0.0, 2.0, None, upper)
    x = np.linspace(0.5, 2.0, 301)
    high = np.interp(x, part.x, part.high)
    xs, ss = np.tile(x, 2), np.concatenate([np.zeros(301), high])
    at = float(rng.uniform(0.6, 1.9))
    point = at, float(rng.uniform(0.1, 0.9) * np.interp(at, x, high))
    for sign in (1.0, -1.0):
        weights = np.stack([xs, ss, np.ones(len(xs))])
        hull = linprog(-sign * xs * ss, A_eq=weights, b_eq=[*point, 1.0])
        a, b, c = plane_of_product(part, *point, sign)
        height = a * point[0] + b * point[1] + c
        assert hull.fun is not None
        assert height >= -hull.fun - 1e-4
        assert height <= -hull.fun + 0.02 * max(1.0, float(abs(ss).max()))
