"""Fusion preserves the function, and composes exactly what it should."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from pyomo_relu.network import Affine, NetworkBuilder, weights
from pyomo_relu.network import activations as act
from pyomo_relu.network.fusion import fuse_affine, prune
from pyomo_relu.network.network import Network
from tests.harness.random_networks import CONTINUOUS, random_weights
from tests.harness.strategies import networks


def kinds(network):
    return [n.kind for n in network.nodes]


@given(networks(activations=CONTINUOUS, magnitudes=("plain",), fuse=False))
def test_function_is_preserved(network):
    fused = fuse_affine(list(network.nodes), list(network.outputs))
    nodes, outputs, inputs = prune(fused, list(network.outputs), list(network.inputs))
    other = Network(nodes, outputs, inputs)
    x = np.random.default_rng(0).uniform(-2.0, 2.0, (20, network.n_inputs))
    values = network.activations(x)
    scale = 1.0 + max(abs(v).max() for v in values)
    assert other.evaluate(x) == pytest.approx(network.evaluate(x), abs=1e-12 * scale)
    assert other.n_neurons == network.n_neurons
    assert len(other.nodes) <= len(network.nodes)


@given(st.integers(0, 1000), st.integers(2, 7))
def test_random_affine_graphs(seed, count):
    """Many affine nodes with several readers each, sparse and dense, repeated terms."""

    def build(fuse):
        rng = np.random.default_rng(seed)
        b = NetworkBuilder()
        made = [b.input("x", (3,)), b.input("y", (2,))]
        for k in range(count):
            size = int(rng.integers(1, 5))
            sources = rng.choice(len(made), size=int(rng.integers(1, 4)))
            terms = [
                (
                    made[s],
                    random_weights(
                        rng,
                        size,
                        b.nodes[made[s]].size,
                        density=float(rng.choice([1.0, 0.3])),
                    ),
                )
                for s in sources
            ]
            made.append(b.affine(f"a{k}", terms, rng.normal(size=size)))
            if rng.random() < 0.3:
                made.append(b.piecewise(f"r{k}", made[-1], act.relu()))
        outputs = [made[-1], made[int(rng.integers(0, len(made)))]]
        return b.build(outputs, fuse=fuse)

    plain, fused = build(False), build(True)
    x = np.random.default_rng(seed).normal(size=(10, 5))
    scale = 1.0 + max(abs(v).max() for v in plain.activations(x))
    assert fused.evaluate(x) == pytest.approx(plain.evaluate(x), abs=1e-12 * scale)


def test_chain_becomes_one_node():
    b = NetworkBuilder()
    last = b.input("x", (3,))
    for k in range(5):
        last = b.affine(f"a{k}", [(last, np.eye(3) + k)], k)
    network = b.build([last])
    assert kinds(network) == ["input", "affine"]


def test_scaler_and_flatten_vanish_but_the_dense_name_stays():
    b = NetworkBuilder()
    x = b.input("x", (2, 2))
    scaled = b.affine("scaler", [(x, sp.diags_array(np.full(4, 0.5)))], -1.0, (2, 2))
    flat = b.affine("flatten", [(scaled, sp.eye_array(4))])
    dense = b.affine("dense", [(flat, np.arange(12.0).reshape(3, 4))], 2.0)
    r = b.piecewise("relu", dense, act.relu())
    back = b.affine("unscale", [(r, sp.diags_array([1.0, 2.0, 3.0]))])
    network = b.build([back])
    assert [n.name for n in network.nodes] == ["x", "dense", "relu", "unscale"]
    assert network.nodes[1].weights[0] == pytest.approx(0.5 * np.arange(12.0).reshape(3, 4))


def test_two_readers_keep_a_dense_node():
    b = NetworkBuilder()
    x = b.input("x", (3,))
    shared = b.affine("shared", [(x, np.ones((3, 3)))])
    one, two = (b.affine(n, [(shared, np.ones((2, 3)))]) for n in ("one", "two"))
    network = b.build([one, two])
    assert [n.name for n in network.nodes] == ["x", "shared", "one", "two"]


def test_a_bottleneck_is_not_written_out():
    """20 -> 2 -> 20 holds 80 weights, their product 400."""
    b = NetworkBuilder()
    x = b.input("x", (20,))
    narrow = b.affine("narrow", [(x, np.ones((2, 20)))])
    wide = b.affine("wide", [(narrow, np.ones((20, 2)))])
    network = b.build([wide])
    assert kinds(network) == ["input", "affine", "affine"]
    assert sum(n.nonzeros for n in network.nodes if isinstance(n, Affine)) == 80


def test_an_output_that_is_also_read_stays():
    b = NetworkBuilder()
    x = b.input("x", (2,))
    first = b.affine("first", [(x, np.ones((2, 2)))], 1.0)
    second = b.affine("second", [(first, np.ones((2, 2)))])
    network = b.build([first, second])
    assert network.n_outputs == 4
    assert network.evaluate([1.0, 2.0]).tolist() == [4.0, 4.0, 8.0, 8.0]


def test_residual_terms_are_added():
    b = NetworkBuilder()
    x = b.input("x", (2,))
    scaled = b.affine("scaled", [(x, sp.diags_array([2.0, 3.0]))], 1.0)
    total = b.affine("total", [(x, np.eye(2)), (scaled, np.eye(2))])
    network = b.build([total])
    assert kinds(network) == ["input", "affine"]
    assert network.evaluate([1.0, 1.0]).tolist() == [4.0, 5.0]


def test_what_no_output_needs_is_dropped():
    b = NetworkBuilder()
    x = b.input("x", (2,))
    a = b.affine("a", [(x, np.eye(2))])
    b.piecewise("dead_end", a, act.relu())
    network = b.build([a])
    assert [n.name for n in network.nodes] == ["x", "a"]


def test_names_stay_unique():
    b = NetworkBuilder()
    x = b.input("x", (2,))
    heavy = b.affine("heavy", [(x, np.ones((2, 2)))])
    parts = [b.select(f"s{k}", heavy, [k]) for k in range(2)]
    network = b.build([b.piecewise(f"r{k}", p, act.relu()) for k, p in enumerate(parts)])
    names = [n.name for n in network.nodes]
    assert len(set(names)) == len(names)


def test_products_of_sparse_weights_are_sorted():
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(2, 40, 40)) * (rng.random((2, 40, 40)) < 0.1)
    a, b = (sp.csr_array(matrix) for matrix in dense)
    builder = NetworkBuilder()
    first = builder.affine("a", [(builder.input("x", (40,)), a)])
    second = builder.affine("b", [(first, b[:3])])
    network = builder.build([second])
    (node,) = [n for n in network.nodes if n.kind == "affine"]
    (w,) = node.weights
    # Whoever wants them sorted can't sort them any more: the arrays are read-only.
    assert not sp.issparse(w) or w.has_sorted_indices
    assert weights.product(a, b).has_sorted_indices
