"""ONNX graphs -> :class:`~pyomo_relu.network.Network`."""

from pyomo_relu.readers.onnx import arithmetic, learning, shapes, window_operators  # noqa: F401 (registration)
from pyomo_relu.readers.onnx.node import OnnxNode, register_onnx_operator
from pyomo_relu.readers.onnx.walker import read_onnx

__all__ = ["OnnxNode", "read_onnx", "register_onnx_operator"]
