r"""Cuts for the LP rung: what one neuron allows over all of its inputs together.

The triangle bounds a ReLU :math:`y = \max(0, w^T x + b)` over the interval of
:math:`w^T x + b`; its convex hull over the box :math:`L \le x \le U` is smaller. With
:math:`\breve L_i, \breve U_i` the ends of input :math:`i` where :math:`w_i x_i` is
smallest and largest, :math:`\ell(I) = \sum_{i \in I} w_i \breve L_i + \sum_{i \notin I}
w_i \breve U_i + b`, every set :math:`I` and input :math:`h` with
:math:`\ell(I) \ge 0 > \ell(I \cup \{h\})` give

.. math::
    y \le \sum_{i \in I} w_i (x_i - \breve L_i)
        + \frac{\ell(I)}{\breve U_h - \breve L_h} (x_h - \breve L_h)

and together they are all of the hull: the inequalities of Anderson et al. with the
binary projected out. A point breaks most the one whose :math:`I` holds the inputs
with the smallest share :math:`(x_i - \breve L_i) / (\breve U_i - \breve L_i)`. Other
continuous units of two pieces are a line plus a multiple of a ReLU.

Like every row of the model a cut has a slack for rounding, so that the certificates of
:mod:`pyomo_relu.bounds.lp` stay rigorous.

Source: Tjandraatmadja, Anderson, Huchette, Ma, Patel, Vielma, "The convex relaxation
barrier, revisited", arXiv 2006.14076, theorem 1 and proposition 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyomo_relu.bounds.array_model import ArrayModel
from pyomo_relu.bounds.linear import EPS, segments
from pyomo_relu.lazy import sparse as sp
from pyomo_relu.network import Affine, PiecewiseLinear

#: A cut is added where it is violated by more than this share of the unit's range.
TOLERANCE = 1e-5


@dataclass
class Rows:
    """Rows ``matrix @ columns <= upper``, each up to its slack."""

    matrix: sp.csr_array
    upper: np.ndarray
    slack: np.ndarray


@dataclass
class Extended:
    """A model with more rows, as certificates read it."""

    matrix: sp.csr_array
    lower: np.ndarray
    upper: np.ndarray
    row_lower: np.ndarray
    row_upper: np.ndarray
    row_slack: np.ndarray
    n_columns: int
    n_rows: int


def extended(model: ArrayModel | Extended, rows: Rows) -> Extended:
    """The model and the rows below it."""
    n = len(rows.upper)
    return Extended(
        sp.csr_array(sp.vstack([model.matrix, rows.matrix])),
        model.lower,
        model.upper,
        np.concatenate([model.row_lower, np.full(n, -np.inf)]),
        np.concatenate([model.row_upper, rows.upper]),
        np.concatenate([model.row_slack, rows.slack]),
        model.n_columns,
        model.n_rows + n,
    )


class NodeCuts:
    """The units of one node that have cuts.

    Each is ``y = line(pre) + bend * max(0, w x + bias)`` over the columns ``x``.
    """

    def __init__(self, model: ArrayModel, i: int, units: np.ndarray) -> None:
        node = model.network.nodes[i]
        assert isinstance(node, PiecewiseLinear)
        t, slopes, intercepts = (
            a[units] for a in (node.breakpoints[:, 0], node.slopes, node.intercepts)
        )
        matrix, const, noise = model.affine_rows(node.source, units)
        self.n_columns = model.n_columns
        self.columns = np.unique(matrix.indices)
        self.w = matrix.toarray()[:, self.columns]
        low, high = model.lower[self.columns], model.upper[self.columns]
        self.at_low = np.where(self.w >= 0, low, high)
        self.reach = abs(self.w) * (high - low)
        self.bias = const - t
        self.top = self.bias + (self.w * self.at_low).sum(axis=1) + self.reach.sum(axis=1)
        self.y = model.entries[i].column[units]
        self.slope, self.intercept = slopes[:, 0], intercepts[:, 0]
        self.bend = slopes[:, 1] - slopes[:, 0]
        pre = model.entries[node.source]
        self.pre, self.scale = pre.column[units], pre.scale[units]
        self.shift = pre.const[units]
        # Rounding: of the sums here, of a forward pass, and of the second piece.
        ends = np.maximum(abs(low), abs(high))
        size = abs(self.w) @ ends + abs(const) + abs(t)
        gap = abs(slopes[:, 1] * t + intercepts[:, 1] - slopes[:, 0] * t - intercepts[:, 0])
        width = np.maximum(
            abs(model.lows[node.source][units]), abs(model.highs[node.source][units])
        )
        lines = abs(slopes).sum(axis=1) * (width + abs(t) + abs(self.shift))
        lines += abs(intercepts).sum(axis=1)
        self.slack = abs(self.bend) * (
            2.0 * noise + 16.0 * EPS * (len(self.columns) + 16.0) * size
        )
        self.slack += abs(self.slope) * pre.noise[units] + gap + 32.0 * EPS * lines

    def separate(self, values: np.ndarray) -> Rows | None:
        """The most violated cut of each unit at a point, if one is violated."""
        x = values[self.columns]
        inside = np.clip(self.w * (x - self.at_low), 0.0, self.reach)
        share = inside / np.where(self.reach > 0, self.reach, 1.0)
        order = np.argsort(share, axis=1, kind="stable")
        sums = self.top[:, None] - np.cumsum(
            np.take_along_axis(self.reach, order, axis=1), axis=1
        )
        # l(I + h) is the first negative sum; what comes before h is I.
        crossing = (sums < 0).argmax(axis=1)
        u = np.arange(len(order))
        h = order[u, crossing]
        rest = sums[u, crossing] + self.reach[u, h]
        taken = np.zeros(self.w.shape)
        np.put_along_axis(
            taken, order, (np.arange(self.w.shape[1]) < crossing[:, None]).astype(float), 1
        )
        taken[u, h] = np.clip(
            rest / np.where(self.reach[u, h] > 0, self.reach[u, h], 1.0), 0, 1
        )
        pre = np.where(self.pre >= 0, self.scale * values[self.pre], 0.0) + self.shift
        left = (values[self.y] - self.slope * pre - self.intercept) / self.bend
        violation = left - (taken * inside).sum(axis=1)
        usable = (sums < 0).any(axis=1) & (self.top > 0)
        k = np.flatnonzero(usable & (violation > TOLERANCE * np.maximum(self.top, 1e-6)))
        return self._rows(k, taken) if len(k) else None

    def _rows(self, k: np.ndarray, taken: np.ndarray) -> Rows:
        sign, size = np.sign(self.bend[k]), abs(self.bend[k])
        coefs = size[:, None] * taken[k] * self.w[k]
        upper = sign * (self.intercept[k] + self.slope[k] * self.shift[k])
        upper = upper - (coefs * self.at_low[k]).sum(axis=1)
        r, c = np.nonzero(coefs)
        n = np.arange(len(k))
        held = np.flatnonzero((self.pre[k] >= 0) & (self.slope[k] != 0))
        parts = [
            (r, self.columns[c], -coefs[r, c]),
            (n, self.y[k], sign),
            (held, self.pre[k][held], -(sign * self.slope[k] * self.scale[k])[held]),
        ]
        rows, columns, values = (np.concatenate([p[j] for p in parts]) for j in range(3))
        matrix = sp.csr_array((values, (rows, columns)), shape=(len(k), self.n_columns))
        matrix.sum_duplicates()
        return Rows(matrix, upper, self.slack[k])


class Separator:
    """Cuts of all units of a relaxation."""

    def __init__(self, model: ArrayModel) -> None:
        self.nodes: list[NodeCuts] = []
        for i, used in sorted(model.needed.items()):
            node = model.network.nodes[i]
            if i == model.target or not isinstance(node, PiecewiseLinear):
                continue
            units = np.flatnonzero(used & _has_cuts(model, i, node))
            if len(units):
                self.nodes.append(NodeCuts(model, i, units))

    def separate(self, values: np.ndarray) -> Rows | None:
        """The violated cuts at a point; None if there is none."""
        parts = [p for p in (n.separate(values) for n in self.nodes) if p is not None]
        if not parts:
            return None
        return Rows(
            sp.csr_array(sp.vstack([p.matrix for p in parts])),
            np.concatenate([p.upper for p in parts]),
            np.concatenate([p.slack for p in parts]),
        )


def _has_cuts(model: ArrayModel, i: int, node: PiecewiseLinear) -> np.ndarray:
    """Units of two continuous pieces, both met, over a sum of several columns."""
    if node.breakpoints.shape[1] != 1:
        return np.zeros(node.size, dtype=bool)
    if not isinstance(model.network.nodes[node.source], Affine):
        return np.zeros(node.size, dtype=bool)
    low, high = model.lows[node.source], model.highs[node.source]
    single = segments(node, low[None], high[None]).single[0]
    bend = node.slopes[:, 1] - node.slopes[:, 0]
    return ~single & (bend != 0) & (node.jumps[:, 0] == 0)
