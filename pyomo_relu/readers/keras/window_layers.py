"""Convolutions, poolings, padding and cropping: layers along the spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pyomo_relu.readers import spatial
from pyomo_relu.readers.keras.activation_functions import activated
from pyomo_relu.readers.keras.describing import as_numpy, refuse
from pyomo_relu.readers.keras.registration import LAYERS
from pyomo_relu.readers.moves import move
from pyomo_relu.readers.reader_tables import enter
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Head, Tensor, Value
from pyomo_relu.readers.windows import Ints, Window, per_axis


def _for_axes(*kinds: str) -> Any:
    """Decorator: what reads these layers for one, two and three spatial axes."""
    return enter(LAYERS, *(f"{kind}{d}D" for kind in kinds for d in (1, 2, 3)))


def _is_channels_last(layer: Any) -> bool:
    return getattr(layer, "data_format", None) != "channels_first"


def _spatial_axes(layer: Any, x: Tensor) -> range:
    last = _is_channels_last(layer)
    return range(1, len(x.shape) - 1) if last else range(2, len(x.shape))


def _window(
    layer: Any, x: Tensor, size: Ints, strides: Ints, dilations: Ints = 1
) -> Window:
    """The window of a layer with Keras' ``valid``, ``same`` or ``causal`` padding."""
    lengths = [x.shape[a] for a in _spatial_axes(layer, x)]
    window = Window(size, strides, dilations)
    kind = str(layer.padding).lower()
    if kind == "valid":
        return window
    if kind == "same":
        return window.same(lengths)
    if kind == "causal":
        sides = (per_axis(v, len(lengths), "") for v in (size, dilations))
        return replace(window, begin=[d * (k - 1) for k, d in zip(*sides)])
    raise refuse(layer, f"has the padding '{layer.padding}', which is not supported.")


# --------------------------------------------------------------------- convolutions
# Keras kernels are (*k, channels / groups, filters), or (*k, channels, multiplier).
def _filters_first(kernel: Any) -> np.ndarray:
    return np.moveaxis(as_numpy(kernel), (-1, -2), (0, 1))


def _convolved(
    graph: TensorGraph,
    name: str,
    layer: Any,
    x: Tensor,
    kernel: np.ndarray,
    window: Window,
    groups: int = 1,
    **options: Any,
) -> Tensor | Head:
    """Convolve with a kernel (filters, channels / groups, *k), and activate."""
    bias = as_numpy(layer.bias) if layer.use_bias else None
    last = _is_channels_last(layer)
    y = spatial.convolution(
        graph, name, x, kernel, bias, window, groups, channels_last=last, **options
    )
    return activated(graph, name, layer, y)


def _layer_window(layer: Any, x: Tensor, size: Sequence[int]) -> Window:
    return _window(layer, x, size, layer.strides, layer.dilation_rate)


@_for_axes("Conv")
def convolution(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor | Head:
    """``activation(x * kernel + bias)``, in groups of channels where there are some."""
    kernel = _filters_first(layer.kernel)
    window = _layer_window(layer, x, kernel.shape[2:])
    return _convolved(graph, name, layer, x, kernel, window, layer.groups)


@_for_axes("DepthwiseConv")
def depthwise(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor | Head:
    """Each channel with its own ``depth_multiplier`` filters."""
    kernel = as_numpy(layer.kernel)
    channels, size = kernel.shape[-2], kernel.shape[:-2]
    grouped = np.moveaxis(kernel, (-2, -1), (0, 1)).reshape(-1, 1, *size)
    window = _layer_window(layer, x, size)
    return _convolved(graph, name, layer, x, grouped, window, channels)


@_for_axes("SeparableConv")
def separable(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor | Head:
    """A depthwise convolution, then a pointwise one: a convolution with their product."""
    depth = as_numpy(layer.depthwise_kernel)
    point = as_numpy(layer.pointwise_kernel)
    point = point.reshape(*depth.shape[-2:], point.shape[-1])
    kernel = np.einsum("...cm,cmf->fc...", depth, point)
    window = _layer_window(layer, x, kernel.shape[2:])
    return _convolved(graph, name, layer, x, kernel, window)


@enter(LAYERS, "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
def transposed(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor | Head:
    """A transposed convolution; Keras cuts an odd cell off the end."""
    kernel = _filters_first(layer.kernel)
    axes = _spatial_axes(layer, x)
    rank, size = len(axes), kernel.shape[2:]
    strides = per_axis(layer.strides, rank, "strides")
    dilations = per_axis(layer.dilation_rate, rank, "dilation_rate")
    expected = layer.compute_output_shape(x.shape)
    surplus = [
        (x.shape[a] - 1) * s + d * (k - 1) + 1 - expected[a]
        for a, k, s, d in zip(axes, size, strides, dilations)
    ]
    cut = [max(n, 0) for n in surplus]
    begin = [n // 2 if layer.padding == "same" else 0 for n in cut]
    end = [n - b for n, b in zip(cut, begin)]
    window = Window(size, strides, dilations, begin, end)
    extra = [max(-n, 0) for n in surplus]
    return _convolved(
        graph, name, layer, x, kernel, window, transposed=True, output_padding=extra
    )


# -------------------------------------------------------------------------- poolings
def _pool_window(layer: Any, x: Tensor) -> Window:
    return _window(layer, x, layer.pool_size, layer.strides or layer.pool_size)


@_for_axes("MaxPooling")
def max_pooling(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    """The largest entry of each window."""
    window = _pool_window(layer, x)
    return spatial.max_pool(graph, name, x, window, _is_channels_last(layer))


@_for_axes("AveragePooling")
def average_pooling(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    """The mean of each window; padding does not count, but see below."""
    import keras

    window = _pool_window(layer, x)
    if window.begin != window.end and keras.config.backend() == "torch":
        # With more padding at one end, Keras on PyTorch repeats the outermost cells
        # and averages over those too; the other backends leave the padding out.
        pairs = list(zip(window.begin, window.end))  # type: ignore[arg-type]
        x = _padded(graph, f"{name}_padded", layer, x, pairs, "edge")
        window = replace(window, begin=0, end=0)
    last = _is_channels_last(layer)
    return spatial.average_pool(graph, name, x, window, channels_last=last)


@_for_axes("GlobalAveragePooling")
def global_average(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    """The mean over all spatial axes."""
    return graph.reduce(name, x, _spatial_axes(layer, x), "mean", layer.keepdims)


@_for_axes("GlobalMaxPooling")
def global_max(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    """The largest entry over all spatial axes."""
    return graph.reduce(name, x, _spatial_axes(layer, x), "max", layer.keepdims)


# ------------------------------------------------------------ padding and repetition
def _pairs(value: Any) -> list[tuple[int, int]]:
    """``(2, 2)`` or ``((1, 2), (3, 4))`` as one (begin, end) for each spatial axis."""
    if all(np.ndim(v) == 0 for v in value):
        value = [value]
    return [(int(b), int(e)) for b, e in value]


def _padded(
    graph: TensorGraph,
    name: str,
    layer: Any,
    x: Tensor,
    pairs: Sequence[tuple[int, int]],
    mode: str = "constant",
) -> Tensor:
    """Pad the spatial axes; negative lengths crop."""
    before, after = [0] * len(x.shape), [0] * len(x.shape)
    for axis, (begin, end) in zip(_spatial_axes(layer, x), pairs):
        before[axis], after[axis] = begin, end
    return spatial.pad(graph, name, x, before, after, mode)


@_for_axes("ZeroPadding")
def zero_padding(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    """Zeros around the spatial axes."""
    return _padded(graph, name, layer, x, _pairs(layer.padding))


@_for_axes("Cropping")
def cropping(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    """The spatial axes without their ends."""
    pairs = [(-begin, -end) for begin, end in _pairs(layer.cropping)]
    return _padded(graph, name, layer, x, pairs)


@_for_axes("UpSampling")
def up_sampling(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Value:
    """Each cell repeated along the spatial axes."""
    kind = getattr(layer, "interpolation", "nearest")
    if kind != "nearest":
        raise refuse(layer, f"interpolates '{kind}'; only 'nearest' is supported.")
    axes = _spatial_axes(layer, x)
    factors = per_axis(layer.size, len(axes), "size")

    def repeat(codes: list[np.ndarray]) -> list[np.ndarray]:
        [index] = codes
        for axis, factor in zip(axes, factors):
            index = np.repeat(index, factor, axis=axis)
        return [index]

    return move(graph, name, [x], repeat)[0]
