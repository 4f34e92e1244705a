"""Each Keras layer, with several options, against the model's own prediction."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.readers.keras import read_keras
from tests.readers.keras_support import assert_agrees, import_keras, randomize

V, S, P = (5,), (6, 3), (7, 6, 4)  # vector, sequence, picture; channels last

# name: (input shape, layer class, options); "dtype" is float64 unless given
CASES = {
    "dense": (V, "Dense", dict(units=4)),
    "dense-float32": (V, "Dense", dict(units=4, activation="relu", dtype="float32")),
    "dense-no-bias": (V, "Dense", dict(units=4, use_bias=False, activation="relu")),
    "dense-rank-3": (S, "Dense", dict(units=4, activation="leaky_relu")),
    "dense-rank-4": (P, "Dense", dict(units=3, activation="relu6")),
    "dense-hard-sigmoid": (V, "Dense", dict(units=4, activation="hard_sigmoid")),
    "dense-hard-tanh": (V, "Dense", dict(units=4, activation="hard_tanh")),
    "activation-relu": (V, "Activation", dict(activation="relu")),
    "activation-linear": (V, "Activation", dict(activation="linear")),
    "activation-soft-shrink": (V, "Activation", dict(activation="soft_shrink")),
    "activation-hard-shrink": (V, "Activation", dict(activation="hard_shrink")),
    "relu": (S, "ReLU", dict()),
    "relu-max": (S, "ReLU", dict(max_value=1.3)),
    "relu-slope": (S, "ReLU", dict(negative_slope=0.3)),
    "relu-threshold": (S, "ReLU", dict(threshold=0.7)),
    "relu-all": (S, "ReLU", dict(max_value=1.5, negative_slope=0.3, threshold=0.7)),
    "relu-low-max": (S, "ReLU", dict(max_value=0.5, threshold=0.7)),
    "relu-six": (S, "ReLU", dict(max_value=6)),
    "relu-zero-max": (S, "ReLU", dict(max_value=0.0, negative_slope=0.2)),
    "leaky-relu": (S, "LeakyReLU", dict(negative_slope=0.15)),
    "prelu": (S, "PReLU", dict()),
    "prelu-shared": (P, "PReLU", dict(shared_axes=[1, 2])),
    "flatten": (P, "Flatten", dict()),
    "flatten-first": (P, "Flatten", dict(data_format="channels_first")),
    "reshape": (S, "Reshape", dict(target_shape=(2, 9))),
    "reshape-minus-one": (S, "Reshape", dict(target_shape=(3, -1, 2))),
    "permute": (P, "Permute", dict(dims=(3, 1, 2))),
    "repeat-vector": (V, "RepeatVector", dict(n=3)),
    "identity": (V, "Identity", dict()),
    "dropout": (V, "Dropout", dict(rate=0.5)),
    "spatial-dropout-1d": (S, "SpatialDropout1D", dict(rate=0.5)),
    "spatial-dropout-2d": (P, "SpatialDropout2D", dict(rate=0.5)),
    "gaussian-dropout": (V, "GaussianDropout", dict(rate=0.5)),
    "gaussian-noise": (V, "GaussianNoise", dict(stddev=0.5)),
    "alpha-dropout": (V, "AlphaDropout", dict(rate=0.5)),
    "activity": (V, "ActivityRegularization", dict(l2=0.1)),
    "batch-norm": (S, "BatchNormalization", dict()),
    "batch-norm-axis": (P, "BatchNormalization", dict(axis=1, epsilon=0.1)),
    "batch-norm-plain": (S, "BatchNormalization", dict(scale=False, center=False)),
    "batch-norm-center": (S, "BatchNormalization", dict(scale=False)),
    "rescaling": (P, "Rescaling", dict(scale=0.25, offset=-1.0)),
    "rescaling-float32": (S, "Rescaling", dict(scale=0.7, offset=0.1, dtype="float32")),
    "rescaling-rounded": (S, "Rescaling", dict(scale=0.7, offset=0.1)),
    "rescaling-array": (S, "Rescaling", dict(scale=[0.5, 2.0, 3.0], offset=[1.0, 0, 2])),
    "conv1d": (S, "Conv1D", dict(filters=4, kernel_size=3)),
    "conv1d-same": (S, "Conv1D", dict(filters=4, kernel_size=2, padding="same")),
    "conv1d-causal": (
        S,
        "Conv1D",
        dict(filters=2, kernel_size=3, padding="causal", dilation_rate=2),
    ),
    "conv1d-strides": (S, "Conv1D", dict(filters=4, kernel_size=3, strides=2)),
    "conv2d": (P, "Conv2D", dict(filters=3, kernel_size=(2, 3), activation="relu")),
    "conv2d-float32": (P, "Conv2D", dict(filters=3, kernel_size=3, dtype="float32")),
    "conv2d-same-strides": (
        P,
        "Conv2D",
        dict(filters=3, kernel_size=3, strides=(2, 3), padding="same"),
    ),
    "conv2d-dilated": (
        P,
        "Conv2D",
        dict(filters=3, kernel_size=2, dilation_rate=(3, 2), padding="same"),
    ),
    "conv2d-no-bias": (P, "Conv2D", dict(filters=3, kernel_size=3, use_bias=False)),
    "conv2d-groups": (P, "Conv2D", dict(filters=6, kernel_size=3, groups=2)),
    "conv2d-transpose": (P, "Conv2DTranspose", dict(filters=3, kernel_size=3)),
    "conv2d-transpose-strides": (
        P,
        "Conv2DTranspose",
        dict(filters=3, kernel_size=3, strides=2, padding="same", activation="relu"),
    ),
    "conv2d-transpose-short": (
        P,
        "Conv2DTranspose",
        dict(filters=2, kernel_size=2, strides=3, padding="same"),
    ),
    "conv2d-transpose-valid": (
        P,
        "Conv2DTranspose",
        dict(filters=2, kernel_size=(2, 4), strides=3),
    ),
    "conv2d-transpose-extra": (
        P,
        "Conv2DTranspose",
        dict(filters=2, kernel_size=4, strides=3, padding="same", output_padding=1),
    ),
    "conv2d-transpose-extra-valid": (
        P,
        "Conv2DTranspose",
        dict(filters=2, kernel_size=3, strides=3, output_padding=(1, 2)),
    ),
    "conv1d-transpose": (
        S,
        "Conv1DTranspose",
        dict(filters=3, kernel_size=4, strides=2, padding="same"),
    ),
    "depthwise-1d": (S, "DepthwiseConv1D", dict(kernel_size=3, depth_multiplier=2)),
    "depthwise-2d": (P, "DepthwiseConv2D", dict(kernel_size=3, depth_multiplier=2)),
    "depthwise-2d-same": (
        P,
        "DepthwiseConv2D",
        dict(kernel_size=(2, 3), strides=2, padding="same", use_bias=False),
    ),
    "depthwise-2d-dilated": (P, "DepthwiseConv2D", dict(kernel_size=2, dilation_rate=2)),
    "separable-1d": (
        S,
        "SeparableConv1D",
        dict(filters=4, kernel_size=3, padding="same", depth_multiplier=2),
    ),
    "separable-2d": (P, "SeparableConv2D", dict(filters=3, kernel_size=3, strides=2)),
    "separable-2d-same": (
        P,
        "SeparableConv2D",
        dict(filters=3, kernel_size=3, padding="same", depth_multiplier=2),
    ),
    "max-1d": (S, "MaxPooling1D", dict()),
    "max-1d-same": (S, "MaxPooling1D", dict(pool_size=3, strides=2, padding="same")),
    "max-2d": (P, "MaxPooling2D", dict(pool_size=(2, 3))),
    "max-2d-same": (P, "MaxPooling2D", dict(pool_size=3, strides=2, padding="same")),
    "average-1d": (S, "AveragePooling1D", dict(pool_size=4, strides=1)),
    "average-2d": (P, "AveragePooling2D", dict(pool_size=2)),
    "average-2d-same": (
        P,
        "AveragePooling2D",
        dict(pool_size=(3, 2), strides=2, padding="same"),
    ),
    "global-average-1d": (S, "GlobalAveragePooling1D", dict()),
    "global-average-2d": (P, "GlobalAveragePooling2D", dict(keepdims=True)),
    "global-average-first": (
        P,
        "GlobalAveragePooling2D",
        dict(data_format="channels_first"),
    ),
    "global-max-1d": (S, "GlobalMaxPooling1D", dict(keepdims=True)),
    "global-max-2d": (P, "GlobalMaxPooling2D", dict()),
    "global-max-first": (
        P,
        "GlobalMaxPooling2D",
        dict(data_format="channels_first", keepdims=True),
    ),
    "zero-padding-1d": (S, "ZeroPadding1D", dict(padding=(1, 2))),
    "zero-padding-2d": (P, "ZeroPadding2D", dict(padding=((1, 0), (2, 3)))),
    "zero-padding-first": (
        P,
        "ZeroPadding2D",
        dict(padding=(1, 2), data_format="channels_first"),
    ),
    "cropping-1d": (S, "Cropping1D", dict(cropping=(2, 1))),
    "cropping-2d": (P, "Cropping2D", dict(cropping=((1, 2), (0, 3)))),
    "cropping-first": (
        P,
        "Cropping2D",
        dict(cropping=((2, 1), (1, 0)), data_format="channels_first"),
    ),
    "up-1d": (S, "UpSampling1D", dict(size=3)),
    "up-2d": (P, "UpSampling2D", dict(size=(2, 3))),
    "up-first": (P, "UpSampling2D", dict(size=2, data_format="channels_first")),
    "conv3d": ((4, 3, 5, 2), "Conv3D", dict(filters=2, kernel_size=2, padding="same")),
    "max-3d": ((4, 4, 5, 2), "MaxPooling3D", dict(dtype="float32")),
}


@pytest.mark.parametrize("case", CASES)
def test_layer_agrees_with_keras(case):
    keras = import_keras()
    rng = np.random.default_rng(len(case))
    shape, cls, options = CASES[case]
    options = {"dtype": "float64", **options}
    x = keras.Input(shape, dtype=options["dtype"])
    model = keras.Model(x, getattr(keras.layers, cls)(**options)(x))
    randomize(model, rng)
    network = read_keras(model)
    assert_agrees(model, network, rng)
    assert network.nodes[-1].shape == tuple(model.outputs[0].shape)[1:]


FIRST = {
    "conv1d": ("Conv1D", dict(filters=2, kernel_size=3, strides=2, padding="same"), 1),
    "conv2d": ("Conv2D", dict(filters=4, kernel_size=3, groups=2, padding="same"), 2),
    "depthwise": ("DepthwiseConv2D", dict(kernel_size=3, depth_multiplier=2), 2),
    "separable": ("SeparableConv2D", dict(filters=3, kernel_size=2), 2),
    "transposed": (
        "Conv2DTranspose",
        dict(filters=3, kernel_size=3, strides=2, padding="same"),
        2,
    ),
    "max": ("MaxPooling2D", dict(pool_size=3, strides=2, padding="same"), 2),
    "average": ("AveragePooling2D", dict(pool_size=3, strides=2, padding="same"), 2),
}


@pytest.mark.parametrize("case", FIRST)
def test_channels_first_equals_channels_last(case):
    """TensorFlow has no channels-first convolution on a CPU, so both are compared."""
    keras = import_keras()
    rng = np.random.default_rng(4)
    cls, options, rank = FIRST[case]
    last = (7, 6, 4)[-rank - 1 :]
    first = (last[-1], *last[:-1])
    x = keras.Input(last, dtype="float64")
    model = keras.Model(x, getattr(keras.layers, cls)(dtype="float64", **options)(x))
    randomize(model, rng)
    expected = read_keras(model)
    assert_agrees(model, expected, rng)
    x = keras.Input(first, dtype="float64")
    layer = getattr(keras.layers, cls)(
        dtype="float64", data_format="channels_first", **options
    )
    model = keras.Model(x, layer(x))
    randomize(model, np.random.default_rng(4))
    network = read_keras(model)
    points = rng.normal(size=(5, *last))
    found = network.evaluate(np.moveaxis(points, -1, 1))
    shape = network.nodes[-1].shape
    moved = np.moveaxis(found.reshape(5, *shape), 1, -1).reshape(5, -1)
    np.testing.assert_allclose(moved, expected.evaluate(points), atol=1e-12)


def test_normalization_adapted_given_and_inverted():
    keras = import_keras()
    rng = np.random.default_rng(0)
    data = rng.normal(size=(50, 6, 3)) * 3 + 1
    data[..., 1] = 2.0  # a column without variance
    for options in (
        dict(axis=-1),
        dict(axis=None),
        dict(axis=(1, 2)),
        dict(axis=1, invert=True),
        dict(axis=-1, mean=[1.0, 2.0, 3.0], variance=[4.0, 1.0, 0.0]),
    ):
        layer = keras.layers.Normalization(dtype="float64", **options)
        if "mean" not in options:
            layer.adapt(data)
        x = keras.Input((6, 3), dtype="float64")
        model = keras.Model(x, layer(x))
        assert_agrees(model, read_keras(model), rng)


def test_merging_layers():
    keras = import_keras()
    rng = np.random.default_rng(1)
    for cls in ("Add", "Average", "Maximum", "Minimum", "Concatenate"):
        a, b, c = (keras.Input((4, 3), dtype="float64") for _ in range(3))
        y = getattr(keras.layers, cls)(dtype="float64")([a, b, c, a])
        model = keras.Model([a, b, c], y)
        assert_agrees(model, read_keras(model), rng)
    for axis in (1, 2, -1, -2):
        a, b = (keras.Input((4, 3), dtype="float64") for _ in range(2))
        y = keras.layers.Concatenate(axis=axis, dtype="float64")([a, b])
        model = keras.Model([a, b], y)
        assert_agrees(model, read_keras(model), rng)
    for cls in ("Subtract", "Maximum", "Minimum", "Add"):  # broadcast, other ranks
        for shape in ((4, 1), (3,), (1, 3)):
            a = keras.Input((4, 3), dtype="float64")
            b = keras.Input(shape, dtype="float64")
            y = getattr(keras.layers, cls)(dtype="float64")([a, b])
            model = keras.Model([a, b], y)
            assert_agrees(model, read_keras(model), rng)


def test_time_distributed():
    keras = import_keras()
    rng = np.random.default_rng(2)
    K = keras.layers
    inner = [
        (S, K.Dense(4, activation="relu", dtype="float64")),
        (S, K.BatchNormalization(dtype="float64")),
        ((3, 6, 2), K.Conv1D(2, 3, activation="relu", dtype="float64")),
        (
            (3, 6, 2),
            keras.Sequential(
                [
                    keras.Input((6, 2), dtype="float64"),
                    K.Flatten(dtype="float64"),
                    K.Dense(2, dtype="float64"),
                ]
            ),
        ),
    ]
    for shape, layer in inner:
        x = keras.Input(shape, dtype="float64")
        model = keras.Model(x, K.TimeDistributed(layer, dtype="float64")(x))
        randomize(model, rng)
        assert_agrees(model, read_keras(model), rng)


def test_steps_have_keras_value_at_the_breakpoint():
    """At a jump the network takes the value that Keras takes there."""
    keras = import_keras()
    points = np.array([[-2.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0]])
    for build in (
        keras.layers.ReLU(threshold=0.5, dtype="float64"),
        keras.layers.ReLU(threshold=0.5, max_value=1, negative_slope=1, dtype="float64"),
        keras.layers.Activation("hard_shrink", dtype="float64"),
        keras.ops.sign,
        lambda x: keras.activations.threshold(x, 0.25, -3.0),
        lambda x: keras.activations.threshold(x, 0.25, 0.25),
        lambda x: keras.activations.relu(x, threshold=-0.5, max_value=0.25),
        lambda x: keras.activations.relu(x, threshold=-0.5),
    ):
        x = keras.Input((7,), dtype="float64")
        model = keras.Model(x, build(x))
        expected = np.asarray(model(points))
        found = read_keras(model).evaluate(points)
        np.testing.assert_allclose(found, expected, atol=1e-15)


def test_mixed_precision_reads_the_float32_variables():
    keras = import_keras()
    rng = np.random.default_rng(3)
    x = keras.Input((5,))
    for policy in ("mixed_float16", "mixed_bfloat16", "bfloat16", "float16"):
        layer = keras.layers.Dense(3, activation="relu", dtype=policy)
        model = keras.Model(x, layer(x))
        randomize(model, rng)
        network = read_keras(model)
        kernel = np.asarray(keras.ops.convert_to_numpy(layer.kernel)).astype(float)
        np.testing.assert_array_equal(network.nodes[1].weights[0], kernel.T)
        assert_agrees(model, network, rng, tolerance=5e-2)
