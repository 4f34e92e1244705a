"""Translators: layers that join several tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyomo_relu.network import NetworkBuilder
from pyomo_relu.readers.keras import tensors
from pyomo_relu.readers.keras.registry import refuse, translates
from pyomo_relu.readers.keras.tensors import shape_of


def _check(layer: Any, builder: NetworkBuilder, sources) -> None:
    """Broadcasting without the batch axis is what Keras does, but for one odd case."""
    shapes = [shape_of(builder, s) for s in sources]
    ranks = {len(s) for s in shapes}
    if len(ranks) > 1 and not getattr(layer, "_reshape_required", True):
        raise refuse(
            layer,
            f"is shared between calls with different ranks (here {shapes}), which Keras "
            "broadcasts along the batch; use one layer for each call.",
        )
    try:
        np.broadcast_shapes(*shapes)
    except ValueError as e:
        raise refuse(layer, f"joins tensors of shapes {shapes}, which don't fit.") from e


@translates("Add")
def add(layer, builder, sources, name) -> int:
    """Sum of all tensors."""
    _check(layer, builder, sources)
    return tensors.combine(builder, name, sources, [1.0] * len(sources))


@translates("Subtract")
def subtract(layer, builder, sources, name) -> int:
    """First tensor minus the second."""
    _check(layer, builder, sources)
    return tensors.combine(builder, name, sources, [1.0, -1.0])


@translates("Average")
def average(layer, builder, sources, name) -> int:
    """Mean of all tensors."""
    _check(layer, builder, sources)
    return tensors.combine(builder, name, sources, [1.0 / len(sources)] * len(sources))


@translates("Maximum")
def maximum(layer, builder, sources, name) -> int:
    """Entry-wise maximum."""
    _check(layer, builder, sources)
    return tensors.extreme(builder, name, sources)


@translates("Minimum")
def minimum(layer, builder, sources, name) -> int:
    """Entry-wise minimum."""
    _check(layer, builder, sources)
    return tensors.extreme(builder, name, sources, -1.0)


@translates("Concatenate")
def concatenate(layer, builder, sources, name) -> int:
    """Tensors one after the other along an axis."""
    axis, rank = layer.axis, len(shape_of(builder, sources[0]))
    if axis == 0 or axis == -rank - 1:
        raise refuse(layer, "joins along the batch axis, which is not supported.")
    axis = axis - 1 if axis > 0 else axis
    return tensors.gather(
        builder, name, sources, lambda parts: np.concatenate(parts, axis=axis)
    )
