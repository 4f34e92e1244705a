"""Translators: maximum and average pooling, windowed and global."""

from __future__ import annotations

import numpy as np

from pyomo_relu.readers import windows
from pyomo_relu.readers.keras import tensors
from pyomo_relu.readers.keras.convolutions import (
    channels_first,
    native_matrix,
    native_order,
    pads,
)
from pyomo_relu.readers.keras.registry import translates
from pyomo_relu.readers.keras.reshaping import spatial_axes
from pyomo_relu.readers.keras.tensors import positions, shape_of


def _windows(layer, builder, source):
    """Channels-first input shape, and the window with its strides and pads."""
    before = channels_first(layer, shape_of(builder, source))
    rank = len(before) - 1
    kernel = windows.per_axis(layer.pool_size, rank, "pool_size")
    strides = windows.per_axis(layer.strides or layer.pool_size, rank, "strides")
    begin, end = pads(layer, before[1:], kernel, strides, (1,) * rank)
    return before, (kernel, strides, begin, end)


@translates("MaxPooling1D", "MaxPooling2D", "MaxPooling3D")
def max_pooling(layer, builder, sources, name) -> int:
    """The maximum of each window; padding never counts."""
    before, window = _windows(layer, builder, sources[0])
    groups, after = windows.pooling_groups(before, *window)
    _, read = native_order(layer, before)
    place = np.empty(len(read), dtype=np.int64)
    place[read] = np.arange(len(read))
    shape, order = native_order(layer, after)
    ordered = [place[groups[j]] for j in order]
    return builder.max(name, sources[0], ordered, shape)


@translates("AveragePooling1D", "AveragePooling2D", "AveragePooling3D")
def average_pooling(layer, builder, sources, name) -> int:
    """The mean of each window; padding does not count, but see below."""
    import keras

    source = sources[0]
    before, (kernel, strides, begin, end) = _windows(layer, builder, source)
    if begin != end and keras.config.backend() == "torch":
        # With more padding at one end, Keras on PyTorch repeats the outermost cells
        # and averages over those too; the other backends leave the padding out.
        pairs = list(zip(begin, end))
        at = 1 if layer.data_format == "channels_first" else 0
        widths = [(0, 0)] * at + pairs + [(0, 0)] * (1 - at)
        source = tensors.rearrange(
            builder, f"{name}_padded", source, lambda i: np.pad(i, widths, mode="edge")
        )
        before = channels_first(layer, shape_of(builder, source))
        begin, end = [0] * len(pairs), [0] * len(pairs)
    matrix, after = windows.average_matrix(before, kernel, strides, begin, end)
    shape, _ = native_order(layer, after)
    matrix = native_matrix(layer, matrix, before, after)
    return builder.affine(name, [(source, matrix)], 0.0, shape)


def reduced(shape, axes, keepdims) -> tuple[np.ndarray, tuple[int, ...]]:
    """(outputs, entries) positions that a reduction over ``axes`` joins, and its shape."""
    axes = sorted(a % len(shape) for a in axes)
    kept = [a for a in range(len(shape)) if a not in axes]
    moved = positions(shape).transpose([*kept, *axes])
    groups = moved.reshape(int(np.prod([shape[a] for a in kept], dtype=np.int64)), -1)
    if keepdims:
        return groups, tuple(1 if a in axes else n for a, n in enumerate(shape))
    return groups, tuple(shape[a] for a in kept)


def reduced_sum(builder, name, source, axes, keepdims, mean) -> int:
    """The sum or mean of a tensor over ``axes`` (the batch axis not counted)."""
    groups, shape = reduced(shape_of(builder, source), axes, keepdims)
    rows, entries = groups.shape
    matrix = tensors.selection(groups, builder.nodes[source].size)
    matrix.data *= 1.0 / entries if mean else 1.0
    # Consecutive rows of the selection are the entries of one sum: join them.
    joined = type(matrix)(
        (matrix.data, matrix.indices, matrix.indptr[::entries]),
        shape=(rows, matrix.shape[1]),
    )
    return builder.affine(name, [(source, joined)], 0.0, shape)


@translates("GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D")
def global_average(layer, builder, sources, name) -> int:
    """The mean over all spatial axes."""
    axes = spatial_axes(layer, len(shape_of(builder, sources[0])))
    return reduced_sum(builder, name, sources[0], axes, layer.keepdims, mean=True)


@translates("GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D")
def global_max(layer, builder, sources, name) -> int:
    """The maximum over all spatial axes."""
    axes = spatial_axes(layer, len(shape_of(builder, sources[0])))
    groups, shape = reduced(shape_of(builder, sources[0]), axes, layer.keepdims)
    return builder.max(name, sources[0], list(groups), shape)
