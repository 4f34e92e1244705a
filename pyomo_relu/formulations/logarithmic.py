r"""Logarithmic: few binaries, for units of many pieces.

A unit :math:`y = \varphi(x)` of :math:`P` pieces with the ends
:math:`t_0 < \dots < t_P` gets a weight for each end and :math:`\lceil \log_2 P \rceil`
binaries. Piece :math:`p` has the binary code :math:`B(p)`, and the codes of neighbours
differ in one place (a Gray code):

.. math::
    x = \sum_v t_v \lambda_v,\quad y = \sum_v \varphi(t_v) \lambda_v,\quad
    \sum_v \lambda_v = 1,\quad \lambda \ge 0,

    \sum_{v:\, B_l = 1 \text{ on both sides}} \lambda_v \le z_l,\qquad
    \sum_{v:\, B_l = 0 \text{ on both sides}} \lambda_v \le 1 - z_l

With :math:`z = B(p)` only the two ends of piece :math:`p` are left. At a step, the end of
the left piece and the start of the right one have a weight each. The relaxation is the
convex hull of the unit's graph over its interval. Units of one layer that read the same
:math:`x`, as those of a network's curve do (:mod:`~pyomo_relu.formulations.regions`),
share weights and binaries. A maximum is written as in ``bigm``.

For units of two pieces, as ReLU, it is no better than ``bigm``, and larger.

Source: Vielma, Nemhauser, "Modeling disjunctive constraints with a logarithmic number of
binary variables and constraints", Mathematical Programming 128, 2011, section 4.

Examples
--------
>>> from pyomo_relu.block.example import hat, show
>>> show(hat("regions", form="logarithmic"), "curve")
argument[0]: x + 2 weight[0,0] - weight[0,2] - 3 weight[0,3] == 0
one[0]: weight[0,0] + weight[0,1] + weight[0,2] + weight[0,3] == 1
value[0,0]: weight[0,2] - weight[0,3] - outputs[0] == 0
code[0,0,1]: bit[0,0] - weight[0,2] - weight[0,3] >= 0
code[0,0,0]: -bit[0,0] - weight[0,0] >= -1
code[0,1,1]: bit[0,1] - weight[0,3] >= 0
code[0,1,0]: -bit[0,1] - weight[0,0] - weight[0,1] >= -1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyomo.environ import Binary

from pyomo_relu.formulations.base import Formulation, register_formulation
from pyomo_relu.formulations.bigm import set_max_values, write_max_bigm
from pyomo_relu.formulations.units import (
    MaxLayer,
    Piece,
    PiecesOf,
    PiecewiseLayer,
    assign,
    is_continuous,
)
from pyomo_relu.formulations.values import RowCollector, add_variables, combined, term
from pyomo_relu.network import Max, Node


@register_formulation
class Logarithmic(Formulation):
    """Weights of the ends of pieces, and a binary for each digit of a piece's number."""

    name = "logarithmic"
    needs_preactivation = False

    def write_piecewise(self, layer: PiecewiseLayer) -> None:
        members = {group[0]: group for group in _groups(layer)}
        grids = {g: Grid.of([layer.pieces(u) for u in us]) for g, us in members.items()}
        ends = [(g, v) for g, grid in grids.items() for v in range(len(grid.at))]
        bits = [(g, d) for g, grid in grids.items() for d in range(grid.digits)]
        n = len(ends)
        weight = add_variables(layer.block, "weight", ends, [0.0] * n, [1.0] * n)
        bit = add_variables(layer.block, "bit", bits, domain=Binary)
        rows = RowCollector()
        for g, grid in grids.items():
            own = [term(weight[g, v]) for v in range(len(grid.at))]
            ends_of = [(-t, w) for t, w in zip(grid.at.tolist(), own)]
            rows.zero("argument", g, combined([(1.0, layer.rows[g]), *ends_of]))
            rows.zero("one", g, combined([(1.0, w) for w in own], -1.0))
            for u in members[g]:
                values = zip(grid.values(layer.pieces(u)).tolist(), own)
                rows.zero("value", (g, u), combined([*values, (-1.0, layer.post_row(u))]))
            for d in range(grid.digits):
                z = term(bit[g, d])
                for digit, top in ((1, z), (0, z.scaled(-1.0, 1.0))):
                    held = np.flatnonzero(grid.only(d, digit)).tolist()
                    if held:
                        terms = [(1.0, top), *((-1.0, own[v]) for v in held)]
                        rows.nonnegative("code", (g, d, digit), combined(terms))
        rows.add_to(layer.block)

    def write_max(self, layer: MaxLayer) -> None:
        write_max_bigm(layer)

    def set_values(
        self, block: Any, node: Node, pre: np.ndarray, post: np.ndarray, pieces: PiecesOf
    ) -> None:
        if isinstance(node, Max):
            set_max_values(block, pre)
            return
        members: dict[int, list[int]] = {}
        for g, u in block.component("value") or ():
            members.setdefault(g, []).append(u)
        grids = {g: Grid.of([pieces(u) for u in us]) for g, us in members.items()}
        at = {g: grid.place(float(pre[g])) for g, grid in grids.items()}
        assign(block, "weight", lambda key: at[key[0]][1].get(key[1], 0.0))
        assign(block, "bit", lambda key: grids[key[0]].code(at[key[0]][0])[key[1]])


def _groups(layer: PiecewiseLayer) -> list[list[int]]:
    """Units that read the same argument, in the order of the first ones."""
    found: dict[Any, list[int]] = {}
    for u in layer.units:
        row = layer.rows[u]
        terms = [(c, id(v)) for c, v in zip(row.coefs, row.variables)]
        terms += [(c, id(e)) for c, e, _, _ in row.expressions]
        found.setdefault((row.constant, tuple(terms)), []).append(u)
    return list(found.values())


@dataclass(frozen=True)
class Grid:
    """Ends of the common pieces of some units with one argument.

    Attributes
    ----------
    at : (V,) array
        Ends, increasing; at a step the same one twice.
    left, right : (V,) int arrays
        The piece on each side; the same one where there is only one side, or at a step.
    n_pieces : int
    """

    at: np.ndarray
    left: np.ndarray
    right: np.ndarray
    n_pieces: int

    @classmethod
    def of(cls, units: Sequence[list[Piece]]) -> Grid:
        """The grid of units, each given by its pieces over one interval."""
        inner = {g.lower for pieces in units for g in pieces[1:]}
        steps = {
            b.lower
            for pieces in units
            for a, b in zip(pieces, pieces[1:])
            if not is_continuous([a, b])
        }
        at, left, right = [units[0][0].lower], [0], [0]
        for p, t in enumerate(sorted(inner)):
            if t in steps:
                at, left, right = [*at, t, t], [*left, p, p + 1], [*right, p, p + 1]
            else:
                at, left, right = [*at, t], [*left, p], [*right, p + 1]
        last = len(inner)
        ends = [*at, units[0][-1].upper], [*left, last], [*right, last]
        at_array, left_array, right_array = map(np.array, ends)
        return cls(at_array, left_array, right_array, last + 1)

    @property
    def digits(self) -> int:
        """Of a piece's code."""
        return (self.n_pieces - 1).bit_length()

    def code(self, p: int) -> list[int]:
        """The Gray code of piece ``p``, lowest digit first."""
        gray = p ^ (p >> 1)
        return [gray >> d & 1 for d in range(self.digits)]

    def only(self, d: int, digit: int) -> np.ndarray:
        """Which ends have pieces with this digit on both sides, (V,) bool."""
        codes = np.array([self.code(p)[d] for p in range(self.n_pieces)])
        return (codes[self.left] == digit) & (codes[self.right] == digit)

    def values(self, pieces: list[Piece]) -> np.ndarray:
        """(V,) values of a unit at the ends; at a step, of the side the end belongs to."""
        starts = np.array([g.lower for g in pieces[1:]])
        lower = self.at[np.searchsorted(self.right, range(self.n_pieces))]
        own = np.searchsorted(starts, lower, side="right")  # the unit's piece of each
        return np.array([pieces[own[p]](t) for p, t in zip(self.right, self.at.tolist())])

    def place(self, x: float) -> tuple[int, dict[int, float]]:
        """The piece of ``x``, and the weights of its two ends; a start belongs to it."""
        x = min(max(x, float(self.at[0])), float(self.at[-1]))
        p = int(self.right[np.searchsorted(self.at, x, side="right") - 1])
        (first, last) = np.flatnonzero((self.left == p) | (self.right == p))[[0, -1]]
        a, b = float(self.at[first]), float(self.at[last])
        share = (x - a) / (b - a) if b > a else 0.0
        return p, {int(first): 1.0 - share, int(last): share}
