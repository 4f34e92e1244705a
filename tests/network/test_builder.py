"""Writing networks node by node: what is built and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from pyomo_relu.network import Affine, Input, NetworkBuilder
from pyomo_relu.network import activations as act


@pytest.fixture
def builder():
    b = NetworkBuilder()
    b.input("x", (3,))
    return b


def test_names_are_unique(builder):
    first = builder.affine("dense", [(0, np.eye(3))])
    second = builder.affine("dense", [(first, np.eye(3))])
    third = builder.affine("dense", [(second, np.eye(3))])
    unnamed = builder.affine("", [(third, np.eye(3))])
    names = [builder.nodes[i].name for i in (first, second, third, unnamed)]
    assert names == ["dense", "dense_2", "dense_3", "layer"]


def test_terms_of_one_source_are_added(builder):
    i = builder.affine("a", [(0, np.eye(3)), (0, sp.eye_array(3))], 1.0)
    node = builder.nodes[i]
    assert node.sources == (0,)
    assert (node.weights[0] == 2.0 * np.eye(3)).all()
    assert (node.bias == 1.0).all()


def test_shapes_are_kept(builder):
    i = builder.affine("a", [(0, np.ones((6, 3)))], np.zeros((2, 3)), shape=(2, 3))
    r = builder.piecewise("r", i, act.relu())
    m = builder.max("m", r, [[0, 1], [2], [3, 4, 5], [0]], shape=(2, 2))
    assert [builder.nodes[k].shape for k in (i, r, m)] == [(2, 3), (2, 3), (2, 2)]
    network = builder.build([m])
    assert network.evaluate([1.0, 2.0, 3.0]).shape == (4,)


def test_sparse_weights(builder):
    duplicate = sp.coo_array(([1.0, 2.0, 5.0], ([0, 0, 1], [1, 1, 2])), shape=(2, 3))
    i = builder.affine("a", [(0, duplicate)])
    network = builder.build([i])
    assert network.evaluate([1.0, 10.0, 100.0]) == pytest.approx([30.0, 500.0])
    wide = builder.affine("w", [(0, sp.csr_array(np.eye(200, 3)))])
    assert sp.issparse(builder.nodes[wide].weights[0])
    dense = builder.affine("d", [(0, np.eye(200, 3))])
    assert sp.issparse(builder.nodes[dense].weights[0])  # few non-zeros: kept sparse
    full = builder.affine("f", [(0, sp.csr_array(np.ones((200, 3))))])
    assert isinstance(builder.nodes[full].weights[0], np.ndarray)


def test_weights_are_copied_or_frozen_not_shared(builder):
    w, b = np.eye(3), np.zeros(3)
    network = builder.build([builder.affine("a", [(0, w)], b)])
    before = network.evaluate([1.0, 2.0, 3.0])
    try:
        w[0, 0] = b[0] = 7.0
    except ValueError:
        pass  # frozen is as good
    assert (network.evaluate([1.0, 2.0, 3.0]) == before).all()


def test_select(builder):
    i = builder.select("s", 0, [2, -1, 0, 0], shape=(2, 2))
    network = builder.build([i])
    assert list(network.evaluate([1.0, 2.0, 3.0])) == [3.0, 0.0, 1.0, 1.0]


def test_float16_and_integer_weights(builder):
    half = builder.affine("h", [(0, np.full((1, 3), 0.1, dtype=np.float16))])
    whole = builder.affine("i", [(0, np.array([[1, 2, 3]]))], np.array([4]))
    network = builder.build([half, whole])
    y = network.evaluate([1.0, 1.0, 1.0])
    assert list(y) == [3.0 * float(np.float16(0.1)), 10.0]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda b: b.input("y", (2, 0)), r"input 'y' has shape \(2, 0\)"),
        (lambda b: b.affine("a", []), "layer 'a' depends on no input"),
        (
            lambda b: b.affine("a", [(0, np.eye(2))]),
            r"layer 'a': weights of shape \(2, 2\) don't fit the 3 entries of 'x'",
        ),
        (
            lambda b: b.affine("a", [(0, np.ones(3))]),
            r"layer 'a': weights of shape \(3,\) don't fit",
        ),
        (
            lambda b: b.affine("a", [(0, np.ones((2, 3))), (b.input("y", (1,)), [[1.0]])]),
            "layer 'a': the weights on 'y' make 1 entries, the others 2",
        ),
        (
            lambda b: b.affine("a", [(0, np.eye(3))], shape=(2, 2)),
            r"layer 'a': shape \(2, 2\) doesn't hold 3 entries",
        ),
        (
            lambda b: b.affine("a", [(0, np.eye(3))], np.zeros(2)),
            "layer 'a': a bias of 2 entries for 3",
        ),
        (
            lambda b: b.affine("a", [(0, np.full((1, 3), np.nan))]),
            "the weights of layer 'a' must be finite",
        ),
        (
            lambda b: b.affine("a", [(0, np.eye(3))], [0.0, np.inf, 0.0]),
            "the bias of layer 'a' must be finite",
        ),
        (
            lambda b: b.affine("a", [(0, sp.csr_array(np.diag([1.0, np.inf, 0.0])))]),
            "the weights of layer 'a'",
        ),
        (
            lambda b: b.affine("a", [(0, np.eye(3) * 1j)]),
            "the weights of layer 'a' must be real numbers, not complex128",
        ),
        (
            lambda b: b.affine("a", [(0, sp.csr_array(np.eye(3) * 1j))]),
            "the weights of layer 'a' must be real numbers, not complex128",
        ),
        (
            lambda b: b.affine("a", [(0, sp.csr_array([[0, 2**53 + 1, 0]]))]),
            "the weights of layer 'a' must fit float64, but int64",
        ),
        (
            lambda b: b.piecewise("p", 0, ("f", np.zeros(2), np.zeros(2), np.zeros(3))),
            "layer 'p': 2 breakpoints need 3 slopes and intercepts",
        ),
        (
            lambda b: b.piecewise("p", 0, ("f", np.array([1.0, 0.0]), *np.zeros((2, 3)))),
            "layer 'p': breakpoints must not decrease",
        ),
        (
            lambda b: b.piecewise("p", 0, act.leaky_relu(np.nan)),
            "an activation of layer 'p' must be finite",
        ),
        (
            lambda b: b.piecewise("p", 0, act.leaky_relu(np.full(2, 0.1))),
            r"layer 'p': parameters of shape \(2,\) don't fit the 3 entries of 'x'",
        ),
        (lambda b: b.max("m", 0, []), "layer 'm': a maximum over no entries"),
        (lambda b: b.max("m", 0, [[0], []]), "layer 'm': a maximum over no entries"),
        (lambda b: b.max("m", 0, [[0, 3]]), "layer 'm': a group index is out of range"),
        (lambda b: b.max("m", 0, [[-1]]), "layer 'm': a group index is out of range"),
        (
            lambda b: b.max("m", 0, [[0], [1]], shape=(3,)),
            r"layer 'm': shape \(3,\) doesn't hold 2 entries",
        ),
        (lambda b: b.select("s", 0, [0, 3]), "layer 's': an index is out of range"),
        (lambda b: b.build([]), "a network needs at least one output"),
        (lambda b: b.build([0], inputs=[]), "inputs= must name every input"),
        (lambda b: b.build([0], inputs=[0, 0]), "inputs= must name every input"),
        (
            lambda b: b.build([0], input_names=["a", "b"]),
            "2 input names were given for 3 inputs",
        ),
        (
            lambda b: b.build([0], output_names=["a", "b", "a"]),
            r"output names must differ; given twice: \['a'\]",
        ),
    ],
)
def test_errors(builder, call, message):
    with pytest.raises(ValueError, match=message):
        call(builder)


def test_outputs_are_nodes_of_their_own(builder):
    """An input, or one node twice, as an output becomes an affine copy."""
    i = builder.affine("a", [(0, np.ones((1, 3)))])
    network = builder.build([0, i, i])
    assert len(set(network.outputs)) == 3
    assert all(not isinstance(network.nodes[k], Input) for k in network.outputs)
    assert list(network.evaluate([1.0, 2.0, 4.0])) == [1.0, 2.0, 4.0, 7.0, 7.0]


def test_order_of_inputs_and_names():
    b = NetworkBuilder()
    x, y = b.input("x", (1,)), b.input("y", (2,))
    out = b.affine("a", [(x, [[1.0]]), (y, [[10.0, 100.0]])])
    network = b.build([out], inputs=[y, x], input_names=["p", "q", "r"])
    assert network.input_names == ("p", "q", "r")
    assert network.evaluate([1.0, 2.0, 3.0])[0] == 10.0 + 200.0 + 3.0


def test_unused_inputs_stay(builder):
    builder.input("unused", (2,))
    network = builder.build([builder.affine("a", [(0, np.eye(3))])])
    assert network.n_inputs == 5
    assert isinstance(network.nodes[network.outputs[0]], Affine)
