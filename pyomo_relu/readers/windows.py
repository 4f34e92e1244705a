"""Sliding windows as sparse matrices and index groups, whatever framework they came from.

Everything here is channels first: a tensor is ``(C, *spatial)`` with one to three
spatial axes, flattened in C order. Nothing is densified and nothing loops over pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network.limits import ENTRY, need, need_entries, need_weights

Ints = int | Sequence[int]
Shape = tuple[int, ...]


def per_axis(value: Ints, rank: int, what: str) -> Shape:
    """``value`` as one integer for each of ``rank`` axes."""
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
    begin: int = 0,
    end: int = 0,
    ceil_mode: bool = False,
) -> int:
    """Number of windows along one axis.

    With ``ceil_mode`` a last, partial window counts too, unless it would start in the
    padding at the end (the rule of PyTorch and of ONNX since opset 19).
    """
    span = length + begin + end - dilation * (kernel - 1) - 1
    if span < 0:
        return 0
    if not ceil_mode:
        return span // stride + 1
    out = -(-span // stride) + 1
    return out - 1 if (out - 1) * stride >= length + begin else out


@dataclass(frozen=True)
class Window:
    """A window that slides over the spatial axes of a tensor.

    All but ``ceil_mode`` are one integer, or one for each spatial axis.

    Attributes
    ----------
    size : int or sequence of int
    strides, dilations : int or sequence of int
    begin, end : int or sequence of int
        Zero cells added before and after each axis.
    ceil_mode : bool
        Whether a last, partial window counts; see :func:`output_length`.
    """

    size: Ints
    strides: Ints = 1
    dilations: Ints = 1
    begin: Ints = 0
    end: Ints = 0
    ceil_mode: bool = False

    def same(self, spatial: Sequence[int], lower: bool = False) -> Window:
        """This window with the padding of :func:`same_pads` on axes of these lengths."""
        rank = len(spatial)
        axes = (per_axis(v, rank, "") for v in (self.size, self.strides, self.dilations))
        pads = [same_pads(*axis, lower=lower) for axis in zip(spatial, *axes)]
        return replace(self, begin=[b for b, _ in pads], end=[e for _, e in pads])


@dataclass(frozen=True)
class _Slide:
    """A window on an input (channels, *spatial), with one entry for each axis."""

    shape: Shape
    size: Shape
    strides: Shape
    dilations: Shape
    begin: Shape
    end: Shape

    @classmethod
    def of(cls, window: Window, input_shape: Sequence[int]) -> _Slide:
        shape = tuple(int(n) for n in input_shape)
        rank = len(shape) - 1
        if rank < 1:
            raise ValueError(
                f"a window needs a channel axis and a spatial axis; the input is {shape}."
            )
        found = cls(
            shape,
            per_axis(window.size, rank, "the window"),
            per_axis(window.strides, rank, "strides"),
            per_axis(window.dilations, rank, "dilations"),
            per_axis(window.begin, rank, "pads_begin"),
            per_axis(window.end, rank, "pads_end"),
        )
        if min(found.strides) < 1 or min(found.dilations) < 1:
            raise ValueError(
                f"strides {found.strides} and dilations {found.dilations} must be at "
                "least 1."
            )
        if min(shape) < 1:
            raise ValueError(f"a window can't slide over an input of shape {shape}.")
        return found

    def places(self, ceil_mode: bool = False) -> Shape:
        """How often the window fits along each axis."""
        axes = zip(
            self.shape[1:], self.size, self.strides, self.dilations, self.begin, self.end
        )
        out = tuple(output_length(n, k, s, d, b, e, ceil_mode) for n, k, s, d, b, e in axes)
        if min(out) < 1 or min(self.size) < 1:
            raise ValueError(
                f"a window of size {self.size} (dilation {self.dilations}) doesn't fit "
                f"into an input of shape {self.shape} with padding {self.begin} and "
                f"{self.end}."
            )
        return out

    def need(self, out: Shape, channels: int) -> None:
        """Ask for the memory of the matrix that reads each cell of each window."""
        cells = float(prod(self.size)) * float(prod(out))
        what = f"windows of size {self.size} at {out} places"
        need(what, passing=ENTRY * cells)
        need_weights(what, cells * channels)

    def _cells(self, out: Shape) -> list[np.ndarray]:
        """For each axis the (out, size) coordinates that the windows touch."""
        axes = zip(self.size, self.strides, self.dilations, self.begin, out)
        return [
            np.arange(o)[:, None] * s - b + np.arange(k)[None, :] * d
            for k, s, d, b, o in axes
        ]

    def positions(self, out: Shape) -> np.ndarray:
        """The (prod(out), prod(size)) flat cells of each window; -1 in the padding."""
        flat = np.zeros((1, 1), dtype=np.int64)
        valid = np.ones((1, 1), dtype=bool)
        for axis, n in zip(self._cells(out), self.shape[1:]):
            flat = _outer(flat, axis, lambda a, b, n=n: a * n + b)
            valid = _outer(valid, (axis >= 0) & (axis < n), np.logical_and)
        return np.where(valid, flat, -1)

    def counted(self, out: Shape) -> np.ndarray:
        """How many cells of each window lie in the input or in its padding."""
        inside = np.ones((1, 1), dtype=bool)
        for axis, n, e in zip(self._cells(out), self.shape[1:], self.end):
            inside = _outer(inside, axis < n + e, np.logical_and)
        return inside.sum(axis=1)


def _outer(a: np.ndarray, b: np.ndarray, combine: Callable[..., np.ndarray]) -> np.ndarray:
    """Combine (out, size) arrays of two axes to one of all pairs, C order in both."""
    wide = combine(a[:, None, :, None], b[None, :, None, :])
    return wide.reshape(a.shape[0] * b.shape[0], a.shape[1] * b.shape[1])


def _convolution(
    kernel: np.ndarray, slide: _Slide, groups: int, out: Shape
) -> sp.csr_array:
    filters, per_group = kernel.shape[:2]
    shape = slide.shape
    if groups < 1 or filters % groups or per_group * groups != shape[0]:
        raise ValueError(
            f"a kernel of shape {kernel.shape} with {groups} groups doesn't fit an input "
            f"with {shape[0]} channels."
        )
    cells = prod(shape[1:])
    size = shape[0] * cells
    slide.need(out, filters * per_group)
    position = slide.positions(out)
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
    dtype: Any = np.int32 if max(nonzeros, size) < 2**31 else np.int64
    first = np.repeat(np.arange(groups) * per_group * cells, filters // groups)
    columns = pattern.astype(dtype)[None, :] + first.astype(dtype)[:, None]
    counts = np.tile((position >= 0).sum(axis=1) * per_group, filters)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(dtype)
    return sp.csr_array(
        (data.reshape(-1), columns.reshape(-1), indptr), shape=(filters * pixels, size)
    )


def convolution_matrix(
    kernel: np.ndarray, input_shape: Sequence[int], window: Window, groups: int = 1
) -> tuple[sp.csr_array, Shape]:
    """The matrix of a convolution (a cross-correlation, as all frameworks mean it).

    ``kernel`` is (filters, channels / groups, *k), and the size of the window.

    Returns
    -------
    matrix : (filters * prod(out), channels * prod(spatial)) CSR array
    output_shape : (filters, *out)

    Raises
    ------
    ValueError
        If kernel, groups and input don't fit, or no window fits into the input.
    """
    kernel = np.asarray(kernel, dtype=np.float64)
    if kernel.ndim != len(input_shape) + 1:
        raise ValueError(
            f"a kernel of shape {kernel.shape} doesn't fit an input {tuple(input_shape)}."
        )
    slide = _Slide.of(replace(window, size=kernel.shape[2:]), input_shape)
    out = slide.places()
    return _convolution(kernel, slide, groups, out), (kernel.shape[0], *out)


def transposed_convolution_matrix(
    kernel: np.ndarray,
    input_shape: Sequence[int],
    window: Window,
    groups: int = 1,
    output_padding: Ints = 0,
) -> tuple[sp.csr_array, Shape]:
    """The matrix of a transposed convolution: that of a convolution, transposed.

    ``kernel`` is (channels, filters / groups, *k), as PyTorch and ONNX have it. Along an
    axis the output has ``(n - 1) * stride + dilation * (k - 1) + 1 + output_padding -
    begin - end`` cells; the pads are cut off the full result. See
    :func:`convolution_matrix`.
    """
    kernel = np.asarray(kernel, dtype=np.float64)
    shape = tuple(input_shape)
    if kernel.ndim != len(shape) + 1 or kernel.shape[0] != shape[0]:
        raise ValueError(f"a kernel of shape {kernel.shape} doesn't fit an input {shape}.")
    slide = _Slide.of(replace(window, size=kernel.shape[2:]), shape)
    extra = per_axis(output_padding, len(shape) - 1, "output_padding")
    out = tuple(
        (n - 1) * s + d * (k - 1) + 1 + x - b - e
        for n, k, s, d, b, e, x in zip(
            shape[1:],
            slide.size,
            slide.strides,
            slide.dilations,
            slide.begin,
            slide.end,
            extra,
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
    forward = _convolution(kernel, replace(slide, shape=output_shape), groups, shape[1:])
    return sp.csr_array(forward.T), output_shape


def _pooling(
    input_shape: Sequence[int], window: Window
) -> tuple[_Slide, Shape, np.ndarray]:
    """The window on its input, how often it fits, and the cells that it reads."""
    slide = _Slide.of(window, input_shape)
    out = slide.places(window.ceil_mode)
    slide.need(out, slide.shape[0])
    # each group of a maximum is an array of its own
    need("the windows", passing=2.0 * ENTRY * slide.shape[0] * prod(out))
    position = slide.positions(out)
    if not (position >= 0).any(axis=1).all():
        raise ValueError(
            f"a pooling window of size {slide.size} lies wholly in the padding "
            f"{slide.begin}, {slide.end}."
        )
    return slide, out, position


def pooling_groups(
    input_shape: Sequence[int], window: Window
) -> tuple[list[np.ndarray], Shape]:
    """The entries that each window of a pooling layer compares, padding left out.

    Returns
    -------
    groups : list of int arrays
        Flat entries of the input, one array for each output.
    output_shape : (channels, *out)

    Raises
    ------
    ValueError
        If a window holds nothing but padding, or no window fits.
    """
    slide, out, position = _pooling(input_shape, window)
    channels, *spatial = slide.shape
    valid = position >= 0
    flat = position[valid][None, :] + (np.arange(channels) * prod(spatial))[:, None]
    ends = np.cumsum(np.tile(valid.sum(axis=1), channels))
    return np.split(flat.reshape(-1), ends[:-1]), (channels, *out)


def average_matrix(
    input_shape: Sequence[int], window: Window, *, count_include_pad: bool = False
) -> tuple[sp.csr_array, Shape]:
    """The matrix of an average pooling, and its output shape (channels, *out).

    With ``count_include_pad`` it divides by the number of cells including the padding;
    else only by the cells of the input. Cells that ``ceil_mode`` adds beyond the padding
    never count. Errors are those of :func:`pooling_groups`.
    """
    slide, out, position = _pooling(input_shape, window)
    channels, *spatial = slide.shape
    valid = position >= 0
    counts = valid.sum(axis=1)
    divisor = slide.counted(out) if count_include_pad else counts
    one = sp.csr_array(
        (
            np.repeat(1.0 / divisor, counts),
            position[valid],
            np.concatenate([[0], np.cumsum(counts)]),
        ),
        shape=(len(position), prod(spatial)),
    )
    matrix = sp.kron(sp.eye_array(channels, format="csr"), one, format="csr")
    return sp.csr_array(matrix), (channels, *out)
