"""Translators: layers that only move, repeat, drop or pad entries."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyomo_relu.readers.keras.registry import refuse, translates
from pyomo_relu.readers.keras.tensors import rearrange, shape_of


def spatial_axes(layer: Any, rank: int) -> range:
    """The spatial axes of a tensor with ``rank`` axes, the batch axis not counted."""
    first = 1 if getattr(layer, "data_format", None) == "channels_first" else 0
    return range(first, first + rank - 1)


@translates("Flatten")
def flatten(layer, builder, sources, name) -> int:
    """One axis; a channels-first tensor is put channels last before."""

    def order(index):
        if layer.data_format == "channels_first" and index.ndim > 1:
            index = np.moveaxis(index, 0, -1)
        return index.reshape(-1)

    return rearrange(builder, name, sources[0], order)


@translates("Reshape")
def reshape(layer, builder, sources, name) -> int:
    """Another shape, the same C order."""
    return rearrange(builder, name, sources[0], lambda i: i.reshape(layer.target_shape))


@translates("Permute")
def permute(layer, builder, sources, name) -> int:
    """Axes in another order; ``dims`` count from 1."""
    axes = [d - 1 for d in layer.dims]
    return rearrange(builder, name, sources[0], lambda i: i.transpose(axes))


@translates("RepeatVector")
def repeat_vector(layer, builder, sources, name) -> int:
    """The vector ``n`` times."""
    return rearrange(builder, name, sources[0], lambda i: np.tile(i, (layer.n, 1)))


def _pairs(value: Any) -> list[tuple[int, int]]:
    """``(2, 2)`` or ``((1, 2), (3, 4))`` as one (begin, end) for each spatial axis."""
    if all(np.ndim(v) == 0 for v in value):
        value = [value]
    return [(int(b), int(e)) for b, e in value]


@translates("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D")
def zero_padding(layer, builder, sources, name) -> int:
    """Zeros around the spatial axes."""
    rank = len(shape_of(builder, sources[0]))
    widths = [(0, 0)] * rank
    for axis, pair in zip(spatial_axes(layer, rank), _pairs(layer.padding)):
        widths[axis] = pair
    return rearrange(
        builder, name, sources[0], lambda i: np.pad(i, widths, constant_values=-1)
    )


@translates("Cropping1D", "Cropping2D", "Cropping3D")
def cropping(layer, builder, sources, name) -> int:
    """Cells cut off the spatial axes."""
    shape = shape_of(builder, sources[0])
    slices = [slice(None)] * len(shape)
    pairs = _pairs(layer.cropping)
    for axis, (begin, end) in zip(spatial_axes(layer, len(shape)), pairs):
        slices[axis] = slice(begin, shape[axis] - end)
    return rearrange(builder, name, sources[0], lambda i: i[tuple(slices)])


@translates("UpSampling1D", "UpSampling2D", "UpSampling3D")
def up_sampling(layer, builder, sources, name) -> int:
    """Each cell repeated along the spatial axes."""
    kind = getattr(layer, "interpolation", "nearest")
    if kind != "nearest":
        raise refuse(layer, f"interpolates '{kind}'; only 'nearest' is supported.")
    rank = len(shape_of(builder, sources[0]))
    axes = spatial_axes(layer, rank)
    factors = [layer.size] * len(axes) if np.ndim(layer.size) == 0 else layer.size

    def repeat(index):
        for axis, factor in zip(axes, factors):
            index = np.repeat(index, factor, axis=axis)
        return index

    return rearrange(builder, name, sources[0], repeat)
