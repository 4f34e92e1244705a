r"""Cuts of the LP rung for maxima: their convex hull over the box of what they compare.

For :math:`y = \max_k (w^k x + b^k)` on the box :math:`L \le x \le U` and any row ``v``,

.. math::
    y \le v x + \max_k \Big( b^k + \sum_i \max\big((w^k_i - v_i) L_i,
        (w^k_i - v_i) U_i\big) \Big),

because the attaining ``k`` has :math:`y - v x = (w^k - v) x + b^k`. With the lower
bounds :math:`y \ge w^k x + b^k` these are the convex hull: a concave envelope is the
least of all such affine bounds. The ``v`` that a point violates most is a small linear
program of its own; whatever its solver returns, the constant is computed anew.

Source: Anderson, Huchette, Ma, Tjandraatmadja, Vielma, "Strong mixed-integer programming
formulations for trained neural networks", Math. Prog. 183, 2020, section 4 (the binaries
projected out).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds.array_model import ArrayModel
from pyomo_relu.network import Affine, Max
from pyomo_relu.programs import Rows, matrix_of

#: A cut is added where it is violated by more than this share of the unit's range
#: (chosen by hand).
TOLERANCE = 1e-5


class MaxCuts:
    """The cuts of one group ``j`` of the maximum ``i``."""

    def __init__(self, model: ArrayModel, i: int, j: int) -> None:
        node = model.network.nodes[i]
        assert isinstance(node, Max)
        group = np.unique(node.group(j))
        low, high = model.lows[node.source], model.highs[node.source]
        # What never exceeds the largest lower end is below the maximum of the others.
        group = group[high[group] >= low[group].max()]
        matrix, const, noise = _arguments(model, node.source, group)
        self.n_columns = model.n_columns
        self.y = model.entries[i].column[j]
        self.columns = np.unique(matrix.indices)
        self.w, self.const = matrix.toarray()[:, self.columns], const
        self.low = model.program.lower[self.columns]
        self.high = model.program.upper[self.columns]
        self.ends = np.maximum(abs(self.low), abs(self.high))
        self.noise = 2.0 * noise.max()
        self.range = float(model.program.upper[self.y] - model.program.lower[self.y])

    def separate(self, values: np.ndarray) -> Rows | None:
        """The most violated cut at a point, if one is violated."""
        x, y = values[self.columns], values[self.y]
        least = TOLERANCE * max(self.range, 1e-6)
        if y <= (self.w @ x + self.const).max() + least:
            return None
        v = self._envelope(x)
        if v is None:
            return None
        d = self.w - v
        tops = np.maximum(d * self.low, d * self.high).sum(axis=1) + self.const
        if y - v @ x - tops.max() <= least:
            return None
        size = (abs(self.w) + abs(v)) @ self.ends + abs(self.const)
        slack = self.noise + 8.0 * EPS * (len(v) + 16.0) * size.max()
        at = np.flatnonzero(v)
        columns, values = np.append(self.columns[at], self.y), np.append(-v[at], 1.0)
        row = matrix_of(1, self.n_columns, [(np.zeros_like(columns), columns, values)])
        return Rows(row, np.array([-np.inf]), tops.max()[None], np.array([slack]))

    def _envelope(self, x: np.ndarray) -> np.ndarray | None:
        """The row whose bound is least at a point; None where no solver says so."""
        from scipy.optimize import linprog

        width = self.high - self.low
        share = np.clip((x - self.low) / np.where(width > 0, width, 1.0), 0.0, 1.0)
        # At an end of its interval an input's best coefficient is known.
        v = np.where(share < 0.5, self.w.max(axis=0), self.w.min(axis=0))
        open_ = (share > 1e-9) & (share < 1 - 1e-9) & (np.ptp(self.w, axis=0) > 0)
        k, n = len(self.w), int(open_.sum())
        if not n:
            return v
        a = self.w * width
        base = self.const + self.w @ self.low
        base = base + np.maximum(a - v * width, 0.0)[:, ~open_].sum(axis=1)
        a = a[:, open_]
        scale = max(float(abs(a).max()), float(np.ptp(base)))
        # Over v, s >= a_k - v, and beta >= base_k + sum of s: least v share + beta.
        each, entry = np.arange(k * n), np.tile(np.arange(n), k)
        last, of_k = np.arange(k * n, k * n + k), np.repeat(np.arange(k), n)
        parts = [
            (each, entry, -1.0),
            (each, n + each, -1.0),
            (k * n + of_k, n + each, 1.0),
            (last, np.full(k, n + k * n), -1.0),
        ]
        rows = matrix_of(k * n + k, n + k * n + 1, parts)
        right = np.concatenate([-a.reshape(-1), -(base - base.max())]) / scale
        cost = np.concatenate([share[open_], np.zeros(k * n), [1.0]])
        free, least = [(None, None)] * n, [(0.0, None)] * (k * n)
        found = linprog(cost, rows, right, bounds=[*free, *least, (None, None)])
        if found.x is None:
            return None
        v[open_] = scale * found.x[:n] / width[open_]
        return v


def _arguments(
    model: ArrayModel, source: int, group: np.ndarray
) -> tuple[sp.csr_array, np.ndarray, np.ndarray]:
    """What a group compares over the columns: (matrix, const, noise)."""
    if isinstance(model.network.nodes[source], Affine):
        return model.affine_rows(source, group)
    e = model.source(source)
    noise = e.noise[group] + 8.0 * EPS * abs(e.const[group])
    return e.matrix[group], e.const[group], noise


def max_units(model: ArrayModel) -> Iterator[tuple[int, int]]:
    """Maxima of a relaxation and their groups that have a column of their own."""
    for i, used in sorted(model.needed.items()):
        node = model.network.nodes[i]
        if not isinstance(node, Max) or i == model.target:
            continue
        low, high = model.lows[node.source], model.highs[node.source]
        for j in np.flatnonzero(used).tolist():
            group = node.group(j)
            leader = group[np.argmax(low[group])]
            if (high[group[group != leader]] > low[leader]).any():
                yield i, j
