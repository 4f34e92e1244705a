"""Interval bounds: sound at every corner, tight in one layer; boxes that are refused."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from pyomo_relu.analysis import linear_regions
from pyomo_relu.bounds import Bounds, compute_bounds
from pyomo_relu.bounds.interval import node_range, propagate
from pyomo_relu.network import Affine, NetworkBuilder, PiecewiseLinear
from pyomo_relu.network import activations as act
from tests.harness.checks import assert_sound
from tests.harness.random_networks import (
    ALL_ACTIVATIONS,
    CONTINUOUS,
    he_network,
    random_network,
)
from tests.harness.search import first_layer_corners
from tests.harness.strategies import boxes, networks, points_in

bounded = partial(compute_bounds, method="interval")


@given(networks(), st.data())
def test_sound(network, data):
    lower, upper = data.draw(boxes(network.n_inputs))
    assert_sound(bounded(network, lower, upper), count=100)


@pytest.mark.parametrize("name", ALL_ACTIVATIONS)
def test_sound_for_every_activation(name):
    for seed in range(5):
        network = random_network(
            np.random.default_rng(seed),
            n_inputs=4,
            widths=(6, 6),
            activations=[name],
            magnitude=("plain", "huge", "tiny", "mixed")[seed % 4],
            residual=seed % 2 == 0,
            max_pool=seed % 3 == 0,
        )
        assert_sound(bounded(network, -1.0, 1.0))


def test_float32_weights_at_every_corner_of_the_first_layer():
    """784-128-128-10 on [0, 1]: no corner that attains a bound is cut off.

    Bounds rounded to float32, or summed in another order without a margin, are.
    """
    network = he_network(0, [784, 128, 128, 10])
    bounds = bounded(network, 0.0, 1.0)
    corners = first_layer_corners(network, np.zeros(784), np.ones(784))
    assert len(corners) == 256
    assert_sound(bounds, corners)
    # One by one too: a vector product may round otherwise than a matrix product.
    dense = network.nodes[1]
    for k, x in enumerate(corners[::8]):
        z = dense.weights[0] @ x + dense.bias
        assert (bounds.lower[1] <= z).all(), k
        assert (z <= bounds.upper[1]).all(), k
        backwards = dense.weights[0][:, ::-1] @ x[::-1] + dense.bias
        assert (bounds.lower[1] <= backwards).all()
        assert (backwards <= bounds.upper[1]).all()


def test_the_first_layer_is_tight():
    network = he_network(0, [784, 128, 10])
    bounds = bounded(network, 0.0, 1.0)
    corners = first_layer_corners(network, np.zeros(784), np.ones(784))
    z = network.activations(corners)[1]
    assert bounds.upper[1] == pytest.approx(z.max(axis=0), rel=1e-11)
    assert bounds.lower[1] == pytest.approx(z.min(axis=0), rel=1e-11)


def test_against_a_naive_formula():
    network = he_network(3, [5, 7, 6, 2])
    low, high = -np.arange(1.0, 6.0), np.linspace(0.0, 2.0, 5)
    bounds = bounded(network, low, high)
    for i, node in enumerate(network.nodes):
        if isinstance(node, Affine):
            w = node.weights[0]
            a = [[min(c * p, c * q) for c, p, q in zip(row, low, high)] for row in w]
            b = [[max(c * p, c * q) for c, p, q in zip(row, low, high)] for row in w]
            low, high = np.sum(a, axis=1) + node.bias, np.sum(b, axis=1) + node.bias
        elif isinstance(node, PiecewiseLinear):
            low, high = np.maximum(low, 0.0), np.maximum(high, 0.0)
        assert bounds.lower[i] == pytest.approx(low, rel=1e-12, abs=1e-12)
        assert bounds.upper[i] == pytest.approx(high, rel=1e-12, abs=1e-12)


def test_contains_the_exact_ranges():
    for seed in range(3):
        network = he_network(seed, [2, 12, 12, 2])
        regions = linear_regions(network, -1.0, 1.0)
        bounds = bounded(network, -1.0, 1.0)
        for i in range(len(network.nodes)):
            low, high = regions.range(i)
            assert (bounds.lower[i] <= low + 1e-9).all()
            assert (high - 1e-9 <= bounds.upper[i]).all()


def test_a_point():
    """lower == upper: the bounds are the values, up to rounding."""
    network = he_network(1, [6, 8, 8, 3])
    x = np.random.default_rng(0).normal(size=6)
    bounds = bounded(network, x, x)
    assert_sound(bounds, x[None])
    for value, low, high in zip(network.activations(x), bounds.lower, bounds.upper):
        assert (low <= value[0]).all() and (value[0] <= high).all()
        assert (high - low).max() <= 1e-12


def test_some_coordinates_fixed():
    network = he_network(1, [6, 8, 3])
    lower, upper = -np.ones(6), np.ones(6)
    upper[[0, 3]] = lower[[0, 3]] = 0.3
    bounds = bounded(network, lower, upper)
    assert_sound(bounds)
    whole = bounded(network, -1.0, 1.0)
    assert whole.contains(bounds)
    assert not bounds.contains(whole)


def test_cancellation():
    """Large weights that cancel: the margin follows the terms, not the sum."""
    b = NetworkBuilder()
    x = b.input("x", (3,))
    w = np.array([[1e8, -1e8, 1.0], [1e16, -1e16, 1.0], [0.1, 0.2, -0.3]])
    network = b.build([b.affine("a", [(x, w)])])
    lower = np.array([0.1, 0.1, 0.3])
    for width in (0.0, 1e-9, 0.1):
        bounds = bounded(network, lower, lower + width)
        assert_sound(bounds)
        for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
            z = np.zeros(3)
            for j in order:
                z += w[:, j] * lower[j]
            assert (bounds.lower[1] <= z).all()
            assert (z <= bounds.upper[1]).all()


def test_sparse_and_dense_agree():
    rng = np.random.default_rng(0)
    w = np.where(rng.random((40, 30)) < 0.1, rng.normal(size=(40, 30)), 0.0)
    found = []
    for matrix in (w, sp.csr_array(w)):
        node = Affine("a", (40,), (0,), (matrix,), rng.normal(size=40) * 0.0)
        found.append(node_range(node, [-np.ones(30)], [2.0 * np.ones(30)]))
    for a, b in zip(*found):
        assert a == pytest.approx(b, abs=1e-12)


@given(networks(activations=CONTINUOUS))
def test_a_batch_of_boxes(network):
    rng = np.random.default_rng(0)
    centre = rng.normal(size=(4, network.n_inputs))
    radius = rng.random((4, network.n_inputs))
    lows, highs = propagate(network, centre - radius, centre + radius)
    for k in range(4):
        one = bounded(network, centre[k] - radius[k], centre[k] + radius[k])
        scale = 1.0 + max(abs(b).max() for b in (*one.lower, *one.upper))
        for i in range(len(network.nodes)):
            # One box at a time, or all at once: the sums may round differently.
            assert lows[i][k] == pytest.approx(one.lower[i], abs=1e-11 * scale)
            assert highs[i][k] == pytest.approx(one.upper[i], abs=1e-11 * scale)


def test_start_is_intersected():
    network = he_network(0, [3, 6, 6, 1])
    wide = bounded(network, -1.0, 1.0)
    tight = Bounds(
        network,
        tuple(
            a if i == 0 else a + 0.25 * (b - a)
            for i, (a, b) in enumerate(zip(wide.lower, wide.upper))
        ),
        wide.upper,
        "given",
    )
    found = bounded(network, -1.0, 1.0, start=tight)
    for a, b in zip(found.lower, tight.lower):
        assert (a == b).all()


def test_stable_neurons():
    b = NetworkBuilder()
    x = b.input("x", (1,))
    h = b.affine("h", [(x, np.ones((5, 1)))], [2.0, -2.0, 0.0, -1.0, 1.0])
    network = b.build([b.piecewise("relu", h, act.relu())])
    bounds = bounded(network, -1.0, 1.0)
    found = bounds.stable(2)
    assert list(found[:3]) == [True, True, False]
    h = b.affine("h2", [(x, np.ones((2, 1)))], [0.5, 2.0])
    network = b.build([b.piecewise("step", h, act.step())])
    assert list(bounded(network, -1.0, 1.0).stable(2)) == [False, True]
    # A step that is touched: its right value is the one it takes there.
    box = (np.zeros(1), np.array([0.0, -1.0]), np.zeros(2))
    edge = Bounds(network, box, (np.ones(1), np.array([1.0, 0.0]), np.ones(2)), "given")
    assert list(edge.stable(2)) == [True, False]


def test_mixed_signs_of_zero_and_empty_rows():
    b = NetworkBuilder()
    x = b.input("x", (2,))
    network = b.build([b.affine("a", [(x, np.zeros((3, 2)))], [0.0, -1.0, 2.0])])
    bounds = bounded(network, -1.0, 1.0)
    assert_sound(bounds)
    assert bounds.outputs[0] == pytest.approx([0.0, -1.0, 2.0], abs=1e-14)
    assert bounds.outputs[1] == pytest.approx([0.0, -1.0, 2.0], abs=1e-14)
    assert bounds.outputs[0][0] == bounds.outputs[1][0] == 0.0


@pytest.mark.parametrize(
    "lower, upper, message",
    [
        ([-1.0, -1.0], [1.0, 1.0], "has 3 inputs, but bounds for 2 and 2 were given"),
        (-1.0, [1.0] * 4, "has 3 inputs, but bounds for 1 and 4 were given"),
        ([], 1.0, "has 3 inputs, but bounds for 0 and 1"),
        (-np.inf, 1.0, r"input 0 has no finite bounds \(-inf, 1.0\); every input"),
        ([-1.0, np.nan, 0.0], 1.0, r"input 1 has no finite bounds \(nan, 1.0\)"),
        (-1.0, [1.0, 1.0, np.inf], r"input 2 has no finite bounds \(-1.0, inf\)"),
        ([-1.0, 2.0, 0.0], 1.0, r"input 1 has inverted bounds \(2.0, 1.0\)"),
    ],
)
def test_boxes_that_are_refused(lower, upper, message):
    network = he_network(0, [3, 2, 1])
    with pytest.raises(ValueError, match=message):
        bounded(network, lower, upper)


def test_errors_use_the_names_of_inputs():
    b = NetworkBuilder()
    out = b.affine("a", [(b.input("x", (2,)), np.eye(2))])
    network = b.build([out], input_names=["bypass", "steam"])
    with pytest.raises(ValueError, match="steam has inverted bounds"):
        bounded(network, [0.0, 1.0], [1.0, 0.0])


def test_unknown_rung():
    with pytest.raises(ValueError, match="no bounds 'guess'; choose one of .*'interval'"):
        compute_bounds(he_network(0, [3, 2, 1]), -1.0, 1.0, "guess")


def test_forms_of_a_box():
    network = he_network(0, [3, 2, 1])
    expected = bounded(network, [-1.0] * 3, [1.0] * 3)
    for low, high in [
        (-1, 1),
        (np.float32(-1), np.float32(1)),
        (np.full((3, 1), -1), np.ones(3)),
        ((-1, -1, -1), [1]),
    ]:
        found = bounded(network, low, high)
        assert found.contains(expected) and expected.contains(found)
    lower = -np.ones(3)
    bounded(network, lower, 1.0)
    lower[0] = -5.0  # the caller's array is not frozen, nor kept


def test_save_and_load(tmp_path):
    network = he_network(0, [3, 4, 1])
    bounds = bounded(network, -1.0, 1.0)
    bounds.save(tmp_path / "b.npz")
    loaded = Bounds.load(tmp_path / "b.npz", network)
    assert loaded.method == "interval"
    for a, b in zip(loaded.lower + loaded.upper, bounds.lower + bounds.upper):
        assert a.tobytes() == b.tobytes()
    with pytest.raises(ValueError, match="belong to another network"):
        Bounds.load(tmp_path / "b.npz", he_network(1, [3, 4, 1]))
    (tmp_path / "text").write_text("nothing")
    np.savez(tmp_path / "other.npz", a=np.ones(2))
    whole = (tmp_path / "b.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    for name in ("text", "other.npz", "half.npz"):
        with pytest.raises(ValueError, match="doesn't hold saved bounds"):
            Bounds.load(tmp_path / name, network)
    with pytest.raises(FileNotFoundError):
        Bounds.load(tmp_path / "missing.npz", network)


def test_statistics_and_repr():
    network = he_network(0, [3, 40, 40, 1])
    bounds = bounded(network, -1.0, 1.0)
    s = bounds.statistics()
    assert s["neurons"] == 80
    assert 0 <= s["stable"] < 80
    assert s["mean_width"] > 0 and s["output_width"] > 0
    assert repr(bounds).startswith("<Bounds by interval: ")


def test_points_of_the_box_stay_in_the_box():
    lower, upper = np.array([0.1, 0.2]), np.array([0.3, 0.2])
    x = points_in(np.random.default_rng(0), lower, upper, 100)
    assert (lower <= x).all() and (x <= upper).all()
