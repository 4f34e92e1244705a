"""Calls of Keras layers: masks, flags, keywords, methods that were replaced.

What a call means beyond its data is read as Keras runs it, or refused; with the check of
the reading and without it. A random part grows graphs of such calls.
"""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.readers.keras import UnsupportedLayerError, read_keras, register_keras_layer
from tests.readers.keras_support import assert_agrees, import_keras, in_float64, randomize

D = dict(dtype="float64")
QUICK, SLOW = 20, 300


@pytest.fixture(scope="module")
def own():
    """Layers with translators: of keywords with tensors, and one that makes a mask."""
    keras = import_keras()

    class Shifted(keras.layers.Layer):
        """``x - 2 * shift``, the tensors as arguments in any order or as keywords."""

        def call(self, shift, x):
            return x - 2 * shift

        def compute_output_shape(self, shift_shape, x_shape):
            return x_shape

    class Marked(keras.layers.Layer):
        """The input itself, and a mask that travels with it."""

        def __init__(self, **options):
            super().__init__(**options)
            self.supports_masking = True

        def call(self, x):
            return x

        def compute_mask(self, x, mask=None):
            return keras.ops.any(keras.ops.greater(x, 0.0), axis=-1)

    @register_keras_layer(Shifted)
    def shifted(layer, builder, sources, name):
        one = np.eye(builder.nodes[sources[1]].size)
        terms = [(sources[0], -2 * one), (sources[1], one)]
        return builder.affine(name, terms, 0.0, builder.nodes[sources[1]].shape)

    @register_keras_layer(Marked)
    def marked(layer, builder, sources, name):
        return sources[0]

    return Shifted, Marked


def of_two(function, first=(5, 3), second=(5,)):
    keras = import_keras()
    a, b = keras.Input(first, **D), keras.Input(second, **D)
    return keras.Model([a, b], function(keras.layers, a, b))


MASKS = {
    "average": lambda K, a, b: K.GlobalAveragePooling1D(**D)(a, mask=b),
    "softmax": lambda K, a, b: K.Softmax(**D)(a[:, :, 0], mask=b),
    "distributed": lambda K, a, b: K.TimeDistributed(K.Dense(2, **D), **D)(a, mask=b),
    "normalized": lambda K, a, b: K.BatchNormalization(**D)(a, mask=b),
}


@pytest.mark.parametrize("case", MASKS)
@pytest.mark.parametrize("check_reading", [True, False])
def test_a_mask_in_a_call_is_refused(case, check_reading):
    with pytest.raises(UnsupportedLayerError, match="(called with|reads) a mask"):
        read_keras(of_two(MASKS[case]), check_reading=check_reading, logits=True)


@pytest.mark.filterwarnings("ignore:.*mask")
@pytest.mark.parametrize("check_reading", [True, False])
def test_a_mask_that_travels_with_a_tensor(own, check_reading):
    keras = import_keras()
    K, (_, Marked) = keras.layers, own
    inner_input = keras.Input((5, 3), **D)
    pooled = K.GlobalAveragePooling1D(**D)
    inner = keras.Model(inner_input, K.GlobalAveragePooling1D(**D)(inner_input))
    for reader in (pooled, inner, K.TimeDistributed(K.Dense(2, **D), **D)):
        x = keras.Input((5, 3), **D)
        model = keras.Model(x, reader(Marked(**D)(x)))
        with pytest.raises(UnsupportedLayerError, match="reads a mask"):
            read_keras(model, check_reading=check_reading)
    x = keras.Input((5, 3), **D)
    layers = K.Flatten(**D)(K.Dense(2, **D)(Marked(**D)(x)))  # these read no mask
    model = keras.Model(x, layers)
    network = read_keras(model, check_reading=check_reading)
    assert_agrees(model, network, np.random.default_rng(0))


@pytest.mark.parametrize("check_reading", [True, False])
@pytest.mark.parametrize("method", ["call", "convolution_op"])
def test_a_replaced_method_is_refused(method, check_reading):
    keras = import_keras()
    x = keras.Input((6, 2), **D)
    layer = keras.layers.Conv1D(2, 2, name="changed", **D)
    model = keras.Model(x, layer(x))
    before = getattr(layer, method)
    setattr(layer, method, lambda *args, **kwargs: 2 * before(*args, **kwargs))
    with pytest.raises(UnsupportedLayerError, match=f"'changed'.*method '{method}'"):
        read_keras(model, check_reading=check_reading)


def test_replaced_methods_of_models_of_classes_and_inside():
    keras = import_keras()
    K = keras.layers
    x = keras.Input((4, 3), **D)
    distributed = K.TimeDistributed(K.Dense(2, name="inside", **D), **D)
    model = keras.Model(x, distributed(x))
    distributed.layer.call = lambda x: 2 * x[:, :2]
    with pytest.raises(UnsupportedLayerError, match="'inside'.*method 'call'"):
        read_keras(model)
    x = keras.Input((3,), **D)
    model = keras.Model(x, K.Dense(2, **D)(x))
    model.call = lambda x, training=None, mask=None: 2 * x
    with pytest.raises(UnsupportedLayerError, match="has its own call method"):
        read_keras(model)
    activation = K.ReLU(**D)
    model = keras.Model(x, K.Dense(2, activation=activation, **D)(x))
    activation.call = lambda x: -x
    with pytest.raises(UnsupportedLayerError, match="method 'call'"):
        read_keras(model)


def test_a_method_replaced_in_a_class_of_keras(monkeypatch):
    keras = import_keras()
    x = keras.Input((3,), **D)
    model = keras.Model(x, keras.layers.Dense(2, **D)(x))
    before = keras.layers.Dense.call
    monkeypatch.setattr(keras.layers.Dense, "call", lambda s, x: 2 * before(s, x))
    with pytest.raises(UnsupportedLayerError, match="method 'call'"):
        read_keras(model, check_reading=False)


def test_tensors_as_keywords_come_in_the_order_of_the_signature(own):
    keras = import_keras()
    Shifted, _ = own
    a, b = keras.Input((3,), **D), keras.Input((3,), **D)
    for y in (
        Shifted(**D)(a, b),
        Shifted(**D)(a, x=b),
        Shifted(**D)(shift=a, x=b),
        Shifted(**D)(x=b, shift=a),
    ):
        model = keras.Model([a, b], y)
        network = read_keras(model, check_reading=False)
        assert_agrees(model, network, np.random.default_rng(0))


def test_a_tensor_where_a_constant_is_needed():
    keras = import_keras()
    o = keras.ops
    for function in (
        lambda K, a, b: o.clip(a, b, 1.0),
        lambda K, a, b: o.pad(a, ((0, 0), (1, 1)), constant_values=b),
    ):
        model = of_two(function, (3,), (3,))
        with pytest.raises(UnsupportedLayerError):
            read_keras(model, check_reading=False)


def test_an_activation_layer_that_was_never_called():
    keras = import_keras()
    x = keras.Input((3,), **D)
    prelu = keras.layers.PReLU(name="slope", **D)
    model = keras.Model(x, keras.layers.Dense(2, activation=prelu, name="d", **D)(x))
    if prelu.built:
        pytest.skip("this version of Keras builds it with the model")
    with pytest.raises(ValueError, match="'d' .Dense.*'slope' is not built, call"):
        read_keras(model)
    model(np.zeros((1, 3)))
    assert_agrees(model, read_keras(model), np.random.default_rng(0))


# ------------------------------------------------------------------------- random graphs
class CallMaker:
    """Grows a graph of tensors (5, 3) and (3,) by calls of many forms."""

    def __init__(self, keras, own, seed: int) -> None:
        self.keras, self.K, (self.Shifted, self.Marked) = keras, keras.layers, own
        self.rng = np.random.default_rng(seed)
        self.odd = self.rng.random() < 0.5  # half of the graphs have nothing to refuse
        self.pools = {
            (5, 3): [keras.Input((5, 3), **D)],
            (3,): [keras.Input((3,), **D)],
            (5,): [keras.Input((5,), **D)],
        }
        self.inputs = [pool[0] for pool in self.pools.values()]

    def pick(self, *options):
        return options[self.rng.integers(len(options))]

    def tensor(self, shape):
        pool = self.pools[shape]
        return pool[self.rng.integers(len(pool))]

    def nested(self):
        a, b = self.keras.Input((5, 3), **D), self.keras.Input((5, 3), **D)
        y = self.K.Subtract(**D)([self.K.Dense(3, activation="relu", **D)(a), b])
        return self.pick(
            lambda x, z: self.keras.Model([a, b], y)([x, z]),
            lambda x, z: self.keras.Model([a, b], y)(inputs=[x, z]),
            lambda x, z: self.keras.Model({"b": b, "a": a}, y)({"a": x, "b": z}),
            lambda x, z: self.keras.Model([a, b], y)([x, z], training=False),
        )

    def sequence(self):
        K, o, x, z = self.K, self.keras.ops, self.tensor((5, 3)), self.tensor((5, 3))
        even = [
            lambda: K.Dense(3, activation="relu", **D)(x, training=False),
            lambda: K.Dropout(0.5, **D)(x, training=self.pick(None, False)),
            lambda: K.BatchNormalization(**D)(x, training=False),
            lambda: self.Shifted(**D)(x, z),
            lambda: self.Shifted(**D)(x=x, shift=z),
            lambda: self.Shifted(**D)(z, x=x),
            lambda: self.nested()(x, z),
            lambda: o.add(x2=x, x1=z),
            lambda: o.subtract(x, x2=z),
            lambda: o.maximum(x1=x, x2=0.2),
            lambda: o.flip(x, axis=1),
            lambda: K.TimeDistributed(K.Dense(3, activation="relu", **D), **D)(
                x, training=False
            ),
            lambda: K.Add(**D)([x, z]),
            lambda: K.PReLU(**D)(x),
        ]
        odd = [
            lambda: K.Dropout(0.5, **D)(x, training=True),
            lambda: K.BatchNormalization(**D)(x, training=True),
            lambda: K.BatchNormalization(**D)(x, mask=self.tensor((5,))),
            lambda: K.TimeDistributed(K.Dense(3, **D), **D)(x, mask=self.tensor((5,))),
            lambda: self.Marked(**D)(x),
            lambda: self.replaced(K.Dense(3, **D), x),
            lambda: self.replaced(K.ReLU(**D), x),
            lambda: self.replaced(K.TimeDistributed(K.Dense(3, **D), **D), x),
            lambda: o.clip(x, z, 2.0),
        ]
        return self.pick(*even, *(odd if self.odd else []))()

    def replaced(self, layer, x):
        y = layer(x)
        target = layer.layer if hasattr(layer, "layer") else layer
        before = target.call
        target.call = lambda *args, **kwargs: 2 * before(*args, **kwargs)
        return y

    def vector(self):
        K, x = self.K, self.tensor((5, 3))
        even = [
            lambda: K.GlobalAveragePooling1D(**D)(x),
            lambda: K.GlobalAveragePooling1D(**D)(x, mask=None),
            lambda: K.GlobalMaxPooling1D(**D)(x),
            lambda: K.Dense(3, activation="relu", **D)(self.tensor((3,))),
            lambda: self.Shifted(**D)(x=self.tensor((3,)), shift=self.tensor((3,))),
        ]
        odd = [lambda: K.GlobalAveragePooling1D(**D)(x, mask=self.tensor((5,)))]
        return self.pick(*even, *(odd if self.odd else []))()

    def build(self):
        for _ in range(int(self.rng.integers(2, 7))):
            shape = (5, 3) if self.rng.random() < 0.7 else (3,)
            self.pools[shape].append(self.sequence() if shape == (5, 3) else self.vector())
        outputs = [self.pools[(5, 3)][-1], self.pools[(3,)][-1]]
        return self.keras.Model(self.inputs, outputs)


def read_or_refused(own, seed: int) -> str:
    """Why the model of a seed was refused; empty where it was read and agrees."""
    keras = import_keras()
    maker = CallMaker(keras, own, seed)
    model = maker.build()
    randomize(model, maker.rng)
    found = []
    for check_reading in (True, False):
        try:
            network = read_keras(model, check_reading=check_reading)
        except ValueError as error:
            found.append(str(error))
            continue
        found.append("")
        tolerance = 1e-11 if in_float64(model) else 1e-5
        assert_agrees(model, network, maker.rng, n=4, tolerance=tolerance)
    assert found[0] == found[1]
    return found[0]


def test_random_calls(own):
    found = [read_or_refused(own, seed) for seed in range(QUICK)]
    assert QUICK // 4 <= sum(not text for text in found) <= 9 * QUICK // 10, found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1000 + SLOW))
def test_many_random_calls(own, seed):
    read_or_refused(own, seed)
