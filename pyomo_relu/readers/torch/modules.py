"""Modules of ``torch.nn`` in eval mode, by their functions."""

from __future__ import annotations

from typing import Any

from pyomo_relu.readers.reader_tables import LayerReader, enter
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.torch import functions, window_functions
from pyomo_relu.readers.torch.function_tables import FUNCTIONS, MODULES, module_as
from pyomo_relu.readers.values import Tensor


def _for_axes(kind: str, reader: LayerReader) -> None:
    """Enter a module that PyTorch has for one, two and three spatial axes."""
    enter(MODULES, *(f"{kind}{d}d" for d in (1, 2, 3)))(reader)


_WINDOWS = {
    "Conv": (
        window_functions.convolve,
        "weight bias stride padding dilation groups padding_mode",
    ),
    "ConvTranspose": (
        window_functions.transposed,
        "weight bias stride padding output_padding groups dilation",
    ),
    "MaxPool": (
        window_functions.max_pool,
        "kernel_size stride padding dilation ceil_mode return_indices",
    ),
    "AdaptiveAvgPool": (window_functions.adaptive_average_pool, "output_size"),
    "AdaptiveMaxPool": (window_functions.adaptive_max_pool, "output_size return_indices"),
    "BatchNorm": (window_functions.normalize, "running_mean running_var weight bias eps"),
}
for _kind, (_function, _attributes) in _WINDOWS.items():
    _for_axes(_kind, module_as(_function, *_attributes.split()))
enter(MODULES, "SyncBatchNorm")(MODULES["BatchNorm1d"])


def _average_pool(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    return window_functions.average_pool(
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


_for_axes("AvgPool", _average_pool)


def _padding(mode: str) -> LayerReader:
    def pad(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
        value = getattr(layer, "value", 0.0)
        return window_functions.pad(graph, name, x, layer.padding, mode, value)

    return pad


for _kind, _mode in {
    "ConstantPad": "constant",
    "ZeroPad": "constant",
    "ReflectionPad": "reflect",
    "ReplicationPad": "replicate",
    "CircularPad": "circular",
}.items():
    _for_axes(_kind, _padding(_mode))


@enter(MODULES, "RReLU")
def randomized_relu(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    """In eval mode the mean of the two slopes."""
    return graph.leaky(name, x, (layer.lower + layer.upper) / 2)


_linear = module_as(functions.linear, "weight", "bias")
MODULES |= {
    "Linear": _linear,
    "NonDynamicallyQuantizableLinear": _linear,
    "ReLU": module_as(FUNCTIONS["relu"]),
    "ReLU6": module_as(FUNCTIONS["relu6"]),
    "Hardsigmoid": module_as(FUNCTIONS["hardsigmoid"]),
    "LeakyReLU": module_as(functions.leaky_relu, "negative_slope"),
    "PReLU": module_as(functions.prelu, "weight"),
    "Hardtanh": module_as(FUNCTIONS["hardtanh"], "min_val", "max_val"),
    "Threshold": module_as(FUNCTIONS["threshold"], "threshold", "value"),
    "Softshrink": module_as(FUNCTIONS["softshrink"], "lambd"),
    "Flatten": module_as(functions.flatten, "start_dim", "end_dim"),
    "Unflatten": module_as(functions.unflatten, "dim", "unflattened_size"),
    "PixelShuffle": module_as(FUNCTIONS["pixel_shuffle"], "upscale_factor"),
    "PixelUnshuffle": module_as(FUNCTIONS["pixel_unshuffle"], "downscale_factor"),
}
_for_axes("Dropout", lambda graph, name, layer, x: x)
for _kind in ("Identity", "Dropout", "AlphaDropout", "FeatureAlphaDropout"):
    MODULES[_kind] = MODULES["Dropout1d"]
