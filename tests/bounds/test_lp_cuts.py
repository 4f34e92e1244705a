"""Cuts of the LP rung: valid for every activation, the hull of a neuron, tighter."""

import numpy as np
import pytest

from pyomo_relu.bounds import compute_bounds
from pyomo_relu.bounds.array_model import ArrayModel
from pyomo_relu.bounds.lp import LayerLP
from pyomo_relu.bounds.lp_cuts import Separator
from pyomo_relu.bounds.lp_parts import add_partitions
from pyomo_relu.network import NetworkBuilder, activations
from tests.bounds.soundness import assert_contains_samples, random_case
from tests.harness.random_networks import he_network, random_network
from tests.harness.strategies import points_in

pytest.importorskip("highspy")


def column_values(model: ArrayModel, network, x: np.ndarray) -> np.ndarray:
    """The columns of a model at points, (N, n_columns)."""
    found = np.full((len(x), model.n_columns), np.nan)
    for i, values in enumerate(network.activations(x)):
        if i not in model.entries:
            continue
        e = model.entries[i]
        own = (e.column >= 0) & (e.scale == 1.0) & (e.const == 0.0)
        found[:, e.column[own]] = values[:, own]
    known = ~np.isnan(found)
    assert known[:, : max(e.column.max() for e in model.entries.values()) + 1].all()
    return found


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "abs", "clip", "pwl"])
def test_no_activation_breaks_a_cut(name):
    rng = np.random.default_rng(0)
    n_cuts = 0
    for seed in range(6):
        network = random_network(
            np.random.default_rng(seed), n_inputs=3, widths=(6, 5), activations=(name,)
        )
        bounds = compute_bounds(network, -1, 1, "crown")
        target = network.outputs[0]
        rows = np.arange(network.nodes[target].size)
        model = ArrayModel(network, bounds.lower, bounds.upper, target, rows)
        separator = Separator(model)
        points = column_values(model, network, points_in(rng, -np.ones(3), np.ones(3), 300))
        for _ in range(20):
            # Any point makes cuts, also one far from the relaxation.
            at = model.program.lower + rng.random(model.n_columns) * (
                model.program.upper - model.program.lower
            )
            cuts = separator.separate(at)
            if cuts is None:
                continue
            n_cuts += len(cuts.upper)
            assert (cuts.matrix @ at > cuts.upper).all()
            left = points @ cuts.matrix.T.toarray()
            scale = 1e-9 * (1 + abs(cuts.upper))
            assert (left <= cuts.upper + cuts.slack + 1e-15).all()
            assert (cuts.slack <= scale).all()
    assert n_cuts > 20 or name in ("clip", "pwl")


def test_one_neuron_gets_its_convex_hull():
    # At (1, -1) the triangle allows relu(x1 + x2) = 1, the hull only 0.
    b = NetworkBuilder()
    x = b.input("x", (2,))
    h = b.affine("h", [(x, [[1.0, 1.0]])])
    r = b.piecewise("r", h, activations.relu())
    network = b.build([b.affine("y", [(r, [[1.0]]), (x, [[0.9, -0.9]])])])
    grid = np.array(np.meshgrid([-1.0, 1.0], [-1.0, 1.0])).reshape(2, -1).T
    exact = network.evaluate(grid).max()  # convex: attained at a corner
    weak = compute_bounds(network, -1, 1, "lp").outputs[1][0]
    strong = compute_bounds(network, -1, 1, "lp", cuts=5).outputs[1][0]
    assert weak == pytest.approx(2.8)
    assert strong == pytest.approx(exact) and exact == 2.0


def maxout(seed: int, n: int = 3, k: int = 3):
    """``max_k (w^k x + b^k)``, the arguments, and the output less a plane."""
    rng = np.random.default_rng(seed)
    w, c, p = rng.normal(size=(k, n)), 0.3 * rng.normal(size=k), rng.normal(size=(1, n))
    b = NetworkBuilder()
    x = b.input("x", (n,))
    y = b.max("max", b.affine("h", [(x, w)], c), [list(range(k))])
    out = b.affine("out", [(y, [[1.0]]), (x, p)])
    return b.build([out]), n


@pytest.mark.parametrize("k", [2, 3, 5])
def test_one_maximum_gets_its_convex_hull(k):
    # A maximum plus a plane is convex: its largest value is at a corner.
    tighter = 0
    for seed in range(5):
        network, n = maxout(seed, k=k)
        corners = np.array(np.meshgrid(*[[-1.0, 1.0]] * n)).reshape(n, -1).T
        exact = network.evaluate(corners).max()
        weak = compute_bounds(network, -1, 1, "lp").outputs[1][0]
        strong = compute_bounds(network, -1, 1, "lp", cuts=20).outputs[1][0]
        assert strong >= exact
        assert strong == pytest.approx(exact, abs=1e-4)
        tighter += weak > strong + 1e-3
    assert tighter >= 2


def test_no_maximum_breaks_a_cut():
    rng = np.random.default_rng(0)
    n_cuts = 0
    for seed in range(8):
        network = random_network(
            np.random.default_rng(seed),
            n_inputs=3,
            widths=(6, 5),
            activations=("leaky_relu",),
            max_pool=True,
            residual=seed % 2 == 1,
        )
        bounds = compute_bounds(network, -1, 1, "crown")
        target = network.outputs[0]
        rows = np.arange(network.nodes[target].size)
        model = ArrayModel(network, bounds.lower, bounds.upper, target, rows)
        cuts_of = [n for n in Separator(model).nodes if type(n).__name__ == "MaxCuts"]
        points = column_values(model, network, points_in(rng, -np.ones(3), np.ones(3), 300))
        for _ in range(10):
            at = model.program.lower + rng.random(model.n_columns) * (
                model.program.upper - model.program.lower
            )
            for cuts in (c for c in (node.separate(at) for node in cuts_of) if c):
                n_cuts += len(cuts.upper)
                assert (cuts.matrix @ at > cuts.upper).all()
                left = points @ cuts.matrix.T.toarray()
                assert (left <= cuts.upper + cuts.slack + 1e-15).all()
                assert (cuts.slack <= 1e-9 * (1 + abs(cuts.upper))).all()
    assert n_cuts > 20


def test_parts_go_from_the_triangle_to_the_hull():
    network = he_network(2, [6, 8, 1])
    widths = [
        compute_bounds(network, -1, 1, "lp", parts=n).statistics()["output_width"]
        for n in (1, 2, 3, 6, 9)
    ]
    triangle = compute_bounds(network, -1, 1, "lp").statistics()["output_width"]
    hull = compute_bounds(network, -1, 1, "lp", cuts=50).statistics()["output_width"]
    assert widths[0] == triangle
    assert widths[0] > widths[1] > widths[2] > widths[3]
    # Six inputs: no more than six parts, and these are the hull of each unit.
    assert widths[3] == pytest.approx(widths[4]) == pytest.approx(hull, rel=1e-3)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "abs"])
def test_partition_rows_hold_at_every_point(name):
    """With the sums and shares of a point in the new columns, no row is broken."""
    rng = np.random.default_rng(0)
    for seed in range(4):
        network = random_network(
            np.random.default_rng(seed), n_inputs=3, widths=(6, 5), activations=(name,)
        )
        bounds = compute_bounds(network, -1, 1, "crown")
        target = network.outputs[0]
        rows = np.arange(network.nodes[target].size)
        model = ArrayModel(network, bounds.lower, bounds.upper, target, rows)
        before = model.n_columns
        add_partitions(model, 2)
        assert model.n_columns > before
        lp = LayerLP(model)
        lp.highs.set_costs(np.zeros(model.n_columns))
        for x in points_in(rng, -np.ones(3), np.ones(3), 15):
            # The known columns fixed, the rest must have a feasible value.
            known = column_values(model, network, x[None])[0, :before]
            free = slice(before, None)
            low = np.concatenate([known - 1e-9, model.program.lower[free]])
            high = np.concatenate([known + 1e-9, model.program.upper[free]])
            lp.highs.set_bounds(low, high)
            assert lp.highs.run().optimal


@pytest.mark.parametrize("options", [{"cuts": 3}, {"parts": 3}, {"parts": 2, "cuts": 2}])
def test_inside_lp_and_sound_on_every_kind_of_network(options):
    for seed in range(16):
        network, lower, upper = random_case(seed, width=6, depth=2)
        a = compute_bounds(network, lower, upper, "lp")
        b = compute_bounds(network, lower, upper, "lp", start=a, **options)
        assert a.contains(b)
        assert_contains_samples(b, np.random.default_rng(seed), 300)


def test_tighter_on_a_dense_network():
    network = he_network(0, [4, 12, 12, 1])
    a = compute_bounds(network, -1, 1, "lp")
    b = compute_bounds(network, -1, 1, "lp", cuts=5)
    assert b.statistics()["output_width"] < 0.99 * a.statistics()["output_width"]
    assert_contains_samples(b, np.random.default_rng(0), 2000)


def test_refusals():
    network = he_network(0, [2, 3, 1])
    with pytest.raises(ValueError, match="cuts must be a whole number of at least 0"):
        compute_bounds(network, -1, 1, "lp", cuts=-1)
    with pytest.raises(ValueError, match="parts must be a whole number of at least 1"):
        compute_bounds(network, -1, 1, "lp", parts=1.5)
