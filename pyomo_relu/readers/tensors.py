"""Tensors while a network is read: a node of the builder and a shape over it.

The walkers of ONNX graphs, PyTorch modules and scikit-learn estimators all write their
networks through :class:`TensorGraph`, so each operator is written once. A network is
the model applied to one sample: a dynamic batch axis has length 1 here, and an operator
that would mix samples along it is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network import NetworkBuilder
from pyomo_relu.network.activations import Pieces, leaky_relu, relu, step
from pyomo_relu.network.limits import ENTRY, need, need_entries, need_weights
from pyomo_relu.readers.values import Call, Tensor, Value


def selection(index: np.ndarray, columns: int, factor=1.0) -> sp.csr_array:
    """The sparse matrix that picks ``index`` out of ``columns`` entries, times ``factor``."""
    flat = index.reshape(-1)
    data = np.broadcast_to(np.asarray(factor, dtype=float), index.shape).reshape(-1)
    return sp.csr_array(
        (data, flat, np.arange(len(flat) + 1)), shape=(len(flat), columns), copy=True
    )


def _aligned(x: Tensor, rank: int) -> int | None:
    """Where the batch axis of ``x`` is after broadcasting to ``rank`` axes."""
    return None if x.batch is None else x.batch + rank - len(x.shape)


def broadcast_shape(name: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that all ``shapes`` broadcast to, or an error that names the layer.

    Raises
    ------
    ValueError
        If they don't broadcast, or the result is too large for the file it comes from.
    """
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        listed = ", ".join(map(str, shapes))
        raise ValueError(
            f"layer '{name}' joins shapes that don't broadcast: {listed}."
        ) from None
    need_entries(f"layer '{name}' of shape {shape}", shape)
    return shape


def spread_to(name: str, value, shape: tuple[int, ...]) -> np.ndarray:
    """The constant ``value`` broadcast to ``shape``, or an error that names the layer."""
    try:
        return np.broadcast_to(value, shape)
    except ValueError:
        raise ValueError(
            f"layer '{name}': a parameter of shape {np.shape(value)} doesn't fit its "
            f"input of shape {shape}."
        ) from None


def normalized_axis(axis: int, rank: int, name: str) -> int:
    """``axis`` counted from the front, or an error that names the layer."""
    if not -rank <= axis < rank:
        raise ValueError(f"layer '{name}': axis {axis} doesn't exist in {rank} axes.")
    return axis % rank


class TensorGraph:
    """Writes operators on tensors into a :class:`NetworkBuilder`."""

    def __init__(self) -> None:
        self.builder = NetworkBuilder()
        self.calls: list[Call] = []

    # ------------------------------------------------------------------ structure
    def input(self, name: str, shape: Sequence[int], batch: int | None = None) -> Tensor:
        """Add an input; ``shape`` has length 1 at a dynamic batch axis."""
        x = Tensor(-1, tuple(int(s) for s in shape), batch)
        need_entries(f"input '{name}' of shape {x.shape}", x.shape)
        return Tensor(self.builder.input(name, x.sample_shape), x.shape, batch)

    def affine(
        self, name: str, terms, bias, shape: Sequence[int], batch: int | None
    ) -> Tensor:
        """Add ``sum of W @ x + bias`` for ``terms`` of (tensor, W)."""
        shape = tuple(int(s) for s in shape)
        result = Tensor(-1, shape, batch)
        handle = self.builder.affine(
            name, [(x.handle, w) for x, w in terms], bias, result.sample_shape
        )
        return Tensor(handle, shape, batch)

    def reshape(self, x: Tensor, shape: Sequence[int], name: str = "reshape") -> Tensor:
        """The same entries under another shape, one axis of it maybe -1; costs no node.

        The batch axis stays tracked where the new shape has an axis of length 1 at the
        same place in memory; where samples and entries share an axis it no longer is.
        """
        shape = tuple(int(s) for s in shape)
        if shape.count(-1) == 1:
            rest = -int(np.prod(shape, dtype=np.int64))
            shape = tuple(x.size // max(rest, 1) if s == -1 else s for s in shape)
        if int(np.prod(shape, dtype=np.int64)) != x.size or min(shape, default=1) < 0:
            raise ValueError(
                f"layer '{name}': shape {shape} doesn't hold the {x.size} entries of one "
                f"sample of shape {x.shape}."
            )
        batch = None
        if x.batch is not None:
            before = int(np.prod(x.shape[: x.batch], dtype=np.int64))
            places = [
                k
                for k, length in enumerate(shape)
                if length == 1 and int(np.prod(shape[:k], dtype=np.int64)) == before
            ]
            if places:
                batch = x.batch if x.batch in places else places[0]
        return Tensor(x.handle, shape, batch)

    def rearrange(
        self,
        name: str,
        sources: Sequence[Tensor],
        codes: np.ndarray,
        constants: np.ndarray | None = None,
        batch: int | None = None,
    ) -> Tensor:
        """Entries of tensors and constants in any order.

        Parameters
        ----------
        codes : int array
            What each entry of the result is: ``k >= 0`` counts through the entries of
            all sources, one after the other; ``k < 0`` is ``constants[-k - 1]``.
        """
        need_entries(f"layer '{name}' of shape {codes.shape}", codes.shape)
        flat = codes.reshape(-1)
        bias = np.zeros(len(flat))
        fixed = flat < 0
        if fixed.any():
            assert constants is not None
            bias[fixed] = constants[-flat[fixed] - 1]
        if len(sources) == 1 and np.array_equal(flat, np.arange(sources[0].size)):
            return Tensor(sources[0].handle, codes.shape, batch)
        terms, start = [], 0
        for x in sources:
            rows = np.flatnonzero((flat >= start) & (flat < start + x.size))
            w = sp.csr_array(
                (np.ones(len(rows)), (rows, flat[rows] - start)), shape=(len(flat), x.size)
            )
            if len(rows):
                terms.append((x, w))
            start += x.size
        if not terms:
            raise ValueError(f"layer '{name}' keeps nothing that depends on the input.")
        return self.affine(name, terms, bias, codes.shape, batch)

    def transpose(self, name: str, x: Tensor, axes: Sequence[int]) -> Tensor:
        """Permute the axes; the batch axis moves along."""
        axes = [normalized_axis(a, len(x.shape), name) for a in axes]
        if sorted(axes) != list(range(len(x.shape))):
            raise ValueError(f"layer '{name}': axes {axes} don't permute {x.shape}.")
        batch = None if x.batch is None else axes.index(x.batch)
        return self.rearrange(name, [x], x.index.transpose(axes), batch=batch)

    def broadcast(self, name: str, x: Tensor, shape: Sequence[int]) -> Tensor:
        """``x`` repeated to ``shape``, as NumPy broadcasts."""
        shape = tuple(shape)
        if broadcast_shape(name, x.shape, shape) != shape:
            raise ValueError(f"layer '{name}': {x.shape} doesn't broadcast to {shape}.")
        batch = self.common_batch(name, [x], shape)
        return self.rearrange(name, [x], np.broadcast_to(x.index, shape), batch=batch)

    def common_batch(self, name: str, tensors: Sequence[Tensor], shape) -> int | None:
        """The batch axis of a result of ``shape`` that ``tensors`` are broadcast to."""
        found = {_aligned(x, len(shape)) for x in tensors} - {None}
        if len(found) > 1 or any(shape[b] != 1 for b in found):
            raise ValueError(
                f"layer '{name}' combines the batch axis with another axis; a network is "
                "read for one sample at a time."
            )
        return found.pop() if found else None

    # ----------------------------------------------------------------- arithmetic
    def add(self, name: str, values: Sequence[Value], factors: Sequence[float]) -> Tensor:
        """``sum of factor * value`` over tensors and constants, broadcast together."""
        shape = broadcast_shape(name, *[v.shape for v in values])
        tensors = [v for v in values if isinstance(v, Tensor)]
        batch = self.common_batch(name, tensors, shape)
        bias = np.zeros(shape)
        terms = []
        for v, factor in zip(values, factors):
            if isinstance(v, Tensor):
                index = np.broadcast_to(v.index, shape)
                terms.append((v, selection(index, v.size, factor)))
            else:
                bias = bias + factor * np.asarray(v, dtype=float)
        return self.affine(name, terms, bias.reshape(-1), shape, batch)

    def scale(self, name: str, x: Tensor, factor, offset=0.0) -> Tensor:
        """``factor * x + offset`` for constants that broadcast with ``x``."""
        factor, offset = np.asarray(factor, dtype=float), np.asarray(offset, dtype=float)
        shape = broadcast_shape(name, x.shape, factor.shape, offset.shape)
        batch = self.common_batch(name, [x], shape)
        w = selection(
            np.broadcast_to(x.index, shape), x.size, np.broadcast_to(factor, shape)
        )
        bias = np.broadcast_to(offset, shape).reshape(-1)
        return self.affine(name, [(x, w)], bias, shape, batch)

    def standardize(self, name: str, x: Tensor, mean, factor, offset=0.0) -> Tensor:
        """``factor * (x - mean) + offset``, in two nodes that are fused later.

        Where the mean and the offset nearly cancel, a bias that holds both would not
        show what the source rounds by.
        """
        centred = self.scale(f"{name}_centred", x, 1.0, -np.asarray(mean, dtype=float))
        return self.scale(name, centred, factor, offset)

    def matmul(self, name: str, a: Value, b: Value, bias=0.0) -> Tensor:
        """``a @ b + bias`` as NumPy multiplies; one of them is a constant."""
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            raise ValueError(
                f"layer '{name}' multiplies two tensors that both depend on the input; "
                "that is not piecewise linear."
            )
        x = a if isinstance(a, Tensor) else b
        assert isinstance(x, Tensor)
        left = x is a
        weight = np.asarray(b if left else a, dtype=float)
        if not x.shape or not weight.ndim:
            raise ValueError(f"layer '{name}': a matrix product needs at least one axis.")
        index = x.index
        # One-dimensional factors get the axis that the result loses again, as in NumPy.
        if index.ndim == 1:
            index = index[None, :] if left else index[:, None]
        full = weight
        if full.ndim == 1:
            full = full[:, None] if left else full[None, :]
        contracted = (len(x.shape) - 1) if left else max(len(x.shape) - 2, 0)
        if x.batch is not None and x.batch == contracted:
            raise ValueError(f"layer '{name}' sums over the batch axis.")
        inner = (
            (index.shape[-1], full.shape[-2])
            if left
            else (
                full.shape[-1],
                index.shape[-2],
            )
        )
        if inner[0] != inner[1]:
            raise ValueError(
                f"layer '{name}': shapes {x.shape} and {weight.shape} don't match."
            )
        outer = broadcast_shape(name, index.shape[:-2], full.shape[:-2])
        index = np.broadcast_to(index, outer + index.shape[-2:])
        full = np.broadcast_to(full, outer + full.shape[-2:])
        if left:
            shape = outer + (index.shape[-2], full.shape[-1])
        else:
            shape = outer + (full.shape[-2], index.shape[-1])
        need_entries(f"layer '{name}' of shape {shape}", shape)
        rows = np.arange(int(np.prod(shape, dtype=np.int64))).reshape(shape)
        if left and index.size == x.size and x.size == index.shape[-1]:
            w: np.ndarray | sp.csr_array = full.reshape(full.shape[-2:]).T
        else:
            # entry (i, k, j): row (i, j) reads column (i, k) or (k, j)
            count = rows.size * inner[0]
            need(f"the weights of layer '{name}'", passing=40.0 * count)  # three indices
            need_weights(f"the weights of layer '{name}'", count)
            if left:
                triple = (
                    rows[..., :, None, :],
                    index[..., :, :, None],
                    full[..., None, :, :],
                )
            else:
                triple = (
                    rows[..., :, None, :],
                    index[..., None, :, :],
                    full[..., :, :, None],
                )
            r, c, v = (t.reshape(-1) for t in np.broadcast_arrays(*triple))
            keep = v != 0
            w = sp.csr_array((v[keep], (r[keep], c[keep])), shape=(rows.size, x.size))
        added = {-1 if left else -2} if weight.ndim == 1 else set()
        added |= {-2 if left else -1} if len(x.shape) == 1 else set()
        final = [n for k, n in enumerate(shape) if k - len(shape) not in added]
        if x.batch is None or len(x.shape) == 1:
            batch = None
        else:
            batch = _aligned(x, len(shape))
            if weight.ndim == 1 and not left and batch == len(shape) - 1:
                batch -= 1  # the axis before it is gone
        if batch is not None and final[batch] != 1:
            raise ValueError(f"layer '{name}' combines the batch axis with another axis.")
        spread = np.broadcast_to(np.asarray(bias, dtype=float), final)
        return self.affine(name, [(x, w)], spread.reshape(-1), final, batch)

    # ------------------------------------------------------------------ non-linear
    def piecewise(self, name: str, x: Tensor, pieces: Pieces) -> Tensor:
        """An activation of :mod:`pyomo_relu.network.activations` on every entry."""
        return Tensor(self.builder.piecewise(name, x.handle, pieces), x.shape, x.batch)

    def leaky(self, name: str, x: Tensor, slope) -> Tensor:
        """LeakyReLU or PReLU; ``slope`` broadcasts to the shape of ``x``."""
        slope = np.asarray(slope, dtype=float)
        if slope.size == 1:
            spread: np.ndarray | float = float(slope.reshape(-1)[0])
        else:
            spread = spread_to(name, slope, x.shape).reshape(-1)
        if not np.any(spread):
            return self.piecewise(name, x, relu())
        return self.piecewise(name, x, leaky_relu(spread))

    def clip(self, name: str, x: Tensor, low=None, high=None) -> Tensor:
        """``min(max(x, low), high)``; either side may be absent, constants broadcast."""
        sides = [v for v in (low, high) if v is not None]
        if not sides:
            return x
        shape = broadcast_shape(name, x.shape, *[np.shape(v) for v in sides])
        if shape != x.shape:
            x = self.broadcast(name, x, shape)

        def spread(v):
            v = np.asarray(v, dtype=float)
            return (
                v.reshape(-1)[0] if v.size == 1 else np.broadcast_to(v, shape).reshape(-1)
            )

        if low is not None and not np.any(low):
            if high is None:
                return self.piecewise(name, x, relu())
            if np.all(np.asarray(high) > 0):
                return self.piecewise(name, x, relu(max_value=spread(high)))
        points, slopes, intercepts = [], [1.0], [0.0]
        if low is not None:
            points, slopes, intercepts = [spread(low)], [0.0, 1.0], [spread(low), 0.0]
        if high is not None:
            if low is not None and np.any(np.asarray(low) >= np.asarray(high)):
                raise ValueError(
                    f"layer '{name}' clips to an empty interval or one point; it needs "
                    "minimum < maximum."
                )
            points.append(spread(high))
            slopes.append(0.0)
            intercepts.append(spread(high))

        def stack(rows):
            return np.stack(np.broadcast_arrays(*map(np.asarray, rows)), axis=-1)

        pieces = ("clip", stack(points), np.array(slopes), stack(intercepts))
        return self.piecewise(name, x, pieces)

    def left_continuous(
        self, name: str, x: Tensor, function: str, breakpoint: float, left, right
    ) -> Tensor:
        """A step or jump that takes its left piece at the breakpoint.

        ``left`` and ``right`` are (slope, intercept). The package's pieces take their
        right value there, so the function is written in ``-x``.
        """
        pieces = (
            function,
            np.array([-float(breakpoint)]),
            np.array([-right[0], -left[0]], dtype=float),
            np.array([right[1], left[1]], dtype=float),
        )
        return self.piecewise(name, self.scale(f"{name}_negated", x, -1.0), pieces)

    def step(self, name: str, x: Tensor, strict: bool = False) -> Tensor:
        """1 where ``x >= 0`` (``strict``: ``x > 0``), else 0."""
        if not strict:
            return self.piecewise(name, x, step())
        return self.left_continuous(name, x, "step", 0.0, (0.0, 0.0), (0.0, 1.0))

    def sign(self, name: str, x: Tensor) -> Tensor:
        """-1, 0 or 1: ``[x > 0] - [x < 0]``, 0 at exactly 0 as frameworks have it."""
        above = self.step(f"{name}_above", x, strict=True)
        at_least = self.step(f"{name}_at_least", x)
        return self.add(name, [above, at_least, np.array(-1.0)], [1.0, 1.0, 1.0])

    def threshold(self, name: str, x: Tensor, threshold: float, value: float) -> Tensor:
        """``x`` where ``x > threshold``, else ``value``."""
        if threshold == value:
            return self.clip(name, x, threshold)
        sides = ((0.0, float(value)), (1.0, 0.0))
        return self.left_continuous(name, x, "threshold_relu", threshold, *sides)

    def maximum(self, name: str, values: Sequence[Value], sign: float = 1.0) -> Tensor:
        """The entry-wise maximum (``sign=-1``: minimum) of tensors and constants."""
        shape = broadcast_shape(name, *[v.shape for v in values])
        need(f"layer '{name}'", passing=ENTRY * len(values) * int(np.prod(shape)))
        tensors = [v for v in values if isinstance(v, Tensor)]
        constants = [
            np.asarray(v, dtype=float) for v in values if not isinstance(v, Tensor)
        ]
        batch = self.common_batch(name, tensors, shape)
        if len(tensors) == 1:
            x = tensors[0]
        else:
            columns = [np.broadcast_to(v.index, shape).reshape(-1) for v in tensors]
            start = np.cumsum([0] + [v.size for v in tensors])
            terms = []
            for k, v in enumerate(tensors):
                index = np.arange(v.size)
                place = sp.csr_array(
                    (np.full(v.size, sign), (start[k] + index, index)),
                    shape=(start[-1], v.size),
                )
                terms.append((v, place))
            joined = self.affine(f"{name}_operands", terms, 0.0, (start[-1],), None)
            groups = np.stack([s + c for s, c in zip(start, columns)], axis=1)
            x = self.max(name, joined, groups, shape, batch)
            if sign < 0:
                x = self.scale(name, Tensor(x.handle, shape, batch), -1.0)
        for c in constants:
            x = self.clip(name, x, *((c, None) if sign > 0 else (None, c)))
        return x

    def max(
        self, name: str, x: Tensor, groups, shape: Sequence[int], batch: int | None = None
    ) -> Tensor:
        """The maximum over each group of entries of ``x``."""
        result = Tensor(-1, tuple(int(s) for s in shape), batch)
        handle = self.builder.max(name, x.handle, groups, result.sample_shape)
        return Tensor(handle, result.shape, batch)

    def reduce(
        self, name: str, x: Tensor, axes: Sequence[int] | None, kind: str, keep: bool
    ) -> Tensor:
        """Sum, mean, max or min over ``axes`` (all, if None)."""
        rank = len(x.shape)
        over = (
            list(range(rank))
            if axes is None
            else sorted({normalized_axis(int(a), rank, name) for a in axes})
        )
        if x.batch in over and x.batch is not None:
            raise ValueError(f"layer '{name}' reduces over the batch axis.")
        rest = [a for a in range(rank) if a not in over]
        shape = tuple(
            1 if a in over else s for a, s in enumerate(x.shape) if keep or a in rest
        )
        batch = x.batch
        if batch is not None and not keep:
            batch = rest.index(batch)
        index = x.index.transpose(rest + over)
        groups = index.reshape(int(np.prod([x.shape[a] for a in rest], dtype=int)), -1)
        n = groups.shape[1]
        if n == 1:
            return Tensor(x.handle, shape, batch)
        if kind in ("max", "min"):
            if kind == "max":
                return self.max(name, x, groups, shape, batch)
            lowered = self.max(name, self.scale(name, x, -1.0), groups, shape, batch)
            return self.scale(name, lowered, -1.0)
        factor = 1.0 / n if kind == "mean" else 1.0
        w = sp.csr_array(
            (
                np.full(groups.size, factor),
                groups.reshape(-1),
                np.arange(0, groups.size + 1, n),
            ),
            shape=(len(groups), x.size),
        )
        return self.affine(name, [(x, w)], 0.0, shape, batch)
