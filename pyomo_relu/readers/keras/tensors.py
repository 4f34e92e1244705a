"""Tensor arithmetic on flat vectors: every rearrangement is an array of positions.

To see where the entries of a tensor go, apply the NumPy operation to the array of
their positions; the result says which entry each place reads (-1: a zero).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network import NetworkBuilder
from pyomo_relu.network.limits import need_weights


def shape_of(builder: NetworkBuilder, source: int) -> tuple[int, ...]:
    """Shape of a tensor without the batch axis."""
    return builder.nodes[source].shape


def positions(shape: Sequence[int]) -> np.ndarray:
    """The flat position of each entry of a tensor, as a tensor."""
    return np.arange(int(np.prod(shape, dtype=np.int64))).reshape(tuple(shape))


def selection(indices: np.ndarray, size: int) -> sp.csr_array:
    """The matrix that reads the entries ``indices`` of a vector; -1 reads a zero."""
    indices = np.asarray(indices).reshape(-1)
    rows = np.flatnonzero(indices >= 0)
    return sp.csr_array(
        (np.ones(len(rows)), (rows, indices[rows])), shape=(len(indices), size)
    )


def rearrange(
    builder: NetworkBuilder,
    name: str,
    source: int,
    function: Callable[[np.ndarray], np.ndarray],
) -> int:
    """Apply a NumPy rearrangement (reshape, transpose, pad with -1, ...) to a tensor."""
    index = function(positions(shape_of(builder, source)))
    return builder.select(name, source, index, index.shape)


def gather(builder: NetworkBuilder, name: str, sources: Sequence[int], join) -> int:
    """Join tensors with ``join(list of position tensors)``: concatenate, stack, ..."""
    parts, start = [], 0
    for source in sources:
        index = positions(shape_of(builder, source)) + start
        start += index.size
        parts.append(index)
    index = join(parts)
    flat, start = index.reshape(-1), 0
    terms = []
    for source, part in zip(sources, parts):
        inside = (flat >= start) & (flat < start + part.size)
        terms.append((source, selection(np.where(inside, flat - start, -1), part.size)))
        start += part.size
    return builder.affine(name, terms, 0.0, index.shape)


def scale_and_shift(
    builder: NetworkBuilder, name: str, source: int, scale, shift=0.0
) -> int:
    """``scale * x + shift``; both broadcast against the tensor's shape, or widen it."""
    scale, shift = np.asarray(scale, dtype=float), np.asarray(shift, dtype=float)
    before = shape_of(builder, source)
    shape = np.broadcast_shapes(before, scale.shape, shift.shape)
    index = np.broadcast_to(positions(before), shape).reshape(-1)
    size = len(index)
    matrix = sp.csr_array(
        (
            np.broadcast_to(scale, shape).reshape(-1).copy(),
            index.copy(),
            np.arange(size + 1),
        ),
        shape=(size, builder.nodes[source].size),
    )
    bias = np.broadcast_to(shift, shape).reshape(-1)
    return builder.affine(name, [(source, matrix)], bias, shape)


def standardize(
    builder: NetworkBuilder, name: str, source: int, mean, scale, offset=0.0
) -> int:
    """``scale * (x - mean) + offset``, in two nodes that are fused later.

    Where the mean and the offset nearly cancel, a bias that holds both would not show
    what Keras rounds by.
    """
    centred = scale_and_shift(builder, f"{name}_centred", source, 1.0, -mean)
    return scale_and_shift(builder, name, centred, scale, offset)


def combine(
    builder: NetworkBuilder,
    name: str,
    sources: Sequence[int],
    factors: Sequence[float],
) -> int:
    """``sum of factor * tensor``, the shapes broadcast against each other."""
    shape = np.broadcast_shapes(*(shape_of(builder, s) for s in sources))
    terms = []
    for source, factor in zip(sources, factors):
        before = shape_of(builder, source)
        index = np.broadcast_to(positions(before), shape)
        terms.append((source, factor * selection(index, builder.nodes[source].size)))
    return builder.affine(name, terms, 0.0, shape)


def extreme(
    builder: NetworkBuilder, name: str, sources: Sequence[int], sign: float = 1.0
) -> int:
    """Entry-wise maximum of tensors; minimum (``-max(-x)``) with ``sign=-1``."""
    shape = np.broadcast_shapes(*(shape_of(builder, s) for s in sources))
    if len(sources) == 1:
        return sources[0]
    blocks = []
    for k, source in enumerate(sources):
        part = selection(
            np.broadcast_to(positions(shape_of(builder, source)), shape),
            builder.nodes[source].size,
        )
        rows = [sp.csr_array((part.shape[0], part.shape[1]))] * len(sources)
        rows[k] = sign * part
        blocks.append((source, sp.csr_array(sp.vstack(rows))))
    stacked = builder.affine(f"{name}_stack", blocks, 0.0, (len(sources), *shape))
    size = int(np.prod(shape, dtype=np.int64))
    groups = np.arange(len(sources) * size).reshape(len(sources), size).T
    return grouped_extreme(builder, name, stacked, list(groups), shape, sign, True)


def grouped_extreme(
    builder: NetworkBuilder,
    name: str,
    source: int,
    groups: Sequence[Sequence[int] | np.ndarray],
    shape: Sequence[int],
    sign: float = 1.0,
    negated: bool = False,
) -> int:
    """Maximum over groups of entries; minimum with ``sign=-1``.

    ``negated`` says that the entries of ``source`` carry the sign already.
    """
    if sign > 0:
        return builder.max(name, source, groups, shape)
    if not negated:
        source = scale_and_shift(builder, f"{name}_negated", source, -1.0)
    largest = builder.max(f"{name}_max", source, groups, shape)
    return scale_and_shift(builder, name, largest, -1.0)


def apply_matrix(
    builder: NetworkBuilder, name: str, source: int, kernel: np.ndarray, bias=None
) -> int:
    """``x @ kernel + bias`` along the last axis, for a kernel of shape (in, out)."""
    shape = shape_of(builder, source)
    if not shape or shape[-1] != kernel.shape[0]:
        raise ValueError(
            f"layer '{name}': a kernel of shape {kernel.shape} doesn't fit a tensor of "
            f"shape {shape}."
        )
    rows = int(np.prod(shape[:-1], dtype=np.int64))
    matrix = np.ascontiguousarray(kernel.T)
    if rows > 1:
        need_weights(f"the weights of layer '{name}'", float(rows) * kernel.size)
        matrix = sp.kron(sp.eye_array(rows), sp.csr_array(matrix), format="csr")
    b = 0.0 if bias is None else np.tile(np.asarray(bias), rows)
    return builder.affine(name, [(source, matrix)], b, (*shape[:-1], kernel.shape[1]))
