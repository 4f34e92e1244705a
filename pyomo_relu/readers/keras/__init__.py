"""Keras 3 models -> :class:`~pyomo_relu.network.Network`, on any backend.

The graph of operations is walked, never the list of layers, so shared layers, nested
models, residual connections and several inputs or outputs are read as they are. Each
layer has one translator; :func:`register_keras_layer` adds one for a layer of your own.
"""

from pyomo_relu.readers.keras.describing import UnsupportedLayerError
from pyomo_relu.readers.keras.registration import (
    register_keras_activation,
    register_keras_layer,
)
from pyomo_relu.readers.keras.walker import read_keras

__all__ = [
    "UnsupportedLayerError",
    "read_keras",
    "register_keras_activation",
    "register_keras_layer",
]
