r"""A network in other units, so that a solver resolves each of its numbers.

A scaler that is fused into the first layer leaves weights :math:`w / \text{unit}`. With
inputs in watts they are 1e-10: HiGHS drops coefficients below 1e-9, and every solver
calls a row satisfied that is violated by 1e-6, so a quantity whose whole range is 1e-9
may take any value. A solver's tolerances are absolute: a program must be written in
quantities whose ranges are of order one.

Each entry :math:`v` of the network gets a factor :math:`f`, a power of two, and the
program is written in :math:`f v`. For powers of two the scaled network and its bounds
are the given ones bit by bit (but for numbers next to overflow or underflow). Where the
ranges are ordinary all factors are 1, and the network is returned as it is.

Which entries get another factor than 1 is decided by how much they matter. With
:math:`m_j` the range of entry :math:`j`, an affine row :math:`i` has the terms
:math:`|w_{ij}| m_j`; the share of a term in the row's largest, multiplied along a path to
an output and the largest of all paths, is the *importance* of an entry. It is 1 for
the entries that make up an output, whatever the units, and small for a neuron that is
nearly dead. An entry is rescaled

* if its range is small for its importance: a solver's tolerance would be felt;
* if its range is beyond what a row with that tolerance can hold in double precision;
* if it is large and read by a weight so small that a solver may drop it.

Source: our own; the factors inside a network are those of
:mod:`pyomo_relu.network.rescaling`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.bounds.bounds import Bounds
from pyomo_relu.network import Affine, Max, Network, PiecewiseLinear, Smooth
from pyomo_relu.network.nodes import Weight
from pyomo_relu.network.rescaling import (
    bounds_with_factors,
    homogeneous,
    join_entries,
    with_factors,
)


@dataclass(frozen=True)
class Limits:
    """Which entries get another factor than 1, all in the units of the entries.

    Attributes
    ----------
    smallest_range, largest_range : float
        The range of an entry whose importance is 1. Below the first a violation of 1e-6, the
        feasibility tolerance of MIP solvers, is a thousandth of the range. Above the
        second presolves get into trouble: of random networks with inputs in units up to
        1e12, HiGHS 1.16 was wrong in one that had a range of 8.6e5 and a weight of 1e-6.
    smallest_weight : float
        Weights below it may get lost: HiGHS drops below 1e-9 (``small_matrix_value``),
        SCIP takes less than 1e-9 for zero; activations multiply them by their slopes
        before.
    harmless_size : float
        A lost weight of an entry of at most this size changes a row by less than 1e-6,
        what the row may be violated by in any case.
    least_share : float
        Terms that are a smaller share of their row's largest may get lost.
    least_spread : float
        The range of an entry that isn't constant counts as at least this share of its
        size, so that a number that is nearly constant is not blown up.
    constant : float
        An interval of at most this share of its size is a constant with the margin of
        its bounds around it.
    passes : int
        Rescaling one entry changes the weights of its neighbours, so the question is put
        again; twice is enough in all that was tried.
    """

    smallest_range: float = 2.0**-10
    largest_range: float = 2.0**13
    smallest_weight: float = 2.0**-25
    harmless_size: float = 2.0**10
    least_share: float = 2.0**-20
    least_spread: float = 2.0**-16
    constant: float = 2.0**-40
    passes: int = 3


LIMITS = Limits()


@dataclass(frozen=True, eq=False)
class WellScaled:
    """A network as rows are written of it: what :func:`well_scaled` returns.

    Attributes
    ----------
    bounds : Bounds
        The bounds of the scaled network, which they carry.
    factors : tuple of (size,) arrays or None
        For each node: its value in the scaled network is the factor times its value in
        the given one. None where the network is the given one.
    """

    bounds: Bounds
    factors: tuple[np.ndarray, ...] | None = None

    # Nothing in it changes, so copies of a model share it.
    def __copy__(self) -> WellScaled:
        return self

    def __deepcopy__(self, memo: dict) -> WellScaled:
        return self

    @property
    def network(self) -> Network:
        """The scaled network."""
        return self.bounds.network

    def factor(self, node: int) -> np.ndarray:
        """The (size,) factors of a node."""
        if self.factors is None:
            return np.ones(self.network.nodes[node].size)
        return self.factors[node]

    def is_scaled(self, node: int) -> bool:
        """Whether an entry of the node has another factor than 1."""
        return self.factors is not None and bool((self.factors[node] != 1.0).any())

    @property
    def input_factors(self) -> np.ndarray:
        """The (n_inputs,) factors of the flat input vector."""
        return np.concatenate([self.factor(i) for i in self.network.inputs])

    @property
    def input_box(self) -> tuple[np.ndarray, np.ndarray]:
        """The (n_inputs,) bounds of the flat input vector in the given units."""
        low, high = self.bounds.input_box
        if self.factors is None:
            return low, high
        return low / self.input_factors, high / self.input_factors

    def point(self, x: np.ndarray) -> np.ndarray:
        """(N, n_inputs) points of the given network as points of the scaled one."""
        return x if self.factors is None else x * self.input_factors


def well_scaled(bounds: Bounds) -> WellScaled:
    """The network of the given bounds in units in which its ranges are of order one.

    Parameters
    ----------
    bounds : Bounds
        The bounds of every node; they carry the network.

    Returns
    -------
    WellScaled
    """
    total: tuple[np.ndarray, ...] | None = None
    for _ in range(LIMITS.passes):
        factors = _factors(bounds)
        if factors is None:
            break
        bounds = bounds_with_factors(bounds, with_factors(bounds.network, factors), factors)
        total = factors if total is None else tuple(a * b for a, b in zip(total, factors))
    return WellScaled(bounds, total)


def _factors(bounds: Bounds) -> tuple[np.ndarray, ...] | None:
    """Factors for the entries that need one; None if none does."""
    network = bounds.network
    every = _sizes_and_ranges(np.concatenate(bounds.lower), np.concatenate(bounds.upper))
    if _are_ordinary(*every):
        return None
    ends = np.cumsum([node.size for node in network.nodes])[:-1]
    sizes, ranges = (np.split(side, ends) for side in every)
    wanted = _wanted(bounds, sizes, ranges)
    if not any(w.any() for w in wanted):
        return None
    labels = join_entries(network, fix=False)
    count = 1 + max(int(label.max(initial=0)) for label in labels)
    asked = np.zeros(count, dtype=bool)
    size = np.zeros(count)
    inner = _read_by_their_likes(network)
    for label, w, m, below in zip(labels, wanted, ranges, inner):
        asked[label[w]] = True
        np.maximum.at(size, label[~below], m[~below])
    asked &= size > 0.0
    asked[0] = False  # label 0 keeps the factor 1: smooth units, and what they read
    exponents = np.zeros(count)
    exponents[asked] = -np.round(np.log2(size[asked]))
    if not exponents.any():
        return None
    return tuple(np.exp2(exponents[label]) for label in labels)


def _sizes_and_ranges(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each entry its largest absolute value, and what counts as its range."""
    size, width = np.maximum(abs(low), abs(high)), high - low
    varies = width > LIMITS.constant * size
    return size, np.where(varies, np.maximum(width, LIMITS.least_spread * size), 0.0)


def _are_ordinary(sizes: np.ndarray, ranges: np.ndarray) -> bool:
    """Whether nothing needs another factor, however much it matters."""
    ordinary = (ranges >= LIMITS.smallest_range) & (ranges <= LIMITS.largest_range)
    return bool(
        (sizes <= LIMITS.harmless_size).all() and (ordinary | (ranges == 0.0)).all()
    )


def _read_by_their_likes(network: Network) -> list[np.ndarray]:
    """Entries that a unit with the same factor reads: that unit's range is what counts.

    The argument of a neuron that is hardly ever active has a range that its value never
    has.
    """
    found = [np.zeros(n.size, dtype=bool) for n in network.nodes]
    for node in network.nodes:
        if isinstance(node, PiecewiseLinear):
            found[node.source] |= homogeneous(node)
        elif isinstance(node, Max):
            found[node.source][node.indices] = True
    return found


def _wanted(
    bounds: Bounds, sizes: list[np.ndarray], ranges: list[np.ndarray]
) -> list[np.ndarray]:
    """For each node, which entries need another factor by themselves."""
    network = bounds.network
    importance = [np.zeros(n.size) for n in network.nodes]
    lost = [np.zeros(n.size, dtype=bool) for n in network.nodes]
    for i in network.outputs:
        importance[i][:] = 1.0
    for i in range(len(network.nodes) - 1, -1, -1):
        node, own = network.nodes[i], importance[i]
        if isinstance(node, Affine):
            _pass_affine(node, own, sizes[i], sizes, ranges, importance, lost)
        elif isinstance(node, PiecewiseLinear):
            gain = _steepest(bounds, i) * ranges[node.source]
            varies = ranges[i] > 0.0
            share = np.divide(gain, ranges[i], out=np.zeros(node.size), where=varies)
            # The place of a step matters as much as its height.
            share[(node.jumps != 0.0).any(axis=1)] = 1.0
            passed = own * np.minimum(1.0, share)
            passed[~varies] = 0.0
            np.maximum(importance[node.source], passed, out=importance[node.source])
        elif isinstance(node, Smooth):
            passed = np.where(ranges[i] > 0.0, own, 0.0)
            np.maximum(importance[node.source], passed, out=importance[node.source])
        elif isinstance(node, Max):
            group = np.repeat(np.arange(node.size), np.diff(node.indptr))
            top = np.where(ranges[i] > 0.0, ranges[i], np.inf)
            passed = own[group] * np.minimum(
                1.0, ranges[node.source][node.indices] / top[group]
            )
            np.maximum.at(importance[node.source], node.indices, passed)
    wanted = []
    for m, weight, away in zip(ranges, importance, lost):
        small = (m > 0.0) & (weight * LIMITS.smallest_range > m)
        wanted.append((weight > 0.0) & (small | (m > LIMITS.largest_range) | away))
    return wanted


def _steepest(bounds: Bounds, i: int) -> np.ndarray:
    """The largest slope of each unit of a piecewise-linear node within its bounds."""
    node = bounds.network.nodes[i]
    assert isinstance(node, PiecewiseLinear)
    low, high = bounds.lower[node.source], bounds.upper[node.source]
    ends = np.full((node.size, 1), np.inf)
    starts = np.hstack([-ends, node.breakpoints])
    stops = np.hstack([node.breakpoints, ends])
    met = (starts < high[:, None]) & (low[:, None] < stops)
    return np.where(met, abs(node.slopes), 0.0).max(axis=1, initial=0.0)


def _pass_affine(
    node: Affine,
    own: np.ndarray,
    own_size: np.ndarray,
    sizes: list[np.ndarray],
    ranges: list[np.ndarray],
    importance: list[np.ndarray],
    lost: list[np.ndarray],
) -> None:
    """Pass importance to the sources; note entries whose weights may get lost."""
    parts = [abs(w) for w in node.weights]
    # A row that hardly moves for its size matters by its size.
    largest = LIMITS.least_spread * own_size
    for s, w in zip(node.sources, parts):
        np.maximum(largest, _maximum(w, ranges[s], 1), out=largest)
    per_row = np.divide(own, largest, out=np.zeros(node.size), where=largest > 0.0)
    for s, w in zip(node.sources, parts):
        share = _maximum(w, per_row[:, None], 0) * ranges[s]
        np.maximum(importance[s], np.minimum(1.0, share), out=importance[s])
        big = sizes[s] > LIMITS.harmless_size
        if big.any():
            lost[s] |= big & _loses(w, sizes[s], largest, own > 0.0)


def _maximum(w: Weight, factors: np.ndarray, axis: int) -> np.ndarray:
    """The largest of ``w * factors`` along an axis, for non-negative numbers."""
    if sp.issparse(w):
        return sp.csr_array(w * factors).max(axis=axis).toarray().ravel()
    return (w * factors).max(axis=axis, initial=0.0)


def _loses(
    w: Weight, sizes: np.ndarray, largest: np.ndarray, needed: np.ndarray
) -> np.ndarray:
    """Columns with a weight that may get lost though its term matters."""
    rows, columns = w.nonzero()
    data = np.asarray(w[rows, columns])
    bad = (data > 0.0) & (data < LIMITS.smallest_weight) & needed[rows]
    bad &= data * sizes[columns] > LIMITS.least_share * largest[rows]
    found = np.zeros(w.shape[1], dtype=bool)
    found[columns[bad]] = True
    return found
