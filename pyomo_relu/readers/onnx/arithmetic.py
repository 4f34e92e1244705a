"""ONNX operators that compute entry by entry, matrix products, and reductions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyomo_relu.network import activations
from pyomo_relu.readers import smooth, spatial
from pyomo_relu.readers.entrywise import ENTRYWISE, Entrywise
from pyomo_relu.readers.onnx.node import OnnxNode, Operator, register_onnx_operator
from pyomo_relu.readers.products import power
from pyomo_relu.readers.sums import einsum
from pyomo_relu.readers.values import Tensor, Value

# What exporters write for "no bound"; float32's largest number is an attribute default.
_UNBOUNDED = 3.4e38


def _array(value: Value | None) -> np.ndarray:
    return np.asarray(value, dtype=float)


def _entrywise(function: Entrywise) -> Operator:
    return lambda node: function(node.graph, node.name, node.tensor(0))


for _operator, _function in {
    "Abs": "absolute",
    "Identity": "identity",
    "Neg": "negative",
    "Relu": "relu",
    "Sign": "sign",
}.items():
    register_onnx_operator(_operator)(_entrywise(ENTRYWISE[_function]))


for _operator, _function in {
    "Atan": "arctan",
    "Erf": "erf",
    "Exp": "exp",
    "HardSwish": "hard_swish",
    "Mish": "mish",
    "Sigmoid": "sigmoid",
    "Softsign": "softsign",
    "Tanh": "tanh",
}.items():
    register_onnx_operator(_operator)(_entrywise(smooth.SMOOTH[_function]))


@register_onnx_operator("Elu")
def elu(node: OnnxNode) -> Tensor:
    """``x`` for ``x >= 0``, else ``alpha * (exp(x) - 1)``."""
    alpha = node.attributes.get("alpha", 1.0)
    return smooth.elu(node.graph, node.name, node.tensor(0), alpha)


@register_onnx_operator("Selu")
def selu(node: OnnxNode) -> Tensor:
    """``gamma * elu(x, alpha)``; the defaults are SELU's constants in float32."""
    alpha = node.attributes.get("alpha", float(np.float32(smooth.SELU_ALPHA)))
    gamma = node.attributes.get("gamma", float(np.float32(smooth.SELU_SCALE)))
    return smooth.selu(node.graph, node.name, node.tensor(0), alpha, gamma)


@register_onnx_operator("Celu")
def celu(node: OnnxNode) -> Tensor:
    """``max(x, 0) + min(alpha * (exp(x / alpha) - 1), 0)``."""
    alpha = node.attributes.get("alpha", 1.0)
    return smooth.celu(node.graph, node.name, node.tensor(0), alpha)


@register_onnx_operator("Softplus")
def softplus(node: OnnxNode) -> Tensor:
    """``log(1 + exp(x))``."""
    return smooth.softplus(node.graph, node.name, node.tensor(0))


@register_onnx_operator("Gelu")
def gelu(node: OnnxNode) -> Tensor:
    """``x * Phi(x)``, or its approximation by tanh."""
    kind = node.attributes.get("approximate", "none")
    kind = kind.decode() if isinstance(kind, bytes) else kind
    return smooth.gelu(node.graph, node.name, node.tensor(0), kind)


@register_onnx_operator("Swish")
def swish(node: OnnxNode) -> Tensor:
    """``x * sigmoid(alpha * x)``."""
    alpha = node.attributes.get("alpha", 1.0)
    return smooth.swish(node.graph, node.name, node.tensor(0), alpha)


# -------------------------------------------------------------- sums and products
def _weighted_sum(factors: Sequence[float] | None = None) -> Operator:
    return lambda node: node.graph.add(node.name, node.values(), factors)


register_onnx_operator("Add", "Sum")(_weighted_sum())
register_onnx_operator("Sub")(_weighted_sum([1.0, -1.0]))


@register_onnx_operator("Mean")
def mean(node: OnnxNode) -> Tensor:
    """The mean of several tensors, entry by entry."""
    n = len(node.inputs)
    return node.graph.add(node.name, node.values(), [1.0 / n] * n)


@register_onnx_operator("Gemm")
def gemm(node: OnnxNode) -> Tensor:
    """``alpha * A' @ B' + beta * C`` with optional transposes."""
    graph, attributes = node.graph, node.attributes
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)

    def factor(k: int, key: str) -> Value:
        value, turned = node.value(k), node.flag(key)
        if value is None:
            raise node.error("it needs two matrices")
        if not isinstance(value, Tensor):
            return alpha * (_array(value).T if turned else _array(value))
        return graph.transpose(f"{node.name}_{key}", value, [1, 0]) if turned else value

    a, b, c = factor(0, "transA"), factor(1, "transB"), node.value(2)
    if isinstance(c, Tensor):
        return graph.add(node.name, [graph.matmul(node.name, a, b), c], [1.0, beta])
    return graph.matmul(node.name, a, b, 0.0 if c is None else beta * _array(c))


@register_onnx_operator("MatMul")
def matmul(node: OnnxNode) -> Tensor:
    """A matrix product, one factor of which is constant."""
    a, b = node.values()
    return node.graph.matmul(node.name, a, b)


@register_onnx_operator("Mul")
def multiply(node: OnnxNode) -> Tensor:
    """A product of two values, one of which or both depend on the input."""
    a, b = node.values()
    return node.graph.multiply(node.name, a, b)


@register_onnx_operator("Pow")
def to_the_power(node: OnnxNode) -> Tensor:
    """A tensor to the power of a constant whole number."""
    exponent = node.constant(1, "exponent")
    return power(node.graph, node.name, node.tensor(0), exponent)


@register_onnx_operator("Einsum")
def sum_of_products(node: OnnxNode) -> Tensor:
    """A sum of products of a tensor and constants."""
    return einsum(node.graph, node.name, node.required("equation"), node.values())


@register_onnx_operator("Div")
def divide(node: OnnxNode) -> Tensor:
    """A quotient with a constant divisor without zeros."""
    divisor = node.value(1)
    if isinstance(divisor, Tensor):
        raise node.error("the divisor depends on the input, which is not piecewise linear")
    divisor = _array(divisor)
    if not divisor.all():
        raise node.error("it divides by zero")
    return node.graph.scale(node.name, node.tensor(0), 1.0 / divisor)


@register_onnx_operator("Not")
def negation(node: OnnxNode) -> Tensor:
    """``1 - x``, for truth values 0 and 1."""
    return node.graph.negation(node.name, node.tensor(0))


@register_onnx_operator("BatchNormalization")
def batch_normalization(node: OnnxNode) -> Tensor:
    """``scale * (x - mean) / sqrt(variance + epsilon) + B``, with given statistics."""
    if node.flag("training_mode"):
        raise node.error("training_mode=1 computes with the batch; export in eval mode")
    if not node.flag("spatial", True):
        raise node.error("spatial=0 isn't supported; export with opset 9 or newer")
    a, b, mean, variance = (_array(node.constant(k, "statistics")) for k in range(1, 5))
    epsilon = node.attributes.get("epsilon", 1e-5)
    return spatial.batch_normalization(
        node.graph, node.name, node.tensor(0), a, b, mean, variance, epsilon
    )


# ----------------------------------------------------------- maxima and reductions
@register_onnx_operator("Max", "Min")
def maximum(node: OnnxNode) -> Tensor:
    """The largest or the smallest of several tensors, entry by entry."""
    sign = 1.0 if node.operator == "Max" else -1.0
    return node.graph.maximum(node.name, node.values(), sign)


@register_onnx_operator("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin")
def reduce(node: OnnxNode) -> Tensor:
    """A sum, mean, maximum or minimum along axes; along all where none is named."""
    axes = node.integers(1, "axes")
    if not axes:
        if node.flag("noop_with_empty_axes"):
            return node.tensor(0)
        axes = None
    kind = node.operator.removeprefix("Reduce").lower()
    keep = node.flag("keepdims", True)
    return node.graph.reduce(node.name, node.tensor(0), axes, kind, keep)


# ---------------------------------------------------------------------- activations
@register_onnx_operator("LeakyRelu")
def leaky_relu(node: OnnxNode) -> Tensor:
    """``x`` above zero and ``alpha * x`` below."""
    return node.graph.leaky(node.name, node.tensor(0), node.attributes.get("alpha", 0.01))


@register_onnx_operator("PRelu")
def prelu(node: OnnxNode) -> Tensor:
    """``x`` above zero and ``slope * x`` below, with constant slopes that broadcast."""
    slope = _array(node.constant(1, "slope"))
    return node.graph.leaky(node.name, node.tensor(0), slope)


@register_onnx_operator("ThresholdedRelu")
def thresholded_relu(node: OnnxNode) -> Tensor:
    """``x`` above ``alpha`` and 0 below."""
    alpha = node.attributes.get("alpha", 1.0)
    return node.graph.threshold(node.name, node.tensor(0), alpha, 0.0)


@register_onnx_operator("Clip")
def clip(node: OnnxNode) -> Tensor:
    """``min(max(x, min), max)``; a limit beyond every float32 is none."""
    low, high = _limit(node, 1, "min"), _limit(node, 2, "max")
    if low is not None and low <= -_UNBOUNDED:
        low = None
    if high is not None and high >= _UNBOUNDED:
        high = None
    return node.graph.clip(node.name, node.tensor(0), low, high)


def _limit(node: OnnxNode, k: int, key: str) -> float | None:
    """A limit of a Clip: an attribute in old opsets, an input in new ones."""
    given = node.attributes.get(key)
    value = _array(node.constant(k, key) if given is None else given).reshape(-1)
    if given is None and node.value(k) is None or not value.size:
        return None
    if value.size > 1:
        raise node.error(f"its {key} has more than one entry")
    if np.isnan(value[0]):
        raise node.error(f"its {key} is not a number")
    return float(value[0])


@register_onnx_operator("HardSigmoid")
def hard_sigmoid(node: OnnxNode) -> Tensor:
    """``max(0, min(1, alpha * x + beta))``."""
    alpha = node.attributes.get("alpha", 0.2)
    beta = node.attributes.get("beta", 0.5)
    if alpha <= 0:
        raise node.error("alpha must be positive")
    pieces = activations.hard_sigmoid(alpha, beta)
    return node.graph.piecewise(node.name, node.tensor(0), pieces)


@register_onnx_operator("Greater", "GreaterOrEqual", "Less", "LessOrEqual")
def comparison(node: OnnxNode) -> Tensor:
    """1 where the comparison holds, else 0: for networks with binary activations."""
    a, b = node.values()
    less, strict = node.operator.startswith("Less"), not node.operator.endswith("OrEqual")
    return node.graph.compare(node.name, a, b, less, strict)


@register_onnx_operator("Dropout")
def dropout(node: OnnxNode) -> list[Value]:
    """The input and a mask of ones, as at inference."""
    training = node.constant(2, "training_mode")
    if training is not None and bool(np.asarray(training).any()):
        raise node.error("training_mode=true drops at random; export in eval mode")
    x = node.tensor(0)
    return [x, np.ones(x.shape, dtype=bool)]
