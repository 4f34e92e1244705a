"""ONNX activations that are piecewise linear, and the heads that logits= takes off."""

from __future__ import annotations

import numpy as np

from pyomo_relu.network import activations
from pyomo_relu.readers.onnx.registry import OnnxNode, register_onnx_operator
from pyomo_relu.readers.values import Tensor

#: Heads that keep the order of the logits; read only as the last operator.
HEADS = ("Softmax", "LogSoftmax", "Sigmoid", "ArgMax")

# What exporters write for "no bound"; float32's largest number is an attribute default.
_UNBOUNDED = 3.4e38


@register_onnx_operator("Relu")
def relu(node: OnnxNode) -> Tensor:
    return node.graph.piecewise(node.name, node.tensor(0), activations.relu())


@register_onnx_operator("LeakyRelu")
def leaky_relu(node: OnnxNode) -> Tensor:
    return node.graph.leaky(node.name, node.tensor(0), node.attributes.get("alpha", 0.01))


@register_onnx_operator("PRelu")
def prelu(node: OnnxNode) -> Tensor:
    x, slope = node.tensor(0), node.constant(1, "slope")
    return node.graph.leaky(node.name, x, slope)


@register_onnx_operator("ThresholdedRelu")
def thresholded_relu(node: OnnxNode) -> Tensor:
    alpha = node.attributes.get("alpha", 1.0)
    return node.graph.threshold(node.name, node.tensor(0), alpha, 0.0)


@register_onnx_operator("Clip")
def clip(node: OnnxNode) -> Tensor:
    sides = []
    for k, key in ((1, "min"), (2, "max")):
        value = node.attributes.get(key)
        if value is None:
            value = node.constant(k, key)
        if value is not None and np.size(value) == 0:
            value = None
        if value is not None and np.size(value) > 1:
            raise node.error(f"its {key} has more than one entry")
        if value is not None:
            value = float(np.asarray(value, dtype=float).reshape(-1)[0])
            if np.isnan(value):
                raise node.error(f"its {key} is not a number")
            if value <= -_UNBOUNDED if key == "min" else value >= _UNBOUNDED:
                value = None
        sides.append(value)
    return node.graph.clip(node.name, node.tensor(0), *sides)


@register_onnx_operator("Abs")
def absolute(node: OnnxNode) -> Tensor:
    return node.graph.piecewise(node.name, node.tensor(0), activations.absolute())


@register_onnx_operator("Sign")
def sign(node: OnnxNode) -> Tensor:
    return node.graph.sign(node.name, node.tensor(0))


@register_onnx_operator("Greater", "GreaterOrEqual", "Less", "LessOrEqual")
def comparison(node: OnnxNode) -> Tensor:
    """1 where the comparison holds, else 0: for networks with binary activations."""
    factors = [-1.0, 1.0] if node.operator.startswith("Less") else [1.0, -1.0]
    difference = node.graph.add(f"{node.name}_difference", node.values(), factors)
    strict = not node.operator.endswith("OrEqual")
    return node.graph.step(node.name, difference, strict)


@register_onnx_operator("Not")
def negation(node: OnnxNode) -> Tensor:
    return node.graph.scale(node.name, node.tensor(0), -1.0, 1.0)


@register_onnx_operator("HardSigmoid")
def hard_sigmoid(node: OnnxNode) -> Tensor:
    alpha = node.attributes.get("alpha", 0.2)
    beta = node.attributes.get("beta", 0.5)
    if alpha <= 0:
        raise node.error("alpha must be positive")
    pieces = activations.hard_sigmoid(alpha, beta)
    return node.graph.piecewise(node.name, node.tensor(0), pieces)


@register_onnx_operator("Identity")
def identity(node: OnnxNode) -> Tensor:
    return node.tensor(0)


@register_onnx_operator("Dropout")
def dropout(node: OnnxNode) -> list:
    training = node.constant(2, "training_mode")
    if training is not None and bool(np.asarray(training).any()):
        raise node.error("training_mode=true drops at random; export in eval mode")
    x = node.tensor(0)
    return [x, np.ones(x.shape, dtype=bool)]
