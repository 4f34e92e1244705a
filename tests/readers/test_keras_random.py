"""Random Keras models of random layers: read without a difference, or refused."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.readers.keras import read_keras
from tests.readers.keras_support import assert_agrees, import_keras, in_float64, randomize

ACTIVATIONS = [
    "linear",
    "relu",
    "relu6",
    "leaky_relu",
    "hard_tanh",
    "hard_sigmoid",
    "soft_shrink",
    None,
]


class RandomModel:
    """Grows a graph: each step takes some tensors made so far and adds a layer."""

    def __init__(self, keras, seed: int) -> None:
        self.keras = keras
        self.K = keras.layers
        self.rng = np.random.default_rng(seed)
        self.used = []

    def pick(self, *options):
        return options[self.rng.integers(len(options))]

    def some(self, low, high):
        return int(self.rng.integers(low, high + 1))

    def layer(self, name, **options):
        self.used.append((name, options))
        dtype = options.pop("dtype", "float64")
        return getattr(self.K, name)(dtype=dtype, **options)

    def activation(self):
        return self.pick(*ACTIVATIONS)

    def any_rank(self):
        """A layer for a tensor of any shape."""
        return self.pick(
            lambda: self.layer("Dropout", rate=0.3),
            lambda: self.layer("BatchNormalization", scale=self.pick(True, False)),
            lambda: self.layer("Activation", activation=self.pick(*ACTIVATIONS[:-1])),
            lambda: self.layer(
                "ReLU",
                max_value=self.pick(None, 1.0, 6),
                negative_slope=self.pick(0.0, 0.3),
                threshold=self.pick(0.0, 0.4),
            ),
            lambda: self.layer("PReLU"),
            lambda: self.layer("Rescaling", scale=0.7, offset=-0.2),
            lambda: self.layer(
                "Dense",
                units=self.some(1, 4),
                activation=self.activation(),
                use_bias=self.pick(True, False),
            ),
        )()

    def vector(self, x):
        n = x.shape[1]
        return self.pick(
            lambda: self.layer("RepeatVector", n=self.some(2, 4))(x),
            lambda: self.layer("Reshape", target_shape=(1, -1, n))(x),
            lambda: self.any_rank()(x),
            lambda: x[:, :: self.pick(1, 2)],
            lambda: abs(x) - 0.5,
        )()

    def sequence(self, x):
        return self.pick(
            lambda: self.layer("Flatten")(x),
            lambda: self.layer("Permute", dims=(2, 1))(x),
            lambda: self.layer(
                "Conv1D",
                filters=self.some(1, 3),
                kernel_size=self.some(1, 3),
                strides=self.some(1, 2),
                padding=self.pick("same", "causal"),
                activation=self.activation(),
            )(x),
            lambda: self.layer(
                "Conv1D", filters=2, kernel_size=2, padding="same", dilation_rate=2
            )(x),
            lambda: self.layer(
                self.pick("MaxPooling1D", "AveragePooling1D"),
                pool_size=self.some(1, 3),
                strides=self.some(1, 2),
                padding="same",
            )(x),
            lambda: self.layer(self.pick("GlobalMaxPooling1D", "GlobalAveragePooling1D"))(
                x
            ),
            lambda: self.layer("ZeroPadding1D", padding=(self.some(0, 2), 1))(x),
            lambda: self.layer("UpSampling1D", size=2)(x),
            lambda: self.any_rank()(x),
        )()

    def picture(self, x):
        padding = self.pick("same", "same", "valid" if min(x.shape[1:3]) >= 3 else "same")
        size = (self.some(1, 3), self.some(1, 3))
        return self.pick(
            lambda: self.layer("Flatten")(x),
            lambda: self.layer(
                "Conv2D",
                filters=2 * self.some(1, 2),
                kernel_size=size,
                strides=self.pick(1, 2, (1, 2)),
                padding=padding,
                groups=self.pick(1, 2) if x.shape[-1] % 2 == 0 else 1,
                activation=self.activation(),
            )(x),
            lambda: self.layer(
                "Conv2D", filters=2, kernel_size=size, dilation_rate=2, padding="same"
            )(x),
            lambda: self.layer(
                "DepthwiseConv2D", kernel_size=size, padding=padding, depth_multiplier=2
            )(x),
            lambda: self.layer(
                "SeparableConv2D", filters=2, kernel_size=size, padding="same", strides=2
            )(x),
            lambda: self.layer(
                "Conv2DTranspose",
                filters=2,
                kernel_size=size,
                strides=self.some(1, 2),
                padding=padding,
            )(x),
            lambda: self.layer(
                self.pick("MaxPooling2D", "AveragePooling2D"),
                pool_size=size,
                strides=self.pick(1, 2, (2, 1)),
                padding=padding,
            )(x),
            lambda: self.layer(
                self.pick("GlobalMaxPooling2D", "GlobalAveragePooling2D"),
                keepdims=self.pick(True, False),
            )(x),
            lambda: self.layer("ZeroPadding2D", padding=((1, 0), (0, 1)))(x),
            lambda: (
                self.layer("Cropping2D", cropping=((0, 1), (1, 0)))(x)
                if min(x.shape[1:3]) > 1
                else self.any_rank()(x)
            ),
            lambda: self.layer("Permute", dims=(2, 3, 1))(x),
            lambda: self.any_rank()(x),
        )()

    def build(self):
        keras, steps = self.keras, self.some(2, 6)
        shape = self.pick((4,), (5, 2), (6, 5, 2))
        inputs = [keras.Input(shape, dtype="float64") for _ in range(self.some(1, 2))]
        pool, shared = list(inputs), {}
        for _ in range(steps):
            x = pool[self.rng.integers(max(0, len(pool) - 2), len(pool))]
            if self.rng.random() < 0.2 and int(np.prod(x.shape[1:])) < 60:
                # A shared layer, called again on a tensor of the same shape.
                key = tuple(x.shape[1:])
                if key not in shared:
                    shared[key] = self.layer("Dense", units=x.shape[-1], activation="relu")
                y = shared[key](shared[key](x))
            else:
                y = {2: self.vector, 3: self.sequence, 4: self.picture}[len(x.shape)](x)
            if int(np.prod(y.shape[1:])) > 400:
                y = self.layer(f"GlobalMaxPooling{len(y.shape) - 2}D")(y)
            same = [p for p in pool if p.shape == y.shape]
            if same and self.rng.random() < 0.6:
                merge = self.pick(
                    "Add", "Subtract", "Average", "Maximum", "Minimum", "Concatenate"
                )
                y = self.layer(merge)([y, same[-1]])
            pool.append(y)
        outputs = [pool[-1]] + ([pool[-2]] if self.rng.random() < 0.3 else [])
        return keras.Model(inputs, outputs)


def check(seed: int) -> None:
    keras = import_keras()
    grown = RandomModel(keras, seed)
    model = grown.build()
    randomize(model, grown.rng)
    try:
        tolerance = 1e-11 if in_float64(model) else 1e-5
        assert_agrees(model, read_keras(model), grown.rng, n=4, tolerance=tolerance)
    except Exception as e:
        raise AssertionError(f"seed {seed}: {grown.used}") from e


@pytest.mark.parametrize("seed", range(15))
def test_random_model_agrees(seed):
    check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 340))
def test_many_random_models_agree(seed):
    check(seed)
