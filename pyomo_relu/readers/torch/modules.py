"""Modules of ``torch.nn`` in eval mode, by their functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyomo_relu.readers import smooth
from pyomo_relu.readers.reader_tables import LayerReader, by_attributes, enter
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.torch import functions, window_functions
from pyomo_relu.readers.torch.function_tables import FUNCTIONS, MODULES
from pyomo_relu.readers.values import Tensor


def _for_axes(kind: str, reader: LayerReader) -> None:
    """Enter a module that PyTorch has for one, two and three spatial axes."""
    enter(MODULES, *(f"{kind}{d}d" for d in (1, 2, 3)))(reader)


_WINDOWS: dict[str, tuple[Callable[..., Any], str]] = {
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
    _for_axes(_kind, by_attributes(_function, *_attributes.split()))
enter(MODULES, "SyncBatchNorm")(MODULES["BatchNorm1d"])
_average = "kernel_size stride padding ceil_mode count_include_pad".split()
MODULES["AvgPool1d"] = by_attributes(window_functions.average_pool, *_average)
enter(MODULES, "AvgPool2d", "AvgPool3d")(
    by_attributes(window_functions.average_pool, *_average, "divisor_override")
)


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


_linear = by_attributes(functions.linear, "weight", "bias")
MODULES |= {
    "Linear": _linear,
    "NonDynamicallyQuantizableLinear": _linear,
    "ReLU": by_attributes(FUNCTIONS["relu"]),
    "ReLU6": by_attributes(FUNCTIONS["relu6"]),
    "Hardsigmoid": by_attributes(FUNCTIONS["hardsigmoid"]),
    "LeakyReLU": by_attributes(functions.leaky_relu, "negative_slope"),
    "PReLU": by_attributes(functions.prelu, "weight"),
    "Hardtanh": by_attributes(FUNCTIONS["hardtanh"], "min_val", "max_val"),
    "Threshold": by_attributes(FUNCTIONS["threshold"], "threshold", "value"),
    "Hardshrink": by_attributes(FUNCTIONS["hardshrink"], "lambd"),
    "Upsample": by_attributes(
        window_functions.interpolate, "size", "scale_factor", "mode", "align_corners"
    ),
    "UpsamplingNearest2d": by_attributes(
        window_functions.interpolate, "size", "scale_factor", "mode"
    ),
    "Softshrink": by_attributes(FUNCTIONS["softshrink"], "lambd"),
    "Sigmoid": by_attributes(FUNCTIONS["sigmoid"]),
    "LogSigmoid": by_attributes(FUNCTIONS["logsigmoid"]),
    "Tanh": by_attributes(FUNCTIONS["tanh"]),
    "SiLU": by_attributes(FUNCTIONS["silu"]),
    "Mish": by_attributes(FUNCTIONS["mish"]),
    "Softsign": by_attributes(FUNCTIONS["softsign"]),
    "Hardswish": by_attributes(FUNCTIONS["hardswish"]),
    "Tanhshrink": by_attributes(FUNCTIONS["tanhshrink"]),
    "Softplus": by_attributes(smooth.softplus, "beta", "threshold"),
    "GLU": by_attributes(FUNCTIONS["glu"], "dim"),
    "GELU": by_attributes(smooth.gelu, "approximate"),
    "ELU": by_attributes(smooth.elu, "alpha"),
    "SELU": by_attributes(FUNCTIONS["selu"]),
    "CELU": by_attributes(smooth.celu, "alpha"),
    "Flatten": by_attributes(functions.flatten, "start_dim", "end_dim"),
    "Unflatten": by_attributes(functions.unflatten, "dim", "unflattened_size"),
    "PixelShuffle": by_attributes(FUNCTIONS["pixel_shuffle"], "upscale_factor"),
    "PixelUnshuffle": by_attributes(FUNCTIONS["pixel_unshuffle"], "downscale_factor"),
}
_for_axes("Dropout", lambda graph, name, layer, x: x)
for _kind in ("Identity", "Dropout", "AlphaDropout", "FeatureAlphaDropout"):
    MODULES[_kind] = MODULES["Dropout1d"]
