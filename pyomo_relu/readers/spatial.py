"""Convolution, pooling, padding and batch normalization on :class:`Tensor`.

Shared by all readers. Tensors are (N, C, *spatial), or with ``channels_last``
(N, *spatial, C); one sample is read, so N is 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network.limits import TooLargeError, need_entries
from pyomo_relu.readers import windows
from pyomo_relu.readers.moves import move
from pyomo_relu.readers.tensors import TensorGraph, broadcast_shape
from pyomo_relu.readers.values import Tensor, Value
from pyomo_relu.readers.windows import Ints, Shape, Window


def channels_first_shape(name: str, x: Tensor, channels_last: bool = False) -> Shape:
    """(C, *spatial) of a tensor of one sample."""
    if len(x.shape) < 3 or x.shape[0] != 1 or x.batch not in (None, 0):
        raise ValueError(
            f"layer '{name}' needs an input of shape (N, channels, length, ...) read for "
            f"one sample (N = 1); it has {x.shape}."
        )
    return (x.shape[-1], *x.shape[1:-1]) if channels_last else x.shape[1:]


def _stored(shape: Shape, channels_last: bool) -> np.ndarray:
    """The channels-first position of each entry, in the order and shape of storage."""
    index = np.arange(prod(shape)).reshape(shape)
    return np.moveaxis(index, 0, -1) if channels_last else index


def _places(shape: Shape, channels_last: bool) -> np.ndarray:
    """Where each entry of a channels-first tensor is stored, flat."""
    order = _stored(shape, channels_last).reshape(-1)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return place


def _stored_matrix(matrix: sp.csr_array, before: Shape, after: Shape) -> sp.csr_array:
    """A channels-first matrix with its rows and columns channels last."""
    rows = _stored(after, True).reshape(-1)
    place = _places(before, True).astype(matrix.indices.dtype)
    matrix = sp.csr_array(matrix[rows])
    parts = (matrix.data, place[matrix.indices], matrix.indptr)
    matrix = sp.csr_array(parts, shape=matrix.shape)
    matrix.sort_indices()
    return matrix


@contextmanager
def _of_layer(name: str) -> Iterator[None]:
    """Errors about windows name the layer."""
    try:
        yield
    except TooLargeError:
        raise
    except ValueError as error:
        raise ValueError(f"layer '{name}': {error}") from None


def _constant(name: str, value: Value, what: str) -> np.ndarray:
    if isinstance(value, Tensor):
        raise ValueError(f"layer '{name}': its {what} depends on the input.")
    return np.asarray(value, dtype=float)


def _linear(
    graph: TensorGraph,
    name: str,
    x: Tensor,
    matrix: sp.csr_array,
    after: Shape,
    bias: np.ndarray | float,
    channels_last: bool,
) -> Tensor:
    """Apply a channels-first matrix, and add a bias for each channel."""
    stored = _stored(after, channels_last)
    if channels_last:
        before = channels_first_shape(name, x, channels_last)
        matrix = _stored_matrix(matrix, before, after)
    if isinstance(bias, np.ndarray):
        bias = np.repeat(bias, prod(after[1:]))[stored.reshape(-1)]
    return graph.affine(name, [(x, matrix)], bias, (1, *stored.shape), x.batch)


def convolution(
    graph: TensorGraph,
    name: str,
    x: Tensor,
    kernel: Value,
    bias: Value | None,
    window: Window,
    groups: int = 1,
    *,
    transposed: bool = False,
    output_padding: Ints = 0,
    channels_last: bool = False,
) -> Tensor:
    """A convolution, or a transposed one; kernels as in :mod:`.windows`."""
    shape = channels_first_shape(name, x, channels_last)
    weight = _constant(name, kernel, "kernel")
    with _of_layer(name):
        if transposed:
            matrix, out = windows.transposed_convolution_matrix(
                weight, shape, window, groups, output_padding
            )
        else:
            matrix, out = windows.convolution_matrix(weight, shape, window, groups)
    offset = np.zeros(1) if bias is None else _constant(name, bias, "bias").reshape(-1)
    if len(offset) not in (1, out[0]):
        raise ValueError(f"layer '{name}': {len(offset)} biases for {out[0]} filters.")
    offset = np.broadcast_to(offset, (out[0],))
    return _linear(graph, name, x, matrix, out, offset, channels_last)


def max_pool(
    graph: TensorGraph, name: str, x: Tensor, window: Window, channels_last: bool = False
) -> Tensor:
    """Max pooling; padding never wins."""
    shape = channels_first_shape(name, x, channels_last)
    with _of_layer(name):
        groups, out = windows.pooling_groups(shape, window)
    stored = _stored(out, channels_last)
    if channels_last:
        place = _places(shape, channels_last)
        groups = [place[groups[k]] for k in stored.reshape(-1)]
    return graph.max(name, x, groups, (1, *stored.shape), x.batch)


def average_pool(
    graph: TensorGraph,
    name: str,
    x: Tensor,
    window: Window,
    count_include_pad: bool = False,
    channels_last: bool = False,
) -> Tensor:
    """Average pooling."""
    shape = channels_first_shape(name, x, channels_last)
    with _of_layer(name):
        matrix, out = windows.average_matrix(
            shape, window, count_include_pad=count_include_pad
        )
    return _linear(graph, name, x, matrix, out, 0.0, channels_last)


def batch_normalization(
    graph: TensorGraph,
    name: str,
    x: Tensor,
    scale: Value,
    shift: Value,
    mean: Value,
    variance: Value,
    epsilon: float,
    axis: int = 1,
) -> Tensor:
    """``scale * (x - mean) / sqrt(variance + epsilon) + shift``, channels on ``axis``."""
    if not -len(x.shape) <= axis < len(x.shape):
        raise ValueError(f"layer '{name}' needs a channel axis; its input has {x.shape}.")
    axis %= len(x.shape)
    channels = x.shape[axis]
    parts = [
        _constant(name, v, "statistics").reshape(-1) for v in (scale, shift, mean, variance)
    ]
    if any(len(p) != channels for p in parts):
        raise ValueError(f"layer '{name}' doesn't fit the {channels} channels it reads.")
    a, b, m, v = (p.reshape((-1,) + (1,) * (len(x.shape) - 1 - axis)) for p in parts)
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = a / np.sqrt(v + epsilon)
    return graph.standardize(name, x, m, factor, b)


def pad(
    graph: TensorGraph,
    name: str,
    x: Tensor,
    before: Sequence[int],
    after: Sequence[int],
    mode: str = "constant",
    value: float = 0.0,
) -> Tensor:
    """Pad every axis; a negative length crops. Modes as NumPy names them."""
    widths = list(zip(map(int, before), map(int, after)))
    if x.batch is not None and widths[x.batch] != (0, 0):
        raise ValueError(f"layer '{name}' pads the batch axis.")
    shape = [n + b + a for n, (b, a) in zip(x.shape, widths)]
    if min(shape, default=1) < 1:
        raise ValueError(f"layer '{name}' pads {x.shape} to the shape {tuple(shape)}.")
    need_entries(f"layer '{name}' of shape {tuple(shape)}", shape)
    kept = (slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(x.shape, widths))
    grown = [(max(b, 0), max(a, 0)) for b, a in widths]
    filling = {"constant_values": -1} if mode == "constant" else {}
    codes = np.pad(x.index[tuple(kept)], grown, mode=mode, **filling)  # type: ignore[call-overload]
    return graph.rearrange(name, [x], codes, np.array([float(value)]), x.batch)


def where(
    graph: TensorGraph, name: str, condition: Value | None, a: Value, b: Value
) -> Tensor:
    """Entries of ``a`` where ``condition`` holds, else of ``b``.

    A condition that depends on the input must be a comparison whose choice is a function
    of what is compared; see :meth:`~pyomo_relu.readers.tensors.TensorGraph.choose`.
    """
    if isinstance(condition, Tensor):
        return graph.choose(name, condition, a, b)
    mask = np.asarray(condition, dtype=bool)
    broadcast_shape(name, mask.shape, a.shape, b.shape)
    [chosen] = move(graph, name, [a, b], lambda codes: [np.where(mask, *codes)])
    assert isinstance(chosen, Tensor)
    return chosen
