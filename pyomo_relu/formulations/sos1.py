r"""SOS1: special ordered sets in place of binaries, without any big-M.

For a ReLU with pre-activation :math:`x`

.. math:: x = y - s,\qquad y \ge 0,\qquad s \ge 0,\qquad \mathrm{SOS1}(y, s)

Two pieces :math:`g_0, g_1` that meet at :math:`t`:
:math:`x = t + r - s` with SOS1(r, s) and
:math:`y = g_1(t) + a_1 r - a_0 s`. More pieces, or a step, with the weights of the two
ends of each piece:

.. math::
    x = \sum_p t_p \alpha_p + t_{p+1} \beta_p,\quad
    y = \sum_p g_p(t_p) \alpha_p + g_p(t_{p+1}) \beta_p,

    \sum_p w_p = 1,\quad w_p = \alpha_p + \beta_p,\quad \mathrm{SOS1}(w)

A maximum: :math:`y = x_i + s_i`, :math:`s_i \ge 0`, :math:`\sum_i w_i = 1`,
SOS1 of all :math:`w_i`, and SOS1(:math:`w_i, s_i`) for each argument.

For solvers that branch on special ordered sets: SCIP, CBC, Gurobi, CPLEX, Xpress. HiGHS
and GLPK have none, and their interfaces say so.

Source: Turner, Chmiela, Koch, Winkler, "PySCIPOpt-ML", arXiv 2312.08074 (ReLU); Beale
and Tomlin, 1970.

Examples
--------
>>> from pyomo_relu.block.example import two_neurons, show
>>> show(two_neurons("sos1"), "relu")
argument[0]: x[0] - x[1] - out[0] + left[0] == 0
argument[1]: 2 x[0] + x[1] - out[1] + left[1] == 1
one_of[0,0]: SOS1(out[0], left[0])
one_of[1,0]: SOS1(out[1], left[1])
>>> show(two_neurons("sos1", "max"), "max")
maximum[0,0]: outputs[0] - pre.out[0] - below[0,0] == 0
maximum[0,1]: outputs[0] - pre.out[1] - below[0,1] == 0
one[0]: weight[0,0] + weight[0,1] == 1
one_of[0,0]: SOS1(weight[0,0], below[0,0])
one_of[0,1]: SOS1(weight[0,1], below[0,1])
one_of[0,all]: SOS1(weight[0,0], weight[0,1])
>>> show(two_neurons("sos1", "abs"), "abs")
argument[0]: x[0] - x[1] - right[0] + left[0] == 0
argument[1]: 2 x[0] + x[1] - right[1] + left[1] == 1
value[0]: right[0] + left[0] - out[0] == 0
value[1]: right[1] + left[1] - out[1] == 0
one_of[0,0]: SOS1(right[0], left[0])
one_of[1,0]: SOS1(right[1], left[1])
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pyomo_relu.formulations.base import Formulation, register_formulation
from pyomo_relu.formulations.units import (
    MaxLayer,
    Piece,
    PiecesOf,
    PiecewiseLayer,
    assign,
    is_continuous,
    is_relu,
    largest_arguments,
    piece_keys,
    places,
)
from pyomo_relu.formulations.values import (
    RowCollector,
    add_sos,
    add_variables,
    combined,
    term,
)
from pyomo_relu.network import Max


@register_formulation
class Sos1(Formulation):
    """Special ordered sets of type 1: no binaries, no big-M."""

    name = "sos1"
    needs_preactivation = False

    def write_piecewise(self, layer: PiecewiseLayer) -> None:
        pieces = layer.all_pieces()
        two = [i for i, p in pieces.items() if len(p) == 2 and is_continuous(p)]
        rows = RowCollector()
        right, left = write_sides(layer, pieces, two, rows)
        sets: dict[Any, list[Any]] = {(i, 0): [right[i], left[i]] for i in two}
        many = {i: p for i, p in pieces.items() if i not in left}
        sets |= _write_many(layer, many, rows)
        rows.add_to(layer.block)
        add_sos(layer.block, "one_of", sets)

    def write_max(self, layer: MaxLayer) -> None:
        rows = RowCollector()
        weight, slack = write_choice(layer, rows)
        rows.add_to(layer.block)
        sets: dict[Any, list[Any]] = {}
        for j, group in layer.arguments.items():
            sets |= {(j, i): [weight[j, i], slack[j, i]] for i in group}
            sets[j, "all"] = [weight[j, i] for i in group]
        add_sos(layer.block, "one_of", sets)

    def set_values(self, block: Any, node: Any, pre: Any, post: Any, pieces: Any) -> None:
        if isinstance(node, Max):
            set_choice(block, pre, post)
            return
        set_sides(block, pre, pieces)
        place = places(pre, pieces)

        def share(key: tuple[int, int, str]) -> float:
            i, p, end = key
            g = pieces(i)[p]
            length = g.upper - g.lower
            part = (float(pre[i]) - g.lower) / length if length > 0 else 0.0
            part = min(1.0, max(0.0, part))
            return 0.0 if place(i) != p else part if end == "upper" else 1.0 - part

        assign(block, "weight", lambda key: float(place(key[0]) == key[1]))
        assign(block, "end", share)


def write_sides(
    layer: PiecewiseLayer,
    pieces: dict[int, list[Piece]],
    two: list[int],
    rows: RowCollector,
) -> tuple[dict[int, Any], dict[int, Any]]:
    """``x = t + right - left`` and the value of units of two pieces.

    A ReLU's ``right`` is its ``post`` where that can't be negative anyway.
    """
    plain = {
        i
        for i in two
        if not layer.is_output and layer.post[i].lb == 0.0 and is_relu(pieces[i])
    }
    right = {i: layer.post[i] for i in plain}
    left: dict[int, Any] = {}
    for name, side, units in (
        ("right", right, [i for i in two if i not in plain]),
        ("left", left, two),
    ):
        if units:
            ends = (pieces[i][1 if side is right else 0] for i in units)
            tops = [g.upper - g.lower for g in ends]
            side |= add_variables(layer.block, name, units, 0.0, tops)
    for i in two:
        first, last = pieces[i]
        r, s = term(right[i]), term(left[i])
        sides = combined([(1.0, layer.rows[i]), (-1.0, r), (1.0, s)], -first.upper)
        rows.zero("argument", i, sides)
        if i not in plain:
            terms = [(last.slope, r), (-first.slope, s), (-1.0, layer.post_row(i))]
            rows.zero("value", i, combined(terms, last(last.lower)))
    return right, left


def set_sides(
    block: Any,
    pre: np.ndarray,
    pieces: PiecesOf,
    names: tuple[str, str] = ("right", "left"),
) -> None:
    """How far a pre-activation is on the right and on the left of a breakpoint.

    Keys are units of two pieces, or units with the number of a breakpoint.
    """
    for name, sign in zip(names, (1.0, -1.0)):

        def number(key: Any, sign: float = sign) -> float:
            i, p = key if isinstance(key, tuple) else (key, 1)
            return max(0.0, sign * (float(pre[i]) - pieces(i)[p].lower))

        assign(block, name, number)


def _write_many(
    layer: PiecewiseLayer, pieces: dict[int, list[Piece]], rows: RowCollector
) -> dict[Any, list[Any]]:
    """Any units by the weights of the ends of their pieces; the sets of weights."""
    keys = piece_keys(pieces)
    if not keys:
        return {}
    ends = [(i, p, e) for i, p in keys for e in ("lower", "upper")]
    sets = {}
    weight = add_variables(layer.block, "weight", keys, 0.0, 1.0)
    end = add_variables(layer.block, "end", ends, 0.0, 1.0)
    for i, found in pieces.items():
        argument = [(-1.0, layer.rows[i])]
        value = [(-1.0, layer.post_row(i))]
        for p, g in enumerate(found):
            low, high = term(end[i, p, "lower"]), term(end[i, p, "upper"])
            argument += [(g.lower, low), (g.upper, high)]
            value += [(g(g.lower), low), (g(g.upper), high)]
            parts = [(1.0, low), (1.0, high), (-1.0, term(weight[i, p]))]
            rows.zero("ends", (i, p), combined(parts))
        rows.zero("argument", i, combined(argument))
        rows.zero("value", i, combined(value))
        sets[i, 0] = [weight[i, p] for p in range(len(found))]
        rows.one_of("one", i, sets[i, 0])
    return sets


def write_choice(
    layer: MaxLayer, rows: RowCollector
) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """A maximum as each argument and how far it is below; a weight for each."""
    keys = layer.keys
    weight = add_variables(layer.block, "weight", keys, 0.0, 1.0)
    slack = add_variables(layer.block, "below", keys, 0.0, max_gaps(layer))
    for j, group in layer.arguments.items():
        for i in group:
            x, s = layer.argument_row(i), term(slack[j, i])
            gap = combined([(1.0, layer.post_row(j)), (-1.0, x), (-1.0, s)])
            rows.zero("maximum", (j, i), gap)
        rows.one_of("one", j, (weight[j, i] for i in group))
    return weight, slack


def max_gaps(layer: MaxLayer) -> list[float]:
    """How far each argument can lie below the maximum."""
    low, high = layer.source.lower, layer.source.upper
    top = {j: max(float(high[i]) for i in g) for j, g in layer.arguments.items()}
    return [max(0.0, top[j] - float(low[i])) for j, i in layer.keys]


def set_choice(block: Any, pre: np.ndarray, post: np.ndarray) -> None:
    """Values of what :func:`write_choice` adds: the first largest argument is chosen."""
    best = largest_arguments(block.component("below") or (), pre)
    assign(block, "below", lambda key: float(post[key[0]] - pre[key[1]]))
    assign(block, "weight", lambda key: float(best[key[0]] == key[1]))
