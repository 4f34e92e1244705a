r"""Indicator: conditional rows that hold where a binary is 1, without any big-M.

A unit with pieces :math:`a_p x + c_p` over :math:`[t_p, t_{p+1}]` has a binary for each

.. math::
    \sum_p z_p = 1,\qquad z_p = 1 \;\Rightarrow\; y = a_p x + c_p,\qquad
    z_p = 1 \;\Rightarrow\; t_p \le x \le t_{p+1}

and a maximum :math:`y \ge x_i`, :math:`z_i = 1 \Rightarrow y \le x_i`. Where two pieces
meet in a convex or concave bend, the two lines bound :math:`y` from one side always, and
only the other side is conditional.

Pyomo 6.10 has no component for indicator constraints, and none of its solver interfaces
passes one on (``LogicalConstraint`` and ``Disjunct`` are for its own transformations).
So each is written the way SCIP itself holds them: the row gets a slack :math:`s \ge 0`,
and SOS1(:math:`z_p, s`) says that one of the two is 0. Solvers whose interface takes
special ordered sets (SCIP, CBC, Gurobi, CPLEX, Xpress) take these; HiGHS and GLPK
refuse them with an error.

Source: Belotti et al., "On handling indicator constraints in mixed integer
programming", Comput. Optim. Appl. 65, 2016; Tong, Cai, Serra, arXiv 2401.03451.

Examples
--------
>>> from pyomo_relu.block.example import two_neurons, show
>>> show(two_neurons("indicator"), "relu")
side[0,0]: out[0] >= 0
side[0,1]: out[0] - pre.out[0] >= 0
side[1,0]: out[1] >= 0
side[1,1]: out[1] - pre.out[1] >= 0
one[0]: holds[0,0] + holds[0,1] == 1
one[1]: holds[1,0] + holds[1,1] == 1
if_holds[0,0,value]: -out[0] + slack[0,0,value] >= 0
if_holds[0,1,value]: -out[0] + pre.out[0] + slack[0,1,value] >= 0
if_holds[1,0,value]: -out[1] + slack[1,0,value] >= 0
if_holds[1,1,value]: -out[1] + pre.out[1] + slack[1,1,value] >= 0
one_of[0,0,value]: SOS1(holds[0,0], slack[0,0,value])
one_of[0,1,value]: SOS1(holds[0,1], slack[0,1,value])
one_of[1,0,value]: SOS1(holds[1,0], slack[1,0,value])
one_of[1,1,value]: SOS1(holds[1,1], slack[1,1,value])
>>> show(two_neurons("indicator", "step"), "step")
one[0]: holds[0,0] + holds[0,1] == 1
one[1]: holds[1,0] + holds[1,1] == 1
if_holds[0,0,value]: out[0] + slack[0,0,value] >= 0
if_holds[0,0,under]: -out[0] + slack[0,0,under] >= 0
if_holds[0,0,upper]: -pre.out[0] + slack[0,0,upper] >= 0
if_holds[0,1,value]: out[0] + slack[0,1,value] >= 1
if_holds[0,1,under]: -out[0] + slack[0,1,under] >= -1
if_holds[0,1,lower]: pre.out[0] + slack[0,1,lower] >= 0
if_holds[1,0,value]: out[1] + slack[1,0,value] >= 0
if_holds[1,0,under]: -out[1] + slack[1,0,under] >= 0
if_holds[1,0,upper]: -pre.out[1] + slack[1,0,upper] >= 0
if_holds[1,1,value]: out[1] + slack[1,1,value] >= 1
if_holds[1,1,under]: -out[1] + slack[1,1,under] >= -1
if_holds[1,1,lower]: pre.out[1] + slack[1,1,lower] >= 0
one_of[0,0,value]: SOS1(holds[0,0], slack[0,0,value])
one_of[0,0,under]: SOS1(holds[0,0], slack[0,0,under])
one_of[0,0,upper]: SOS1(holds[0,0], slack[0,0,upper])
one_of[0,1,value]: SOS1(holds[0,1], slack[0,1,value])
one_of[0,1,under]: SOS1(holds[0,1], slack[0,1,under])
one_of[0,1,lower]: SOS1(holds[0,1], slack[0,1,lower])
one_of[1,0,value]: SOS1(holds[1,0], slack[1,0,value])
one_of[1,0,under]: SOS1(holds[1,0], slack[1,0,under])
one_of[1,0,upper]: SOS1(holds[1,0], slack[1,0,upper])
one_of[1,1,value]: SOS1(holds[1,1], slack[1,1,value])
one_of[1,1,under]: SOS1(holds[1,1], slack[1,1,under])
one_of[1,1,lower]: SOS1(holds[1,1], slack[1,1,lower])
>>> show(two_neurons("indicator", "max"), "max")
side[0,0]: outputs[0] - pre.out[0] >= 0
side[0,1]: outputs[0] - pre.out[1] >= 0
one[0]: holds[0,0] + holds[0,1] == 1
if_holds[0,0,value]: -outputs[0] + pre.out[0] + slack[0,0,value] >= 0
if_holds[0,1,value]: -outputs[0] + pre.out[1] + slack[0,1,value] >= 0
one_of[0,0,value]: SOS1(holds[0,0], slack[0,0,value])
one_of[0,1,value]: SOS1(holds[0,1], slack[0,1,value])
"""

from __future__ import annotations

from typing import Any

from pyomo.environ import Binary

from pyomo_relu.formulations.base import Formulation, register_formulation
from pyomo_relu.formulations.sos1 import max_gaps
from pyomo_relu.formulations.units import (
    MaxLayer,
    Piece,
    PiecewiseLayer,
    assign,
    cases_that_hold,
    is_continuous,
    piece_keys,
)
from pyomo_relu.formulations.values import (
    Row,
    RowCollector,
    add_sos,
    add_variables,
    combined,
    term,
)
from pyomo_relu.network import Max

#: The rows of a condition, each with the largest slack that it can need.
Conditions = dict[Any, tuple[Row, float]]


@register_formulation
class Indicator(Formulation):
    """Conditional rows by slacks and SOS1 sets; for solvers that take those."""

    name = "indicator"

    def write_piecewise(self, layer: PiecewiseLayer) -> None:
        pieces = layer.all_pieces()
        rows = RowCollector()
        conditional: Conditions = {}
        for i, found in pieces.items():
            conditional |= _conditions(layer, i, found, rows)
        _write(layer.block, rows, piece_keys(pieces), conditional)

    def write_max(self, layer: MaxLayer) -> None:
        rows = RowCollector()
        conditional: Conditions = {}
        for (j, i), gap in zip(layer.keys, max_gaps(layer)):
            above = combined([(1.0, layer.post_row(j)), (-1.0, layer.argument_row(i))])
            rows.nonnegative("side", (j, i), above)
            conditional[j, i, "value"] = (above.scaled(-1.0), gap)
        _write(layer.block, rows, layer.keys, conditional)

    def set_values(self, block: Any, node: Any, pre: Any, post: Any, pieces: Any) -> None:
        chosen, slacks = block.component("holds"), block.component("slack")
        if chosen is None:
            return
        best = cases_that_hold(chosen, node, pre, pieces)

        def slack(key: tuple[int, int, str]) -> float:
            i, p, what = key
            if best[i] == p:
                return 0.0
            if isinstance(node, Max):
                return max(0.0, float(post[i] - pre[p]))
            g, x = pieces(i)[p], float(pre[i])
            gap = float(post[i]) - g(x)
            own = -gap if (i, p, "under") in slacks else abs(gap)
            ends = {"under": gap, "lower": g.lower - x, "upper": x - g.upper}
            return max(0.0, ends.get(what, own))

        assign(block, "holds", lambda key: int(best[key[0]] == key[1]))
        assign(block, "slack", slack)


def _conditions(
    layer: PiecewiseLayer, i: int, pieces: list[Piece], rows: RowCollector
) -> Conditions:
    """The conditional rows of a unit; what holds always goes to ``rows``."""
    x, y, gaps = layer.pre_row(i), layer.post_row(i), _gaps(pieces)
    conditional: Conditions = {}
    bend = 0.0
    if len(pieces) == 2 and is_continuous(pieces):
        bend = 1.0 if pieces[1].slope > pieces[0].slope else -1.0
    for p, g in enumerate(pieces):
        above = combined([(1.0, y), (-g.slope, x)], -g.intercept)
        if bend:
            rows.nonnegative("side", (i, p), above.scaled(bend))
            conditional[i, p, "value"] = (above.scaled(-bend), gaps[p])
            continue
        conditional[i, p, "value"] = (above, gaps[p])
        conditional[i, p, "under"] = (above.scaled(-1.0), gaps[p])
        if p > 0:
            row, gap = combined([(1.0, x)], -g.lower), g.lower - layer.lower[i]
            conditional[i, p, "lower"] = (row, gap)
        if p + 1 < len(pieces):
            row, gap = combined([(-1.0, x)], g.upper), layer.upper[i] - g.upper
            conditional[i, p, "upper"] = (row, gap)
    return conditional


def _gaps(pieces: list[Piece]) -> list[float]:
    """For each piece, the largest distance of the unit from its line."""
    ends = [(x, g(x)) for g in pieces for x in (g.lower, g.upper)]
    return [max(abs(y - g(x)) for x, y in ends) for g in pieces]


def _write(
    block: Any,
    rows: RowCollector,
    keys: list[tuple[int, int]],
    conditional: Conditions,
) -> None:
    """``row + slack >= 0`` and SOS1 of the binary and the slack, for each condition."""
    chosen = add_variables(block, "holds", keys, domain=Binary)
    gaps = [gap for _, gap in conditional.values()]
    slack = add_variables(block, "slack", list(conditional), 0.0, gaps)
    of_unit: dict[int, list[Any]] = {}
    for i, p in keys:
        of_unit.setdefault(i, []).append(chosen[i, p])
    for i, variables in of_unit.items():
        rows.one_of("one", i, variables)
    sets = {}
    for key, (row, _) in conditional.items():
        rows.nonnegative("if_holds", key, combined([(1.0, row), (1.0, term(slack[key]))]))
        sets[key] = [chosen[key[:2]], slack[key]]
    rows.add_to(block)
    add_sos(block, "one_of", sets)
