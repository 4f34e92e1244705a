"""Planes of every kind of network hold in exact arithmetic, and are as tight as they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from pyomo_relu import NetworkBuilder, activations
from pyomo_relu.bounds.planes import Asked, box_planes, cover, planes_of_many, planes_over
from pyomo_relu.bounds.planes.chain import ChainPlanes, chain_planes
from pyomo_relu.bounds.planes.cover import CoverPlanes
from pyomo_relu.bounds.planes.curve import CurvePlanes
from pyomo_relu.bounds.planes.graph import GraphPlanes
from pyomo_relu.bounds.planes.polygons import PolygonPlanes
from pyomo_relu.bounds.planes.relu_layers import relu_layers
from pyomo_relu.network import Network
from tests.bounds.planes.exact import assert_hold, points_of
from tests.bounds.soundness import random_case
from tests.harness.random_networks import he_network, random_network


@pytest.fixture(autouse=True)
def small_covers(monkeypatch):
    """Covers of few leaves are as good for tests."""
    monkeypatch.setattr(
        cover, "SETTINGS", cover.CoverSettings(leaves=40, wanted=20, at_once=8)
    )


def chain(network, low, high) -> ChainPlanes:
    """A network as a chain, whatever else it might be."""
    layers = relu_layers(network)
    assert layers is not None
    return chain_planes([network], [layers], low[None], high[None])[0]


def inner_box(low, high, rng):
    """A box inside another, now and then a point or a thin one."""
    a, b = np.sort(low + rng.random((2, len(low))) * (high - low), axis=0)
    shrink = rng.choice([1.0, 0.1, 1e-6, 0.0], size=len(low))
    return np.clip(a, low, high), np.clip(a + shrink * (b - a), low, high)


def descend(planes, low, high, rng, depth=3):
    """Boxes inside one another, each started from the one around it."""
    found = planes.over(low, high)
    yield low, high, found
    for _ in range(depth):
        low, high = inner_box(low, high, rng)
        at = low + rng.random(len(low)) * (high - low)
        found = planes.over(low, high, found.stored, at if rng.random() < 0.7 else None)
        yield low, high, found


@pytest.mark.parametrize("seed", range(30))
def test_planes_hold_exactly(seed):
    """Any network, also with steps, maxima, branches, tiny and huge weights."""
    network, low, high = random_case(seed, width=5)
    rng = np.random.default_rng(1000 + seed)
    for a, b, found in descend(box_planes(network, low, high), low, high, rng, 2):
        assert_hold(found, network, points_of(network, a, b, rng, 3))


@pytest.mark.parametrize("sizes", [(3, 6, 5, 2), (2, 5, 4, 3, 1), (4, 7, 1), (1, 6, 6, 2)])
@pytest.mark.parametrize("seed", range(3))
def test_chains_hold_exactly(seed, sizes):
    network, n = he_network(seed, sizes), sizes[0]
    low, high = -np.ones(n), 2.0 * np.ones(n)
    rng = np.random.default_rng(seed)
    planes = box_planes(network, low, high)
    assert isinstance(planes, {1: CurvePlanes, 2: PolygonPlanes}.get(n, CoverPlanes))
    for a, b, found in descend(planes, low, high, rng):
        assert_hold(found, network, points_of(network, a, b, rng, 4))
        inside = a + rng.random((50, n)) * (b - a)
        np.testing.assert_allclose(
            [planes.evaluate(x) for x in inside], network.evaluate(inside), atol=1e-12
        )


@pytest.mark.parametrize("seed", range(2))
def test_chains_of_two_inputs_hold_exactly(seed):
    network, low, high = he_network(seed, (2, 5, 4, 1)), -np.ones(2), np.ones(2)
    rng = np.random.default_rng(seed)
    for a, b, found in descend(chain(network, low, high), low, high, rng):
        assert_hold(found, network, points_of(network, a, b, rng, 4))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30, 400))
def test_planes_of_many_networks_hold_exactly(seed):
    test_planes_hold_exactly(seed)


def test_the_lean_pass_is_the_general_one():
    """The same planes as the general pass, up to what rounding takes off."""
    for seed in range(6):
        network = he_network(seed, (3, 8, 7, 2))
        low, high = -np.ones(3), np.ones(3)
        lean, general = chain(network, low, high), GraphPlanes(network, low, high)
        one, other = lean.over(low, high), general.over(low, high)
        assert one.undecided == other.undecided > 0
        for name in ("below", "above", "low", "high"):
            a, b = getattr(one, name), getattr(other, name)
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-11)


def test_a_decided_box_is_affine():
    """Where no neuron is undecided the planes below and above are the same."""
    for network in (he_network(3, (2, 9, 9, 1)), he_network(3, (1, 9, 9, 1))):
        n = network.n_inputs
        x = np.full(n, 0.3)
        planes = box_planes(network, -np.ones(n), np.ones(n))
        found = planes.over(x - 1e-4, x + 1e-4)
        assert found.undecided == 0
        assert found.gaps(x).max() < 1e-9
        slope = found.below[0, :-1]
        there = network.evaluate(x + 5e-5) - network.evaluate(x)
        assert there[0] == pytest.approx(5e-5 * slope.sum(), rel=1e-5)


def test_a_curve_is_its_convex_hull():
    """No plane set between the hull and the curve: the gap at random points is the hull's."""
    rng = np.random.default_rng(0)
    network = he_network(5, (1, 15, 15, 2))
    planes = box_planes(network, np.array([-2.0]), np.array([2.0]))
    for _ in range(5):
        a, b = np.sort(rng.uniform(-2, 2, 2))
        found = planes.over(np.array([a]), np.array([b]))
        x = np.linspace(a, b, 801)
        y = network.evaluate(x[:, None])
        assert np.abs(found.low - y.min(axis=0)).max() < 5e-3
        assert np.abs(found.high - y.max(axis=0)).max() < 5e-3
        for k in range(2):
            points = np.column_stack([x, y[:, k]])
            top = lower_hull(np.column_stack([x, -y[:, k]]))
            hull = np.interp(x, *lower_hull(points).T), -np.interp(x, *top.T)
            one = np.column_stack([x, np.ones_like(x)])
            below = (one @ found.below[found.of_below == k].T).max(axis=1)
            above = (one @ found.above[found.of_above == k].T).min(axis=1)
            assert np.abs(below - hull[0]).max() < 5e-3
            assert np.abs(above - hull[1]).max() < 5e-3


def test_polygons_give_facets_of_the_hull():
    """At the asked point no convex combination of values is below the plane, but one is on it."""
    rng = np.random.default_rng(4)
    for sizes in ((2, 9, 8, 2), (2, 14, 1)):
        network, n_outputs = he_network(3, sizes), sizes[-1]
        planes = box_planes(network, -np.ones(2), np.ones(2))
        assert isinstance(planes, PolygonPlanes)
        low, high, stored = -np.ones(2), np.ones(2), None
        for _ in range(4):
            x = low + rng.random(2) * (high - low)
            found = planes.over(low, high, stored, x)
            grid = np.stack(np.meshgrid(*np.linspace(low, high, 41).T), -1).reshape(-1, 2)
            y = network.evaluate(grid)
            for k in range(n_outputs):
                for sign in (1.0, -1.0):
                    best = linprog(
                        sign * y[:, k],
                        A_eq=np.vstack([grid.T, np.ones(len(grid))]),
                        b_eq=np.append(x, 1.0),
                    )
                    rows, of = (
                        (found.below, found.of_below)
                        if sign > 0
                        else (found.above, found.of_above)
                    )
                    at = (rows[of == k] @ np.append(x, 1.0))[0]
                    # The grid misses breakpoints, so its envelope is a little higher.
                    size = y[:, k].max() - y[:, k].min()
                    assert best.fun - 0.02 * size <= sign * at <= best.fun + 1e-7 * size
            low, high = inner_box(low, high, rng)
            high = np.maximum(high, low + 1e-3)
            high, stored = np.minimum(high, 1.0), None
            low = np.minimum(low, high - 1e-3)


@pytest.mark.parametrize("at", [None, [0.2, 0.7, -0.4], [0.2, 0.5, -0.4]])
def test_polygons_with_an_input_that_is_fixed_are_asked_at_a_point_of_all_inputs(at):
    """The planes wanted are those that cut off outputs at the point, the fixed one included."""
    network = he_network(2, (3, 8, 2))
    low, high = np.array([-1.0, 0.5, -1.0]), np.array([1.0, 0.5, 1.0])
    planes = box_planes(network, low, high)
    assert isinstance(planes, PolygonPlanes)
    place = np.array([0.0, 0.5, 0.0]) if at is None else np.clip(at, low, high)
    right = network.evaluate(place)
    found = planes.over(
        low, high, None, None if at is None else np.array(at), right - [1, 0]
    )
    assert found.of_below.tolist() == [0] and len(found.above) == 0
    found = planes.over(
        low, high, None, None if at is None else np.array(at), right + [0, 1]
    )
    assert found.of_above.tolist() == [1] and len(found.below) == 0
    assert_hold(found, network, points_of(network, low, high, np.random.default_rng(0), 4))


def lower_hull(points):
    kept: list = []
    for p in points:
        while len(kept) > 1:
            (a, b), (c, d) = kept[-1] - kept[-2], p - kept[-2]
            if a * d > b * c:
                break
            kept.pop()
        kept.append(p)
    return np.array(kept)


def test_a_point_makes_tight_planes():
    """The rule for a point touches the network's neurons there: no gap but by chords."""
    gained = 0
    for seed in range(8):
        network = he_network(seed, (3, 10, 1))
        planes = chain(network, -np.ones(3), np.ones(3))
        x = np.random.default_rng(seed).uniform(-1, 1, 3)
        plain = planes.over(planes.low, planes.high)
        tight = planes.over(planes.low, planes.high, at=x)
        assert tight.gaps(x)[0] <= plain.gaps(x)[0] + 1e-12
        gained += tight.gaps(x)[0] < 0.99 * plain.gaps(x)[0]
    assert gained >= 4


@pytest.mark.parametrize("sizes", [(3, 8, 7, 2), (4, 9, 7, 1)])
def test_a_cover_comes_close_to_the_hull(monkeypatch, sizes):
    """Planes from leaves at a point: never above the envelope of values, and near to it."""
    monkeypatch.setattr(cover, "SETTINGS", cover.CoverSettings(leaves=800, near=1e-4))
    rng, n = np.random.default_rng(0), sizes[0]
    network = he_network(2, sizes)
    planes = box_planes(network, -np.ones(n), np.ones(n))
    plain = planes.plain
    low, high = -np.ones(n), np.array([0.5] * n)
    points = np.concatenate(
        [
            np.where(rng.random((200, n)) < 0.5, low, high),
            low + np.round(rng.random((4000, n)) * 4) / 4 * (high - low),
            low + rng.random((4000, n)) * (high - low),
        ]
    )
    y, x = network.evaluate(points), low + rng.random(n) * (high - low)
    found, other = planes.over(low, high, None, x), plain.over(low, high, None, x)
    for k in range(sizes[-1]):
        for sign in (1.0, -1.0):
            best = linprog(
                sign * y[:, k],
                A_eq=np.vstack([points.T, np.ones(len(points))]),
                b_eq=np.append(x, 1.0),
            ).fun
            heights = [
                max(
                    sign
                    * (one.below if sign > 0 else one.above)[
                        (one.of_below if sign > 0 else one.of_above) == k
                    ]
                    @ np.append(x, 1.0)
                )
                for one in (found, other)
            ]
            assert heights[0] <= best + 1e-9
            assert best - heights[0] < 0.6 * (best - heights[1])


def test_covers_get_finer_where_boxes_are_asked_about():
    """The leaves still fill the box once, and a box has tighter planes the second time."""
    network = he_network(2, (3, 9, 8, 1))
    planes = box_planes(network, -np.ones(3), np.ones(3))
    low, high, x = np.full(3, 0.1), np.full(3, 0.4), np.full(3, 0.2)
    gaps, counts = [], []
    for _ in range(4):
        gaps.append(planes.over(low, high, None, x).gaps(x)[0])
        leaves = planes.cover.leaves
        counts.append(len(leaves.low))
        assert (leaves.high - leaves.low).prod(axis=1).sum() == pytest.approx(8.0)
    assert counts[0] < counts[-1] <= 4 * 40 + 16
    assert gaps[-1] < gaps[0]


def test_equal_networks_over_one_box_share_a_cover():
    network, other = he_network(2, (3, 9, 1)), he_network(3, (3, 9, 1))
    low, high = [-np.ones(3)] * 4, [np.ones(3)] * 3 + [2.0 * np.ones(3)]
    first, second, third, fourth = planes_of_many(
        [network, he_network(2, (3, 9, 1)), other, network], low, high
    )
    assert first.cover is second.cover
    assert len({id(one.cover) for one in (first, third, fourth)}) == 3


def test_planes_for_outputs_that_a_solver_has_cut_them_off():
    """Only planes on the side where the outputs are off, and none where none is of use."""
    rng = np.random.default_rng(5)
    for sizes in ((2, 8, 8, 2), (3, 8, 8, 2)):
        network, n = he_network(1, sizes), sizes[0]
        planes = box_planes(network, -np.ones(n), np.ones(n))
        x = rng.uniform(-0.5, 0.5, n)
        y, at = planes.evaluate(x), np.append(x, 1.0)
        every = planes.over(planes.low, planes.high, None, x)
        margin = 0.02 * (every.high - every.low)
        wrong = np.array(
            [
                (every.below @ at)[every.of_below == 0].max() - margin[0],
                (every.above @ at)[every.of_above == 1].min() + margin[1],
            ]
        )
        found = planes.over(planes.low, planes.high, None, x, wrong)
        assert ((found.below @ at)[found.of_below == 0] > wrong[0]).any()
        assert ((found.above @ at)[found.of_above == 1] < wrong[1]).any()
        right = planes.over(planes.low, planes.high, None, x, y)
        assert len(right.below) < len(every.below) and len(right.above) < len(every.above)
        for one in (found, right):
            points = points_of(network, planes.low, planes.high, rng, 2)
            assert_hold(one, network, points)


@pytest.fixture
def fixed_covers(monkeypatch):
    """Covers that stay as they are, so that a box has the same planes each time."""
    monkeypatch.setattr(cover, "SETTINGS", cover.CoverSettings(leaves=40, growth=1))


def test_stacks_give_what_each_network_gives_alone(fixed_covers):
    rng = np.random.default_rng(1)
    shapes = [(3, 6, 5, 2)] * 4 + [(4, 5, 1)] * 2 + [(1, 5, 1), (3, 6, 5, 2)]
    networks = [he_network(k, sizes) for k, sizes in enumerate(shapes)]
    networks[2] = networks[0]
    low = [-np.ones(network.n_inputs) for network in networks]
    high = [np.ones(network.n_inputs) for network in networks]
    many = planes_of_many(networks, low, high)
    stacks = [many[k].plain.stack for k in (0, 7, 4)]
    assert stacks[0] is stacks[1] is not stacks[2]
    known = [one.over(a, b) for one, a, b in zip(many, low, high)]
    for some in ([0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 7], [7, 5, 2], [6]):
        boxes = [inner_box(low[k], high[k], rng) for k in some]
        at = [0.5 * (a + b) for a, b in boxes]
        together = planes_over(
            [Asked(many[k], *box, known[k].stored, x) for k, box, x in zip(some, boxes, at)]
        )
        for k, box, x, found in zip(some, boxes, at, together):
            alone = box_planes(networks[k], low[k], high[k]).over(*box, known[k].stored, x)
            assert found.undecided == alone.undecided
            np.testing.assert_allclose(found.below, alone.below, atol=1e-9)
            np.testing.assert_allclose(found.above, alone.above, atol=1e-9)
            np.testing.assert_allclose(found.low, alone.low, atol=1e-9)
            assert_hold(found, networks[k], points_of(networks[k], *box, rng, 2))


def relu_at_both_ends() -> Network:
    b = NetworkBuilder()
    x = b.piecewise("first", b.input("x", (2,)), activations.relu())
    h = b.affine("h", [(x, [[1.0, -2.0], [0.5, 1.0]])], [0.1, -0.2])
    return b.build([b.piecewise("last", h, activations.relu())])


def affine_only() -> Network:
    b = NetworkBuilder()
    return b.build([b.affine("y", [(b.input("x", (2,)), [[1.0, -2.0]])], [0.1])])


@pytest.mark.parametrize("make", [relu_at_both_ends, affine_only])
def test_short_chains(make):
    network = make()
    low, high = np.array([-1.0, -0.5]), np.array([0.5, 1.0])
    planes = chain(network, low, high)
    rng = np.random.default_rng(0)
    for a, b, found in descend(planes, low, high, rng):
        assert_hold(found, network, points_of(network, a, b, rng, 4))


def test_boxes_are_cut_off_at_the_first_one():
    network = he_network(0, (2, 5, 1))
    planes = box_planes(network, -np.ones(2), np.ones(2))
    wide, whole = (
        planes.over(-2 * np.ones(2), 2 * np.ones(2)),
        planes.over(-np.ones(2), np.ones(2)),
    )
    np.testing.assert_array_equal(wide.below, whole.below)
    with pytest.raises(ValueError, match="input 1 has no value"):
        planes.over(np.array([0.0, 0.5]), np.array([0.1, 0.4]))
    with pytest.raises(ValueError, match="input 0 has no value"):
        planes_over([Asked(planes, np.array([2.0, 0.0]), np.array([3.0, 0.4]))])
    with pytest.raises(ValueError):
        box_planes(network, np.array([-np.inf, 0.0]), np.ones(2))


def test_children_inherit_what_is_decided(fixed_covers):
    """A box that starts from its parent's bounds is never worse than one that doesn't."""
    rng = np.random.default_rng(2)
    for make in (
        lambda: he_network(1, (3, 9, 9, 1)),
        lambda: random_network(rng, n_inputs=3),
    ):
        network = make()
        planes = box_planes(network, -np.ones(3), np.ones(3))
        parent = planes.over(-0.5 * np.ones(3), 0.2 * np.ones(3))
        low, high = np.full(3, -0.1), np.full(3, 0.15)
        child, alone = planes.over(low, high, parent.stored), planes.over(low, high)
        assert (child.low >= alone.low - 1e-12).all() and child.undecided <= alone.undecided


def test_scores_point_to_what_matters():
    """An input that no output depends on, and one that is fixed, have a score of zero."""
    b = NetworkBuilder()
    h = b.affine(
        "h", [(b.input("x", (3,)), [[1.0, 0.0, 0.3], [-1.0, 0.0, 1.0]])], [0.1, 0.0]
    )
    network = b.build(
        [b.affine("y", [(b.piecewise("r", h, activations.relu()), [[1.0, -1.0]])])]
    )
    planes = box_planes(network, -np.ones(3), np.ones(3))
    low, high = np.array([-1.0, -1.0, 0.5]), np.array([1.0, 1.0, 0.5])
    score = planes.branching(low, high, planes.over(low, high))
    assert score[0] > 0 and score[1] == score[2] == 0


@pytest.mark.parametrize("n", [1, 2])
def test_rounding_is_taken_off_where_terms_cancel(n):
    """Neurons of size 1e8 whose difference is of size 1: planes without their rounding fail."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        w, out = 1e8 * rng.normal(size=(6, n)), rng.normal(size=6)
        w = np.concatenate([w, w * (1.0 + 1e-8 * rng.normal(size=(6, 1)))])
        bias = np.tile(abs(w).sum(axis=1).max() * (2.0 + rng.random()), 12)
        b = NetworkBuilder()
        h = b.affine("h", [(b.input("x", (n,)), w)], bias)
        h = b.piecewise("r", h, activations.relu())
        y = b.affine("y", [(h, np.concatenate([out, -out])[None])])
        network = b.build([y])
        planes = box_planes(network, -np.ones(n), np.ones(n))
        found = planes.over(planes.low, planes.high)
        assert found.undecided == 0
        assert_hold(found, network, points_of(network, planes.low, planes.high, rng, 8))
        assert found.gaps(np.zeros(n))[0] < 1e-2


def test_a_fixed_input_leaves_polygons_a_curve():
    """On a segment across pieces the network isn't affine, and planes are the hull's edges."""
    network = he_network(3, (2, 14, 1))
    planes = box_planes(network, -np.ones(2), np.ones(2))
    assert isinstance(planes, PolygonPlanes)
    for j in range(2):
        low, high = -np.ones(2), np.ones(2)
        low[j] = high[j] = 0.3
        x = np.tile(low, (4001, 1))
        x[:, 1 - j] = np.linspace(-1, 1, 4001)
        y = network.evaluate(x)[:, 0]
        for at in (-0.4, 0.1, 0.7):
            point = low.copy()
            point[1 - j] = at
            found = planes.over(low, high, at=point)
            assert found.undecided
            one = np.column_stack([x, np.ones(len(x))])
            for rows, sign in ((found.below, 1.0), (found.above, -1.0)):
                line = one @ rows[0]
                assert (sign * (y - line)).min() >= 0.0
                hull = lower_hull(np.column_stack([x[:, 1 - j], sign * y]))
                best = np.interp(at, hull[:, 0], hull[:, 1])
                size = y.max() - y.min()
                assert sign * (rows[0] @ np.append(point, 1.0)) >= best - 1e-4 * size
        low[1 - j] = high[1 - j] = 0.2
        assert planes.over(low, high).high[0] >= network.evaluate(low)[0]
