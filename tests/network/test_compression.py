"""Lossless compression: equal on the box, and as small as promised."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyomo_relu.bounds import compute_bounds
from pyomo_relu.network import Affine, NetworkBuilder, PiecewiseLinear
from pyomo_relu.network import activations as act
from pyomo_relu.network.compression import _row_basis, compress
from tests.harness.random_networks import he_network
from tests.harness.strategies import networks, points_in


def assert_equal_on_box(network, result, count=200):
    x = points_in(np.random.default_rng(0), result.lower, result.upper, count)
    y, z = network.evaluate(x), result.network.evaluate(x)
    scale = max(abs(v).max(initial=0.0) for v in network.activations(x))
    assert z == pytest.approx(y, rel=1e-9, abs=1e-9 * scale)


@given(
    networks(), st.sampled_from([0.01, 0.3, 2.0]), st.sampled_from(["interval", "crown"])
)
def test_equal_on_the_box(network, radius, rung):
    centre = np.random.default_rng(0).uniform(-1, 1, network.n_inputs)
    bounds = compute_bounds(network, centre - radius, centre + radius, rung)
    result = compress(network, bounds)
    assert_equal_on_box(network, result)
    assert result.neurons[1] <= result.neurons[0]
    assert result.network.n_inputs == network.n_inputs
    assert result.network.n_outputs == network.n_outputs


def test_inactive_units_go_and_their_constants_stay():
    b = NetworkBuilder()
    x = b.input("x", (2,))
    # On [-1, 1]^2: inactive, unstable, leaky at slope 0.1 only, dead with a bias.
    w = np.array([[1.0, 1.0], [1.0, -1.0], [0.0, 0.0]])
    h = b.affine("h", [(x, w)], [-3.0, 0.0, 2.0])
    r = b.piecewise("r", h, act.relu())
    network = b.build([b.affine("y", [(r, [[1.0, 2.0, 3.0]])], 0.5)])
    result = compress(network, compute_bounds(network, -1.0, 1.0))
    assert_equal_on_box(network, result)
    assert (result.constant, result.linear, result.neurons) == (2, 0, (3, 1))
    out = result.network.nodes[result.network.outputs[0]]
    assert isinstance(out, Affine) and out.bias == [6.5]


def test_dependent_active_units_are_merged():
    rng = np.random.default_rng(1)
    b = NetworkBuilder()
    x = b.input("x", (6,))
    basis = rng.uniform(0, 1, (2, 6))
    active = rng.uniform(0, 1, (4, 2)) @ basis  # rank 2, active with bias 10
    w = np.vstack([active, rng.normal(size=(3, 6))])
    h = b.affine("h", [(x, w)], [10.0] * 4 + [0.0] * 3)
    r = b.piecewise("r", h, act.relu())
    w2 = rng.normal(size=(5, 7))
    h2 = b.affine("h2", [(r, w2)], -10.0 * w2[:, :4].sum(axis=1))  # unstable
    r2 = b.piecewise("r2", h2, act.relu())
    network = b.build([b.affine("y", [(r2, rng.normal(size=(1, 5)))])])
    result = compress(network, compute_bounds(network, -1.0, 1.0))
    assert_equal_on_box(network, result)
    assert (result.linear, result.merged) == (4, 2)
    assert sum(n.size for n in result.network.nodes if n.name.startswith("h_linear")) == 2
    assert "4 affine ones folded, 2 of them dependent" in str(result)


def test_a_layer_of_stable_units_is_folded():
    rng = np.random.default_rng(2)
    b = NetworkBuilder()
    x = b.input("x", (3,))
    h = b.affine("h", [(x, rng.normal(size=(8, 3)))], np.resize([-30.0, 30.0], 8))
    r = b.piecewise("r", h, act.leaky_relu(0.1))
    w2 = rng.normal(size=(4, 8))
    h2 = b.affine("h2", [(r, w2)], w2 @ np.resize([3.0, -30.0], 8))  # unstable
    r2 = b.piecewise("r2", h2, act.relu())
    network = b.build([b.affine("y", [(r2, rng.normal(size=(2, 4)))])])
    result = compress(network, compute_bounds(network, -1.0, 1.0))
    assert_equal_on_box(network, result)
    kinds = [n.kind for n in result.network.nodes]
    assert kinds == ["input", "affine", "piecewise", "affine"]


def test_everything_stable_leaves_one_affine_map():
    network = he_network(3, (3, 10, 10, 2))
    bounds = compute_bounds(network, 0.3, 0.3 + 1e-9)
    result = compress(network, bounds)
    assert result.neurons[1] == 0
    assert [n.kind for n in result.network.nodes] == ["input", "affine"]
    assert_equal_on_box(network, result)


def test_a_residual_connection_keeps_its_layer():
    rng = np.random.default_rng(4)
    b = NetworkBuilder()
    x = b.input("x", (3,))
    first = b.affine("first", [(x, rng.normal(size=(4, 3)))], [9.0, -9.0, 0.0, 0.1])
    r1 = b.piecewise("r1", first, act.relu())
    second = b.affine("second", [(r1, rng.normal(size=(4, 4)))], rng.normal(size=4))
    added = b.affine("add", [(second, np.eye(4)), (first, np.eye(4))])
    network = b.build([b.piecewise("r2", added, act.relu())])
    result = compress(network, compute_bounds(network, -1.0, 1.0))
    assert_equal_on_box(network, result)
    sizes = {n.name: n.size for n in result.network.nodes if isinstance(n, PiecewiseLinear)}
    assert sizes["r1"] == 4


def test_entries_that_cannot_be_the_largest_go():
    b = NetworkBuilder()
    x = b.input("x", (4,))
    h = b.affine("h", [(x, np.eye(4))], [0.0, 5.0, 0.0, 0.0])
    network = b.build([b.max("pool", h, [[0, 1], [2, 3]])])
    result = compress(network, compute_bounds(network, -1.0, 1.0))
    assert_equal_on_box(network, result)
    pool = next(n for n in result.network.nodes if n.kind == "max")
    assert len(pool.indices) == 2 and pool.size == 1


def test_a_trained_network_loses_what_is_stable_and_nothing_else():
    network = he_network(5, (2, 20, 20, 1))
    bounds = compute_bounds(network, 0.0, 0.5, "boxes")
    result = compress(network, bounds)
    assert_equal_on_box(network, result, 2000)
    unstable = sum(
        int((~bounds.stable(i)).sum())
        for i, n in enumerate(network.nodes)
        if isinstance(n, PiecewiseLinear)
    )
    assert result.neurons == (40, unstable) and unstable < 40


def test_row_basis():
    rng = np.random.default_rng(0)
    matrix = (
        rng.normal(size=(7, 3))
        @ rng.normal(size=(3, 5))
        * 10.0 ** rng.uniform(-3, 3, (7, 1))
    )
    basis, combination = _row_basis(matrix)
    assert len(basis) == 3
    assert combination @ matrix[basis] == pytest.approx(matrix, rel=1e-9, abs=1e-12)
    # Nearly dependent rows are not merged.
    matrix = np.array([[1.0, 0.0], [1.0, 1e-9]])
    assert len(_row_basis(matrix)[0]) == 2


def test_bounds_that_do_not_fit():
    network = he_network(0, (2, 3, 1))
    with pytest.raises(ValueError, match="another network"):
        compress(network, compute_bounds(he_network(1, (2, 3, 1)), -1, 1))
    bounds = compute_bounds(network, -1, 1)
    with pytest.raises(ValueError, match="valid for"):
        compress(network, bounds.scoped("a model"))
