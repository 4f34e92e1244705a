"""Readers: a trained network from one framework -> :class:`pyomo_relu.network.Network`.

:func:`read_network` is the one entry; ``register_...`` teach it a layer, an activation or an
operator of your own. No framework is imported before a network of its kind is read, and no
reader before it is asked for.
"""

from typing import TYPE_CHECKING

from pyomo_relu.base.lazy import imports_later
from pyomo_relu.readers.read import read_network

if TYPE_CHECKING:
    from pyomo_relu.readers.keras import (
        UnsupportedLayerError,
        register_keras_activation,
        register_keras_layer,
    )
    from pyomo_relu.readers.onnx import OnnxNode, register_onnx_operator

__all__ = [
    "OnnxNode",
    "UnsupportedLayerError",
    "read_network",
    "register_keras_activation",
    "register_keras_layer",
    "register_onnx_operator",
]

__getattr__, __dir__ = imports_later(
    __name__,
    {
        "OnnxNode": "pyomo_relu.readers.onnx",
        "UnsupportedLayerError": "pyomo_relu.readers.keras",
        "register_keras_activation": "pyomo_relu.readers.keras",
        "register_keras_layer": "pyomo_relu.readers.keras",
        "register_onnx_operator": "pyomo_relu.readers.onnx",
    },
)
