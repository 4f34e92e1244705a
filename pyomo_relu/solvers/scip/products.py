"""Products of an input and what its network bounds, in SCIP.

Where a price is multiplied by what is sold, and what is sold is a network's output at that
price or bounded by it, SCIP's own planes of the product know nothing of the network. These
products get a column each, and the planes of
:mod:`~pyomo_relu.bounds.planes.products` over a node's box as rows where its LP's point
breaks them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyscipopt import SCIP_RESULT, Sepa

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.bounds.planes import BoxPlanes
from pyomo_relu.bounds.planes.curve import CurvePlanes
from pyomo_relu.bounds.planes.products import between, plane_of_product
from pyomo_relu.presolve.functions import NetworkFunction, Separated
from pyomo_relu.programs.scip import INFINITY, ScipModel
from pyomo_relu.solvers.scip.settings import HANDLER


@dataclass(frozen=True)
class Tied:
    """A column ``s`` between curves over an input ``x``.

    Attributes
    ----------
    x, s : int
        Columns.
    lower, upper : (x, values) or None
        Points of the curves over the first box.
    margin : float
        How far they may be from what they stand for.
    """

    x: int
    s: int
    lower: tuple[np.ndarray, np.ndarray] | None
    upper: tuple[np.ndarray, np.ndarray] | None
    margin: float


def tied_columns(
    separated: Separated, boxes: list[BoxPlanes]
) -> dict[tuple[int, int], Tied]:
    """What outputs of networks of one free input bound, by input and bounded column.

    Outputs themselves, and columns that a row of two ties to one.
    """
    found: dict[tuple[int, int], Tied] = {}
    program = separated.program
    matrix = sp.csr_array(program.matrix)
    pairs = np.flatnonzero(np.diff(matrix.indptr) == 2)
    by_column: dict[int, list[int]] = {}
    for i in pairs.tolist():
        for j in matrix.indices[matrix.indptr[i] : matrix.indptr[i + 1]].tolist():
            by_column.setdefault(j, []).append(i)
    for f, box in zip(separated.functions, boxes):
        if not isinstance(box, CurvePlanes) or not (box.low < box.high).any():
            continue
        for x, y, curve, margin in _curves(f, box):
            found[x, y] = Tied(x, y, curve, curve, margin)
            for i in by_column.get(y, []):
                span = slice(matrix.indptr[i], matrix.indptr[i + 1])
                part = dict(zip(matrix.indices[span].tolist(), matrix.data[span].tolist()))
                b = part.pop(y)
                ((s, a),) = part.items()
                if s == x or (x, s) in found:
                    continue
                ends = [program.row_lower[i], program.row_upper[i]]
                least, most = ends if a > 0 else ends[::-1]
                lower, upper = (
                    (curve[0], (end - b * curve[1]) / a) if np.isfinite(end) else None
                    for end in (least, most)
                )
                found[x, s] = Tied(x, s, lower, upper, margin * abs(b / a))
    return found


def _curves(
    f: NetworkFunction, box: CurvePlanes
) -> Iterator[tuple[int, int, tuple[np.ndarray, np.ndarray], float]]:
    """Input, output, curve and margin of each output of a network of one free input."""
    x = int(f.inputs[box.curves.free])
    for j, (t, values) in enumerate(box.points):
        if len(t) > 1:
            curve = np.array(t), np.array(values)
            yield x, int(f.outputs[j]), curve, float(box.curves.margin[j])


class ProductPlanes(Sepa):
    """Planes of products with tied columns.

    Parameters
    ----------
    model : ScipModel
        Its :attr:`~pyomo_relu.programs.scip.ScipModel.products` are those meant.
    tied : dict
        Of :func:`tied_columns`.
    """

    def __init__(self, model: ScipModel, tied: dict[tuple[int, int], Tied]) -> None:
        self.program, self.count = model, 0
        self.terms = [
            (tied[key], key)
            for pair in model.products
            for key in (pair, pair[::-1])
            if key in tied
        ]
        self._guarded = model.guarded({"result": SCIP_RESULT.DIDNOTRUN})(self._separate)

    def include(self) -> None:
        """Put the separator into the program."""
        scip = self.program.scip
        scip.includeSepa(
            self, "products", "input times what its network bounds", priority=1000, freq=1,
            maxbounddist=1.0,
        )  # fmt: skip
        for one, key in self.terms:
            for v in self._variables(one, key):
                scip.markDoNotMultaggrVar(v)

    def _variables(self, one: Tied, key: tuple[int, int]) -> tuple[Any, Any, Any]:
        """Input, tied column and product."""
        every = self.program.variables
        return every[one.x], every[one.s], self.program.products[min(key), max(key)]

    def sepaexeclp(self) -> dict:
        """What SCIP calls after a node's LP."""
        return self._guarded()

    def _separate(self) -> dict:
        scip, added = self.program.scip, 0
        for one, key in self.terms:
            x, s, w = (scip.getTransformedVar(v) for v in self._variables(one, key))
            low, high = float(x.getLbLocal()), float(x.getUbLocal())
            for curve in (one.lower, one.upper):
                if curve is not None:
                    low, high = max(low, float(curve[0][0])), min(high, float(curve[0][-1]))
            least, most = float(s.getLbLocal()), float(s.getUbLocal())
            if high - low <= HANDLER.narrow * max(1.0, abs(low), abs(high)):
                continue
            if max(abs(least), abs(most)) >= INFINITY:
                continue
            at_x, at_s, at_w = (float(v.getLPSol()) for v in (x, s, w))
            value = at_x * at_s
            worth = HANDLER.product * (high - low) * (most - least)
            worth = max(worth, HANDLER.tolerance * max(1.0, abs(value)))
            if abs(at_w - value) <= worth:
                continue
            sign = 1.0 if at_w > value else -1.0
            part = between(low, high, least, most, one.lower, one.upper)
            a, b, c = plane_of_product(part, at_x, at_s, sign, one.margin)
            if sign * at_w - (a * at_x + b * at_s + c) <= worth:
                continue
            terms = (x, a), (s, b), (w, -sign)
            if self.program.add_cut("product", terms, -c, self):
                return {"result": SCIP_RESULT.CUTOFF}
            added += 1
        self.count += added
        return {"result": SCIP_RESULT.SEPARATED if added else SCIP_RESULT.DIDNOTFIND}
