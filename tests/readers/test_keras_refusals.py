"""What the Keras reader refuses: by layer name and type, with what to do instead."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.readers.keras import UnsupportedLayerError, read_keras
from tests.readers.keras_support import import_keras

S, P = (6, 4), (8, 8, 3)

LAYERS = {
    "LayerNormalization": (S, dict()),
    "GroupNormalization": (S, dict(groups=2)),
    "UnitNormalization": (S, dict()),
    "ConvLSTM1D": ((3, *S), dict(filters=2, kernel_size=2)),
    "Masking": (S, dict()),
    "Lambda": (S, dict(function=lambda x: x)),
    "AdaptiveMaxPooling2D": (P, dict(output_size=2)),
    "Resizing": (P, dict(height=4, width=4)),
}


@pytest.mark.parametrize("cls", LAYERS)
def test_layer_is_refused_by_name_and_type(cls):
    keras = import_keras()
    if not hasattr(keras.layers, cls):
        pytest.skip(f"this version of Keras has no {cls}")
    shape, options = LAYERS[cls]
    x = keras.Input(shape)
    model = keras.Model(x, getattr(keras.layers, cls)(name="strange", **options)(x))
    with pytest.raises(UnsupportedLayerError, match=rf"'strange' \({cls}\) is not supp"):
        read_keras(model)


def test_layers_of_several_tensors_are_refused():
    keras = import_keras()
    x, y = keras.Input(S), keras.Input(S)
    for layer, call in (
        (keras.layers.Dot(axes=-1, name="strange"), [x, y]),
        (keras.layers.Attention(name="strange"), [x, y]),
    ):
        with pytest.raises(UnsupportedLayerError, match="'strange'.*is not supported"):
            read_keras(keras.Model([x, y], layer(call)))
    layer = keras.layers.MultiHeadAttention(2, 2, name="strange")
    with pytest.raises(UnsupportedLayerError, match="'strange' .MultiHeadAttention."):
        read_keras(keras.Model(x, layer(x, x)))


@pytest.mark.parametrize("function", ["squareplus", "glu", "sparse_plus"])
def test_other_activation_is_refused(function):
    keras = import_keras()
    x = keras.Input((3,))
    model = keras.Model(x, keras.layers.Dense(2, activation=function, name="smooth")(x))
    for logits in (False, True):
        with pytest.raises(
            UnsupportedLayerError, match=rf"'smooth' \(Dense\).*'{function}'.*retrain with"
        ):
            read_keras(model, logits=logits)


def test_own_activation_with_a_known_name_is_refused():
    keras = import_keras()

    def relu(x):
        return keras.ops.square(x)

    x = keras.Input((3,))
    model = keras.Model(x, keras.layers.Dense(2, activation=relu)(x))
    with pytest.raises(UnsupportedLayerError, match="register_keras_activation"):
        read_keras(model)


def test_subclasses_need_their_own_translator():
    keras = import_keras()

    class Dense(keras.layers.Dense):
        def call(self, x):
            return -super().call(x)

    x = keras.Input((3,))
    with pytest.raises(UnsupportedLayerError, match=r"\(Dense\) is not supported"):
        read_keras(keras.Model(x, Dense(2)(x)))


def test_models_with_their_own_call_are_traced_or_refused():
    keras = import_keras()

    class Changed(keras.Model):
        def call(self, x):
            return 2 * super().call(x)

    class Branch(keras.Model):
        def call(self, x):
            return x if keras.ops.sum(x) > 0 else -x

    x = keras.Input((3,))
    layer = keras.layers.Dense(2)
    changed = Changed(x, layer(x))
    points = np.ones((2, 3))
    changed(points)
    expected = 2 * (points @ np.array(layer.kernel))
    for model in (changed, keras.Model(x, changed(x))):
        assert np.abs(read_keras(model).evaluate(points) - expected).max() < 1e-5
    for given in ((), (x, layer(x))):
        # Keras changes the bases of a class that is given a graph.
        model = type("Branch", (Branch,), {"call": Branch.call})(*given)
        model(points)
        with pytest.raises(UnsupportedLayerError, match="has its own call method"):
            read_keras(model)


def test_training_behaviour_is_refused():
    keras = import_keras()
    x = keras.Input((3,))
    for layer in (keras.layers.Dropout(0.5), keras.layers.BatchNormalization()):
        with pytest.raises(UnsupportedLayerError, match="called with training=True"):
            read_keras(keras.Model(x, layer(x, training=True)))
        read_keras(keras.Model(x, layer(x, training=False)))


def test_bad_weights_name_the_layer():
    keras = import_keras()
    x = keras.Input((3,))
    layer = keras.layers.Dense(2, name="sick")
    model = keras.Model(x, layer(x))
    for bad in (np.nan, np.inf):
        layer.kernel.assign(np.full((3, 2), bad))
        with pytest.raises(ValueError, match="layer 'sick'.*NaN or infinite"):
            read_keras(model)


def test_inputs_without_fixed_shape_or_of_bytes():
    keras = import_keras()
    x = keras.Input((None, 3), name="open")
    with pytest.raises(ValueError, match="input 'open' .*fixed length"):
        read_keras(keras.Model(x, keras.layers.Dense(2)(x)))
    x = keras.Input((3,), dtype="uint8", name="counts")
    model = keras.Model(x, keras.layers.Rescaling(0.5)(x))
    with pytest.raises(ValueError, match="input 'counts' .*dtype uint8"):
        read_keras(model)


def test_quantized_layer_is_refused():
    keras = import_keras()
    x = keras.Input((16,))
    model = keras.Model(x, keras.layers.Dense(8, name="rounded")(x))
    try:
        model.quantize("int8")
    except Exception as e:  # not every backend and version can
        pytest.skip(f"keras can't quantize here: {e}")
    with pytest.raises(UnsupportedLayerError, match="'rounded'.*is quantized .int8"):
        read_keras(model)


def test_other_objects_and_keywords():
    import_keras()
    with pytest.raises(TypeError, match="takes a Keras 3 model or the path"):
        read_keras(np.ones(3))
    with pytest.raises(TypeError, match="unexpected keyword"):
        read_keras("model.keras", up_to="logits")


def test_options_of_layers():
    keras = import_keras()
    x = keras.Input(P)
    layer = keras.layers.UpSampling2D(interpolation="bilinear", name="smooth")
    with pytest.raises(UnsupportedLayerError, match="'smooth'.*interpolates 'bilinear'"):
        read_keras(keras.Model(x, layer(x)))
    x = keras.Input((3,))
    layer = keras.layers.Dense(3, activation=lambda z: z, name="own")
    with pytest.raises(UnsupportedLayerError, match="'own'.*'lambda'"):
        read_keras(keras.Model(x, layer(x)))
