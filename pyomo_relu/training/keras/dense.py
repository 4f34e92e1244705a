"""A Keras model as a chain of dense layers, and NumPy functions within its graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from pyomo_relu.training.keras.intervals import MONOTONE, SILENT, chain
from pyomo_relu.training.relaxation.chain import Activation, ChainBuilder, DenseLayer


def dense_layers(model: keras.Model) -> list[DenseLayer]:
    """The layers of a chain of Dense layers, those that scale folded into them.

    Raises
    ------
    ValueError
        For a layer of another kind.
    """
    build, size = ChainBuilder(ops), model.input_shape[-1]
    for layer in chain(model):
        kind = type(layer).__name__
        if kind in SILENT or kind == "Softmax":
            continue
        if len(model.input_shape) != 2 or kind not in _KINDS:
            raise ValueError(
                f"layer '{layer.name}' ({kind}) is not of a chain of Dense, "
                "BatchNormalization, Rescaling and activation layers on flat inputs, which "
                "bounds='crown' and LPGapPenalty need; use bounds='interval'."
            )
        if kind == "Dense":
            size = layer.units
            bias = layer.bias if layer.use_bias else ops.zeros((size,), layer.kernel.dtype)
            build.affine(ops.convert_to_tensor(layer.kernel), ops.convert_to_tensor(bias))
        elif kind == "BatchNormalization":
            factor = ops.rsqrt(layer.moving_variance + layer.epsilon)
            factor = factor * layer.gamma if layer.scale else factor
            shift = -layer.moving_mean * factor
            build.scale(factor, shift + layer.beta if layer.center else shift, size)
        elif kind == "Rescaling":
            build.scale(layer.scale, layer.offset, size)
        activation = _activation(layer, kind)
        if activation is not None:
            build.activation(activation, size)
    return build.close()


_KINDS = {
    "Dense", "BatchNormalization", "Rescaling", "Activation", "ReLU", "LeakyReLU",
}  # fmt: skip


def _activation(layer: Any, kind: str) -> Activation | None:
    """What a layer does to each entry at its end; None for nothing."""
    if kind == "LeakyReLU":
        slope = float(layer.negative_slope)
        return Activation(layer, slope if 0.0 <= slope <= 1.0 else None)
    if kind == "ReLU":
        slope = float(layer.negative_slope)
        plain = layer.max_value is None and layer.threshold == 0 and slope <= 1.0
        return Activation(layer, slope if plain else None)
    function = getattr(layer, "activation", None)
    name = getattr(function, "__name__", "linear")
    if function is None or name in ("linear", "softmax"):
        return None
    slopes = {"relu": 0.0, "leaky_relu": 0.2}
    return Activation(function, slopes.get(name), MONOTONE[name])


def call_numpy(
    function: Callable[..., Sequence[np.ndarray]], tensors: Sequence[Any]
) -> list[Any]:
    """A number and one array for each but the last tensor, computed by NumPy.

    Raises
    ------
    ValueError
        For a backend of Keras other than TensorFlow and PyTorch.
    """
    dtype = keras.backend.standardize_dtype(tensors[0].dtype)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        def typed(*arrays: np.ndarray) -> list[np.ndarray]:
            return [np.asarray(a, dtype) for a in function(*arrays)]

        found = tf.numpy_function(typed, list(tensors), [dtype] * len(tensors))
        for one, like in zip(found, [None, *tensors[:-1]]):
            one.set_shape(() if like is None else like.shape)
        return list(found)
    if keras.backend.backend() == "torch":
        arrays = [t.detach().cpu().numpy() for t in tensors]
        return [
            ops.convert_to_tensor(np.asarray(a, dtype), dtype) for a in function(*arrays)
        ]
    raise ValueError(
        f"LPGapPenalty needs TensorFlow or PyTorch under Keras, not "
        f"'{keras.backend.backend()}'; set KERAS_BACKEND, or use BoundWidthPenalty."
    )
