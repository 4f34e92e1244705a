"""Sliding windows as sparse matrices and index groups, whatever framework they came from.

Everything here is channels first: a tensor is ``(C, *spatial)`` with one to three
spatial axes, flattened in C order. A reader of a channels-last framework permutes the
rows and columns of what it gets. Nothing is densified and nothing loops over pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network.limits import ENTRY, need, need_entries, need_weights

Ints = int | Sequence[int]


def per_axis(value: Ints, rank: int, what: str) -> tuple[int, ...]:
    """``value`` as one integer for each of ``rank`` axes.

    Raises
    ------
    ValueError
        If a sequence of another length is given.
    """
    if np.ndim(value) == 0:
        return (int(value),) * rank  # type: ignore[arg-type]
    result = tuple(int(v) for v in value)  # type: ignore[union-attr]
    if len(result) != rank:
        raise ValueError(
            f"{what} has {len(result)} entries; {rank} spatial axes need {rank}."
        )
    return result


def same_pads(
    length: int, kernel: int, stride: int = 1, dilation: int = 1, *, lower: bool = False
) -> tuple[int, int]:
    """(begin, end) padding of one axis so that the output has ceil(length / stride) cells.

    An odd cell goes to the end, or to the beginning with ``lower=True`` (TensorFlow's
    ``same`` and ONNX' ``SAME_UPPER``, ``SAME_LOWER``).
    """
    out = -(-length // stride)
    total = max((out - 1) * stride + dilation * (kernel - 1) + 1 - length, 0)
    small, large = total // 2, total - total // 2
    return (large, small) if lower else (small, large)


def output_length(
    length: int,
    kernel: int,
    stride: int = 1,
    dilation: int = 1,
    pad_begin: int = 0,
    pad_end: int = 0,
    *,
    ceil_mode: bool = False,
) -> int:
    """Number of windows along one axis.

    With ``ceil_mode`` a last, partial window counts too, unless it would start in the
    padding at the end (the rule of PyTorch and of ONNX since opset 19).
    """
    span = length + pad_begin + pad_end - dilation * (kernel - 1) - 1
    if span < 0:
        return 0
    if not ceil_mode:
        return span // stride + 1
    out = -(-span // stride) + 1
    return out - 1 if (out - 1) * stride >= length + pad_begin else out


def _starts(spatial, kernel, strides, dilations, begin, out) -> list[np.ndarray]:
    """For each axis the (out, kernel) coordinates that the windows touch."""
    return [
        np.arange(o)[:, None] * s - b + np.arange(k)[None, :] * d
        for k, s, d, b, o in zip(kernel, strides, dilations, begin, out)
    ]


def _outer(parts: Sequence[np.ndarray], combine) -> np.ndarray:
    """Combine (out_i, kernel_i) arrays to (prod out, prod kernel), C order in both."""
    result = parts[0]
    for part in parts[1:]:
        wide = combine(result[:, None, :, None], part[None, :, None, :])
        result = wide.reshape(
            result.shape[0] * part.shape[0], result.shape[1] * part.shape[1]
        )
    return result


def window_positions(
    spatial: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads_begin: Sequence[int],
    out: Sequence[int],
) -> np.ndarray:
    """The flat spatial cell that each tap of each window reads.

    Returns
    -------
    (prod(out), prod(kernel)) int array
        -1 where a tap falls into the padding.
    """
    flat = np.zeros((1, 1), dtype=np.int64)
    valid = np.ones((1, 1), dtype=bool)
    for axis, n in zip(
        _starts(spatial, kernel, strides, dilations, pads_begin, out), spatial
    ):
        flat = _outer([flat, axis], lambda a, b, n=n: a * n + b)
        valid = _outer([valid, (axis >= 0) & (axis < n)], np.logical_and)
    return np.where(valid, flat, -1)


def _checked(input_shape, strides, dilations, pads_begin, pads_end):
    shape = tuple(int(n) for n in input_shape)
    rank = len(shape) - 1
    if rank < 1:
        raise ValueError(
            f"a window needs a channel axis and a spatial axis; the input is {shape}."
        )
    strides = per_axis(strides, rank, "strides")
    dilations = per_axis(dilations, rank, "dilations")
    if min(strides) < 1 or min(dilations) < 1:
        raise ValueError(f"strides {strides} and dilations {dilations} must be at least 1.")
    if min(shape) < 1:
        raise ValueError(f"a window can't slide over an input of shape {shape}.")
    begin = per_axis(pads_begin, rank, "pads_begin")
    end = per_axis(pads_end, rank, "pads_end")
    return shape, strides, dilations, begin, end


def _out_spatial(shape, kernel, strides, dilations, begin, end, ceil_mode=False):
    out = tuple(
        output_length(n, k, s, d, b, e, ceil_mode=ceil_mode)
        for n, k, s, d, b, e in zip(shape[1:], kernel, strides, dilations, begin, end)
    )
    if min(out) < 1 or min(kernel) < 1:
        raise ValueError(
            f"a window of size {tuple(kernel)} (dilation {dilations}) doesn't fit into an "
            f"input of shape {shape} with padding {begin} and {end}."
        )
    return out


def _need_windows(kernel: Sequence[int], out: Sequence[int], channels: int) -> None:
    """Ask for the memory of the matrix that reads each cell of each window."""
    cells = float(np.prod(kernel, dtype=float) * np.prod(out, dtype=float))
    need(f"windows of size {tuple(kernel)} at {tuple(out)} places", passing=ENTRY * cells)
    need_weights(
        f"windows of size {tuple(kernel)} at {tuple(out)} places", cells * channels
    )


def _convolution(kernel, shape, strides, dilations, begin, groups, out) -> sp.csr_array:
    filters, per_group = kernel.shape[:2]
    if groups < 1 or filters % groups or per_group * groups != shape[0]:
        raise ValueError(
            f"a kernel of shape {kernel.shape} with {groups} groups doesn't fit an input "
            f"with {shape[0]} channels."
        )
    cells = int(np.prod(shape[1:], dtype=np.int64))
    size = shape[0] * cells
    _need_windows(kernel.shape[2:], out, filters * per_group)
    position = window_positions(shape[1:], kernel.shape[2:], strides, dilations, begin, out)
    pixels, taps = position.shape
    # One row of the matrix lists its columns channel by channel, tap by tap, which is
    # ascending; all filters of a group share that pattern, so it is built only once.
    inside = np.broadcast_to((position >= 0)[:, None, :], (pixels, per_group, taps))
    channel = np.arange(per_group)[None, :, None]
    pattern = (position[:, None, :] + channel * cells)[inside]
    weight = np.broadcast_to(
        channel * taps + np.arange(taps)[None, None, :], (pixels, per_group, taps)
    )[inside]
    data = kernel.reshape(filters, per_group * taps)[:, weight]
    nonzeros = filters * len(pattern)
    dtype = np.int32 if max(nonzeros, size) < 2**31 else np.int64
    first = np.repeat(np.arange(groups) * per_group * cells, filters // groups)
    columns = pattern.astype(dtype)[None, :] + first.astype(dtype)[:, None]
    counts = np.tile((position >= 0).sum(axis=1) * per_group, filters)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(dtype)
    matrix = sp.csr_array(
        (data.reshape(-1), columns.reshape(-1), indptr), shape=(filters * pixels, size)
    )
    return matrix


def convolution_matrix(
    kernel: np.ndarray,
    input_shape: Sequence[int],
    strides: Ints = 1,
    pads_begin: Ints = 0,
    pads_end: Ints = 0,
    dilations: Ints = 1,
    groups: int = 1,
) -> tuple[sp.csr_array, tuple[int, ...]]:
    """The matrix of a convolution (a cross-correlation, as all frameworks mean it).

    Parameters
    ----------
    kernel : (filters, channels / groups, *k) array
    input_shape : (channels, *spatial)
        One to three spatial axes; all further arguments are one integer, or one for
        each spatial axis.
    strides, dilations : int or sequence of int
    pads_begin, pads_end : int or sequence of int
        Zero cells added before and after each axis.
    groups : int
        Channels and filters split into this many independent groups.

    Returns
    -------
    matrix : (filters * prod(out), channels * prod(spatial)) CSR array
        ``matrix @ x.reshape(-1)`` is the flattened convolution of ``x``.
    output_shape : (filters, *out)

    Raises
    ------
    ValueError
        If kernel, groups and input don't fit, or no window fits into the input.
    """
    kernel = np.asarray(kernel, dtype=np.float64)
    shape, strides, dilations, begin, end = _checked(
        input_shape, strides, dilations, pads_begin, pads_end
    )
    if kernel.ndim != len(shape) + 1:
        raise ValueError(f"a kernel of shape {kernel.shape} doesn't fit an input {shape}.")
    out = _out_spatial(shape, kernel.shape[2:], strides, dilations, begin, end)
    matrix = _convolution(kernel, shape, strides, dilations, begin, groups, out)
    return matrix, (kernel.shape[0], *out)


def transposed_convolution_matrix(
    kernel: np.ndarray,
    input_shape: Sequence[int],
    strides: Ints = 1,
    pads_begin: Ints = 0,
    pads_end: Ints = 0,
    dilations: Ints = 1,
    groups: int = 1,
    output_padding: Ints = 0,
) -> tuple[sp.csr_array, tuple[int, ...]]:
    """The matrix of a transposed convolution: that of a convolution, transposed.

    Along an axis the output has ``(n - 1) * stride + dilation * (k - 1) + 1 +
    output_padding - pad_begin - pad_end`` cells; the pads are cut off the full result.

    Parameters
    ----------
    kernel : (channels, filters / groups, *k) array
        The order of PyTorch and ONNX.
    input_shape : (channels, *spatial)
    strides, pads_begin, pads_end, dilations, groups
        As in :func:`convolution_matrix`.
    output_padding : int or sequence of int
        Cells added at the end of each axis.

    Returns
    -------
    matrix : CSR array of shape (output size, input size)
    output_shape : (filters, *out)

    Raises
    ------
    ValueError
        If kernel, groups and input don't fit, or the output would be empty.
    """
    kernel = np.asarray(kernel, dtype=np.float64)
    shape, steps, spread, begin, end = _checked(
        input_shape, strides, dilations, pads_begin, pads_end
    )
    if kernel.ndim != len(shape) + 1 or kernel.shape[0] != shape[0]:
        raise ValueError(f"a kernel of shape {kernel.shape} doesn't fit an input {shape}.")
    extra = per_axis(output_padding, len(shape) - 1, "output_padding")
    out = tuple(
        (n - 1) * s + d * (k - 1) + 1 + x - b - e
        for n, k, s, d, b, e, x in zip(
            shape[1:], kernel.shape[2:], steps, spread, begin, end, extra
        )
    )
    if min(out) < 1:
        raise ValueError(f"a transposed convolution of an input {shape} would be empty.")
    if min(extra) < 0 or groups < 1:
        raise ValueError(
            f"output_padding {extra} and groups {groups} must not be negative."
        )
    output_shape = (kernel.shape[1] * groups, *out)
    need_entries(f"a transposed convolution of shape {output_shape}", output_shape)
    forward = _convolution(kernel, output_shape, steps, spread, begin, groups, shape[1:])
    return sp.csr_array(forward.T), output_shape


def pooling_groups(
    input_shape: Sequence[int],
    kernel: Ints,
    strides: Ints = 1,
    pads_begin: Ints = 0,
    pads_end: Ints = 0,
    dilations: Ints = 1,
    *,
    ceil_mode: bool = False,
) -> tuple[list[np.ndarray], tuple[int, ...]]:
    """The entries that each window of a pooling layer compares, padding left out.

    Returns
    -------
    groups : list of int arrays
        Flat entries of the input, one array for each output, for
        :meth:`pyomo_relu.network.NetworkBuilder.max`.
    output_shape : (channels, *out)

    Raises
    ------
    ValueError
        If a window holds nothing but padding, or no window fits.
    """
    position, out, shape, _ = _pooling(
        input_shape, kernel, strides, pads_begin, pads_end, dilations, ceil_mode
    )
    valid = position >= 0
    counts = valid.sum(axis=1)
    cells = int(np.prod(shape[1:], dtype=np.int64))
    flat = position[valid][None, :] + (np.arange(shape[0]) * cells)[:, None]
    ends = np.cumsum(np.tile(counts, shape[0]))
    return np.split(flat.reshape(-1), ends[:-1]), (shape[0], *out)


def average_matrix(
    input_shape: Sequence[int],
    kernel: Ints,
    strides: Ints = 1,
    pads_begin: Ints = 0,
    pads_end: Ints = 0,
    dilations: Ints = 1,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> tuple[sp.csr_array, tuple[int, ...]]:
    """The matrix of an average pooling.

    Parameters
    ----------
    count_include_pad : bool
        Divide by the number of cells including the padding; else only by the cells
        of the input. Cells that ``ceil_mode`` adds beyond the padding never count.

    Returns
    -------
    matrix : (channels * prod(out), channels * prod(spatial)) CSR array
    output_shape : (channels, *out)

    Raises
    ------
    ValueError
        If a window holds nothing but padding, or no window fits.
    """
    position, out, shape, counted = _pooling(
        input_shape, kernel, strides, pads_begin, pads_end, dilations, ceil_mode
    )
    valid = position >= 0
    counts = valid.sum(axis=1)
    divisor = counted if count_include_pad else counts
    cells = int(np.prod(shape[1:], dtype=np.int64))
    data = np.repeat(1.0 / divisor, counts)
    one = sp.csr_array(
        (data, position[valid], np.concatenate([[0], np.cumsum(counts)])),
        shape=(len(position), cells),
    )
    matrix = sp.kron(sp.eye_array(shape[0], format="csr"), one, format="csr")
    return sp.csr_array(matrix), (shape[0], *out)


def _pooling(input_shape, kernel, strides, pads_begin, pads_end, dilations, ceil_mode):
    """Positions, output spatial shape, input shape, and the cells of each window that
    lie in the input or its padding."""
    shape, strides, dilations, begin, end = _checked(
        input_shape, strides, dilations, pads_begin, pads_end
    )
    kernel = per_axis(kernel, len(shape) - 1, "the window")
    out = _out_spatial(shape, kernel, strides, dilations, begin, end, ceil_mode)
    _need_windows(kernel, out, shape[0])
    # each group of a maximum is an array of its own
    need("the windows", passing=2 * ENTRY * shape[0] * int(np.prod(out)))
    position = window_positions(shape[1:], kernel, strides, dilations, begin, out)
    if not (position >= 0).any(axis=1).all():
        raise ValueError(
            f"a pooling window of size {kernel} lies wholly in the padding {begin}, {end}."
        )
    padded = [
        axis < n + e
        for axis, n, e in zip(
            _starts(shape[1:], kernel, strides, dilations, begin, out), shape[1:], end
        )
    ]
    return position, out, shape, _outer(padded, np.logical_and).sum(axis=1)
