r"""The nodes below a node as arrays of a linear program, or of a mixed-integer one.

Columns are inputs, pre-activations and activations over their bounds. Rows are

* ``z = W x + b`` for a pre-activation,
* the facets of the convex hull of a unit's graph over its interval: the triangle for
  ReLU (Ehlers 2017), any polygon in general; or, with binaries, the graph itself,
* ``y >= x_j`` and the planes of :mod:`pyomo_relu.bounds.linear` for a maximum.

Units that stay on one piece have no column: an entry of a node is ``scale * column +
const``. A node outside the window is a box of its bounds.

Every row has a *slack*: by how much a forward pass in float64, or the rounding of the
row's own numbers, may violate it. Certificates subtract it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.bounds.linear import (
    EPS,
    group_numbers,
    max_planes,
    segments,
    support,
)
from pyomo_relu.network import Affine, Input, Max, Network, PiecewiseLinear
from pyomo_relu.network.weights import row_nonzeros


@dataclass
class Entries:
    """Entries of a node as ``scale * column + const``, up to ``noise``; column -1: none."""

    column: np.ndarray
    scale: np.ndarray
    const: np.ndarray
    noise: np.ndarray

    @classmethod
    def constant(cls, size: int) -> Entries:
        return cls(np.full(size, -1), np.zeros(size), np.zeros(size), np.zeros(size))


def depths(network: Network) -> list[int]:
    """How many piecewise-linear and max nodes lie between a node and the inputs."""
    found: list[int] = []
    for node in network.nodes:
        deepest = max((found[s] for s in node.sources), default=0)
        found.append(deepest + isinstance(node, (PiecewiseLinear, Max)))
    return found


class ArrayModel:
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
    """

    def __init__(
        self,
        network: Network,
        lows,
        highs,
        target: int,
        rows: np.ndarray,
        integer: bool = False,
        window: int | None = None,
    ) -> None:
        self.network, self.lows, self.highs = network, lows, highs
        self.target, self.integer = target, integer
        self.col_lower: list[np.ndarray] = []
        self.col_upper: list[np.ndarray] = []
        self.n_columns = 0
        self.binaries: list[np.ndarray] = []
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.n_rows = 0
        self.entries: dict[int, Entries] = {}
        depth = depths(network)
        floor = None if window is None else depth[target] - window
        self._needed(rows, depth, floor)
        for i in sorted(self.needed):
            if i == target:
                continue
            node, used = network.nodes[i], self.needed[i]
            if isinstance(node, Input) or self._below(i, depth, floor):
                self._box(i, used)
            elif isinstance(node, Affine):
                self._affine(i, node, used)
            elif isinstance(node, PiecewiseLinear):
                self._piecewise(i, node, used)
            else:
                assert isinstance(node, Max)
                self._max(i, node, used)
        self.finish()

    # ----------------------------------------------------------------- what is needed
    def _needed(self, rows: np.ndarray, depth: list[int], floor: int | None) -> None:
        nodes = self.network.nodes
        needed = {self.target: np.zeros(nodes[self.target].size, dtype=bool)}
        needed[self.target][rows] = True
        for i in range(self.target, -1, -1):
            if i not in needed or isinstance(nodes[i], Input):
                continue
            if i != self.target and self._below(i, depth, floor):
                continue
            node, used = nodes[i], needed[i]
            masks: list[tuple[int, np.ndarray]] = []
            if isinstance(node, Affine):
                for s, w in zip(node.sources, node.weights):
                    masks.append((s, np.asarray(abs(w[used]).sum(axis=0)).reshape(-1) > 0))
            elif isinstance(node, PiecewiseLinear):
                low, high = self.lows[node.source], self.highs[node.source]
                ends = segments(node, low[None], high[None])
                piece = ends.first[0]
                flat = node.slopes[np.arange(node.size), piece] == 0
                masks.append((node.source, used & ~(ends.single[0] & flat)))
            else:
                assert isinstance(node, Max)
                mask = np.zeros(nodes[node.source].size, dtype=bool)
                mask[node.indices[used[group_numbers(node)]]] = True
                masks.append((node.source, mask))
            for s, mask in masks:
                if mask.any():
                    needed[s] = needed.get(s, np.zeros(nodes[s].size, dtype=bool)) | mask
        self.needed = needed

    def _below(self, i: int, depth: list[int], floor: int | None) -> bool:
        """Whether a node lies below the window; the window starts with activations."""
        if floor is None:
            return False
        return depth[i] < floor + (not isinstance(self.network.nodes[i], Affine))

    # ------------------------------------------------------------------------ columns
    def add_columns(self, lower, upper, binary: bool = False) -> np.ndarray:
        lower, upper = np.atleast_1d(lower), np.atleast_1d(upper)
        found = np.arange(self.n_columns, self.n_columns + len(lower))
        self.col_lower.append(np.asarray(lower, dtype=float))
        self.col_upper.append(np.asarray(upper, dtype=float))
        self.n_columns += len(lower)
        if binary:
            self.binaries.append(found)
        return found

    def add_rows(self, n: int, parts, lower, upper, slack) -> None:
        """Add ``n`` rows from parts (row numbers from 0, columns, values)."""
        for r, columns, values in parts:
            r, columns = np.asarray(r), np.asarray(columns)
            values = np.broadcast_to(np.asarray(values, dtype=float), r.shape)
            self._parts.append((r + self.n_rows, columns, values))
        lower, upper, slack = (
            np.array(np.broadcast_to(np.asarray(a, dtype=float), (n,)))
            for a in (lower, upper, slack)
        )
        self._rows.append((lower, upper, slack))
        self.n_rows += n

    def _box(self, i: int, used: np.ndarray) -> None:
        at = np.flatnonzero(used)
        e = Entries.constant(len(used))
        e.column[at] = self.add_columns(self.lows[i][at], self.highs[i][at])
        e.scale[at] = 1.0
        self.entries[i] = e

    # --------------------------------------------------------------------------- rows
    def affine_rows(self, i: int, rows: np.ndarray):
        """Rows of an affine node over the columns: (matrix, const, noise)."""
        node = self.network.nodes[i]
        assert isinstance(node, Affine)
        matrix = sp.csr_array((len(rows), self.n_columns))
        const, noise = node.bias[rows].copy(), np.zeros(len(rows))
        total, terms = abs(node.bias[rows]), np.full(len(rows), 8.0)
        for s, w in zip(node.sources, node.weights):
            e = self.entries.get(s) or Entries.constant(self.network.nodes[s].size)
            part = sp.csr_array(w[rows])
            terms = terms + row_nonzeros(part)
            size = np.maximum(abs(self.lows[s]), abs(self.highs[s]))
            total = total + abs(part) @ (size + abs(e.const))
            noise = noise + abs(part) @ e.noise
            const = const + part @ e.const
            at = np.flatnonzero(e.column >= 0)
            spread = sp.csr_array(
                (e.scale[at], (at, e.column[at])), shape=(len(e.column), self.n_columns)
            )
            matrix = matrix + part @ spread
        matrix = sp.csr_array(matrix)
        matrix.sum_duplicates()
        return matrix, const, noise + 4.0 * EPS * terms * total

    def _affine(self, i: int, node: Affine, used: np.ndarray) -> None:
        rows = np.flatnonzero(used)
        matrix, const, noise = self.affine_rows(i, rows)
        e = Entries.constant(node.size)
        counts = np.diff(matrix.indptr)
        # A row with one column, as of a concatenation or a sum with constants, is an
        # entry itself.
        one = rows[counts == 1]
        at = matrix.indptr[:-1][counts == 1]
        e.column[one], e.scale[one] = matrix.indices[at], matrix.data[at]
        e.const[rows[counts <= 1]] = const[counts <= 1]
        e.noise[rows[counts <= 1]] = noise[counts <= 1]
        many = counts > 1
        at = rows[many]
        e.column[at] = self.add_columns(self.lows[i][at], self.highs[i][at])
        e.scale[at] = 1.0
        m = matrix[many].tocoo()
        n = int(many.sum())
        if n:
            self.add_rows(
                n,
                [(m.row, m.col, m.data), (np.arange(n), e.column[at], -1.0)],
                -const[many],
                -const[many],
                noise[many],
            )
        self.entries[i] = e

    def _piecewise(self, i: int, node: PiecewiseLinear, used: np.ndarray) -> None:
        source = self.entries.get(node.source)
        if source is None:
            source = Entries.constant(self.network.nodes[node.source].size)
        low, high = self.lows[node.source], self.highs[node.source]
        ends = segments(node, low[None], high[None])
        single, piece = ends.single[0], ends.first[0]
        at = np.flatnonzero(used & single)
        own = node.slopes[at, piece[at]]
        e = Entries.constant(node.size)
        live = own != 0
        e.column[at[live]] = source.column[at[live]]
        e.scale[at] = own * source.scale[at]
        e.const[at] = node.intercepts[at, piece[at]] + own * source.const[at]
        reach = abs(own) * (np.maximum(abs(low[at]), abs(high[at])) + abs(source.const[at]))
        e.noise[at] = abs(own) * source.noise[at] + 8.0 * EPS * (
            reach + abs(node.intercepts[at, piece[at]])
        )
        at = np.flatnonzero(used & ~single)
        if len(at):
            e.column[at] = self.add_columns(self.lows[i][at], self.highs[i][at])
            e.scale[at] = 1.0
            if not self.integer:
                self._hull(node, at, source, e.column[at], low, high)
            elif node.is_relu:
                self._relu_bigm(at, source, e.column[at], low, high)
            else:
                self._choice(node, at, source, e.column[at], low, high)
        self.entries[i] = e

    def _unit_rows(self, y, slope, x: Entries, at, lower, upper, extra=0.0) -> None:
        """Rows ``lower <= y - slope * x <= upper`` for the units ``at``."""
        n = np.arange(len(at))
        held = x.column[at] >= 0
        shift = slope * x.const[at]
        parts = [(n, y, 1.0)]
        parts.append((n[held], x.column[at][held], -(slope * x.scale[at])[held]))
        slack = abs(slope) * x.noise[at] + 8.0 * EPS * abs(shift) + extra
        self.add_rows(len(at), parts, lower + shift, upper + shift, slack)

    def _hull(self, node, at, x: Entries, y, low, high) -> None:
        """The facets of the convex hull of each unit's graph."""
        sub = _sub(node, at)
        ends = segments(sub, low[None, at], high[None, at])
        for sign in (1.0, -1.0):
            seen: list[np.ndarray] = []
            for i in range(len(ends.x)):
                for j in range(i + 1, len(ends.x)):
                    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                        s = sign * (ends.y[j] - ends.y[i]) / (ends.x[j] - ends.x[i])
                    s = np.where(ends.x[j] > ends.x[i], s, np.nan)[0]
                    ok = ends.inside[i, 0] & ends.inside[j, 0] & (abs(s) < 1e7) & (s != 0)
                    for other in seen:
                        ok &= ~(abs(s - other) <= 1e-12 * (1.0 + abs(s)))
                    s = np.where(ok, s, 0.0)
                    const = support(ends, s[None], sign)[0]
                    gap = sign * ends.y[i, 0] - s * ends.x[i, 0] - const
                    # Any line is valid; which are facets may be decided roughly.
                    reach = np.where(ends.inside, abs(ends.y) + abs(s * ends.x), 0.0)
                    ok &= gap <= 1e-9 * reach.max(axis=(0, 1))
                    if not ok.any():
                        continue
                    seen.append(np.where(ok, s, np.nan))
                    k = np.flatnonzero(ok)
                    bound = const[k]
                    if sign > 0:
                        self._unit_rows(y[k], s[k], x, at[k], bound, np.inf)
                    else:
                        self._unit_rows(y[k], -s[k], x, at[k], -np.inf, -bound)

    def _relu_bigm(self, at, x: Entries, y, low, high) -> None:
        n = np.arange(len(at))
        z = self.add_columns(np.zeros(len(at)), np.ones(len(at)), binary=True)
        held = x.column[at] >= 0
        of_x = (n[held], x.column[at][held], -x.scale[at][held])
        shift, slack = x.const[at], x.noise[at]
        self._unit_rows(y, np.ones(len(at)), x, at, 0.0, np.inf)
        # y - x - l z <= -l  and  y <= u z
        self.add_rows(
            len(at), [(n, y, 1.0), of_x, (n, z, -low[at])], -np.inf, -low[at] + shift, slack
        )
        self.add_rows(len(at), [(n, y, 1.0), (n, z, -high[at])], -np.inf, 0.0, 0.0)

    def _choice(self, node, at, x: Entries, y, low, high) -> None:
        """A copy of the argument for each piece, one of them chosen."""
        sub = _sub(node, at)
        ends = segments(sub, low[None, at], high[None, at])
        n = np.arange(len(at))
        held = x.column[at] >= 0
        argument = [(n[held], x.column[at][held], x.scale[at][held])]
        value, one = [(n, y, -1.0)], []
        for p in range(sub.slopes.shape[1]):
            k = np.flatnonzero(ends.inside[2 * p, 0])
            if not len(k):
                continue
            left, right = ends.x[2 * p, 0, k], ends.x[2 * p + 1, 0, k]
            part = self.add_columns(np.minimum(left, 0.0), np.maximum(right, 0.0))
            z = self.add_columns(np.zeros(len(k)), np.ones(len(k)), binary=True)
            argument.append((k, part, -1.0))
            value += [(k, part, sub.slopes[k, p]), (k, z, sub.intercepts[k, p])]
            one.append((k, z, 1.0))
            r = np.arange(len(k))
            self.add_rows(len(k), [(r, part, 1.0), (r, z, -left)], 0.0, np.inf, 0.0)
            self.add_rows(len(k), [(r, part, 1.0), (r, z, -right)], -np.inf, 0.0, 0.0)
        const = -x.const[at]
        self.add_rows(len(at), argument, const, const, x.noise[at] + 4 * EPS * abs(const))
        self.add_rows(len(at), value, 0.0, 0.0, ends.slack[0])
        self.add_rows(len(at), one, 1.0, 1.0, 0.0)

    def _max(self, i: int, node: Max, used: np.ndarray) -> None:
        x = self.entries[node.source]
        low, high = self.lows[node.source], self.highs[node.source]
        planes = max_planes(node, low[None], high[None], "one")
        e = Entries.constant(node.size)
        for j in np.flatnonzero(used):
            group = node.group(int(j))
            floor = low[group].max()
            leader = group[np.argmax(low[group])]
            alive = np.array([g for g in group if high[g] > floor and g != leader])
            if not len(alive):
                e.column[j], e.scale[j] = x.column[leader], x.scale[leader]
                e.const[j], e.noise[j] = x.const[leader], x.noise[leader]
                continue
            alive = np.unique(np.append(alive, leader))
            y = self.add_columns(self.lows[i][j], self.highs[i][j])
            e.column[j], e.scale[j] = y[0], 1.0
            ys, n = np.repeat(y, len(alive)), np.arange(len(alive))
            self._unit_rows(ys, np.ones(len(alive)), x, alive, 0.0, np.inf)
            if self.integer:
                self._max_choice(ys, n, x, alive, low, high)
            else:
                within = slice(node.indptr[j], node.indptr[j + 1])
                self._plane(y, x, group, planes.upper[0, within], planes.upper_const[0, j])
        self.entries[i] = e

    def _max_choice(self, ys, n, x: Entries, alive, low, high) -> None:
        """``y <= x_j + (max of the others - l_j) (1 - z_j)`` for each argument."""
        z = self.add_columns(np.zeros(len(n)), np.ones(len(n)), binary=True)
        tops = high[alive]
        others = np.array([np.delete(tops, k).max() for k in n])
        big = np.maximum(others - low[alive], 0.0)
        held = x.column[alive] >= 0
        of_x = (n[held], x.column[alive][held], -x.scale[alive][held])
        upper = x.const[alive] + big
        self.add_rows(
            len(n), [(n, ys, 1.0), of_x, (n, z, big)], -np.inf, upper, x.noise[alive]
        )
        self.add_rows(1, [(np.zeros(len(n), dtype=int), z, 1.0)], 1.0, 1.0, 0.0)

    def _plane(self, y, x: Entries, group, d, const) -> None:
        """``y <= sum d_j x_j + const``."""
        held = x.column[group] >= 0
        zero = np.zeros(int(held.sum()), dtype=int)
        coefs = -(d * x.scale[group])[held]
        parts = [(np.zeros(1, dtype=int), y, 1.0), (zero, x.column[group][held], coefs)]
        shift = d @ x.const[group]
        slack = abs(d) @ (x.noise[group] + 8.0 * EPS * len(group) * abs(x.const[group]))
        self.add_rows(1, parts, -np.inf, const + shift, slack)

    # -------------------------------------------------------------------------- finish
    def finish(self) -> None:
        def join(arrays):
            return np.concatenate(arrays) if arrays else np.zeros(0)

        self.lower, self.upper = join(self.col_lower), join(self.col_upper)
        rows, columns, values = (join([p[k] for p in self._parts]) for k in range(3))
        self.matrix = sp.csr_array(
            (values, (rows.astype(np.int64), columns.astype(np.int64))),
            shape=(self.n_rows, self.n_columns),
        )
        self.matrix.sum_duplicates()
        self.matrix.eliminate_zeros()
        self.row_lower, self.row_upper, self.row_slack = (
            join([r[k] for r in self._rows]) for k in range(3)
        )
        self.binary = join(self.binaries).astype(np.int64)

    def objective(self, row: int) -> tuple[np.ndarray, float, float]:
        """Row of the target over the columns: coefficients, constant, noise."""
        matrix, const, noise = self.affine_rows(self.target, np.array([row]))
        return matrix.toarray()[0], float(const[0]), float(noise[0])


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
