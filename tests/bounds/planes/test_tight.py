"""Planes that are tight at a point, and planes where neurons' sides are given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linprog

from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds.planes import (
    Asked,
    Planes,
    planes_of_many,
    tight,
    tighter_planes,
)
from pyomo_relu.bounds.planes.chain import ChainPlanes, chain_planes
from pyomo_relu.bounds.planes.relu_layers import relu_layers
from pyomo_relu.bounds.planes.sides import (
    chain_of,
    side_rows,
    undecided,
    with_sides,
    worth_of_sides,
)
from pyomo_relu.bounds.planes.tight import tight_rows
from pyomo_relu.network import Network
from tests.bounds.planes.exact import assert_hold, dot, fractions, points_of
from tests.harness.random_networks import he_network

SHAPES = [(3, 6, 1), (3, 6, 5, 2), (4, 7, 6, 5, 1)]


def chain(network: Network, size: float = 1.0) -> ChainPlanes:
    layers, n = relu_layers(network), network.n_inputs
    assert layers is not None
    low, high = -size * np.ones((1, n)), size * np.ones((1, n))
    return chain_planes([network], [layers], low, high)[0]


def pre_activations(network: Network, x: np.ndarray) -> np.ndarray:
    """Those of all hidden neurons at points (N, n), (N, h)."""
    found = []
    layers = relu_layers(network) or []
    for w, b in layers[:-1]:
        z = x @ w.T + b
        found.append(z)
        x = np.maximum(z, 0.0)
    return np.concatenate(found, axis=1)


def triangles(network: Network, stored: np.ndarray, x: np.ndarray, sign: float) -> float:
    """The least ``sign * y[0]`` over the triangles of all neurons at inputs ``x``."""
    layers = relu_layers(network) or []
    hidden = sum(len(b) for _, b in layers[:-1])
    rows, ends = [], []
    before, start = None, 0
    for w, b in layers[:-1]:
        for i in range(len(b)):
            place, z = start + i, np.zeros(hidden)
            own, const = np.zeros(hidden), float(b[i])
            own[place] = 1.0
            if before is None:
                const += float(w[i] @ x)
            else:
                z[before] = w[i]
            low, high = stored[:, place]
            chord = max(high, 0.0) / max(max(high, 0.0) - min(low, 0.0), 1e-300)
            rows += [-own, z - own, own - chord * z]
            ends += [0.0, -const, chord * (const - min(low, 0.0))]
        before, start = slice(start, start + len(b)), start + len(b)
    w, b = layers[-1]
    cost = np.zeros(hidden)
    cost[before] = sign * w[0]
    bounds = [(None, None)] * hidden
    return float(linprog(cost, np.array(rows), ends, bounds=bounds).fun + sign * b[0])


@pytest.mark.parametrize("sizes", SHAPES)
def test_a_tight_plane_comes_close_to_the_triangles(sizes, monkeypatch):
    """Never above the relaxation with a triangle for each neuron; with one layer, it."""
    monkeypatch.setattr(tight, "SETTINGS", tight.TightSettings(turns=60))
    rng = np.random.default_rng(0)
    for seed in range(4):
        network, n, q = he_network(seed, sizes), sizes[0], sizes[-1]
        planes = chain(network)
        known = planes.over(planes.low, planes.high)
        x = rng.uniform(-1, 1, n)
        for sign in (1.0, -1.0):
            stored, signs = known.stored[None], np.full((1, q), sign)
            first = np.zeros(1, dtype=int)
            box = planes.low[None], planes.high[None]
            rows = tight_rows(planes.stack, *box, stored, x[None], signs, first)
            height = float(rows[0, 0] @ np.append(x, 1.0))
            best = triangles(network, known.stored, x, sign)
            gap = sign * network.evaluate(x)[0] - best
            assert height <= best + 1e-8
            assert height >= best - (1e-8 if len(sizes) == 3 else 0.25 * gap)


@pytest.mark.parametrize("sizes", SHAPES)
def test_tight_planes_hold_exactly(sizes):
    rng = np.random.default_rng(1)
    for seed in range(3):
        network, n, q = he_network(seed, sizes), sizes[0], sizes[-1]
        covered = planes_of_many([network], [-np.ones(n)], [np.ones(n)])[0]
        box = covered if seed else chain(network)
        a, b = -rng.random(n), rng.random(n)
        known = box.over(a, b)
        at = a + rng.random(n) * (b - a)
        away = rng.choice([-1.0, 1.0], q) * 0.3 * (known.high - known.low)
        asked = Asked(box, a, b, known.stored, at, box.evaluate(at) + away)
        (found,) = tighter_planes([asked], [known])
        more = len(found.below) + len(found.above) - len(known.below) - len(known.above)
        assert more == q if box is not covered else more >= 0
        assert_hold(found, network, points_of(network, a, b, rng, 4))


def some_sides(network: Network, x: np.ndarray, planes: ChainPlanes, rng) -> np.ndarray:
    """The sides that half of the undecided neurons have at a point."""
    z = pre_activations(network, x[None])[0]
    sides = np.zeros(len(z), dtype=int)
    some = undecided(planes)[rng.random(len(undecided(planes))) < 0.5]
    sides[some] = np.where(z[some] > 0, 1, -1)
    return sides


@pytest.mark.parametrize("sizes", SHAPES)
def test_planes_hold_where_sides_are_given(sizes):
    """For every point on these sides: planes, bounds of neurons, and the rows of the sides."""
    rng, met, tighter = np.random.default_rng(2), 0, 0
    for seed in range(6):
        network, n = he_network(seed, sizes), sizes[0]
        planes = chain(network)
        at = rng.uniform(-1, 1, n)
        sides = some_sides(network, at, planes, rng)
        plain = planes.over(planes.low, planes.high)
        stored = with_sides(planes, plain.stored, sides)
        assert stored is not None
        found = planes.over(planes.low, planes.high, stored)
        rows, empty = side_rows(planes, planes.low, planes.high, found.stored, sides)
        assert not empty and len(rows) == np.count_nonzero(sides)
        x = np.concatenate(
            [at[None], rng.uniform(-1, 1, (400, n)), at + 0.05 * rng.normal(size=(50, n))]
        )
        x = np.clip(x, -1, 1)
        z = pre_activations(network, x)
        on = ((sides == 0) | (sides * z >= 0)).all(axis=1)
        met += int(on.sum())
        tighter += bool((found.high - found.low < plain.high - plain.low - 1e-9).any())
        assert_hold(found, network, x[on][:12])
        for point, own in zip(x[on], z[on]):
            assert (own >= found.stored[0] - 64 * EPS).all()
            assert (own <= found.stored[1] + 64 * EPS).all()
            values = [
                dot(row[:-1], fractions(point)) + fractions(row[-1:])[0] for row in rows
            ]
            assert max(values) <= 0
    assert met > 20 and tighter >= 1


def test_sides_that_no_point_has_leave_nothing():
    network = he_network(0, (3, 6, 5, 1))
    planes = chain(network)
    low = np.full(3, 0.2)
    decided = planes.over(low, low + 1e-3)
    assert decided.undecided == 0
    wrong = np.zeros(decided.stored.shape[1], dtype=int)
    place = int(undecided(planes)[0])
    wrong[place] = -1 if decided.stored[0, place] >= 0 else 1
    assert with_sides(planes, decided.stored, wrong) is None
    # Known from the first box only, the rows of the sides see it.
    stored = with_sides(planes, None, wrong)
    assert stored is not None
    assert side_rows(planes, low, low + 1e-3, stored, wrong)[1]


def test_what_planes_lose_is_told_by_neuron():
    """The losses add up to the gap at the point, and are 0 for decided neurons."""
    rng = np.random.default_rng(3)
    for sizes in SHAPES:
        network = he_network(1, sizes)
        planes = chain(network)
        known = planes.over(planes.low, planes.high)
        at = rng.uniform(-1, 1, sizes[0])
        worth = worth_of_sides(planes, known.stored, at, planes.evaluate(at) - 0.1)
        assert worth.min() >= 0.0 and worth.sum() == pytest.approx(1.0)
        low, high = known.stored
        assert (worth[(low >= 0) | (high <= 0)] == 0.0).all()


def test_a_neuron_that_decides_all_has_all_the_worth():
    """The side of the only undecided neuron is worth everything, and closes the gap."""
    network = he_network(5, (3, 6, 1))
    planes = chain(network)
    at = np.array([0.3, -0.2, 0.1])
    sides = np.where(pre_activations(network, at[None])[0] > 0, 1, -1)
    last = int(undecided(planes)[-1])
    sides[last] = 0
    stored = with_sides(planes, None, sides)
    assert stored is not None
    worth = worth_of_sides(planes, stored, at, planes.evaluate(at) - 0.1)
    assert worth[last] in (0.0, pytest.approx(1.0))
    sides[last] = 1 if pre_activations(network, at[None])[0][last] > 0 else -1
    found = planes.over(planes.low, planes.high, with_sides(planes, None, sides))
    assert found.undecided == 0
    assert found.gaps(at)[0] < 1e-9


@pytest.mark.parametrize("sizes", SHAPES[:2])
def test_surrogate_rows_bound_neurons_over_a_polytope(sizes):
    """Where inputs obey a row, neurons' bounds hold, and are tighter than over the box."""
    rng, n = np.random.default_rng(4), sizes[0]
    for seed in range(4):
        network = he_network(seed, sizes)
        planes = chain(network)
        plain = planes.over(planes.low, planes.high)
        weights, end = rng.normal(size=n), -0.4
        stack = planes.stack
        # Any multiple of the row is a surrogate; of some the right one is near.
        stack.surrogates = [
            rng.random((1, rows.shape[2], 1)) * 2.0 * np.append(weights, -end)
            for rows, _ in stack.queries[:-1]
        ]
        found = planes.over(planes.low, planes.high)
        x = rng.uniform(-1, 1, (600, n))
        x = x[x @ weights - end <= 0]
        assert len(x) > 20
        z = pre_activations(network, x)
        assert (z >= found.stored[0] - 64 * EPS).all() and (
            z <= found.stored[1] + 64 * EPS
        ).all()
        before, after = (np.diff(p.stored, axis=0).sum() for p in (plain, found))
        assert after < 0.98 * before
        assert_hold(found, network, x[:10])


def test_planes_are_only_of_their_kind():
    """What isn't a chain has no sides."""
    curve, chained = planes_of_many(
        [he_network(0, (1, 5, 1)), he_network(0, (6, 5, 1))],
        [-np.ones(1), -np.ones(6)],
        [np.ones(1), np.ones(6)],
    )
    assert chain_of(curve) is None and len(undecided(curve)) == 0
    assert chain_of(chained) is chained and len(undecided(chained))
    known: Planes = curve.over(-np.ones(1), np.ones(1))
    asked = Asked(curve, -np.ones(1), np.ones(1), None, np.zeros(1), np.array([9.0]))
    assert replace(tighter_planes([asked], [known])[0]).undecided == known.undecided
