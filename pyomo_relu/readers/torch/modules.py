"""Modules of ``torch.nn`` in eval mode, by their functions."""

from __future__ import annotations

from typing import Any

from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.torch import functions, spatial
from pyomo_relu.readers.torch.registry import module
from pyomo_relu.readers.values import Tensor


@module("Linear", "NonDynamicallyQuantizableLinear")
def linear(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    return functions.linear(graph, name, x, layer.weight, layer.bias)


@module("Conv1d", "Conv2d", "Conv3d")
def convolution(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    return spatial.convolve(
        graph,
        name,
        x,
        layer.weight,
        layer.bias,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
        layer.padding_mode,
    )


@module("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d")
def transposed_convolution(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    return spatial.transposed(
        graph,
        name,
        x,
        layer.weight,
        layer.bias,
        layer.stride,
        layer.padding,
        layer.output_padding,
        layer.groups,
        layer.dilation,
    )


@module("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm")
def batch_normalization(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    return spatial.normalize(
        graph,
        name,
        x,
        layer.running_mean,
        layer.running_var,
        layer.weight,
        layer.bias,
        layer.eps,
    )


@module("MaxPool1d", "MaxPool2d", "MaxPool3d")
def max_pool(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    return spatial.max_pool(
        graph,
        name,
        x,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.ceil_mode,
        layer.return_indices,
    )


@module("AvgPool1d", "AvgPool2d", "AvgPool3d")
def average_pool(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    return spatial.average_pool(
        graph,
        name,
        x,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.ceil_mode,
        layer.count_include_pad,
        getattr(layer, "divisor_override", None),
    )


@module("AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d")
def adaptive_average_pool(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    return spatial.adaptive_average_pool(graph, name, x, layer.output_size)


@module("AdaptiveMaxPool1d", "AdaptiveMaxPool2d", "AdaptiveMaxPool3d")
def adaptive_max_pool(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    return spatial.adaptive_max_pool(
        graph, name, x, layer.output_size, layer.return_indices
    )


_PADS = {
    "ConstantPad": "constant",
    "ZeroPad": "constant",
    "ReflectionPad": "reflect",
    "ReplicationPad": "replicate",
    "CircularPad": "circular",
}


@module(*(f"{kind}{d}d" for kind in _PADS for d in (1, 2, 3)))
def pad(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    kind = next(k for c in type(layer).__mro__ for k in _PADS if c.__name__.startswith(k))
    value = getattr(layer, "value", 0.0)
    return spatial.pad(graph, name, x, layer.padding, _PADS[kind], value)


@module("ReLU", "ReLU6", "Hardsigmoid")
def plain_activation(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    names = [c.__name__ for c in type(layer).__mro__]
    if "ReLU6" in names:
        return functions.relu6(graph, name, x)
    if "ReLU" in names:
        return functions.relu(graph, name, x)
    return functions.hardsigmoid(graph, name, x)


@module("LeakyReLU")
def leaky_relu(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    return functions.leaky_relu(graph, name, x, layer.negative_slope)


@module("PReLU")
def prelu(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    return functions.prelu(graph, name, x, layer.weight)


@module("RReLU")
def randomized_relu(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    """In eval mode the mean of the two slopes."""
    return functions.leaky_relu(graph, name, x, (layer.lower + layer.upper) / 2)


@module("Hardtanh")
def hardtanh(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    return functions.hardtanh(graph, name, x, layer.min_val, layer.max_val)


@module("Threshold")
def threshold(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    return functions.threshold(graph, name, x, layer.threshold, layer.value)


@module("Softshrink")
def softshrink(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    return functions.softshrink(graph, name, x, layer.lambd)


@module("Flatten")
def flatten(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    return functions.flatten(graph, name, x, layer.start_dim, layer.end_dim)


@module("Unflatten")
def unflatten(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    return functions.unflatten(graph, name, x, layer.dim, layer.unflattened_size)


@module("PixelShuffle", "PixelUnshuffle")
def pixel_shuffle(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Any:
    if hasattr(layer, "upscale_factor"):
        factor, operation = layer.upscale_factor, "pixel_shuffle"
    else:
        factor, operation = layer.downscale_factor, "pixel_unshuffle"
    return functions.move_like_torch(operation, graph, name, x, factor)


@module("Identity", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout")
@module("FeatureAlphaDropout")
def identity(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    return x
