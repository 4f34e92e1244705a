"""Keras graphs: shared layers, nesting, several inputs and outputs, operations, heads."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from pyomo_relu.network import PiecewiseLinear, activations
from pyomo_relu.readers.keras import (
    UnsupportedLayerError,
    read_keras,
    register_keras_activation,
    register_keras_layer,
)
from tests.readers.keras_support import assert_agrees, import_keras, predicted, randomize

D = dict(dtype="float64")


def checked(model, seed=0, **options):
    """Read a model with random weights and compare."""
    rng = np.random.default_rng(seed)
    randomize(model, rng)
    network = read_keras(model, **options)
    assert_agrees(model, network, rng)
    return network


def test_sequential_with_names():
    keras = import_keras()
    K = keras.layers
    model = keras.Sequential(
        [
            keras.Input((3,), name="feed", **D),
            K.Dense(4, activation="relu", name="hidden", **D),
            K.Dropout(0.5, **D),
            K.Dense(2, name="last", **D),
        ]
    )
    network = checked(model, input_names=["a", "b", "c"], output_names=["p", "q"])
    assert [n.name for n in network.nodes] == ["feed", "hidden", "hidden_relu", "last"]
    assert network.input_names == ("a", "b", "c")
    assert network.output_names == ("p", "q")
    with pytest.raises(ValueError, match="2 input names were given for 3 inputs"):
        read_keras(model, input_names=["a", "b"])


def test_sequential_built_later():
    keras = import_keras()
    K = keras.layers
    model = keras.Sequential([K.Dense(4, activation="relu", **D), K.Dense(2, **D)])
    with pytest.raises(ValueError, match="'.*' \\(Sequential\\) is not built"):
        read_keras(model)
    model.build((None, 3))
    randomize(model, np.random.default_rng(0))
    # Keras made the input a float32 one, so the comparison is that of float32.
    assert_agrees(model, read_keras(model), np.random.default_rng(1), tolerance=1e-6)


def test_shared_layer_is_translated_for_each_call():
    keras = import_keras()
    x = keras.Input((4,), **D)
    shared = keras.layers.Dense(4, activation="relu", **D)
    network = checked(keras.Model(x, shared(shared(shared(x)))))
    # three calls, three activations: nothing left out, nothing translated twice
    assert sum(isinstance(n, PiecewiseLinear) for n in network.nodes) == 3


def test_residual_branches_and_several_outputs():
    keras = import_keras()
    K = keras.layers
    a, b = keras.Input((4,), name="a", **D), keras.Input((2, 3), name="b", **D)
    h = K.Dense(6, activation="relu", **D)(a)
    g = K.Flatten(**D)(b)
    s = K.Add(**D)([h, g])
    c = K.Concatenate(**D)([s, a, h])
    y = K.Dense(3, **D)(c)
    network = checked(keras.Model([a, b], [y, s, a, y]))
    assert network.n_outputs == 3 + 6 + 4 + 3
    checked(keras.Model({"a": a, "b": b}, {"z": y, "m": s}))


def test_unused_part_of_the_graph_is_not_read():
    keras = import_keras()
    x = keras.Input((4,), **D)
    h = keras.layers.Dense(3, activation="relu", **D)(x)
    keras.layers.LSTM(3, **D)(keras.layers.Reshape((3, 1), **D)(h))
    checked(keras.Model(x, h))


def test_submodel_cut_out_of_a_larger_graph():
    keras = import_keras()
    K = keras.layers
    x = keras.Input((4,), **D)
    h = K.Activation("tanh", **D)(K.Dense(3, **D)(x))
    y = K.Dense(2, **D)(K.ReLU(**D)(h))
    checked(keras.Model(h, y))


def test_nested_models_of_both_kinds():
    keras = import_keras()
    K = keras.layers
    inner = keras.Sequential(
        [keras.Input((4,), **D), K.Dense(4, activation="relu", **D)], name="inner"
    )
    p, q = keras.Input((4,), name="p", **D), keras.Input((4,), name="q", **D)
    both = keras.Model(
        [p, q], [K.Subtract(**D)([inner(p), q]), K.Maximum(**D)([p, q])], name="both"
    )
    x = keras.Input((4,), **D)
    d, m = both([inner(x), x])
    d2, _ = both([m, d])
    checked(keras.Model(x, [d2, inner(d)]))
    named = both.__class__({"q": q, "p": p}, K.Subtract(**D)([inner(p), q]))
    checked(keras.Model(x, named({"p": x, "q": inner(x)})))


def test_nested_model_with_open_spatial_shape():
    keras = import_keras()
    K = keras.layers
    backbone = keras.Sequential(
        [
            keras.Input((None, None, 2), **D),
            K.Conv2D(3, 3, activation="relu", **D),
            K.MaxPooling2D(**D),
            K.GlobalAveragePooling2D(**D),
        ]
    )
    x = keras.Input((7, 8, 2), **D)
    checked(keras.Model(x, backbone(x)))
    with pytest.raises(ValueError, match="has shape .*None, None, 2.*fixed length"):
        read_keras(backbone)


def test_nested_model_called_with_another_rank_is_refused():
    keras = import_keras()
    inner = keras.Sequential([keras.Input((4,), **D), keras.layers.Dense(2, **D)])
    x = keras.Input((4, 1), **D)
    try:
        model = keras.Model(x, inner(x))
    except ValueError as e:
        pytest.skip(f"this version of Keras refuses it too: {e}")
    with pytest.raises(UnsupportedLayerError, match="expects inputs of shape"):
        read_keras(model)


OPERATIONS = {
    "x + y": lambda o, x, y: x + y,
    "y - x": lambda o, x, y: y - x,
    "x - array": lambda o, x, y: x - np.array([1.0, 2, 3]),
    "3 - x": lambda o, x, y: 3 - x,
    "2 * x + 1": lambda o, x, y: 2 * x + 1,
    "x / 4": lambda o, x, y: x / 4,
    "x * array": lambda o, x, y: x * np.array([1.0, 2, 3]),
    "x + batch of one": lambda o, x, y: x + np.ones((1, 4, 3)),
    "widened": lambda o, x, y: x[:, :, :1] + np.arange(5.0),
    "cast": lambda o, x, y: o.stop_gradient(o.cast(o.cast(x, "float64"), "float64")),
    "-x": lambda o, x, y: -x,
    "abs": lambda o, x, y: o.abs(x) + abs(y),
    "sign": lambda o, x, y: o.sign(x),
    "maximum": lambda o, x, y: o.maximum(x, y),
    "minimum": lambda o, x, y: o.minimum(x, y),
    "same twice": lambda o, x, y: o.maximum(x, x) + o.minimum(x, -x),
    "maximum 0": lambda o, x, y: o.maximum(0.0, x),
    "maximum 0.3": lambda o, x, y: o.maximum(x, 0.3),
    "minimum array": lambda o, x, y: o.minimum(x, np.array([0.0, -1, 1])),
    "maximum wide": lambda o, x, y: o.maximum(x[:, :, :1], np.array([0.0, -1, 1])),
    "clip": lambda o, x, y: o.clip(x, -0.5, 0.75),
    "clip to one point": lambda o, x, y: o.clip(x, 0.5, 0.5) + y,
    "relu": lambda o, x, y: o.relu(x),
    "relu6": lambda o, x, y: o.relu6(3 * x),
    "hard": lambda o, x, y: o.hard_sigmoid(x) + o.hard_tanh(y),
    "shrink": lambda o, x, y: o.soft_shrink(x, 0.3) + o.hard_shrink(y, 0.4),
    "threshold": lambda o, x, y: o.threshold(x, 0.5, -2.0),
    "reshape": lambda o, x, y: o.reshape(x, (-1, 6, 2)),
    "transpose": lambda o, x, y: o.transpose(x, (0, 2, 1)),
    "axes": lambda o, x, y: o.moveaxis(o.swapaxes(x, 1, 2), 1, -1),
    "squeeze": lambda o, x, y: o.squeeze(o.expand_dims(x, 2), 2),
    "flip": lambda o, x, y: o.flip(x, axis=1),
    "repeat": lambda o, x, y: o.repeat(x, 2, axis=1),
    "tile": lambda o, x, y: o.tile(x, (1, 2, 1)),
    "item": lambda o, x, y: x[:, 1:, 1:] - y[:, 0:1, :2],
    "item int": lambda o, x, y: x[:, 2] + y[..., 1:, -1],
    "split": lambda o, x, y: o.split(x, 2, axis=1)[1],
    "concatenate": lambda o, x, y: o.concatenate([x, y, x], axis=1),
    "stack": lambda o, x, y: o.stack([x, y], axis=2),
    "pad": lambda o, x, y: o.pad(x, ((0, 0), (1, 2), (0, 1))),
    "pad reflect": lambda o, x, y: o.pad(x, ((0, 0), (1, 2), (0, 1)), mode="reflect"),
    "mean": lambda o, x, y: (
        o.mean(x, axis=1) + o.mean(y, axis=(1, 2), keepdims=False)[:, None]
    ),
    "sum": lambda o, x, y: o.sum(x, axis=-1, keepdims=True),
    "max": lambda o, x, y: o.max(x, axis=1) + o.min(y, axis=-2),
    "amax": lambda o, x, y: o.amax(x, axis=(1, 2)),
    "matmul": lambda o, x, y: o.matmul(x, np.arange(6.0).reshape(3, 2)),
    "tanh": lambda o, x, y: o.tanh(x) + o.sigmoid(y) - o.log_sigmoid(x),
    "exp": lambda o, x, y: o.exp(x) + o.erf(y) - o.arctan(x) + o.softplus(y),
    "silu": lambda o, x, y: o.silu(x) - o.hard_silu(y),
    "x * y": lambda o, x, y: x * y + x * x,
    "x ** 3": lambda o, x, y: x**3 - o.square(y) + o.power(y, 2),
    "glu": lambda o, x, y: o.glu(x, axis=1),
    "elu": lambda o, x, y: o.elu(x, 0.5) + o.celu(y, 2.0) - o.selu(x) + o.softsign(y),
}


@pytest.mark.parametrize("case", OPERATIONS)
def test_operation_agrees_with_keras(case):
    keras = import_keras()
    x, y = keras.Input((4, 3), **D), keras.Input((4, 3), **D)
    checked(keras.Model([x, y], OPERATIONS[case](keras.ops, x, y)))


REFUSED = {
    "1 / x": (lambda o, x, y: 1 / x, "divides by a tensor"),
    "x / 0": (lambda o, x, y: x / 0.0, "divides by zero"),
    "exp2": (lambda o, x, y: o.exp2(x), r"\(Exp2\) is not supported"),
    "x ** y": (lambda o, x, y: x**y, "a tensor as its exponent"),
    "x ** 1.5": (lambda o, x, y: x**1.5, "to the power of 1.5"),
    "x @ y": (lambda o, x, y: o.matmul(x, o.transpose(y, (0, 2, 1))), "from the left"),
    "mean of all": (lambda o, x, y: o.mean(x, axis=(0, 1)), "reduces the batch axis"),
    "batch flipped": (lambda o, x, y: o.flip(x, axis=0), "mixes points of a batch"),
    "batch moved": (lambda o, x, y: o.transpose(x, (1, 0, 2)), "the batch"),
    "batch joined": (lambda o, x, y: o.concatenate([x, y], axis=0), "changes the batch"),
    "other ranks": (lambda o, x, y: o.maximum(x, y[:, 0, :]), "the batch"),
    "batch of constants": (
        lambda o, x, y: x + np.ones((1, 1, 4, 3)),
        "entries along the batch",
    ),
    "pad with 1": (
        lambda o, x, y: o.pad(x, ((0, 0), (1, 0), (0, 0)), constant_values=1.0),
        "pads with a constant other than 0",
    ),
    "cast": (lambda o, x, y: o.cast(x + y, "int32"), "cuts off the fractions"),
    "sinh": (lambda o, x, y: o.sinh(x), r"\(Sinh\) is not supported"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_operation_is_refused(case):
    keras = import_keras()
    build, message = REFUSED[case]
    x, y = keras.Input((4, 3), **D), keras.Input((4, 3), **D)
    model = keras.Model([x, y], build(keras.ops, x, y))
    with pytest.raises(UnsupportedLayerError, match=message):
        read_keras(model)


def _heads(keras):
    K, o = keras.layers, keras.ops
    return {
        "dense softmax": lambda z: K.Dense(3, activation="softmax", **D)(z),
        "dense sigmoid": lambda z: K.Dense(3, activation="sigmoid", **D)(z),
        "dense log_softmax": lambda z: K.Dense(3, activation="log_softmax", **D)(z),
        "activation": lambda z: K.Activation("softmax", **D)(K.Dense(3, **D)(z)),
        "softmax layer": lambda z: K.Softmax(**D)(K.Dense(3, **D)(z)),
        "operation": lambda z: o.sigmoid(K.Dense(3, **D)(z)),
        "nested": lambda z: keras.Sequential(
            [keras.Input((4,), **D), K.Dense(3, activation="softmax", **D)]
        )(z),
    }


@pytest.mark.parametrize("case", _heads(type("_", (), {"layers": 0, "ops": 0})))
def test_head_needs_logits(case):
    keras = import_keras()
    x = keras.Input((4,), **D)
    model = keras.Model(x, _heads(keras)[case](x))
    rng = np.random.default_rng(0)
    randomize(model, rng)
    if "igmoid" in case or case == "operation":
        checked(model)  # a unit, unless it is taken off
    else:
        match = "logits=True reads the model up to it"
        with pytest.raises(UnsupportedLayerError, match=match):
            read_keras(model)
    network = read_keras(model, logits=True)
    points = rng.normal(size=(5, 4))
    z = network.evaluate(points)
    p = predicted(model, [points])
    if "igmoid" in case or case == "operation":
        np.testing.assert_allclose(1 / (1 + np.exp(-z)), p, atol=1e-12)
    else:
        s = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(np.log(s) if "log" in case else s, p, atol=1e-12)


def test_head_inside_the_model_is_refused_even_with_logits():
    keras = import_keras()
    x = keras.Input((4,), **D)
    h = keras.layers.Dense(3, activation="softmax", name="gate", **D)(x)
    y = keras.layers.Dense(3, name="after", **D)(h)
    for outputs in (y, [h, y]):
        with pytest.raises(
            UnsupportedLayerError, match="'gate' .Dense. .*'softmax'.*'after'"
        ):
            read_keras(keras.Model(x, outputs), logits=True)


def test_sigmoid_inside_is_a_unit_even_with_logits():
    keras = import_keras()
    x = keras.Input((4,), **D)
    h = keras.layers.Dense(3, activation="sigmoid", **D)(x)
    checked(keras.Model(x, keras.layers.Dense(3, **D)(h)), logits=True)


def test_logits_leaves_other_outputs_alone():
    keras = import_keras()
    x = keras.Input((4,), **D)
    h = keras.layers.Dense(3, activation="relu", **D)(x)
    network = checked(keras.Model(x, h), logits=True)
    p = keras.layers.Softmax(**D)(h)
    both = read_keras(keras.Model(x, [h, p]), logits=True)
    values = both.evaluate(np.ones(4))
    np.testing.assert_allclose(values[:3], network.evaluate(np.ones(4)))
    np.testing.assert_allclose(values[3:], values[:3])


def test_registered_layer_and_activation():
    keras = import_keras()

    class Halve(keras.layers.Layer):
        def call(self, x):
            return x / 2

    class TwoParts(keras.layers.Layer):
        def call(self, x, y):
            return x + y, x - y

    def jump(x):
        return keras.ops.cast(x >= 0, x.dtype)

    x = keras.Input((4,), **D)
    a, b = TwoParts(**D)(Halve(**D)(x), x)
    model = keras.Model(x, [a, keras.layers.Activation(jump, **D)(b)])
    with pytest.raises(UnsupportedLayerError, match=r"\(Halve\).*register_keras_layer"):
        read_keras(model)

    @register_keras_layer(Halve)
    def halve(layer, builder, sources, name):
        node = builder.nodes[sources[0]]
        return builder.affine(name, [(sources[0], 0.5 * np.eye(node.size))])

    @register_keras_layer(TwoParts)
    def two_parts(layer, builder, sources, name):
        one = np.eye(builder.nodes[sources[0]].size)
        return [
            builder.affine(name, [(sources[0], one), (sources[1], s * one)])
            for s in (1.0, -1.0)
        ]

    with pytest.raises(UnsupportedLayerError, match="'jump'.*register_keras_activation"):
        read_keras(model)
    register_keras_activation(jump)(activations.step)
    checked(model)

    register_keras_layer(Halve)(lambda layer, builder, sources, name: [sources[0]] * 2)
    with pytest.raises(UnsupportedLayerError, match="1 outputs, but .* returned 2"):
        read_keras(model)
    register_keras_layer(Halve)(
        lambda layer, builder, sources, name: builder.select(name, sources[0], [0])
    )
    with pytest.raises(UnsupportedLayerError, match="its translator is wrong"):
        read_keras(model)
    with pytest.raises(TypeError, match="takes a layer class"):
        register_keras_layer(Halve())
    with pytest.raises(TypeError, match="takes the activation function"):
        register_keras_activation("relu")


def test_registered_layer_sees_the_shape_of_a_reshaped_tensor():
    keras = import_keras()

    class Columns(keras.layers.Layer):
        def call(self, x):
            return keras.ops.sum(x, axis=1)

    @register_keras_layer(Columns)
    def columns(layer, builder, sources, name):
        rows, n = builder.nodes[sources[0]].shape
        return builder.affine(name, [(sources[0], np.tile(np.eye(n), rows))])

    x = keras.Input((6,), **D)
    h = keras.layers.ReLU(**D)(x)
    network = checked(keras.Model(x, Columns(**D)(keras.layers.Reshape((2, 3), **D)(h))))
    assert network.nodes[-1].shape == (3,)
    network = checked(keras.Model(x, keras.layers.Reshape((2, 3), name="last", **D)(h)))
    assert (network.nodes[-1].name, network.nodes[-1].shape) == ("last", (2, 3))


def test_activation_that_is_a_layer():
    keras = import_keras()
    K = keras.layers
    x = keras.Input((4,), **D)
    checked(keras.Model(x, K.Dense(3, activation=K.ReLU(max_value=1.0, **D), **D)(x)))
    checked(keras.Model(x, K.Dense(3, activation=K.ELU(alpha=0.5, **D), **D)(x)))


def test_deep_model_does_not_recurse():
    keras = import_keras()
    x = y = keras.Input((2,), **D)
    layer = keras.layers.Dense(2, activation="relu", **D)
    for _ in range(700):
        y = layer(y)
    limit = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(20000)  # Keras recurses to build the model
        model = keras.Model(x, y)
        sys.setrecursionlimit(500)
        assert read_keras(model).n_neurons == 1400
    finally:
        sys.setrecursionlimit(limit)
