"""Units of two continuous pieces as a line plus a multiple of a ReLU, for the LP rung.

Each is ``y = slope * pre + intercept + bend * max(0, w x + bias)`` over the columns ``x``
of a model, so what is known of a ReLU over the box of its inputs holds for it too.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds.array_model import ArrayModel
from pyomo_relu.network import Affine, PiecewiseLinear
from pyomo_relu.programs import Part


class Hinges:
    """Some units of one node.

    Parameters
    ----------
    model : ArrayModel
    i : int
        A piecewise-linear node.
    units : (m,) int array
        As :func:`hinge_units` gives them.

    Attributes
    ----------
    matrix : (m, n_columns) CSR array
    bias : (m,) array
    y : (m,) int array
        Columns of the units.
    pre : Part
        The pre-activations times their ``slope``, less ``slope * shift``, over columns.
    slope, intercept, bend, shift : (m,) arrays
    slack : (m,) array
        What rounding may break the equation by, of a forward pass and of the numbers here.
    """

    def __init__(self, model: ArrayModel, i: int, units: np.ndarray) -> None:
        node = model.network.nodes[i]
        assert isinstance(node, PiecewiseLinear)
        t, slopes, intercepts = (
            a[units] for a in (node.breakpoints[:, 0], node.slopes, node.intercepts)
        )
        self.matrix, const, noise = model.affine_rows(node.source, units)
        self.bias = const - t
        self.y = model.entries[i].column[units]
        self.slope, self.intercept = slopes[:, 0], intercepts[:, 0]
        self.bend = slopes[:, 1] - slopes[:, 0]
        pre = model.source(node.source)
        self.shift = pre.const[units]
        rows, columns, values = pre.part(units, self.slope)
        live = self.slope[rows] != 0
        self.pre: Part = (rows[live], columns[live], values[live])
        # Rounding: of the sums here, of a forward pass, and of the second piece.
        size = abs(self.matrix) @ model.program.size + abs(const) + abs(t)
        terms = np.diff(self.matrix.indptr) + 32.0
        gap = abs(slopes[:, 1] * t + intercepts[:, 1] - slopes[:, 0] * t - intercepts[:, 0])
        width = np.maximum(
            abs(model.lows[node.source][units]), abs(model.highs[node.source][units])
        )
        lines = abs(slopes).sum(axis=1) * (width + abs(t) + abs(self.shift))
        lines += abs(intercepts).sum(axis=1)
        self.slack = abs(self.bend) * (2.0 * noise + 16.0 * EPS * terms * size)
        self.slack += abs(self.slope) * pre.noise[units] + gap + 32.0 * EPS * lines

    def active(self, values: np.ndarray) -> np.ndarray:
        """What each ReLU would be at values of the columns, from the unit's own."""
        rows, columns, factors = self.pre
        line = np.bincount(rows, factors * values[columns], len(self.y))
        line = line + self.slope * self.shift + self.intercept
        return (values[self.y] - line) / self.bend


def hinge_units(model: ArrayModel) -> Iterator[tuple[int, np.ndarray]]:
    """Nodes of a relaxation and their units of two continuous pieces, both met.

    Only those over a sum of several columns: of a single one the triangle is the hull.
    """
    for i, used in sorted(model.needed.items()):
        node = model.network.nodes[i]
        if i == model.target or not isinstance(node, PiecewiseLinear):
            continue
        if node.breakpoints.shape[1] != 1:
            continue
        if not isinstance(model.network.nodes[node.source], Affine):
            continue
        single, _ = model.pieces(node)
        bend = node.slopes[:, 1] - node.slopes[:, 0]
        units = np.flatnonzero(used & ~single & (bend != 0) & (node.jumps[:, 0] == 0))
        if len(units):
            matrix, _, _ = model.affine_rows(node.source, units)
            units = units[np.diff(matrix.indptr) > 1]
        if len(units):
            yield i, units
