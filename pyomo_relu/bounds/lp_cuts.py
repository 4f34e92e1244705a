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
continuous units of two pieces are a line plus a multiple of a ReLU; the cuts of maxima
are in :mod:`pyomo_relu.bounds.max_cuts`.

Like every row of the model a cut has a slack for rounding, so that the certificates of
:mod:`pyomo_relu.bounds.lp` stay rigorous.

Source: Tjandraatmadja, Anderson, Huchette, Ma, Patel, Vielma, "The convex relaxation
barrier, revisited", arXiv 2006.14076, theorem 1 and proposition 2.
"""

from __future__ import annotations

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.bounds.array_model import ArrayModel
from pyomo_relu.bounds.hinges import Hinges, hinge_units
from pyomo_relu.bounds.max_cuts import TOLERANCE, MaxCuts, max_units
from pyomo_relu.programs import Rows, matrix_of


class NodeCuts:
    """The cuts of some units of one node, see :class:`~pyomo_relu.bounds.hinges.Hinges`."""

    def __init__(self, model: ArrayModel, i: int, units: np.ndarray) -> None:
        self.unit = Hinges(model, i, units)
        self.n_columns = model.n_columns
        self.columns = np.unique(self.unit.matrix.indices)
        self.w = self.unit.matrix.toarray()[:, self.columns]
        low = model.program.lower[self.columns]
        high = model.program.upper[self.columns]
        self.at_low = np.where(self.w >= 0, low, high)
        self.reach = abs(self.w) * (high - low)
        self.top = self.unit.bias + (self.w * self.at_low).sum(axis=1)
        self.top += self.reach.sum(axis=1)

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
        violation = self.unit.active(values) - (taken * inside).sum(axis=1)
        usable = (sums < 0).any(axis=1) & (self.top > 0)
        k = np.flatnonzero(usable & (violation > TOLERANCE * np.maximum(self.top, 1e-6)))
        return self._rows(k, taken) if len(k) else None

    def _rows(self, k: np.ndarray, taken: np.ndarray) -> Rows:
        v = self.unit
        sign, size = np.sign(v.bend[k]), abs(v.bend[k])
        coefs = size[:, None] * taken[k] * self.w[k]
        upper = sign * (v.intercept[k] + v.slope[k] * v.shift[k])
        upper = upper - (coefs * self.at_low[k]).sum(axis=1)
        r, c = np.nonzero(coefs)
        # The rows of the chosen units, by the number of the unit.
        place = np.full(len(v.y), -1)
        place[k] = np.arange(len(k))
        rows, columns, values = v.pre
        held = place[rows] >= 0
        rows, columns, values = place[rows[held]], columns[held], values[held]
        parts = [
            (r, self.columns[c], -coefs[r, c]),
            (np.arange(len(k)), v.y[k], sign),
            (rows, columns, -sign[rows] * values),
        ]
        matrix = matrix_of(len(k), self.n_columns, parts)
        return Rows(matrix, np.full(len(k), -np.inf), upper, v.slack[k])


class Separator:
    """Cuts of all units of a relaxation."""

    def __init__(self, model: ArrayModel) -> None:
        self.nodes: list[NodeCuts | MaxCuts] = [
            NodeCuts(model, i, units) for i, units in hinge_units(model)
        ]
        self.nodes += [MaxCuts(model, i, j) for i, j in max_units(model)]

    def separate(self, values: np.ndarray) -> Rows | None:
        """The violated cuts at a point; None if there is none."""
        parts = [p for p in (n.separate(values) for n in self.nodes) if p is not None]
        if not parts:
            return None
        matrices, *bounds = zip(*parts)
        return Rows(sp.csr_array(sp.vstack(matrices)), *map(np.concatenate, bounds))
