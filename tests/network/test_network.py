"""Networks: evaluation, forms of input, names, inspection."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given

from pyomo_relu.network import Affine, Input, Network, NetworkBuilder
from pyomo_relu.network import activations as act
from tests.harness.random_networks import he_network
from tests.harness.strategies import networks


def two_inputs():
    b = NetworkBuilder()
    x, y = b.input("image", (2, 3)), b.input("scalar", (1,))
    h = b.affine("h", [(x, np.arange(12.0).reshape(2, 6)), (y, [[1.0], [-1.0]])], 0.5)
    return b.build([b.piecewise("r", h, act.relu()), h])


def test_dense_relu_network_against_naive_loops():
    network = he_network(0, [4, 6, 5, 3])
    x = np.random.default_rng(0).normal(size=4)
    affine = [n for n in network.nodes if isinstance(n, Affine)]
    v = x
    for k, layer in enumerate(affine):
        (w,) = layer.weights
        v = [sum(w[i, j] * v[j] for j in range(len(v))) + layer.bias[i]
             for i in range(layer.size)]  # fmt: skip
        if k < 2:
            v = [max(0.0, t) for t in v]
    assert network.evaluate(x) == pytest.approx(v, rel=1e-13)


@given(networks())
def test_batch_equals_points(network):
    x = np.random.default_rng(0).uniform(-1.0, 1.0, (5, network.n_inputs))
    y = network.evaluate(x)
    assert y.shape == (5, network.n_outputs)
    assert np.isfinite(y).all()
    scale = 1.0 + max(abs(v).max() for v in network.activations(x))
    for row, point in zip(y, x):
        assert network.evaluate(point) == pytest.approx(row, abs=1e-12 * scale)


def test_forms_of_one_input():
    b = NetworkBuilder()
    x = b.input("x", (2, 3))
    network = b.build([b.affine("a", [(x, np.arange(6.0)[None])])])
    flat = np.random.default_rng(0).normal(size=(4, 6))
    y = flat @ np.arange(6.0)[:, None]
    tensor = flat.reshape(4, 2, 3)
    for form in (flat, tensor, {"x": flat}, {"x": tensor}, flat.tolist()):
        assert network.evaluate(form) == pytest.approx(y)
    for form in (flat[0], tensor[0], {"x": tensor[0]}, list(flat[0]), tuple(flat[0])):
        assert network.evaluate(form).shape == (1,)
        assert network.evaluate(form) == pytest.approx(y[0])
    assert network.evaluate(flat.astype(np.float32)).dtype == np.float64
    assert network.evaluate(np.zeros((0, 6))).shape == (0, 1)


def test_forms_of_several_inputs():
    network = two_inputs()
    rng = np.random.default_rng(0)
    image, scalar = rng.normal(size=(4, 2, 3)), rng.normal(size=(4, 1))
    flat = np.hstack([image.reshape(4, 6), scalar])
    y = network.evaluate(flat)
    assert y.shape == (4, 4)
    for form in (
        [image, scalar],
        (image.reshape(4, 6), scalar),
        {"scalar": scalar, "image": image},
    ):
        assert (network.evaluate(form) == y).all()
    for form in ([image[0], scalar[0]], {"image": image[0], "scalar": scalar[0, 0]}):
        assert network.evaluate(form) == pytest.approx(y[0])


def test_scalar_input():
    b = NetworkBuilder()
    network = b.build([b.affine("a", [(b.input("x", (1,)), [[2.0]])])])
    assert network.evaluate(3.0) == [6.0]
    assert network.evaluate([3.0]) == [6.0]
    assert network.evaluate([[3.0], [4.0]]).tolist() == [[6.0], [8.0]]


@pytest.mark.parametrize(
    "x, message",
    [
        (np.zeros(5), r"shape \(5,\) doesn't fit the network, which takes \(7,\)"),
        (np.zeros((2, 5)), r"shape \(2, 5\) doesn't fit"),
        ({"image": np.zeros(6)}, r"inputs are \['image', 'scalar'\], but .* \['image'\]"),
        (
            {"image": np.zeros((2, 6)), "scalar": np.zeros((3, 1))},
            "different numbers of points",
        ),
        ([np.zeros((2, 6)), np.zeros((3, 1))], "different numbers of points"),
        ([np.zeros(6), np.zeros(2)], r"shape \(2,\) doesn't fit .* \(1,\), \(N, 1\)"),
        (
            [np.zeros(7), np.zeros(7)],
            r"input layer 'image': .* A list of 2 is one entry .* as an array, \(N, 7\)",
        ),
    ],
)
def test_input_errors(x, message):
    with pytest.raises(ValueError, match=message):
        two_inputs().evaluate(x)


def test_tensor_error_names_the_shape():
    b = NetworkBuilder()
    network = b.build([b.affine("a", [(b.input("x", (2, 3)), np.ones((1, 6)))])])
    with pytest.raises(ValueError, match=r"\(6,\), \(N, 6\), \(2, 3\) or \(N, 2, 3\)"):
        network.evaluate(np.zeros((3, 2)))


def test_activations_have_every_node():
    network = two_inputs()
    values = network.activations(np.zeros((3, 7)))
    assert [v.shape for v in values] == [(3, n.size) for n in network.nodes]


def test_nodes_in_order():
    late = Affine("late", (1,), (1,), (np.eye(1),), np.zeros(1))
    with pytest.raises(ValueError, match="'late' reads a layer that comes later"):
        Network([late, Input("x", (1,))], [0])


def test_nothing_changes():
    network = he_network(0, [2, 3, 1])
    assert copy.copy(network) is network
    assert copy.deepcopy(network) is network
    with pytest.raises(ValueError, match="read-only"):
        network.nodes[1].weights[0][0, 0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        network.nodes[1].bias[0] = 1.0


@given(networks())
def test_pickle(network):
    other = pickle.loads(pickle.dumps(network))
    x = np.random.default_rng(0).normal(size=(3, network.n_inputs))
    assert (other.evaluate(x) == network.evaluate(x)).all()
    assert other.fingerprint == network.fingerprint


def test_fingerprint():
    assert he_network(0, [2, 3, 1]).fingerprint == he_network(0, [2, 3, 1]).fingerprint
    different = {
        he_network(0, [2, 3, 1]).fingerprint,
        he_network(1, [2, 3, 1]).fingerprint,
        he_network(0, [2, 4, 1]).fingerprint,
        he_network(0, [3, 2, 1]).fingerprint,
    }
    assert len(different) == 4

    def built(w=1.0, b=0.0, slope=0.2, name="a", groups=((0, 1),)):
        builder = NetworkBuilder()
        a = builder.affine(name, [(builder.input("x", (2,)), w * np.eye(2))], b)
        p = builder.piecewise("p", a, act.leaky_relu(slope))
        return builder.build([builder.max("m", p, groups)]).fingerprint

    assert built() == built(name="other")  # names are no part of what it computes
    tiny = np.nextafter(1.0, 2.0)
    changes = [{"w": tiny}, {"b": 1e-300}, {"slope": 0.3}, {"groups": ((1, 0),)}]
    assert len({built(), *(built(**c) for c in changes)}) == 5


def test_repr_and_summary():
    network = two_inputs()
    assert repr(network) == "<Network: 7 inputs, 4 outputs, 2 layers, 2 neurons>"
    lines = network.summary().splitlines()
    assert lines[0] == repr(network)
    assert lines[1].split() == ["layer", "kind", "shape", "weights", "reads"]
    assert lines[3].split() == ["image", "input", "2", "x", "3"]
    assert lines[5].split()[:4] == ["h", "affine", "(output)", "2"]
    assert lines[5].split()[4:] == ["13", "image,", "scalar"]
    assert lines[6].split() == ["r", "relu", "(output)", "2", "h"]


def test_names():
    b = NetworkBuilder()
    a = b.affine("a", [(b.input("x", (2,)), np.eye(2))])
    network = b.build([a], input_names=["p", "q"], output_names=["H2", "N2"])
    assert (network.input_names, network.output_names) == (("p", "q"), ("H2", "N2"))
    assert he_network(0, [2, 3, 1]).output_names is None
