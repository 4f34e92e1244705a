"""How errors name parts of a Keras model, and its constants as NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyomo_relu.readers.values import Tensor


class UnsupportedLayerError(ValueError):
    """A layer of the model is not piecewise linear, or its translator is missing."""


def describe(operation: Any) -> str:
    """How errors name a layer or an operation: ``layer 'gru_1' (GRU)``."""
    import keras

    kind = "layer" if isinstance(operation, keras.layers.Layer) else "operation"
    return f"{kind} '{operation.name}' ({type(operation).__name__})"


def refuse(operation: Any, reason: str) -> UnsupportedLayerError:
    """The error for a layer that can't be read; ``reason`` ends the sentence."""
    return UnsupportedLayerError(f"{describe(operation)} {reason}")


def as_numpy(variable: Any) -> np.ndarray:
    """A Keras variable, a tensor of any backend or an array, as a NumPy array.

    Half-precision weights become float64 without loss; integers stay integers.
    """
    import keras

    if isinstance(variable, (Tensor, keras.KerasTensor)):
        raise TypeError("a tensor of the model stands where a constant is needed")
    if isinstance(variable, (bool, int, float, np.ndarray, np.generic)):
        array = np.asarray(variable)
    else:
        array = np.asarray(keras.ops.convert_to_numpy(variable))
    return array.astype(np.float64) if array.dtype.kind in "fV" else array


def as_run(value: float) -> float:
    """A Python number as the backend computes with it.

    TensorFlow turns the options of a ReLU or a leaky ReLU into float32 on their way,
    also in a float64 model.
    """
    import keras

    on_tensorflow = keras.config.backend() == "tensorflow"
    return float(np.float32(value)) if on_tensorflow else float(value)
