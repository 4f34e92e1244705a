"""The primitives, one by one, and what they take for weights."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from pyomo_relu.network import Affine, Input, Max, PiecewiseLinear
from pyomo_relu.network import activations as act
from pyomo_relu.network.nodes import as_float64


def piecewise(pieces, size):
    name, t, a, c = pieces
    k = t.shape[-1]
    return PiecewiseLinear(
        "phi",
        (size,),
        0,
        name,
        np.broadcast_to(t, (size, k)),
        np.broadcast_to(a, (size, k + 1)),
        np.broadcast_to(c, (size, k + 1)),
    )


@pytest.mark.parametrize(
    "values",
    [
        np.array([0.1, -2.0], dtype=np.float16),
        np.array([0.1, -2.0], dtype=np.float32),
        np.array([0.1, -2.0], dtype=np.longdouble).astype(float).astype(np.longdouble),
        np.array([1, -2], dtype=np.int8),
        np.array([3, 2**53], dtype=np.uint64),
        np.array([True, False]),
        [1, 2.5],
        3.0,
        np.array([0.1], dtype=">f8"),
        np.array([0.1], dtype=">f4"),
    ],
)
def test_weights_that_float64_holds(values):
    found = as_float64(values, "w")
    assert found.dtype == np.float64
    assert (found.astype(np.longdouble) == np.asarray(values).astype(np.longdouble)).all()


@pytest.mark.parametrize(
    "values, message",
    [
        ([1.0, np.nan], "w must be finite, but NaN or infinite"),
        ([1.0, -np.inf], "w must be finite, but NaN or infinite"),
        (np.array([np.inf], dtype=np.float16), "w must be finite, but NaN or infinite"),
        (np.array([np.nan], dtype=np.longdouble), "w must be finite, but NaN or infinite"),
        (np.array([1 + 2j]), "w must be real numbers, not complex128"),
        (np.array(["1.0"]), "w must be real numbers, not <U3"),
        (np.array([None]), "w must be real numbers, not object"),
        (
            np.array(["2020-01-01"], dtype="datetime64[D]"),
            "w must be real numbers, not datetime64",
        ),
        (np.array([2**53 + 1]), "w must fit float64, but int64 values"),
        (np.array([2**64 - 1], dtype=np.uint64), "w must fit float64"),
        (np.array([2**63 - 1]), "w must fit float64"),
        (np.longdouble(1) / 3, "w must fit float64, but float128"),
        (np.array([np.longdouble("1e4000")]), "w must fit float64, but float128"),
    ],
)
@pytest.mark.filterwarnings("error")  # an error is enough
def test_weights_that_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        as_float64(values, "w")


def test_input():
    node = Input("x", (2, 3, 4))
    assert (node.size, node.sources, node.kind) == (24, (), "input")
    assert Input("x", ()).size == 1


@pytest.mark.parametrize("sparse", [False, True])
def test_affine(sparse):
    rng = np.random.default_rng(0)
    w, v, b = rng.normal(size=(3, 4)), rng.normal(size=(3, 2)), rng.normal(size=3)
    w[0, 1] = v[2, 0] = 0.0
    x, y = rng.normal(size=(5, 4)), rng.normal(size=(5, 2))
    parts = (sp.csr_array(w), sp.csr_array(v)) if sparse else (w, v)
    node = Affine("a", (3,), (0, 1), parts, b)
    naive = [[w[i] @ p + v[i] @ q + b[i] for i in range(3)] for p, q in zip(x, y)]
    assert node(x, y) == pytest.approx(np.array(naive))
    assert (node.sources, node.nonzeros) == ((0, 1), 16)
    assert not (b - node.bias).any()  # the bias isn't changed by a call


def test_piece_is_closed_on_the_left():
    node = piecewise(act.clip(-1.0, 1.0), 2)
    x = np.array([[-1.0, 1.0], [np.nextafter(-1.0, -2.0), np.nextafter(1.0, 0.0)]])
    assert (node.piece(x) == [[1, 2], [0, 1]]).all()


def test_is_relu():
    assert piecewise(act.relu(), 3).is_relu
    assert not piecewise(act.leaky_relu(), 3).is_relu
    assert not piecewise(act.relu6(), 3).is_relu
    assert not piecewise(act.relu(threshold=1.0), 3).is_relu
    assert piecewise(act.leaky_relu(np.zeros(3)), 3).is_relu
    assert not piecewise(act.leaky_relu(np.array([0.0, 0.1, 0.0])), 3).is_relu


def test_jumps():
    assert (piecewise(act.step(), 2).jumps == 1.0).all()
    assert (piecewise(act.sign(), 2).jumps == 2.0).all()
    assert not piecewise(act.hard_sigmoid(), 2).jumps.any()
    assert (piecewise(act.relu(threshold=0.5), 2).jumps == 0.5).all()


@pytest.mark.parametrize("name", sorted(act.ACTIVATIONS))
def test_range_against_sampling(name):
    rng = np.random.default_rng(0)
    node = piecewise(act.ACTIVATIONS[name](), 1)
    for _ in range(30):
        low, high = np.sort(rng.normal(0.0, 3.0, 2))
        x = np.linspace(low, high, 501)[:, None]
        found = node.range(np.array([low]), np.array([high]))
        y = node(x)
        assert found[0].shape == (1,)
        assert found[0] <= y.min() + 1e-15
        assert found[1] >= y.max() - 1e-15
        assert found[0] >= y.min() - 0.05
        assert found[1] <= y.max() + 0.05


def test_range_has_both_values_of_a_step():
    node = piecewise(act.step(), 3)
    low, high = node.range(np.array([-1.0, 0.0, -1.0]), np.array([0.0, 1.0, -0.5]))
    assert (low == 0.0).all()
    assert (high == [1.0, 1.0, 0.0]).all()


def test_range_of_a_batch():
    node = piecewise(act.absolute(), 2)
    low = np.array([[-1.0, 1.0], [-3.0, -2.0]])
    high = np.array([[2.0, 1.5], [-2.0, 1.0]])
    found = node.range(low, high)
    assert (found[0] == [[0.0, 1.0], [2.0, 0.0]]).all()
    assert (found[1] == [[2.0, 1.5], [3.0, 2.0]]).all()


def test_max():
    indptr, indices = np.array([0, 2, 3, 6]), np.array([0, 1, 3, 2, 3, 0])
    node = Max("m", (3,), 0, indptr, indices)
    x = np.random.default_rng(0).normal(size=(6, 4))
    naive = np.stack([x[:, [0, 1]].max(1), x[:, 3], x[:, [0, 2, 3]].max(1)], axis=1)
    assert (node(x) == naive).all()
    assert (node(x[0]) == naive[0]).all()
    assert list(node.group(2)) == [2, 3, 0]


def test_what_can_be_the_maximum():
    node = Max("m", (2,), 0, np.array([0, 4, 6]), np.array([2, 0, 1, 2, 3, 3]))
    lower = np.array([-1.0, 0.0, -3.0, 5.0])
    upper = np.array([0.0, 1.0, 0.5, 5.0])
    # Entry 0 is at most 0, which entry 1 is at least; entry 2 may exceed it.
    assert node.contenders(0, lower, upper).tolist() == [1, 2]
    assert node.contenders(1, lower, upper).tolist() == [3]
    with_margin = np.array([1e-9, 1.0, 0.5, 5.0])
    assert node.contenders(0, lower, with_margin).tolist() == [0, 1, 2]
