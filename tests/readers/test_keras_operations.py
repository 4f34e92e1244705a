"""Operations, wrappers and subclassed models of Keras that are read as what they are."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.network import PiecewiseLinear
from pyomo_relu.readers import read_network
from pyomo_relu.readers.keras import UnsupportedLayerError, read_keras
from tests.readers.keras_support import assert_agrees, import_keras, randomize

keras = import_keras()
layers, ops = keras.layers, keras.ops
W = np.linspace(-1, 1, 12).reshape(4, 3).astype("float32")


def read(y, x, seed=0):
    rng = np.random.default_rng(seed)
    model = y if isinstance(y, keras.Model) else keras.Model(x, y)
    randomize(model, rng)
    network = read_keras(model)
    assert_agrees(model, network, rng, n=20)
    return network


CHOICES = {
    "leaky_relu": lambda h: ops.where(h > 0, h, 0.1 * h),
    "relu": lambda h: h * ops.cast(h > 0, "float32"),
    "chosen": lambda h: ops.where(ops.logical_not(h >= 1), h, 1.0),
}


@pytest.mark.parametrize("name", CHOICES)
def test_choices_are_what_they_are(name):
    x = keras.Input((4,))
    network = read(CHOICES[name](layers.Dense(3)(x)), x)
    nodes = [v for v in network.nodes if isinstance(v, PiecewiseLinear)]
    assert [v.function for v in nodes] == [name]


OPERATIONS = [
    lambda x: layers.Multiply()([x, ops.cast(x <= 0, "float32")]),
    lambda x: ops.where(ops.less(x, 0.5), 2.0, -1.0),
    lambda x: ops.where(x[:, 1:] > x[:, :-1], x[:, 1:], x[:, :-1]),
    lambda x: ops.take(x, np.array([2, 0, 2]), axis=1),
    lambda x: ops.roll(x, 1, axis=1),
    lambda x: ops.dot(x, W),
    lambda x: ops.dot(x, W[:, 0])[:, None],
    lambda x: ops.hstack([x, 2 * x]),
    lambda x: ops.einsum("bi,ij->bj", x, W),
    lambda x: ops.einsum("ij,bi->bj", W, x),
    lambda x: ops.tensordot(x, W, axes=1),
    lambda x: ops.tensordot(x, W.T, axes=[[1], [1]]),
]


@pytest.mark.parametrize("k", range(len(OPERATIONS)))
def test_operations(k):
    x = keras.Input((4,))
    read(OPERATIONS[k](x), x)


@pytest.mark.parametrize(
    "equation, options",
    [
        ("bij,jk->bik", dict(output_shape=(None, 5), bias_axes="k", activation="relu")),
        ("bij,ijk->bk", dict(output_shape=5, bias_axes="k")),
        ("bij,ik->bjk", dict(output_shape=(2, 5), bias_axes="jk")),
        ("...j,jk->...k", dict(output_shape=4)),
    ],
)
def test_einsum_dense(equation, options):
    x = keras.Input((3, 2))
    read(layers.EinsumDense(equation, **options)(x), x)


def test_spectral_normalization():
    x = keras.Input((4,))
    layer = layers.SpectralNormalization(layers.Dense(3, activation="relu"))
    read(layer(x), x)
    x = keras.Input((5, 5, 2))
    read(layers.SpectralNormalization(layers.Conv2D(3, 2))(x), x)


def test_functions_of_tensorflow():
    tf = pytest.importorskip("tensorflow")
    if keras.config.backend() != "tensorflow":
        pytest.skip("functions of TensorFlow run on its backend only")
    x = keras.Input((4,))
    smooth = tf.nn.tanh, tf.nn.sigmoid, tf.nn.gelu, tf.nn.elu, tf.nn.softplus, tf.nn.silu
    for function in (tf.nn.relu, tf.nn.relu6, tf.nn.leaky_relu, *smooth):
        read(layers.Dense(3, activation=function)(x), x)
    model = keras.Model(x, layers.Dense(3, activation=tf.nn.softmax)(x))
    assert read_network(model, logits=True).n_outputs == 3
    with pytest.raises(UnsupportedLayerError, match="'crelu.*', which is unknown"):
        read_keras(keras.Model(x, layers.Dense(3, activation=tf.nn.crelu)(x)))


class Residual(keras.Model):
    """A call with operations, a flag for training and layers that are used twice."""

    def __init__(self, n=4):
        super().__init__()
        self.first, self.drop = layers.Dense(n, activation="relu"), layers.Dropout(0.5)
        self.norm = layers.BatchNormalization()

    def call(self, x, training=False):
        for _ in range(2):
            x = x + self.norm(
                self.drop(self.first(x), training=training), training=training
            )
        return ops.where(x > 1, x, 1.0) if not training else x


class Two(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, xs):
        a, b = xs
        return self.dense(a) - ops.relu(b)


class Branches(keras.Model):
    def call(self, x):
        return x if ops.sum(x) > 0 else -x


class Counts(keras.Model):
    """What it computes depends on how often it was called."""

    calls = 0

    def call(self, x):
        self.calls += 1
        return float(self.calls) * x


def predicted(model, x):
    return ops.convert_to_numpy(model(x, training=False)).astype(float)


def test_subclassed_models_are_traced():
    rng = np.random.default_rng(0)
    model = Residual()
    x = rng.normal(size=(20, 4)).astype("float32")
    model(x)
    randomize(model, rng)
    parts = list(model._flatten_layers())
    noted = [len(part._inbound_nodes) for part in parts]
    expected = predicted(model, x)
    found = read_network(model).evaluate(x.astype(float))
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    assert [len(part._inbound_nodes) for part in parts] == noted
    inner = keras.Input((4,))
    outer = keras.Model(inner, layers.Dense(2)(model(inner)))
    found = read_network(outer).evaluate(x.astype(float))
    expected = predicted(outer, x)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_subclassed_models_of_two_tensors():
    rng = np.random.default_rng(0)
    model = Two()
    a, b = (rng.normal(size=(9, n)).astype("float32") for n in (4, 3))
    model([a, b])
    network = read_network(model)
    expected = ops.convert_to_numpy(model([a, b])).astype(float)
    found = network.evaluate(np.hstack([a, b]).astype(float))
    assert np.abs(found - expected).max() <= 1e-5


def test_what_a_trace_can_not_see_is_refused():
    x = np.ones((2, 3), "float32")
    model = Branches()
    with pytest.raises(ValueError, match="is not built.*call it once on data"):
        read_network(model)
    model(x)
    with pytest.raises(UnsupportedLayerError, match="own call method.*branches on values"):
        read_network(model)
    model = Counts()
    model(x)
    with pytest.raises(ValueError, match="is not what was read from it"):
        read_network(model)


def test_refusals_give_the_reason():
    x = keras.Input((4,))
    cases = [
        (
            layers.LayerNormalization()(x),
            "LayerNormalization.*standard deviation.*BatchNorm",
        ),
        (layers.UnitNormalization()(x), "UnitNormalization.*norm of its own input"),
        (ops.where(x[:, :1] > 0, x, 0.0), "chooses by a comparison"),
        (x * ops.cast(ops.flip(x, 1) > 0, "float32"), "chooses by a comparison"),
        (ops.roll(x, 1, axis=0), "mixes points of a batch"),
        (ops.einsum("bi,bi->b", x, x)[:, None], "multiplies 2 tensors"),
        (ops.dot(W.T, ops.transpose(x)), "from the left|batch"),
    ]
    for y, message in cases:
        with pytest.raises(ValueError, match=message):
            read_keras(keras.Model(x, y))


SEEDS = [*range(10), *[pytest.param(s, marks=pytest.mark.slow) for s in range(10, 200)]]


@pytest.mark.parametrize("seed", SEEDS)
def test_random_choices(seed):
    rng = np.random.default_rng(seed)
    x = keras.Input((3,))
    h = layers.Dense(int(rng.integers(1, 5)))(x)
    h = ops.relu(h) if rng.random() < 0.3 else h
    a, b, c, t = (float(v) for v in np.round(rng.normal(size=4) * 4) / 4)
    compare = [ops.greater, ops.greater_equal, ops.less, ops.less_equal][rng.integers(4)]
    mask = compare(h, t)
    if rng.random() < 0.5:
        y = ops.where(mask, a * h + b, c * h)
    else:
        y = (a * h + b) * ops.cast(mask, "float32") + c * h
    read(layers.Dense(2)(y), x, seed)
