r"""Lossless compression: a smaller network with the same outputs on a box.

With bounds over the box, each unit that stays on one piece is affine there:

1. a unit on a piece of slope 0 (a stably inactive ReLU), or one whose inputs are all
   gone, is a constant, and moves into the biases of the layers that read it;
2. the other stable units of a layer are affine functions of what the layer reads. Of
   these a maximal linearly independent set :math:`S` is kept, with no activation; for
   the others, :math:`w_j = \sum_{s \in S} \alpha_{js} w_s`, their weights
   move to the units of :math:`S`. Where :math:`S` has as many units as the layer has
   inputs, the layers behind read these inputs directly;
3. a layer of which every unit is stable is thereby affine, and is folded into the next
   one, unless that would make more weights of a narrow layer.

Smooth units stay, unless they read nothing. Entries of a maximum that can't be the largest
are dropped as well. Outside of the box the two networks differ.

Source: Serra, Kumar, Ramalingam, "Lossless compression of deep neural networks", arXiv
2001.00218; Serra et al., arXiv 2102.07804.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network import weights
from pyomo_relu.network.builder import NetworkBuilder
from pyomo_relu.network.network import Network
from pyomo_relu.network.nodes import Affine, Input, Max, PiecewiseLinear, Smooth
from pyomo_relu.network.rescaling import check_belongs

#: A row is a combination of others if what remains of it is below this share (chosen by
#: hand: the rounding of an orthogonal factorization).
DEPENDENT = 1e-12
#: A combination may have no larger coefficient, for each would lose digits (chosen by hand).
LARGEST_COEFFICIENT = 1e3


@dataclass(frozen=True, eq=False)
class Compression:
    """What :func:`compress` returns.

    Attributes
    ----------
    network : Network
        Equal to the old one on the box.
    lower, upper : (n_inputs,) arrays
        The box.
    neurons : (int, int)
        Before and after.
    weights : (int, int)
        Non-zero weights, before and after.
    constant, linear, merged : int
        Units that were constant; that were affine, and of these the linearly
        dependent ones.
    """

    network: Network
    lower: np.ndarray
    upper: np.ndarray
    neurons: tuple[int, int]
    weights: tuple[int, int]
    constant: int
    linear: int
    merged: int

    def __str__(self) -> str:
        return (
            f"{self.neurons[0]} -> {self.neurons[1]} neurons, {self.weights[0]:,} -> "
            f"{self.weights[1]:,} weights: {self.constant} constant units removed, "
            f"{self.linear} affine ones folded, {self.merged} of them dependent"
        )


@dataclass
class _Value:
    """Entries of an old node: a sum of matrices times new nodes, plus a constant."""

    terms: dict[int, Any]
    constant: np.ndarray

    def rows(self, index: np.ndarray) -> _Value:
        return _Value({h: w[index] for h, w in self.terms.items()}, self.constant[index])

    def times(self, w: Any) -> _Value:
        return _Value(
            {h: weights.product(w, v) for h, v in self.terms.items()}, w @ self.constant
        )

    def plus(self, other: _Value) -> _Value:
        terms = dict(self.terms)
        for h, w in other.terms.items():
            weights.add_to(terms, h, w)
        return _Value(terms, self.constant + other.constant)

    def without_zeros(self) -> _Value:
        return _Value(
            {h: w for h, w in self.terms.items() if weights.nonzeros(w)}, self.constant
        )


def compress(network: Network, bounds: Any) -> Compression:
    """Remove what is not needed on the box of ``bounds``.

    A layer that is read before and after its activation (around a residual
    connection) stays whole, unless all of its units are stable.

    Parameters
    ----------
    network : Network
    bounds : Bounds
        The bounds of this network over the box; the tighter, the smaller the result.

    Returns
    -------
    Compression

    Raises
    ------
    ValueError
        For bounds of another network, or that rely on a model's constraints.
    """
    check_belongs(network, bounds)
    return _Compressor(network, bounds).run()


class _Compressor:
    def __init__(self, network: Network, bounds: Any) -> None:
        self.network, self.bounds = network, bounds
        self.builder = NetworkBuilder()
        self.values: list[_Value] = []
        self.readers = network.readers()
        for i in network.outputs:
            self.readers[i].append(-1)
        self.made: dict[int, int] = {}  # old nodes that are nodes of the new network
        self.constant = self.linear = self.merged = 0

    def run(self) -> Compression:
        network = self.network
        outputs = []
        for i, node in enumerate(network.nodes):
            if isinstance(node, Input):
                self.made[i] = self.builder.input(node.name, node.shape)
                value = self._identity(self.made[i], node.size)
            elif isinstance(node, Affine):
                value = self._affine(node)
            elif isinstance(node, PiecewiseLinear):
                value = self._piecewise(i, node)
            elif isinstance(node, Smooth):
                value = self._smooth(i, node)
            else:
                assert isinstance(node, Max)
                value = self._max(i, node)
            self.values.append(value)
            # What several layers read, or one and an output, is written once.
            if isinstance(node, Affine) and i not in self.made:
                if i in network.outputs or len(self.readers[i]) > 1:
                    self._node(i)
        for i in network.outputs:
            outputs.append(self._node(i))
        inputs = [self.made[i] for i in network.inputs]
        new = self.builder.build(
            outputs,
            inputs=inputs,
            input_names=network.input_names,
            output_names=network.output_names,
        )
        lower, upper = self.bounds.input_box
        return Compression(
            new,
            lower,
            upper,
            (network.n_neurons, new.n_neurons),
            (_n_weights(network), _n_weights(new)),
            self.constant,
            self.linear,
            self.merged,
        )

    @staticmethod
    def _identity(handle: int, size: int) -> _Value:
        return _Value({handle: sp.eye_array(size, format="csr")}, np.zeros(size))

    def _affine(self, node: Affine) -> _Value:
        value = _Value({}, node.bias.copy())
        for s, w in zip(node.sources, node.weights):
            value = value.plus(self.values[s].times(w))
        return value.without_zeros()

    def _node(self, i: int) -> int:
        """The old node ``i`` as a node of the new network, all of its entries."""
        if i not in self.made:
            node, value = self.network.nodes[i], self.values[i]
            self.made[i] = self._write(node.name, value, node.shape)
            self.values[i] = self._identity(self.made[i], node.size)
        return self.made[i]

    def _write(self, name: str, value: _Value, shape: tuple[int, ...] | None = None) -> int:
        terms = list(value.terms.items())
        size = len(value.constant)
        if not terms:  # a constant: zero weights on some input
            first = next(iter(self.made.values()))
            n = self.builder.nodes[first].size
            terms = [(first, sp.csr_array((size, n)))]
        if len(terms) == 1 and not value.constant.any():
            (handle, w), n = terms[0], self.builder.nodes[terms[0][0]].size
            square = sp.issparse(w) and w.shape == (n, n) and w.nnz == n
            if square and shape is None and not (w - sp.eye_array(n, format="csr")).nnz:
                return handle
        return self.builder.affine(name, terms, value.constant, shape)

    # ------------------------------------------------------------ activations, maxima
    def _piecewise(self, i: int, node: PiecewiseLinear) -> _Value:
        source = self.values[node.source]
        piece, stable = _stable_piece(self.bounds, node)
        zero = ~_reads_something(source)
        x = source.constant
        piece[zero] = node.piece(x[None, :])[0][zero]
        stable |= zero
        shared = len(self.readers[node.source]) > 1
        if shared and not stable.all():
            stable = np.zeros_like(stable)
        rows = np.arange(node.size)
        slope = node.slopes[rows, piece]
        offset = node.intercepts[rows, piece]
        # Constants: a flat piece, or a pre-activation that reads nothing.
        flat = stable & ((slope == 0.0) | zero)
        self.constant += int(flat.sum())
        constant = np.where(flat, np.where(zero, slope * x, 0.0) + offset, 0.0)
        value = _Value({}, constant)
        moving = np.flatnonzero(stable & ~flat)
        if len(moving):
            self.linear += len(moving)
            part = self._independent(node, source.rows(moving), shared)
            scaled = part.times(sp.diags_array(slope[moving]).tocsr())
            scaled.constant = scaled.constant + offset[moving]
            value = value.plus(_placed(scaled, moving, node.size))
        kept = np.flatnonzero(~stable)
        if len(kept):
            pre = self.network.nodes[node.source]
            if len(kept) == node.size:
                before = self._node(node.source)
            else:
                before = self._write(pre.name, source.rows(kept))
            pieces = (
                node.function,
                node.breakpoints[kept],
                node.slopes[kept],
                node.intercepts[kept],
            )
            handle = self.builder.piecewise(node.name, before, pieces)
            if len(kept) == node.size:
                self.made[i] = handle
            new = self._identity(handle, len(kept))
            value = value.plus(_placed(new, kept, node.size))
        return value

    def _smooth(self, i: int, node: Smooth) -> _Value:
        """Smooth units stay, but for those that read nothing."""
        source = self.values[node.source]
        kept = np.flatnonzero(_reads_something(source))
        constant = node(source.constant)
        constant[kept] = 0.0
        self.constant += node.size - len(kept)
        value = _Value({}, constant)
        if not len(kept):
            return value
        if len(kept) == node.size:
            before = self._node(node.source)
        else:
            pre = self.network.nodes[node.source]
            before = self._write(pre.name, source.rows(kept))
        handle = self.builder.smooth(node.name, before, node.function, node.parameter)
        if len(kept) == node.size:
            self.made[i] = handle
        return value.plus(_placed(self._identity(handle, len(kept)), kept, node.size))

    def _independent(self, node: PiecewiseLinear, part: _Value, shared: bool) -> _Value:
        """Affine rows by fewer rows, or by what they read."""
        if shared:
            return part
        handles = list(part.terms)
        matrix = np.hstack([weights.dense(part.terms[h]) for h in handles])
        read = np.flatnonzero(matrix.any(axis=0))
        if len(matrix) >= len(read):
            # A node with as many rows as entries that they read is no narrower than these.
            basis, combination = _row_basis(matrix[:, read])
            if len(basis) >= len(read):
                self.merged += len(matrix) - len(basis)
                return part
        else:
            basis, combination = _row_basis(matrix[:, read])
        self.merged += len(matrix) - len(basis)
        name = self.network.nodes[node.source].name
        kept = self._write(f"{name}_linear", part.rows(basis))
        result = _Value({kept: combination}, np.zeros(len(matrix)))
        result.constant = part.constant - combination @ part.constant[basis]
        result.constant[basis] = 0.0
        return result

    def _max(self, i: int, node: Max) -> _Value:
        low, high = self.bounds.lower[node.source], self.bounds.upper[node.source]
        groups = [node.contenders(j, low, high) for j in range(node.size)]
        source = self.values[node.source]
        single = np.array([len(g) == 1 for g in groups])
        value = _Value({}, np.zeros(node.size))
        decided = np.flatnonzero(single)
        if len(decided):
            chosen = np.array([groups[j][0] for j in decided])
            value = value.plus(_placed(source.rows(chosen), decided, node.size))
        rest = np.flatnonzero(~single)
        if len(rest):
            needed = np.unique(np.concatenate([groups[j] for j in rest]))
            if len(needed) == len(low):
                before = self._node(node.source)
            else:
                name = self.network.nodes[node.source].name
                before = self._write(f"{name}_kept", source.rows(needed))
            found = [np.searchsorted(needed, groups[j]) for j in rest]
            handle = self.builder.max(node.name, before, found)
            new = self._identity(handle, len(rest))
            value = value.plus(_placed(new, rest, node.size))
        return value


def _stable_piece(bounds: Any, node: PiecewiseLinear) -> tuple[np.ndarray, np.ndarray]:
    """The piece of each unit's lower bound, and whether the upper one shares it."""
    low, high = bounds.lower[node.source], bounds.upper[node.source]
    t = node.breakpoints
    first = (t <= low[:, None]).sum(axis=1)
    # A breakpoint that is only touched from the left counts where there is a step.
    beyond = (t < high[:, None]) | ((t == high[:, None]) & (node.jumps != 0))
    return first, beyond.sum(axis=1) <= first


def _reads_something(value: _Value) -> np.ndarray:
    """(size,) bool: entries with a non-zero weight."""
    found = np.zeros(len(value.constant), dtype=bool)
    for w in value.terms.values():
        found |= weights.row_nonzeros(w) > 0
    return found


def _placed(value: _Value, rows: np.ndarray, size: int) -> _Value:
    """Entries put at ``rows`` of a longer vector that is 0 elsewhere."""
    place = sp.csr_array(
        (np.ones(len(rows)), (rows, np.arange(len(rows)))), shape=(size, len(rows))
    )
    return value.times(place)


def _row_basis(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Independent rows, and all rows as combinations of them.

    Returns
    -------
    basis : (r,) int array
    combination : (m, r) array
        ``matrix = combination @ matrix[basis]`` up to rounding; a unit vector for
        each row of the basis.
    """
    from scipy.linalg import qr, solve_triangular

    m = len(matrix)
    norms = np.linalg.norm(matrix, axis=1)
    scaled = matrix / norms[:, None]
    r, order = qr(scaled.T, mode="r", pivoting=True)
    diagonal = abs(np.diag(r[: min(r.shape)]))
    rank = int((diagonal > DEPENDENT * diagonal[0]).sum())
    chosen = list(order[:rank])
    if rank == m:
        return np.arange(m), np.eye(m)
    solved = solve_triangular(r[:rank, :rank], r[:rank, rank:])  # (rank, m - rank)
    combination = np.zeros((m, rank))
    combination[order[rank:]] = solved.T
    rest = scaled - combination @ scaled[chosen]
    bad = (abs(rest).max(axis=1) > DEPENDENT) | (
        abs(combination).max(axis=1) > LARGEST_COEFFICIENT
    )
    bad[chosen] = False
    basis = np.array(sorted([*chosen, *np.flatnonzero(bad)]))
    result = np.zeros((m, len(basis)))
    at = np.searchsorted(basis, chosen)
    result[:, at] = combination * norms[:, None] / norms[chosen]
    result[basis] = np.eye(len(basis))
    return basis, result


def _n_weights(network: Network) -> int:
    return sum(n.nonzeros for n in network.nodes if isinstance(n, Affine))
