"""PyTorch convolutions, poolings, padding and batch normalization.

``g`` is the graph and ``n`` the name of the layer; the other arguments are PyTorch's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from pyomo_relu.readers import spatial
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.torch.function_tables import array, constant, function
from pyomo_relu.readers.torch.functions import moved
from pyomo_relu.readers.values import Tensor
from pyomo_relu.readers.windows import Window

_PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
_PAD_MODES |= {"circular": "wrap", "zeros": "constant"}

Lengths = int | Sequence[int]


def _per_axis(value: Lengths, rank: int) -> list[int]:
    values = [value] * rank if isinstance(value, int) else [int(v) for v in value]
    return values * rank if len(values) == 1 else values


@function("conv1d", "conv2d", "conv3d")
def convolve(
    g: TensorGraph,
    n: str,
    x: Tensor,
    weight: Any,
    bias: Any = None,
    stride: Lengths = 1,
    padding: Lengths | str = 0,
    dilation: Lengths = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> Tensor:
    """A convolution with a constant kernel, in groups of channels."""
    kernel = constant(weight, n, "kernel")
    rank = kernel.ndim - 2
    dilation = _per_axis(dilation, rank)
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel.shape[2:])]
        begin, end = [t // 2 for t in total], [t - t // 2 for t in total]
    else:
        begin = end = _per_axis(0 if isinstance(padding, str) else padding, rank)
    if padding_mode != "zeros" and any((*begin, *end)):
        mode = _PAD_MODES[padding_mode]
        x = spatial.pad(g, f"{n}_pad", x, [0, 0, *begin], [0, 0, *end], mode)
        begin = end = [0] * rank
    window = Window(kernel.shape[2:], _per_axis(stride, rank), dilation, begin, end)
    offset = None if bias is None else constant(bias, n, "bias")
    return spatial.convolution(g, n, x, kernel, offset, window, int(groups))


@function("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def transposed(
    g: TensorGraph,
    n: str,
    x: Tensor,
    weight: Any,
    bias: Any = None,
    stride: Lengths = 1,
    padding: Lengths = 0,
    output_padding: Lengths = 0,
    groups: int = 1,
    dilation: Lengths = 1,
) -> Tensor:
    """A transposed convolution with a constant kernel."""
    kernel = constant(weight, n, "kernel")
    rank = kernel.ndim - 2
    strides, dilations, pads, extra = (
        _per_axis(v, rank) for v in (stride, dilation, padding, output_padding)
    )
    return spatial.convolution(
        g,
        n,
        x,
        kernel,
        None if bias is None else constant(bias, n, "bias"),
        Window(kernel.shape[2:], strides, dilations, pads, pads),
        int(groups),
        transposed=True,
        output_padding=extra,
    )


def _window(
    x: Tensor,
    kernel_size: Lengths,
    stride: Lengths | None,
    padding: Lengths,
    dilation: Lengths,
    ceil_mode: bool,
) -> Window:
    rank = len(x.shape) - 2
    if stride is None or isinstance(stride, (list, tuple)) and not len(stride):
        stride = kernel_size
    size, strides, dilations, pads = (
        _per_axis(v, rank) for v in (kernel_size, stride, dilation, padding)
    )
    return Window(size, strides, dilations, pads, pads, bool(ceil_mode))


@function("max_pool1d", "max_pool2d", "max_pool3d")
def max_pool(
    g: TensorGraph,
    n: str,
    x: Tensor,
    kernel_size: Lengths,
    stride: Lengths | None = None,
    padding: Lengths = 0,
    dilation: Lengths = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """The largest entry of each window."""
    if return_indices:
        raise ValueError(f"layer '{n}' returns positions; that is not piecewise linear.")
    window = _window(x, kernel_size, stride, padding, dilation, ceil_mode)
    return spatial.max_pool(g, n, x, window)


@function("avg_pool1d", "avg_pool2d", "avg_pool3d")
def average_pool(
    g: TensorGraph,
    n: str,
    x: Tensor,
    kernel_size: Lengths,
    stride: Lengths | None = None,
    padding: Lengths = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window."""
    if divisor_override is not None:
        raise ValueError(f"layer '{n}': divisor_override is not supported; use None.")
    window = _window(x, kernel_size, stride, padding, 1, ceil_mode)
    return spatial.average_pool(g, n, x, window, bool(count_include_pad))


@function("convolution")
def general_convolution(g: TensorGraph, n: str, x: Tensor, *args: Any) -> Tensor:
    """What PyTorch lowers all convolutions to."""
    weight, bias, stride, padding, dilation, is_transposed, extra, groups = args
    if is_transposed:
        return transposed(g, n, x, weight, bias, stride, padding, extra, groups, dilation)
    return convolve(g, n, x, weight, bias, stride, padding, dilation, groups)


function("max_pool2d_with_indices", "max_pool3d_with_indices")(
    lambda g, n, x, *args: (max_pool(g, n, x, *args), None)
)


def _adaptive(name: str, x: Tensor, output_size: Any) -> list[int]:
    """The window of an adaptive pooling whose windows are all alike."""
    lengths = x.shape[2:]
    sizes = [output_size] * len(lengths) if isinstance(output_size, int) else output_size
    sizes = [n if s is None else int(s) for n, s in zip(lengths, sizes)]
    if any(n % s for n, s in zip(lengths, sizes)):
        raise ValueError(
            f"layer '{name}' pools {tuple(lengths)} to {tuple(sizes)}; sizes that don't "
            "divide are not supported, use a pooling of fixed windows."
        )
    return [n // s for n, s in zip(lengths, sizes)]


def adaptive_average_pool(g: TensorGraph, n: str, x: Tensor, output_size: Any) -> Tensor:
    """The mean of each of ``output_size`` windows of equal size."""
    return average_pool(g, n, x, _adaptive(n, x, output_size))


def adaptive_max_pool(
    g: TensorGraph, n: str, x: Tensor, output_size: Any, return_indices: bool = False
) -> Tensor:
    """The largest entry of each of ``output_size`` windows of equal size."""
    window = _adaptive(n, x, output_size)
    return max_pool(g, n, x, window, return_indices=return_indices)


for _d in (1, 2, 3):
    function(f"adaptive_avg_pool{_d}d")(adaptive_average_pool)
    function(f"adaptive_max_pool{_d}d")(adaptive_max_pool)


@function("pad", "constant_pad_nd")
def pad(
    g: TensorGraph,
    n: str,
    x: Tensor,
    pad: Sequence[int],
    mode: Any = "constant",
    value: float | None = None,
) -> Tensor:
    """Entries around a tensor: constant, reflected, repeated or circular."""
    widths = [int(w) for w in pad]
    if isinstance(mode, (int, float)):  # aten.constant_pad_nd(x, pad, value)
        mode, value = "constant", mode
    if mode not in _PAD_MODES:
        raise ValueError(f"layer '{n}': padding mode '{mode}' isn't known.")
    rank = len(x.shape)
    before, after = [0] * rank, [0] * rank
    for k in range(len(widths) // 2):  # the last axis comes first
        before[rank - 1 - k], after[rank - 1 - k] = widths[2 * k], widths[2 * k + 1]
    fill = 0.0 if value is None else float(value)
    return spatial.pad(g, n, x, before, after, _PAD_MODES[mode], fill)


def interpolate(
    g: TensorGraph,
    n: str,
    x: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: Any = None,
) -> Any:
    """Nearest neighbours: each entry is one of the input's.

    PyTorch does it itself, on positions; as floating-point numbers, which it wants.
    """
    import torch

    if mode not in ("nearest", "nearest-exact"):
        raise ValueError(
            f"layer '{n}': upsampling with mode='{mode}' is not supported; use "
            "mode='nearest', or a ConvTranspose with fixed weights."
        )

    def run(codes: Any) -> Any:
        found = torch.nn.functional.interpolate(codes.double(), size, scale_factor, mode)
        return found.long()

    return moved(g, n, [x], run)


def _nearest(mode: str, g: TensorGraph, n: str, x: Tensor, *args: Any, **named: Any) -> Any:
    """``upsample_nearest2d(x, output_size, scale_factors)``."""
    options = dict(zip(("output_size", "scale_factors"), args)) | named
    return interpolate(g, n, x, options["output_size"], options.get("scale_factors"), mode)


for _d in (1, 2, 3):
    function(f"upsample_nearest{_d}d")(partial(_nearest, "nearest"))
    function(f"_upsample_nearest_exact{_d}d")(partial(_nearest, "nearest-exact"))


def normalize(
    g: TensorGraph,
    n: str,
    x: Tensor,
    mean: Any,
    variance: Any,
    weight: Any,
    bias: Any,
    eps: float,
) -> Tensor:
    """Batch normalization in eval mode."""
    if mean is None or variance is None:
        raise ValueError(
            f"layer '{n}' has no running statistics; it normalizes by the batch, "
            "which is not piecewise linear."
        )
    mean = constant(mean, n, "mean")
    weight = np.ones(len(mean)) if weight is None else array(weight)
    bias = np.zeros(len(mean)) if bias is None else array(bias)
    return spatial.batch_normalization(
        g, n, x, weight, bias, mean, constant(variance, n, "variance"), eps
    )


@function("batch_norm")
def batch_norm(g: TensorGraph, n: str, x: Tensor, *args: Any, **named: Any) -> Tensor:
    """``weight * (x - mean) / sqrt(variance + eps) + bias``, with running statistics."""
    order: tuple[str, ...] = ("running_mean", "running_var", "weight", "bias")
    order += ("training", "momentum", "eps")
    if len(args) == 8:  # those of aten, the last of which is about cuDNN
        order = ("weight", "bias", "running_mean", "running_var", *order[4:], "cudnn")
    given = {"training": False, "eps": 1e-5, **dict(zip(order, args)), **named}
    if given["training"]:
        raise ValueError(
            f"layer '{n}' normalizes by the batch (training=True), which is not "
            "piecewise linear; use running statistics."
        )
    mean, variance = given["running_mean"], given["running_var"]
    weight, bias = given.get("weight"), given.get("bias")
    return normalize(g, n, x, mean, variance, weight, bias, given["eps"])


# The arguments are the weight, the bias, the mean, the variance, the momentum, epsilon.
function("_native_batch_norm_legit_no_training")(
    lambda g, n, x, weight, bias, mean, variance, _, eps: (
        normalize(g, n, x, mean, variance, weight, bias, eps),
        None,
        None,
    )
)
