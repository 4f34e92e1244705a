"""ONNX convolutions and poolings, with all their attributes."""

from __future__ import annotations

import numpy as np

from pyomo_relu.readers import spatial
from pyomo_relu.readers.onnx.registry import OnnxNode, register_onnx_operator
from pyomo_relu.readers.values import Tensor
from pyomo_relu.readers.windows import same_pads


def _geometry(node: OnnxNode, kernel: list[int], with_dilations: bool = True) -> dict:
    """Strides, dilations and pads of a convolution or pooling as keyword arguments."""
    x = node.tensor(0)
    rank = len(kernel)
    if len(x.shape) != rank + 2:
        raise node.error(f"a window of {rank} axes doesn't fit an input {x.shape}")
    attributes = node.attributes
    strides = attributes.get("strides", [1] * rank)
    dilations = attributes.get("dilations", [1] * rank) if with_dilations else [1] * rank
    pads = attributes.get("pads", [0] * (2 * rank))
    auto = attributes.get("auto_pad", "NOTSET")
    if auto == "VALID":
        pads = [0] * (2 * rank)
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        both = [
            same_pads(n, k, s, d, lower=auto == "SAME_LOWER")
            for n, k, s, d in zip(x.shape[2:], kernel, strides, dilations)
        ]
        pads = [b for b, _ in both] + [e for _, e in both]
    elif auto not in ("NOTSET", ""):
        raise node.error(f"auto_pad '{auto}' isn't known")
    if len(pads) != 2 * rank or min(pads) < 0:
        raise node.error(f"pads {pads} must be {2 * rank} numbers >= 0")
    return {
        "strides": strides,
        "dilations": dilations,
        "pads_begin": pads[:rank],
        "pads_end": pads[rank:],
    }


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
    kernel = _kernel(node)
    return spatial.convolution(
        node.graph,
        node.name,
        node.tensor(0),
        kernel,
        node.constant(2, "bias"),
        groups=node.attributes.get("group", 1),
        **_geometry(node, list(kernel.shape[2:])),
    )


@register_onnx_operator("ConvTranspose")
def transposed_convolution(node: OnnxNode) -> Tensor:
    kernel = _kernel(node)
    x = node.tensor(0)
    rank = kernel.ndim - 2
    attributes = node.attributes
    strides = attributes.get("strides", [1] * rank)
    dilations = attributes.get("dilations", [1] * rank)
    extra = attributes.get("output_padding", [0] * rank)
    pads = attributes.get("pads", [0] * (2 * rank))
    auto = attributes.get("auto_pad", "NOTSET")
    wanted = attributes.get("output_shape")
    if wanted is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [n * s for n, s in zip(x.shape[2:], strides)]
    if wanted is not None:
        wanted = wanted[-rank:]
        total = [
            s * (n - 1) + o + d * (k - 1) + 1 - w
            for s, n, o, d, k, w in zip(
                strides, x.shape[2:], extra, dilations, kernel.shape[2:], wanted
            )
        ]
        if min(total) < 0:
            raise node.error(f"its output shape {wanted} is larger than its result")
        small = [t // 2 for t in total]
        large = [t - t // 2 for t in total]
        pads = small + large if auto == "SAME_UPPER" else large + small
    elif auto == "VALID":
        pads = [0] * (2 * rank)
    return spatial.convolution(
        node.graph,
        node.name,
        x,
        kernel,
        node.constant(2, "bias"),
        transposed=True,
        output_padding=extra,
        strides=strides,
        dilations=dilations,
        pads_begin=pads[:rank],
        pads_end=pads[rank:],
        groups=attributes.get("group", 1),
    )


@register_onnx_operator("MaxPool")
def max_pool(node: OnnxNode) -> Tensor:
    if node.n_outputs > 1:
        raise node.error("the positions of the maxima are not piecewise linear")
    kernel = node.required("kernel_shape")
    return spatial.max_pool(
        node.graph,
        node.name,
        node.tensor(0),
        kernel,
        ceil_mode=node.flag("ceil_mode"),
        **_geometry(node, kernel),
    )


@register_onnx_operator("AveragePool")
def average_pool(node: OnnxNode) -> Tensor:
    kernel = node.required("kernel_shape")
    return spatial.average_pool(
        node.graph,
        node.name,
        node.tensor(0),
        kernel,
        ceil_mode=node.flag("ceil_mode"),
        count_include_pad=node.flag("count_include_pad"),
        **_geometry(node, kernel),
    )


@register_onnx_operator("GlobalAveragePool", "GlobalMaxPool")
def global_pool(node: OnnxNode) -> Tensor:
    x = node.tensor(0)
    kind = "mean" if node.operator == "GlobalAveragePool" else "max"
    return node.graph.reduce(node.name, x, range(2, len(x.shape)), kind, True)
