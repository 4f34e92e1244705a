"""ONNX convolutions and poolings, with all their attributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pyomo_relu.readers import spatial
from pyomo_relu.readers.onnx.node import OnnxNode, register_onnx_operator
from pyomo_relu.readers.values import Tensor
from pyomo_relu.readers.windows import Window


def _window(node: OnnxNode, size: Sequence[int], ceil_mode: bool = False) -> Window:
    """The window of a convolution or pooling, with its strides, dilations and pads."""
    x = node.tensor(0)
    rank = len(size)
    if len(x.shape) != rank + 2:
        raise node.error(f"a window of {rank} axes doesn't fit an input {x.shape}")
    attributes = node.attributes
    strides = attributes.get("strides", [1] * rank)
    dilations = attributes.get("dilations", [1] * rank)
    window = Window(size, strides, dilations, ceil_mode=ceil_mode)
    auto = attributes.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        return window.same(x.shape[2:], lower=auto == "SAME_LOWER")
    if auto == "VALID":
        return window
    if auto not in ("NOTSET", ""):
        raise node.error(f"auto_pad '{auto}' isn't known")
    pads = attributes.get("pads", [0] * (2 * rank))
    if len(pads) != 2 * rank or min(pads) < 0:
        raise node.error(f"pads {pads} must be {2 * rank} numbers >= 0")
    return replace(window, begin=pads[:rank], end=pads[rank:])


def _kernel(node: OnnxNode) -> np.ndarray:
    kernel = node.constant(1, "kernel")
    if kernel is None or kernel.ndim < 3:
        raise node.error("it has no kernel with spatial axes")
    shape = node.attributes.get("kernel_shape")
    if shape is not None and tuple(shape) != kernel.shape[2:]:
        raise node.error(f"kernel_shape {shape} isn't that of its kernel {kernel.shape}")
    return np.asarray(kernel, dtype=float)


@register_onnx_operator("Conv")
def convolution(node: OnnxNode) -> Tensor:
    """A convolution with a constant kernel, in groups of channels."""
    kernel = _kernel(node)
    return spatial.convolution(
        node.graph,
        node.name,
        node.tensor(0),
        kernel,
        node.constant(2, "bias"),
        _window(node, kernel.shape[2:]),
        node.attributes.get("group", 1),
    )


@register_onnx_operator("ConvTranspose")
def transposed_convolution(node: OnnxNode) -> Tensor:
    """A transposed convolution with a constant kernel."""
    kernel = _kernel(node)
    rank = kernel.ndim - 2
    attributes = node.attributes
    strides = attributes.get("strides", [1] * rank)
    dilations = attributes.get("dilations", [1] * rank)
    extra = attributes.get("output_padding", [0] * rank)
    pads = _transposed_pads(node, kernel.shape[2:], strides, dilations, extra)
    return spatial.convolution(
        node.graph,
        node.name,
        node.tensor(0),
        kernel,
        node.constant(2, "bias"),
        Window(kernel.shape[2:], strides, dilations, pads[:rank], pads[rank:]),
        attributes.get("group", 1),
        transposed=True,
        output_padding=extra,
    )


def _transposed_pads(
    node: OnnxNode,
    size: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    extra: Sequence[int],
) -> list[int]:
    """What is cut off the result of a transposed convolution, the begins first."""
    rank, attributes = len(size), node.attributes
    lengths = node.tensor(0).shape[2:]
    auto = attributes.get("auto_pad", "NOTSET")
    wanted = attributes.get("output_shape")
    if wanted is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [n * s for n, s in zip(lengths, strides)]
    if wanted is None:
        no_pads = [0] * (2 * rank)
        return no_pads if auto == "VALID" else attributes.get("pads", no_pads)
    wanted = wanted[-rank:]
    axes = zip(strides, lengths, extra, dilations, size, wanted)
    total = [s * (n - 1) + o + d * (k - 1) + 1 - w for s, n, o, d, k, w in axes]
    if min(total) < 0:
        raise node.error(f"its output shape {wanted} is larger than its result")
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    return small + large if auto == "SAME_UPPER" else large + small


@register_onnx_operator("MaxPool")
def max_pool(node: OnnxNode) -> Tensor:
    """The largest entry of each window."""
    if node.n_outputs > 1:
        raise node.error("the positions of the maxima are not piecewise linear")
    window = _window(node, node.required("kernel_shape"), node.flag("ceil_mode"))
    return spatial.max_pool(node.graph, node.name, node.tensor(0), window)


@register_onnx_operator("AveragePool")
def average_pool(node: OnnxNode) -> Tensor:
    """The mean of each window; whether padding counts, says the node."""
    window = _window(node, node.required("kernel_shape"), node.flag("ceil_mode"))
    count = node.flag("count_include_pad")
    return spatial.average_pool(node.graph, node.name, node.tensor(0), window, count)


@register_onnx_operator("GlobalAveragePool", "GlobalMaxPool")
def global_pool(node: OnnxNode) -> Tensor:
    """The mean or the largest entry over all spatial axes."""
    x = node.tensor(0)
    kind = "mean" if node.operator == "GlobalAveragePool" else "max"
    return node.graph.reduce(node.name, x, range(2, len(x.shape)), kind, True)
