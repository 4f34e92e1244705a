"""ONNX graphs -> :class:`~pyomo_relu.network.Network`."""

from pyomo_relu.readers.onnx import (  # noqa: F401 (registration)
    arithmetic,
    learning,
    recurrent_operators,
    shapes,
    window_operators,
)
from pyomo_relu.readers.onnx.node import OnnxNode, register_onnx_operator
from pyomo_relu.readers.onnx.walker import read_onnx

__all__ = ["OnnxNode", "read_onnx", "register_onnx_operator"]
