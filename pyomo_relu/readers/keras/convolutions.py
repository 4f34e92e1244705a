"""Translators: convolutions of all kinds, as sparse matrices.

Keras kernels are ``(*k, channels / groups, filters)``. The matrices are made channels
first and, for a channels-last layer, their rows and columns are put in its order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network import NetworkBuilder
from pyomo_relu.readers import windows
from pyomo_relu.readers.keras.layers import activated
from pyomo_relu.readers.keras.registry import Value, as_numpy, refuse, translates
from pyomo_relu.readers.keras.tensors import positions, shape_of

Pads = tuple[list[int], list[int]]


def channels_first(layer: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with the channels in front."""
    return shape if layer.data_format == "channels_first" else (shape[-1], *shape[:-1])


def native_order(layer: Any, first: tuple[int, ...]) -> tuple[tuple[int, ...], np.ndarray]:
    """The shape in the layer's data format, and the channels-first entry of each place."""
    index = positions(first)
    if layer.data_format != "channels_first":
        index = np.moveaxis(index, 0, -1)
    return index.shape, index.reshape(-1)


def native_matrix(
    layer: Any, matrix: sp.csr_array, before: tuple[int, ...], after: tuple[int, ...]
) -> sp.csr_array:
    """A channels-first matrix with rows and columns in the layer's data format."""
    if layer.data_format == "channels_first":
        return matrix
    _, read = native_order(layer, before)
    place = np.empty(len(read), dtype=matrix.indices.dtype)
    place[read] = np.arange(len(read), dtype=place.dtype)
    _, rows = native_order(layer, after)
    matrix = sp.csr_array(matrix[rows])
    matrix = sp.csr_array(
        (matrix.data, place[matrix.indices], matrix.indptr), shape=matrix.shape
    )
    matrix.sort_indices()
    return matrix


def pads(layer: Any, spatial, kernel, strides, dilations) -> Pads:
    """(begins, ends) of Keras' ``valid``, ``same`` and ``causal`` padding."""
    kind = str(layer.padding).lower()
    if kind == "valid":
        return [0] * len(spatial), [0] * len(spatial)
    if kind == "causal":
        return [d * (k - 1) for k, d in zip(kernel, dilations)], [0] * len(spatial)
    if kind != "same":
        raise refuse(layer, f"has the padding '{layer.padding}', which is not supported.")
    pairs = [
        windows.same_pads(n, k, s, d)
        for n, k, s, d in zip(spatial, kernel, strides, dilations)
    ]
    return [b for b, _ in pairs], [e for _, e in pairs]


def _add_affine(
    layer: Any,
    builder: NetworkBuilder,
    source: int,
    name: str,
    matrix: sp.csr_array,
    before: tuple[int, ...],
    after: tuple[int, ...],
) -> Value:
    """Add the matrix, the bias of each filter and the activation."""
    bias: Any = 0.0
    shape, order = native_order(layer, after)
    if layer.use_bias:
        cells = int(np.prod(after[1:], dtype=np.int64))
        bias = np.repeat(as_numpy(layer.bias), cells)[order]
    matrix = native_matrix(layer, matrix, before, after)
    affine = builder.affine(name, [(source, matrix)], bias, shape)
    return activated(layer, builder, affine, name)


def _convolve(layer, before, kernel, groups) -> tuple[sp.csr_array, tuple[int, ...]]:
    """The channels-first matrix for a kernel (filters, channels / groups, *k)."""
    rank = len(before) - 1
    strides = windows.per_axis(layer.strides, rank, "strides")
    dilations = windows.per_axis(layer.dilation_rate, rank, "dilation_rate")
    begin, end = pads(layer, before[1:], kernel.shape[2:], strides, dilations)
    return windows.convolution_matrix(
        kernel, before, strides, begin, end, dilations, groups
    )


def _depthwise_kernel(kernel: np.ndarray) -> np.ndarray:
    """(*k, channels, multiplier) -> (channels * multiplier, 1, *k), grouped."""
    moved = np.moveaxis(kernel, (-2, -1), (0, 1))
    return moved.reshape(-1, 1, *kernel.shape[:-2])


@translates("Conv1D", "Conv2D", "Conv3D")
def convolution(layer, builder, sources, name) -> Value:
    """A convolution with strides, dilation and groups."""
    before = channels_first(layer, shape_of(builder, sources[0]))
    kernel = np.moveaxis(as_numpy(layer.kernel), (-1, -2), (0, 1))
    matrix, after = _convolve(layer, before, kernel, layer.groups)
    return _add_affine(layer, builder, sources[0], name, matrix, before, after)


@translates("DepthwiseConv1D", "DepthwiseConv2D")
def depthwise(layer, builder, sources, name) -> Value:
    """Each channel with its own ``depth_multiplier`` filters."""
    before = channels_first(layer, shape_of(builder, sources[0]))
    kernel = _depthwise_kernel(as_numpy(layer.kernel))
    matrix, after = _convolve(layer, before, kernel, before[0])
    return _add_affine(layer, builder, sources[0], name, matrix, before, after)


@translates("SeparableConv1D", "SeparableConv2D")
def separable(layer, builder, sources, name) -> Value:
    """A depthwise convolution, then a pointwise one; one matrix."""
    before = channels_first(layer, shape_of(builder, sources[0]))
    kernel = _depthwise_kernel(as_numpy(layer.depthwise_kernel))
    inner, between = _convolve(layer, before, kernel, before[0])
    pointwise = np.moveaxis(as_numpy(layer.pointwise_kernel), (-1, -2), (0, 1))
    outer, after = windows.convolution_matrix(pointwise, between)
    matrix = sp.csr_array(outer @ inner)
    return _add_affine(layer, builder, sources[0], name, matrix, before, after)


@translates("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
def transposed(layer, builder, sources, name) -> Value:
    """A transposed convolution; Keras cuts an odd cell off the end."""
    native = shape_of(builder, sources[0])
    before = channels_first(layer, native)
    rank = len(before) - 1
    kernel = np.moveaxis(as_numpy(layer.kernel), (-1, -2), (0, 1))
    strides = windows.per_axis(layer.strides, rank, "strides")
    dilations = windows.per_axis(layer.dilation_rate, rank, "dilation_rate")
    expected = tuple(layer.compute_output_shape((1, *native)))[1:]
    out = channels_first(layer, expected)[1:]
    begin, end, extra = [], [], []
    for n, k, s, d, o in zip(before[1:], kernel.shape[2:], strides, dilations, out):
        surplus = (n - 1) * s + d * (k - 1) + 1 - o
        cut = max(surplus, 0)
        front = cut // 2 if layer.padding == "same" else 0
        begin.append(front)
        end.append(cut - front)
        extra.append(max(-surplus, 0))
    matrix, after = windows.transposed_convolution_matrix(
        kernel, before, strides, begin, end, dilations, output_padding=extra
    )
    return _add_affine(layer, builder, sources[0], name, matrix, before, after)
