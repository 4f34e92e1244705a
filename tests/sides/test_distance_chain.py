"""Bounds of distances hold whatever slopes, multipliers, weights and prices are."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu import NetworkBuilder, activations
from pyomo_relu.bounds import compute_bounds
from pyomo_relu.sides.distance_chain import DistanceChain
from pyomo_relu.sides.distance_lp import least_change
from tests.harness.random_networks import he_network


def size_of(norm, d):
    return abs(d).sum(axis=-1) if norm == "l1" else abs(d).max(axis=-1)


def case(seed, norm, sizes=(5, 9, 8, 7, 3)):
    """A chain whose rows some points obey, points, their distances, and what they do."""
    rng = np.random.default_rng(seed)
    net, n = he_network(seed, list(sizes)), sizes[0]
    low, high = -np.ones(n), np.ones(n)
    x = rng.uniform(-1, 1, (6000, n))
    center = np.where(rng.random(n) < 0.3, -1.0, rng.uniform(-1, 1, n))
    rows = rng.normal(size=(2, sizes[-1]))
    y = net.evaluate(x)
    limits = np.quantile(y @ rows.T, 0.5, axis=0)
    bounds = compute_bounds(net, low, high, "crown")
    chain = DistanceChain(net, bounds.lower, bounds.upper, center, rows, limits, norm)
    values = net.activations(x)
    z = np.hstack([values[node.source] for node in net.nodes if node.kind == "piecewise"])
    obeys = (y @ rows.T <= limits).all(axis=1)
    assert 20 < obeys.sum() < 5000
    return chain, x[obeys], size_of(norm, x[obeys] - center), z[obeys], rng


@pytest.mark.parametrize("norm", ["l1", "linf"])
@pytest.mark.parametrize("seed", range(3))
def test_bounds_hold_for_any_multipliers(seed, norm):
    chain, _, away, z, rng = case(seed, norm)
    useful = 0
    for k in rng.integers(0, len(z), 60):
        fixed = np.where(rng.random(chain.count) < 0.5, np.sign(z[k]), 0)
        fixed = fixed.astype(np.int8)[None]
        agrees = (fixed * z >= 0).all(axis=1)
        assert agrees[k]
        alpha = rng.random((1, chain.count))
        beta = 2 * rng.random((1, chain.count)) * (fixed != 0)
        extra = np.append(rng.random(2), rng.normal())[None]
        value, *_ = chain.backward(chain.sides(fixed), alpha, beta, extra)
        assert value[0] <= away[agrees].min() + 1e-12
        cutoff = (0.5 + rng.random()) * away[agrees].min()
        found = chain.ascend(fixed, alpha, beta, 30, cutoff, extra)
        assert found.value[0] <= away[agrees].min() + 1e-12
        useful += found.value[0] > 0.3 * away[agrees].min()
        assert (chain.low - 1e-12 <= found.corners).all()
        assert (found.corners <= chain.high + 1e-12).all()
    assert useful > 5


@pytest.mark.parametrize("norm", ["l1", "linf"])
@pytest.mark.parametrize("seed", range(3))
def test_values_within_the_cutoff_hold_for_any_price(seed, norm):
    """What is ascended is below the weighted rows of all points within the cut-off."""
    chain, _, _, _, rng = case(seed, norm)
    x = rng.uniform(-1, 1, (6000, len(chain.low)))
    y = chain.network.evaluate(x) @ chain.rows.T - chain.limits
    away = size_of(norm, x - chain.origin)
    sides = chain.sides(np.zeros((1, chain.count), np.int8))
    for _ in range(30):
        alpha, beta = rng.random((1, chain.count)), np.zeros((1, chain.count))
        extra = np.append(rng.random(2), rng.normal())[None]
        chain.cutoff = float(np.quantile(away, rng.random()))
        value = chain.backward(sides, alpha, beta, extra, rigorous=False)[0]
        near = away <= chain.cutoff
        assert value[0] <= (y[near] @ extra[0, :-1]).min() + 1e-9


@pytest.mark.parametrize("norm", ["l1", "linf"])
@pytest.mark.parametrize("seed", range(3))
def test_ranges_hold(seed, norm):
    """Of all points with the sides within the cut-off, the rows don't matter."""
    chain, _, _, _, rng = case(seed, norm)
    x = rng.uniform(-1, 1, (6000, len(chain.low)))
    x = chain.origin + rng.random((len(x), 1)) * (x - chain.origin)
    values = chain.network.activations(x)
    nodes = [n.source for n in chain.network.nodes if n.kind == "piecewise"]
    z, away = np.hstack([values[i] for i in nodes]), size_of(norm, x - chain.origin)
    narrower = 0
    for k in rng.integers(0, len(z), 40):
        fixed = np.where(rng.random(chain.count) < 0.4, np.sign(z[k]), 0)
        fixed = fixed.astype(np.int8)[None]
        cutoff = away[k] * (1.0 + rng.random())
        low, high, empty = chain.ranges(
            fixed, chain.z_low[None], chain.z_high[None], cutoff
        )
        inside = (fixed * z >= 0).all(axis=1) & (away <= cutoff)
        assert inside[k] and not empty[0]
        assert (low <= z[inside] + 1e-12).all() and (z[inside] <= high + 1e-12).all()
        narrower += (high - low).sum() < 0.8 * (chain.z_high - chain.z_low).sum()
    assert narrower > 20


@pytest.mark.parametrize("norm", ["l1", "linf"])
def test_distances_of_linear_functions_are_exact(norm):
    chain, *_, rng = case(0, norm)
    a = rng.normal(size=(20, 5))
    whole = np.where(a > 0, chain.down * a, -chain.up * a).sum(axis=1)
    need = np.linspace(-0.2, 1.1, 20) * whole
    found, points, _ = chain.nearest(a, need - a @ chain.origin, np.zeros(20))
    for k in range(20):
        if need[k] > whole[k]:
            assert found[k] == np.inf
            continue
        change, _ = least_change(a[[k]], -need[[k]], chain.up, chain.down, norm, 1e3)
        exact = size_of(norm, change)
        assert exact - 1e-7 <= found[k] <= exact + 1e-9
        assert size_of(norm, points[k] - chain.origin) == pytest.approx(exact, abs=1e-7)


@pytest.mark.parametrize("norm", ["l1", "linf"])
def test_ranges_behind_active_neurons_are_exact(norm):
    """The second layer is linear then: its extremes are known."""
    rng = np.random.default_rng(3)
    v, w, n = rng.normal(size=(6, 4)), rng.normal(size=(5, 6)), 4
    b = NetworkBuilder()
    r = b.piecewise(
        "r", b.affine("h", [(b.input("x", (n,)), v)], 9 * np.ones(6)), activations.relu()
    )
    q = b.piecewise("q", b.affine("g", [(r, w)], -9 * w.sum(axis=1)), activations.relu())
    net = b.build([b.affine("y", [(q, np.ones((1, 5)))])])
    bounds = compute_bounds(net, -1.0, 1.0, "interval")
    center = rng.uniform(-1, 1, n)
    chain = DistanceChain(
        net, bounds.lower, bounds.upper, center, np.ones((1, 1)), np.zeros(1), norm
    )
    fixed = np.zeros((1, chain.count), np.int8)
    ranges = chain.ranges(fixed, chain.z_low[None], chain.z_high[None], 0.7)
    for k, a in enumerate(w @ v):
        for sign, end in ((1.0, ranges[0][0, 6 + k]), (-1.0, ranges[1][0, 6 + k])):
            room = np.where(sign * a > 0, chain.down, chain.up)
            if norm == "linf":
                fall = abs(a) @ np.minimum(room, 0.7)
            else:
                order = np.argsort(-abs(a))
                spent = np.minimum(np.cumsum(room[order]), 0.7)
                fall = abs(a)[order] @ np.diff(spent, prepend=0.0)
            assert end == pytest.approx(a @ center - sign * fall, abs=1e-9)
            assert sign * end <= sign * (a @ center) - fall


def test_sides_that_no_point_has_are_empty():
    chain, *_ = case(0, "l1")
    found = []
    for _ in range(200):
        fixed = np.random.default_rng(len(found)).choice([-1, 1], chain.count)
        *_, empty = chain.ranges(
            fixed.astype(np.int8)[None], chain.z_low[None], chain.z_high[None], 0.2
        )
        found.append(empty[0])
    assert np.mean(found) > 0.2


@pytest.mark.parametrize("norm", ["l1", "linf"])
@pytest.mark.parametrize("seed", range(4))
def test_decided_subproblems_are_linear_programs(seed, norm):
    """The bound with all sides fixed is the least distance of that region."""
    chain, x, away, z, _ = case(seed, norm, (3, 5, 4, 2))
    k = int(away.argmin())
    bound, best = chain.decided(np.where(z[k] >= 0, 1, -1).astype(np.int8))
    at = float(size_of(norm, best - chain.origin))
    y = chain.network.evaluate(best[None])[0]
    assert (chain.rows @ y <= chain.limits + 1e-7).all()
    assert bound <= at + 1e-9 and at <= away[k] + 1e-9
    assert bound == pytest.approx(at, abs=1e-6)


def test_a_region_without_points_has_an_infinite_bound():
    chain, *_ = case(1, "l1", (3, 5, 4, 2))
    rows, chain.limits = chain.limits, chain.limits - 1e3
    bound, _ = chain.decided(np.ones(chain.count, np.int8))
    assert rows.shape == chain.limits.shape and bound > chain.farthest


@pytest.mark.parametrize("m", [1, 4])
def test_programs_with_few_columns_find_the_optimum(m):
    """400 inputs: many more than the first program has columns for."""
    from scipy.optimize import linprog

    rng = np.random.default_rng(m)
    rows = rng.normal(size=(m, 400))
    up, down = rng.random((2, 400)) * (rng.random((2, 400)) < 0.7)
    limits = -abs(rng.normal(size=m)) * 40.0
    change, _ = least_change(rows, limits, up, down, "l1", 1e3)
    exact = linprog(
        np.ones(800),
        A_ub=np.hstack([rows, -rows]),
        b_ub=limits,
        bounds=[*((0, u) for u in up), *((0, d) for d in down)],
    )
    assert exact.status == 0
    assert abs(change).sum() == pytest.approx(exact.fun, abs=1e-6)
    assert (rows @ change <= limits + 1e-6).all()


def test_other_norms_are_refused():
    with pytest.raises(ValueError, match="l0"):
        case(0, "l0")
