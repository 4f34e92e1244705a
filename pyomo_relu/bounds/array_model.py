r"""The one encoder of networks as arrays: what a node depends on, as LP or MIP.

Columns are inputs, pre-activations and activations over their bounds. Rows are

* ``z = W x + b`` for a pre-activation,
* the facets of the convex hull of a unit's graph over its interval: the triangle for
  ReLU (Ehlers 2017), any polygon in general; or, with binaries, the graph itself: the
  big-M rows of a ReLU (Fischetti and Jo, 2018), a copy of the argument for each piece,
* a few lines below and above a smooth unit: with binaries, too, it is relaxed,
* ``y >= x_j`` and the planes of :mod:`pyomo_relu.bounds.linear` for a maximum.

Units that stay on one piece have no column: an entry of a node is an affine function of
the columns. Rows of an affine node with few columns are no columns either. A relaxation
keeps one column for each other row, so that what is known of pre-activations is used;
``fold`` keeps expressions of many columns, so that decided units are folded away and a
box with a few undecided ones is a small dense program. A node outside the window is a box
of its bounds.

With a *pattern*, every unit instead stays on the piece that it takes at a point, and
rows keep it there: the linear region around the point.

Every row has a *slack*: by how much a forward pass in float64, or the rounding of the
row's own numbers, may violate it. Certificates subtract it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds.entries import Entries
from pyomo_relu.bounds.facets import facets
from pyomo_relu.bounds.linear import group_numbers, max_planes, segments, undecided
from pyomo_relu.bounds.smooth_lines import lines_of_units
from pyomo_relu.network import Affine, Input, Max, Network, PiecewiseLinear, Smooth
from pyomo_relu.network.weights import Weight, dense, row_nonzeros
from pyomo_relu.programs import HighsModel, Part, ProgramBuilder, matrix_of, part_of

#: A layer of units, whose entries are functions of single entries of its source.
Unit = PiecewiseLinear | Smooth


@dataclass(frozen=True)
class Encoding:
    """What steers the encoder; chosen by hand where no measurement is named."""

    #: Columns of an affine row from which on a folded program names it by a column.
    folded_terms: int = 40
    #: HiGHS drops smaller coefficients; its default, 1e-9, is too much for weights.
    smallest: float = 1e-12


ENCODING = Encoding()


def _below(network: Network, target: int, window: int) -> set[int]:
    """The nodes below the last layers of units; the window starts with activations."""
    depth: list[int] = []  # units and maxima between a node and the inputs
    for node in network.nodes:
        deepest = max((depth[s] for s in node.sources), default=0)
        depth.append(deepest + isinstance(node, (PiecewiseLinear, Smooth, Max)))
    floor = depth[target] - window
    found = {
        i
        for i, node in enumerate(network.nodes)
        if depth[i] < floor + (not isinstance(node, Affine))
    }
    return found - {target}


class ArrayModel(ProgramBuilder):
    """Relaxation or exact model of everything that rows of an affine node depend on.

    Parameters
    ----------
    network : Network
    lows, highs : sequence of (size,) arrays
        Valid bounds of every node up to ``target``.
    target : int
        An affine node; its rows are objectives, not rows of the model.
    rows : (q,) int array
        The rows that will be asked about.
    integer : bool
        Whether to write the graph of each unit with binaries.
    window : int, optional
        How many layers of units to keep; those below are boxes of their bounds.
    fold : bool
        Whether rows of affine nodes stay expressions of many columns.
    pattern : sequence of (size,) arrays, optional
        Values of every node at a point whose linear region is wanted.
    also : mapping to bool arrays, optional
        Further entries, by affine node, whose rows will be asked about.

    Attributes
    ----------
    needed : dict
        The entries that matter of each node that does, as bool arrays.
    entries : dict of Entries
        The entries of each such node but the target.
    """

    def __init__(
        self,
        network: Network,
        lows: Sequence[np.ndarray],
        highs: Sequence[np.ndarray],
        target: int,
        rows: np.ndarray,
        *,
        integer: bool = False,
        window: int | None = None,
        fold: bool = False,
        pattern: Sequence[np.ndarray] | None = None,
        also: Mapping[int, np.ndarray] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.lows, self.highs = network, lows, highs
        self.target, self.integer, self.pattern = target, integer, pattern
        self.fold = fold
        # A linear region has few rows, and names for what they read would be more of them.
        folded = ENCODING.folded_terms if pattern is None else np.inf
        self.longest = folded if fold else 1
        self.entries: dict[int, Entries] = {}
        self._pieces: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        below = set() if window is None else _below(network, target, window)
        self._needed(rows, below, also or {})
        for i in sorted(self.needed.keys() - {target}):
            node, used = network.nodes[i], self.needed[i]
            if isinstance(node, Input) or i in below:
                self._box(i, used)
            elif isinstance(node, Affine):
                self._affine(i, node, used)
            elif isinstance(node, PiecewiseLinear):
                self._piecewise(i, node, used)
            elif isinstance(node, Smooth):
                self._smooth(i, node, used)
            else:
                assert isinstance(node, Max)
                self._max(i, node, used)

    # ----------------------------------------------------------------- what is needed
    def _needed(
        self, rows: np.ndarray, below: set[int], also: Mapping[int, np.ndarray]
    ) -> None:
        nodes = self.network.nodes
        self.needed = {self.target: np.zeros(nodes[self.target].size, dtype=bool), **also}
        self.needed[self.target][rows] = True
        for i in range(self.target, -1, -1):
            if i not in self.needed or isinstance(nodes[i], Input) or i in below:
                continue
            for s, mask in self._reads(i, self.needed[i]):
                if mask.any():
                    known = self.needed.get(s, np.zeros(nodes[s].size, dtype=bool))
                    self.needed[s] = known | mask

    def _reads(self, i: int, used: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """The sources of a node, and which of their entries its used ones depend on."""
        node = self.network.nodes[i]
        if isinstance(node, Affine):
            return [
                (s, np.asarray(abs(w[used]).sum(axis=0)).reshape(-1) > 0)
                for s, w in zip(node.sources, node.weights)
            ]
        if isinstance(node, Smooth):
            return [(node.source, used)]
        if isinstance(node, PiecewiseLinear):
            single, piece = self.pieces(node)
            flat = node.slopes[np.arange(node.size), piece] == 0
            # The rows of a pattern hold flat units, too, on their piece.
            return [(node.source, used & ~(single & flat & (self.pattern is None)))]
        assert isinstance(node, Max)
        mask = np.zeros(self.network.nodes[node.source].size, dtype=bool)
        mask[node.indices[used[group_numbers(node)]]] = True
        return [(node.source, mask)]

    def pieces(self, node: PiecewiseLinear) -> tuple[np.ndarray, np.ndarray]:
        """Which units are on one piece, and the piece, or that of the lower end."""
        known = self._pieces.get(id(node))
        if known is None:
            low, high = self.lows[node.source], self.highs[node.source]
            at = low if self.pattern is None else self.pattern[node.source]
            single = np.ones(node.size, dtype=bool)
            if self.pattern is None:
                single = ~undecided(node, low, high)
            known = self._pieces[id(node)] = single, node.piece(at[None])[0]
        return known

    # ----------------------------------------------------------------------- entries
    def _entries(
        self, size: int, parts: list[Part], const: np.ndarray, noise: np.ndarray
    ) -> Entries:
        if not self.fold:
            return Entries(matrix_of(size, self.n_columns, parts), const, noise)
        matrix = np.zeros((size, self.n_columns))
        for r, columns, values in parts:
            matrix[r, columns] = values
        return Entries(matrix, const, noise)

    def _named(
        self,
        i: int,
        at: np.ndarray,
        others: Sequence[Part],
        const: np.ndarray | None = None,
        noise: np.ndarray | None = None,
    ) -> np.ndarray:
        """Give entries of a node columns of their own; the rest is as said."""
        size = self.network.nodes[i].size
        y = self.add_columns(self.lows[i][at], self.highs[i][at])
        const = np.zeros(size) if const is None else const
        noise = np.zeros(size) if noise is None else noise
        self.entries[i] = self._entries(size, [*others, (at, y, 1.0)], const, noise)
        return y

    def source(self, s: int) -> Entries:
        """The entries of a node; constants where it isn't part of the model."""
        e = self.entries.get(s)
        if e is None:
            zero = np.zeros(self.network.nodes[s].size)
            return self._entries(len(zero), [], zero, zero)
        size, known = e.matrix.shape
        if known < self.n_columns and sp.issparse(e.matrix):
            e.matrix.resize((size, self.n_columns))
        elif known < self.n_columns:
            e.matrix = np.hstack([e.matrix, np.zeros((size, self.n_columns - known))])
        return e

    def _box(self, i: int, used: np.ndarray) -> None:
        self._named(i, np.flatnonzero(used), [])

    # --------------------------------------------------------------------------- rows
    def affine_rows(
        self, i: int, rows: np.ndarray
    ) -> tuple[Weight, np.ndarray, np.ndarray]:
        """Rows of an affine node over the columns: (matrix, const, noise)."""
        node = self.network.nodes[i]
        assert isinstance(node, Affine)
        matrix: Weight = np.zeros((len(rows), self.n_columns))
        if not self.fold:
            matrix = sp.csr_array(matrix.shape)
        const, noise = node.bias[rows].copy(), np.zeros(len(rows))
        total, terms = abs(node.bias[rows]), np.full(len(rows), 8.0)
        for s, w in zip(node.sources, node.weights):
            e, part = self.source(s), w[rows] if self.fold else sp.csr_array(w[rows])
            terms = terms + row_nonzeros(part)
            size, absolute = np.maximum(abs(self.lows[s]), abs(self.highs[s])), abs(part)
            total = total + absolute @ (size + abs(e.const))
            noise = noise + absolute @ e.noise
            const = const + part @ e.const
            matrix = matrix + part @ e.matrix
        if sp.issparse(matrix):
            matrix = sp.csr_array(matrix)
            matrix.sum_duplicates()
        return matrix, const, noise + 4.0 * EPS * terms * total

    def objective(self, row: int) -> tuple[np.ndarray, float, float]:
        """Row of the target over the columns: coefficients, constant, noise."""
        matrix, const, noise = self.affine_rows(self.target, np.array([row]))
        return dense(matrix)[0], float(const[0]), float(noise[0])

    def _affine(self, i: int, node: Affine, used: np.ndarray) -> None:
        rows = np.flatnonzero(used)
        matrix, const, noise = self.affine_rows(i, rows)
        # A short row, as of a concatenation or a sum with constants, is an entry itself.
        few = row_nonzeros(matrix) <= self.longest
        short, long = np.flatnonzero(few), np.flatnonzero(~few)
        r, columns, values = part_of(matrix, short)
        shift, noises = np.zeros(node.size), np.zeros(node.size)
        shift[rows[short]], noises[rows[short]] = const[short], noise[short]
        others = [(rows[short][r], columns, values)]
        y = self._named(i, rows[long], others, shift, noises)
        if len(long):
            parts = [part_of(matrix, long), (np.arange(len(y)), y, -1.0)]
            const = -const[long]
            self.add_rows(len(y), parts, const, const, noise[long])

    def _piecewise(self, i: int, node: PiecewiseLinear, used: np.ndarray) -> None:
        x = self.source(node.source)
        single, piece = self.pieces(node)
        at = np.flatnonzero(used & single)
        if self.pattern is not None:
            self._keep(node, x, at, piece[at])
        own, own_const = node.slopes[at, piece[at]], node.intercepts[at, piece[at]]
        others, const, noise = self._lines(node, x, at, own, own_const)
        at = np.flatnonzero(used & ~single)
        y = self._named(i, at, others, const, noise)
        if not len(at):
            return
        x = self.source(node.source)
        write = self._relu_bigm if node.is_relu else self._choice
        (write if self.integer else self._hull)(node, at, x, y)

    def _smooth(self, i: int, node: Smooth, used: np.ndarray) -> None:
        at, x = np.flatnonzero(used), self.source(node.source)
        if self.pattern is not None:  # tangents at the point: what the network is near it
            z = self.pattern[node.source][at]
            slope = node.derivative(z)
            parts, const, noise = self._lines(node, x, at, slope, node(z) - slope * z)
            self.entries[i] = self._entries(node.size, parts, const, noise)
            return
        y = self._named(i, at, [])
        x, low, high = self.source(node.source), self.lows[node.source], self.highs
        for slope, lower, upper in lines_of_units(node, low, high[node.source]):
            self._unit_rows(y, slope[at], x, at, lower[at], upper[at])

    def _lines(
        self,
        node: Unit,
        x: Entries,
        at: np.ndarray,
        slope: np.ndarray,
        constant: np.ndarray,
    ) -> tuple[list[Part], np.ndarray, np.ndarray]:
        """Units ``at`` that are lines, over the columns: parts, constants and noise."""
        low, high = self.lows[node.source][at], self.highs[node.source][at]
        r, columns, values = x.part(at, slope)
        live = slope[r] != 0
        const, noise = np.zeros(node.size), np.zeros(node.size)
        const[at] = constant + slope * x.const[at]
        reach = abs(slope) * (np.maximum(abs(low), abs(high)) + abs(x.const[at]))
        noise[at] = abs(slope) * x.noise[at] + 8.0 * EPS * (reach + abs(constant))
        return [(at[r][live], columns[live], values[live])], const, noise

    def _keep(
        self, node: PiecewiseLinear, x: Entries, at: np.ndarray, piece: np.ndarray
    ) -> None:
        """Rows that hold units on their pieces, where the bounds don't."""
        none = np.full((node.size, 1), np.inf)
        ends = np.concatenate([-none, node.breakpoints, none], axis=1)
        floor, top = ends[at, piece], ends[at, piece + 1]
        low, high = self.lows[node.source][at], self.highs[node.source][at]
        out = np.flatnonzero((low < floor) | (high > top))
        at, floor, top = at[out], floor[out], top[out]
        const = x.const[at]
        self.add_rows(len(at), [x.part(at)], floor - const, top - const, x.noise[at])

    def _unit_rows(
        self,
        y: np.ndarray,
        slope: np.ndarray,
        x: Entries,
        at: np.ndarray,
        lower: np.ndarray | float,
        upper: np.ndarray | float,
        more: Sequence[Part] = (),
    ) -> None:
        """Rows ``lower <= y - slope * x + more <= upper`` for the units ``at``."""
        shift = slope * x.const[at]
        parts = [(np.arange(len(at)), y, 1.0), x.part(at, -slope), *more]
        slack = abs(slope) * x.noise[at] + 8.0 * EPS * abs(shift)
        self.add_rows(len(at), parts, lower + shift, upper + shift, slack)

    def _hull(
        self, node: PiecewiseLinear, at: np.ndarray, x: Entries, y: np.ndarray
    ) -> None:
        """The facets of the convex hull of each unit's graph."""
        low, high = self.lows[node.source][at], self.highs[node.source][at]
        for sign, k, s, const in facets(segments(_sub(node, at), low[None], high[None])):
            above, below = (const, np.inf) if sign > 0 else (-np.inf, -const)
            self._unit_rows(y[k], sign * s, x, at[k], above, below)

    def _relu_bigm(
        self, node: PiecewiseLinear, at: np.ndarray, x: Entries, y: np.ndarray
    ) -> None:
        n, one = np.arange(len(at)), np.ones(len(at))
        low, high = self.lows[node.source][at], self.highs[node.source][at]
        z = self.add_columns(np.zeros(len(at)), one, integer=True)
        self._unit_rows(y, one, x, at, 0.0, np.inf)
        # y - x - l z <= -l  and  y <= u z
        self._unit_rows(y, one, x, at, -np.inf, -low, [(n, z, -low)])
        self.add_rows(len(at), [(n, y, 1.0), (n, z, -high)], -np.inf, 0.0)

    def _choice(
        self, node: PiecewiseLinear, at: np.ndarray, x: Entries, y: np.ndarray
    ) -> None:
        """A copy of the argument for each piece, one of them chosen."""
        sub = _sub(node, at)
        low, high = self.lows[node.source][at], self.highs[node.source][at]
        ends = segments(sub, low[None], high[None])
        argument = [x.part(at)]
        value: list[Part] = [(np.arange(len(at)), y, -1.0)]
        one: list[Part] = []
        for p in range(sub.slopes.shape[1]):
            k = np.flatnonzero(ends.inside[2 * p, 0])
            if not len(k):
                continue
            left, right = ends.x[2 * p, 0, k], ends.x[2 * p + 1, 0, k]
            part = self.add_columns(np.minimum(left, 0.0), np.maximum(right, 0.0))
            z = self.add_columns(np.zeros(len(k)), np.ones(len(k)), integer=True)
            argument.append((k, part, -1.0))
            value += [(k, part, sub.slopes[k, p]), (k, z, sub.intercepts[k, p])]
            one.append((k, z, 1.0))
            r = np.arange(len(k))
            self.add_rows(len(k), [(r, part, 1.0), (r, z, -left)], 0.0, np.inf)
            self.add_rows(len(k), [(r, part, 1.0), (r, z, -right)], -np.inf, 0.0)
        const = -x.const[at]
        self.add_rows(len(at), argument, const, const, x.noise[at] + 4 * EPS * abs(const))
        self.add_rows(len(at), value, 0.0, 0.0, ends.slack[0])
        self.add_rows(len(at), one, 1.0, 1.0)

    # -------------------------------------------------------------------------- maxima
    def _max(self, i: int, node: Max, used: np.ndarray) -> None:
        x = self.source(node.source)
        low, high = self.lows[node.source], self.highs[node.source]
        planes = max_planes(node, low[None], high[None], "one")
        parts: list[Part] = []
        const, noise = np.zeros(node.size), np.zeros(node.size)
        for j in np.flatnonzero(used):
            group = node.group(int(j))
            leader, alive = self._rivals(node, group)
            if not len(alive):
                _, columns, values = x.part(np.array([leader]))
                parts.append((np.full(len(columns), j), columns, values))
                const[j], noise[j] = x.const[leader], x.noise[leader]
                continue
            alive = np.unique(np.append(alive, leader))
            y = self.add_columns(self.lows[i][j], self.highs[i][j])
            parts.append((np.array([j]), y, 1.0))
            ys, x = np.repeat(y, len(alive)), self.source(node.source)
            self._unit_rows(ys, np.ones(len(alive)), x, alive, 0.0, np.inf)
            if self.integer:
                self._max_choice(ys, x, alive, low[alive], high[alive])
            else:
                within = slice(node.indptr[j], node.indptr[j + 1])
                self._plane(y, x, group, planes.upper[0, within], planes.upper_const[0, j])
        self.entries[i] = self._entries(node.size, parts, const, noise)

    def _rivals(self, node: Max, group: np.ndarray) -> tuple[int, np.ndarray]:
        """The likely largest of a group, and the others that may be larger."""
        low, high = self.lows[node.source], self.highs[node.source]
        if self.pattern is None:
            leader = group[np.argmax(low[group])]
            others = group[(high[group] > low[leader]) & (group != leader)]
            return int(leader), others
        leader = group[np.argmax(self.pattern[node.source][group])]
        others = np.unique(group[(high[group] > low[leader]) & (group != leader)])
        x, first = self.source(node.source), np.full(len(others), leader)
        r, columns, values = x.part(others, -1.0)
        gap = x.const[others] - x.const[first]
        self.add_rows(len(others), [x.part(first), (r, columns, values)], gap, np.inf)
        return int(leader), others[:0]

    def _max_choice(
        self,
        ys: np.ndarray,
        x: Entries,
        alive: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
    ) -> None:
        """``y <= x_j + (max of the others - l_j) (1 - z_j)`` for each argument."""
        n = np.arange(len(alive))
        z = self.add_columns(np.zeros(len(n)), np.ones(len(n)), integer=True)
        others = np.array([np.delete(high, k).max() for k in n])
        big = np.maximum(others - low, 0.0)
        one = np.ones(len(n))
        self._unit_rows(ys, one, x, alive, -np.inf, big, [(n, z, big)])
        self.add_rows(1, [(np.zeros(len(n), dtype=int), z, 1.0)], 1.0, 1.0)

    def _plane(
        self, y: np.ndarray, x: Entries, group: np.ndarray, d: np.ndarray, const: float
    ) -> None:
        """``y <= sum d_j x_j + const``."""
        r, columns, values = x.part(group, -d)
        parts = [(np.zeros(1, dtype=int), y, 1.0), (np.zeros_like(r), columns, values)]
        shift = d @ x.const[group]
        slack = abs(d) @ (x.noise[group] + 8.0 * EPS * len(group) * abs(x.const[group]))
        self.add_rows(1, parts, -np.inf, const + shift, slack)

    def in_highs(self, *, relaxed: bool) -> HighsModel:
        """The program in HiGHS, on one thread: chunks are what runs side by side."""
        return HighsModel(
            self.program, relaxed=relaxed, small_matrix_value=ENCODING.smallest
        )


def _sub(node: PiecewiseLinear, at: np.ndarray) -> PiecewiseLinear:
    """The units ``at`` of a node."""
    return PiecewiseLinear(
        node.name,
        (len(at),),
        node.source,
        node.function,
        node.breakpoints[at],
        node.slopes[at],
        node.intercepts[at],
    )
