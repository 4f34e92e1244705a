"""ONNX operators that add, multiply and compare numbers."""

from __future__ import annotations

import numpy as np

from pyomo_relu.readers.onnx.registry import OnnxNode, register_onnx_operator
from pyomo_relu.readers.values import Tensor


def _array(value) -> np.ndarray:
    return np.asarray(value, dtype=float)


@register_onnx_operator("Gemm")
def gemm(node: OnnxNode) -> Tensor:
    """``alpha * A' @ B' + beta * C`` with optional transposes."""
    graph, attributes = node.graph, node.attributes
    a, b = node.value(0), node.value(1)
    if a is None or b is None:
        raise node.error("it needs two matrices")
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)

    def turned(value, key: str):
        if not node.flag(key):
            return value
        if isinstance(value, Tensor):
            return graph.transpose(f"{node.name}_{key}", value, [1, 0])
        return np.asarray(value).T

    a, b = turned(a, "transA"), turned(b, "transB")
    if isinstance(a, Tensor):
        b = b if isinstance(b, Tensor) else alpha * _array(b)
    else:
        a = alpha * _array(a)
    c = node.value(2)
    if c is None or not isinstance(c, Tensor):
        bias = 0.0 if c is None else beta * _array(c)
        return graph.matmul(node.name, a, b, bias)
    product = graph.matmul(node.name, a, b)
    return graph.add(node.name, [product, c], [1.0, beta])


@register_onnx_operator("MatMul")
def matmul(node: OnnxNode) -> Tensor:
    return node.graph.matmul(node.name, *node.values())


@register_onnx_operator("Add")
def add(node: OnnxNode) -> Tensor:
    return node.graph.add(node.name, node.values(), [1.0, 1.0])


@register_onnx_operator("Sub")
def subtract(node: OnnxNode) -> Tensor:
    return node.graph.add(node.name, node.values(), [1.0, -1.0])


@register_onnx_operator("Sum")
def total(node: OnnxNode) -> Tensor:
    return node.graph.add(node.name, node.values(), [1.0] * len(node.inputs))


@register_onnx_operator("Mean")
def mean(node: OnnxNode) -> Tensor:
    n = len(node.inputs)
    return node.graph.add(node.name, node.values(), [1.0 / n] * n)


@register_onnx_operator("Neg")
def negative(node: OnnxNode) -> Tensor:
    return node.graph.scale(node.name, node.tensor(0), -1.0)


@register_onnx_operator("Mul")
def multiply(node: OnnxNode) -> Tensor:
    a, b = node.values()
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        raise node.error("both factors depend on the input, which is not piecewise linear")
    if isinstance(a, Tensor):
        return node.graph.scale(node.name, a, _array(b))
    return node.graph.scale(node.name, node.tensor(1), _array(a))


@register_onnx_operator("Div")
def divide(node: OnnxNode) -> Tensor:
    divisor = node.value(1)
    if isinstance(divisor, Tensor):
        raise node.error("the divisor depends on the input, which is not piecewise linear")
    divisor = _array(divisor)
    if not divisor.all():
        raise node.error("it divides by zero")
    return node.graph.scale(node.name, node.tensor(0), 1.0 / divisor)


@register_onnx_operator("Max")
def maximum(node: OnnxNode) -> Tensor:
    return node.graph.maximum(node.name, node.values())


@register_onnx_operator("Min")
def minimum(node: OnnxNode) -> Tensor:
    return node.graph.maximum(node.name, node.values(), sign=-1.0)


@register_onnx_operator("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin")
def reduce(node: OnnxNode) -> Tensor:
    axes = node.integers(1, "axes")
    if not axes:
        if node.flag("noop_with_empty_axes"):
            return node.tensor(0)
        axes = None
    kind = node.operator.removeprefix("Reduce").lower()
    keep = node.flag("keepdims", True)
    return node.graph.reduce(node.name, node.tensor(0), axes, kind, keep)


@register_onnx_operator("BatchNormalization")
def batch_normalization(node: OnnxNode) -> Tensor:
    from pyomo_relu.readers import spatial

    if node.flag("training_mode"):
        raise node.error("training_mode=1 computes with the batch; export in eval mode")
    if not node.flag("spatial", True):
        raise node.error("spatial=0 isn't supported; export with opset 9 or newer")
    scale, shift, mean, variance = (node.constant(k, "statistics") for k in range(1, 5))
    epsilon = node.attributes.get("epsilon", 1e-5)
    return spatial.batch_normalization(
        node.graph, node.name, node.tensor(0), scale, shift, mean, variance, epsilon
    )
