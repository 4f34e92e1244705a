"""Tensors while a network is read: operators that move, scale and add entries.

Each operator is written once, for all readers. A network is the model applied to one
sample: a dynamic batch axis has length 1 here, and an operator that would mix samples
along it is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network import Affine, Input, NetworkBuilder
from pyomo_relu.network.limits import need, need_entries, need_weights
from pyomo_relu.network.nodes import Weight
from pyomo_relu.readers.values import Call, Tensor, Value

Shape = tuple[int, ...]
Constant = np.ndarray | float


def selection(index: np.ndarray, columns: int, factor: Constant = 1.0) -> sp.csr_array:
    """The sparse matrix that picks ``index`` out of ``columns`` entries, times ``factor``."""
    flat = index.reshape(-1)
    data = np.broadcast_to(np.asarray(factor, dtype=float), index.shape).reshape(-1)
    return sp.csr_array(
        (data, flat, np.arange(len(flat) + 1)), shape=(len(flat), columns), copy=True
    )


def _aligned(x: Tensor, rank: int) -> int | None:
    """Where the batch axis of ``x`` is after broadcasting to ``rank`` axes."""
    return None if x.batch is None else x.batch + rank - len(x.shape)


def broadcast_shape(name: str, *shapes: Shape) -> Shape:
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


def normalized_axis(axis: int, rank: int, name: str) -> int:
    """``axis`` counted from the front, or an error that names the layer."""
    if not -rank <= axis < rank:
        raise ValueError(f"layer '{name}': axis {axis} doesn't exist in {rank} axes.")
    return axis % rank


class AffineGraph:
    """Writes affine operators on tensors into a :class:`NetworkBuilder`."""

    def __init__(self) -> None:
        self.builder = NetworkBuilder()
        self.calls: list[Call] = []
        #: The only values that the source takes for an input, by the number of the input.
        self.admitted: dict[int, np.ndarray] = {}
        #: The inputs that are integers in the source, by their numbers.
        self.integers: set[int] = set()
        #: The layers that cut off the fractions of inputs, by the numbers of those.
        self.cut: dict[int, str] = {}
        #: The categories of an input and their numbers; text has its position, from 0.
        self.categories: dict[int, dict[Any, float]] = {}

    # ------------------------------------------------------------------ structure
    def input(self, name: str, shape: Sequence[int], batch: int | None = None) -> Tensor:
        """Add an input; ``shape`` has length 1 at a dynamic batch axis."""
        x = Tensor(-1, tuple(int(s) for s in shape), batch)
        need_entries(f"input '{name}' of shape {x.shape}", x.shape)
        return Tensor(self.builder.input(name, x.sample_shape), x.shape, batch)

    def origins(self, handle: int) -> np.ndarray:
        """Which of all inputs each entry of a node is a copy of; -1 where it is none."""
        node = self.builder.nodes[handle]
        if isinstance(node, Input):
            before = self.builder.nodes[:handle]
            return sum(v.size for v in before if isinstance(v, Input)) + np.arange(
                node.size
            )
        found = np.full(node.size, -1)
        if isinstance(node, Affine) and len(node.sources):
            weights = sp.csr_array(sp.hstack([sp.csr_array(w) for w in node.weights]))
            weights.eliminate_zeros()
            copied = np.diff(weights.indptr) == 1
            copied[copied] = weights.data[weights.indptr[:-1][copied]] == 1.0
            copied &= node.bias == 0.0
            before_it = np.concatenate([self.origins(s) for s in node.sources])
            found[copied] = before_it[weights.indices[weights.indptr[:-1][copied]]]
        return found

    def declared_integers(self, x: Tensor) -> Tensor:
        """``x`` itself, an input that the source declares as integers."""
        self.integers.update(self.origins(x.handle).tolist())
        return x

    def cut_to_integers(self, name: str, x: Tensor) -> Tensor:
        """``x`` itself, whose entries are inputs that the source cuts to integers.

        Raises
        ------
        ValueError
            If an entry is computed: cutting off its fraction is no piece of a network.
        """
        found = self.origins(x.handle)
        if (found < 0).any():
            raise ValueError(
                f"layer '{name}' cuts off the fractions of what is computed; only an input "
                "of the model may be an integer."
            )
        self.cut.update(dict.fromkeys(found.tolist(), name))
        return x

    def refuse_cuts(self) -> None:
        """Raise if an input is cut to integers that are looked up nowhere.

        What is looked up has categories, and the network is exact at those. An input
        whose fractions are cut off may be any number.
        """
        for column, name in self.cut.items():
            if column not in self.admitted and column not in self.integers:
                raise ValueError(
                    f"layer '{name}' cuts off the fractions of input {column}, which is not "
                    "piecewise linear; declare the input as integers."
                )

    def texts_at(self, handle: int) -> dict[int, tuple[str, ...]]:
        """The texts whose positions the entries of a node are, of those that are such."""
        texts = {
            column: tuple(found)
            for column, found in self.categories.items()
            if all(isinstance(category, str) for category in found)
        }
        if not texts:
            return {}
        origins = enumerate(self.origins(handle).tolist())
        return {j: texts[k] for j, k in origins if k in texts}

    def admit(self, column: int, values: np.ndarray) -> None:
        """Restrict an input to ``values``, and to what it was restricted to before.

        Raises
        ------
        ValueError
            If no value is left.
        """
        if column in self.admitted:
            values = np.intersect1d(values, self.admitted[column])
        if not len(values):
            raise ValueError(f"feature {column} has no value that all its readers know.")
        self.admitted[column] = np.asarray(values, dtype=float)

    def affine(
        self,
        name: str,
        terms: Iterable[tuple[Tensor, Weight]],
        bias: Constant,
        shape: Sequence[int],
        batch: int | None,
    ) -> Tensor:
        """Add ``sum of W @ x + bias`` for ``terms`` of (tensor, W)."""
        result = Tensor(-1, tuple(int(s) for s in shape), batch)
        handle = self.builder.affine(
            name, [(x.handle, w) for x, w in terms], bias, result.sample_shape
        )
        return Tensor(handle, result.shape, batch)

    def reshape(self, x: Tensor, shape: Sequence[int], name: str = "reshape") -> Tensor:
        """The same entries under another shape, one axis of it maybe -1; costs no node.

        The batch axis stays tracked where the new shape has an axis of length 1 at the
        same place in memory; where samples and entries share an axis it no longer is.
        """
        shape = tuple(int(s) for s in shape)
        if shape.count(-1) == 1:
            shape = tuple(x.size // max(-prod(shape), 1) if s == -1 else s for s in shape)
        if prod(shape) != x.size or min(shape, default=1) < 0:
            raise ValueError(
                f"layer '{name}': shape {shape} doesn't hold the {x.size} entries of one "
                f"sample of shape {x.shape}."
            )
        batch = None
        if x.batch is not None:
            before = prod(x.shape[: x.batch])
            places = [
                k for k, n in enumerate(shape) if n == 1 and prod(shape[:k]) == before
            ]
            if places:
                batch = x.batch if x.batch in places else places[0]
        return Tensor(x.handle, shape, batch)

    def shaped(self, name: str, x: Tensor) -> Tensor:
        """``x`` as a node of its own shape; a new one where it was only reshaped."""
        if self.builder.nodes[x.handle].shape == x.sample_shape:
            return x
        return self.affine(name, [(x, selection(x.index, x.size))], 0.0, x.shape, x.batch)

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

    def common_batch(
        self, name: str, tensors: Sequence[Tensor], shape: Sequence[int]
    ) -> int | None:
        """The batch axis of a result of ``shape`` that ``tensors`` are broadcast to."""
        found = {_aligned(x, len(shape)) for x in tensors} - {None}
        if len(found) > 1 or any(shape[b] != 1 for b in found if b is not None):
            raise ValueError(
                f"layer '{name}' combines the batch axis with another axis; a network is "
                "read for one sample at a time."
            )
        return found.pop() if found else None

    # ----------------------------------------------------------------- arithmetic
    def add(
        self, name: str, values: Sequence[Value], factors: Sequence[float] | None = None
    ) -> Tensor:
        """``sum of factor * value`` over tensors and constants, broadcast together."""
        shape = broadcast_shape(name, *[v.shape for v in values])
        tensors = [v for v in values if isinstance(v, Tensor)]
        batch = self.common_batch(name, tensors, shape)
        bias = np.zeros(shape)
        terms = []
        for v, factor in zip(values, factors or [1.0] * len(values)):
            if isinstance(v, Tensor):
                index = np.broadcast_to(v.index, shape)
                terms.append((v, selection(index, v.size, factor)))
            else:
                bias = bias + factor * np.asarray(v, dtype=float)
        return self.affine(name, terms, bias.reshape(-1), shape, batch)

    def scale(
        self, name: str, x: Tensor, factor: Constant, offset: Constant = 0.0
    ) -> Tensor:
        """``factor * x + offset`` for constants that broadcast with ``x``."""
        factor, offset = np.asarray(factor, dtype=float), np.asarray(offset, dtype=float)
        shape = broadcast_shape(name, x.shape, factor.shape, offset.shape)
        batch = self.common_batch(name, [x], shape)
        w = selection(np.broadcast_to(x.index, shape), x.size, factor)
        bias = np.broadcast_to(offset, shape).reshape(-1)
        return self.affine(name, [(x, w)], bias, shape, batch)

    def multiply(self, name: str, a: Value, b: Value) -> Tensor:
        """A tensor times a constant that broadcasts with it."""
        x, factor = _tensor_and_constant(name, a, b)
        return self.scale(name, x, factor)

    def standardize(
        self, name: str, x: Tensor, mean: Constant, factor: Constant, offset: Constant = 0.0
    ) -> Tensor:
        """``factor * (x - mean) + offset``, in two nodes that are fused later.

        Where the mean and the offset nearly cancel, a bias that holds both would not
        show what the source rounds by.
        """
        centred = self.scale(f"{name}_centred", x, 1.0, -np.asarray(mean, dtype=float))
        return self.scale(name, centred, factor, offset)

    def matmul(self, name: str, a: Value, b: Value, bias: Constant = 0.0) -> Tensor:
        """``a @ b + bias`` as NumPy multiplies; one of them is a constant."""
        x, weight = _tensor_and_constant(name, a, b)
        left = x is a
        if not x.shape or not weight.ndim:
            raise ValueError(f"layer '{name}': a matrix product needs at least one axis.")
        # Where the tensor is the right factor, A X = (X' A')': both are turned, and so is
        # the result. A vector becomes a row (of the tensor) or a column (of the constant).
        index, full = x.index, weight
        if not left:
            index, full = (m.swapaxes(-1, -2) if m.ndim > 1 else m for m in (index, full))
        index = index[None, :] if index.ndim == 1 else index
        full = full[:, None] if full.ndim == 1 else full
        if index.shape[-1] != full.shape[-2]:
            raise ValueError(
                f"layer '{name}': shapes {x.shape} and {weight.shape} don't match."
            )
        outer = broadcast_shape(name, index.shape[:-2], full.shape[:-2])
        index = np.broadcast_to(index, outer + index.shape[-2:])
        full = np.broadcast_to(full, outer + full.shape[-2:])
        rows = [index.shape[-2]] if len(x.shape) > 1 else []
        columns = [full.shape[-1]] if weight.ndim > 1 else []
        shape = (*outer, *rows, *columns) if left else (*outer, *columns, *rows)
        need_entries(f"layer '{name}' of shape {shape}", shape)
        batch = _batch_of_product(name, x, left, shape, bool(columns))
        w = _product(name, index, full, left, x.size)
        spread = np.broadcast_to(np.asarray(bias, dtype=float), shape)
        return self.affine(name, [(x, w)], spread.reshape(-1), shape, batch)


def _tensor_and_constant(name: str, a: Value, b: Value) -> tuple[Tensor, np.ndarray]:
    """The factor that depends on the input, and the other one."""
    x, constant = (a, b) if isinstance(a, Tensor) else (b, a)
    assert isinstance(x, Tensor)
    if isinstance(constant, Tensor):
        raise ValueError(
            f"layer '{name}' multiplies two tensors that both depend on the input; "
            "that is not piecewise linear."
        )
    return x, np.asarray(constant, dtype=float)


def _product(
    name: str, index: np.ndarray, full: np.ndarray, left: bool, columns: int
) -> Weight:
    """The weights of the products of index matrices (..., i, k) and constants (..., k, j).

    The rows are the entries of the result (..., i, j), or (..., j, i) where it is turned.
    """
    i, k = index.shape[-2:]
    j = full.shape[-1]
    if index.size == columns == k:  # one row, of all entries in their order
        return full.reshape(k, j).T
    outer = full.shape[:-2]
    rows = np.arange(prod((*outer, i, j)))
    rows = (
        rows.reshape(*outer, i, j) if left else rows.reshape(*outer, j, i).swapaxes(-1, -2)
    )
    count = rows.size * k
    need(f"the weights of layer '{name}'", passing=40.0 * count)  # three indices
    need_weights(f"the weights of layer '{name}'", count)
    triple = (rows[..., :, None, :], index[..., :, :, None], full[..., None, :, :])
    r, c, v = (t.reshape(-1) for t in np.broadcast_arrays(*triple))
    keep = v != 0
    return sp.csr_array((v[keep], (r[keep], c[keep])), shape=(rows.size, columns))


def _batch_of_product(
    name: str, x: Tensor, left: bool, shape: Shape, matrix: bool
) -> int | None:
    """Where the batch axis of a factor is in the result of a matrix product.

    ``matrix`` says that the constant has two axes, so that the result has its own one.
    """
    if x.batch is None:
        return None
    rank = len(x.shape)
    if x.batch == (rank - 1 if left else max(rank - 2, 0)):
        raise ValueError(f"layer '{name}' sums over the batch axis.")
    # Counted from the end: a matrix gives the result as many axes as the tensor has; a
    # vector takes the last axis of the tensor away, or the one before.
    batch = x.batch - rank + len(shape) + (0 if matrix else 1)
    if not matrix and not left and x.batch == rank - 1:
        batch -= 1
    if shape[batch] != 1:
        raise ValueError(f"layer '{name}' combines the batch axis with another axis.")
    return batch
