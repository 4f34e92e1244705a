"""Convolution, pooling, padding and batch normalization on :class:`Tensor`.

Shared by the ONNX and PyTorch walkers. Tensors are channels first, (N, C, *spatial);
one sample is read, so N is 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyomo_relu.network.limits import TooLargeError, need_entries
from pyomo_relu.readers import windows
from pyomo_relu.readers.moves import move
from pyomo_relu.readers.tensors import TensorGraph, broadcast_shape
from pyomo_relu.readers.values import Tensor, Value


def _channels_first(name: str, x: Tensor) -> tuple[int, ...]:
    """(C, *spatial) of a tensor (1, C, *spatial)."""
    if len(x.shape) < 3 or x.shape[0] != 1 or x.batch not in (None, 0):
        raise ValueError(
            f"layer '{name}' needs an input of shape (N, channels, length, ...) read for "
            f"one sample (N = 1); it has {x.shape}."
        )
    return x.shape[1:]


def _constant(name: str, value: Value, what: str) -> np.ndarray:
    if isinstance(value, Tensor):
        raise ValueError(f"layer '{name}': its {what} depends on the input.")
    return np.asarray(value, dtype=float)


def convolution(
    graph: TensorGraph,
    name: str,
    x: Tensor,
    kernel: Value,
    bias: Value | None = None,
    *,
    transposed: bool = False,
    output_padding: Sequence[int] | int = 0,
    **geometry,
) -> Tensor:
    """A convolution, or a transposed one; ``geometry`` as in :mod:`.windows`."""
    shape = _channels_first(name, x)
    weight = _constant(name, kernel, "kernel")
    try:
        if transposed:
            matrix, out = windows.transposed_convolution_matrix(
                weight, shape, output_padding=output_padding, **geometry
            )
        else:
            matrix, out = windows.convolution_matrix(weight, shape, **geometry)
    except TooLargeError:
        raise
    except ValueError as error:
        raise ValueError(f"layer '{name}': {error}") from None
    offset = np.zeros(out[0]) if bias is None else _constant(name, bias, "bias").reshape(-1)
    if len(offset) not in (1, out[0]):
        raise ValueError(f"layer '{name}': {len(offset)} biases for {out[0]} filters.")
    offset = np.broadcast_to(offset, (out[0],))
    cells = int(np.prod(out[1:], dtype=np.int64))
    return graph.affine(name, [(x, matrix)], np.repeat(offset, cells), (1, *out), x.batch)


def max_pool(graph: TensorGraph, name: str, x: Tensor, kernel, **geometry) -> Tensor:
    """Max pooling; padding never wins."""
    shape = _channels_first(name, x)
    try:
        groups, out = windows.pooling_groups(shape, kernel, **geometry)
    except TooLargeError:
        raise
    except ValueError as error:
        raise ValueError(f"layer '{name}': {error}") from None
    return graph.max(name, x, groups, (1, *out), x.batch)


def average_pool(graph: TensorGraph, name: str, x: Tensor, kernel, **geometry) -> Tensor:
    """Average pooling."""
    shape = _channels_first(name, x)
    try:
        matrix, out = windows.average_matrix(shape, kernel, **geometry)
    except TooLargeError:
        raise
    except ValueError as error:
        raise ValueError(f"layer '{name}': {error}") from None
    return graph.affine(name, [(x, matrix)], 0.0, (1, *out), x.batch)


def batch_normalization(
    graph: TensorGraph, name: str, x: Tensor, scale, shift, mean, variance, epsilon: float
) -> Tensor:
    """``scale * (x - mean) / sqrt(variance + epsilon) + shift``, channels on axis 1."""
    if len(x.shape) < 2:
        raise ValueError(f"layer '{name}' needs a channel axis; its input has {x.shape}.")
    parts = [
        _constant(name, v, "statistics").reshape(-1) for v in (scale, shift, mean, variance)
    ]
    a, b, m, v = parts
    if any(len(p) != x.shape[1] for p in parts):
        raise ValueError(f"layer '{name}' doesn't fit the {x.shape[1]} channels it reads.")
    factor = a / np.sqrt(v + epsilon)
    wide = (-1,) + (1,) * (len(x.shape) - 2)
    return graph.standardize(
        name, x, m.reshape(wide), factor.reshape(wide), b.reshape(wide)
    )


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
    codes = x.index
    for axis, (b, a) in enumerate(widths):
        keep = slice(max(-b, 0), codes.shape[axis] - max(-a, 0))
        codes = codes[(slice(None),) * axis + (keep,)]
    grown = [(max(b, 0), max(a, 0)) for b, a in widths]
    if mode == "constant":
        codes = np.pad(codes, grown, constant_values=-1)
    else:
        codes = np.pad(codes, grown, mode=mode)  # type: ignore[call-overload]
    return graph.rearrange(name, [x], codes, np.array([float(value)]), x.batch)


def where(graph: TensorGraph, name: str, condition, a: Value, b: Value) -> Tensor:
    """Entries of ``a`` where the constant ``condition`` holds, else of ``b``."""
    if isinstance(condition, Tensor):
        raise ValueError(f"layer '{name}': its condition depends on the input.")
    mask = np.asarray(condition, dtype=bool)
    broadcast_shape(name, mask.shape, a.shape, b.shape)
    [chosen] = move(graph, name, [a, b], lambda codes: [np.where(mask, *codes)])
    assert isinstance(chosen, Tensor)
    return chosen
