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

from pyomo_relu.formulations.base import (
    Formulation,
    MaxLayer,
    Piece,
    PiecewiseLayer,
    register_formulation,
)
from pyomo_relu.formulations.pieces import is_continuous, piece_at
from pyomo_relu.formulations.values import (
    Row,
    RowCollector,
    add_sos,
    add_variables,
    combined,
)
from pyomo_relu.network import Max


@register_formulation
class Sos1(Formulation):
    """Special ordered sets of type 1: no binaries, no big-M."""

    name = "sos1"
    needs_preactivation = False

    def write_piecewise(self, layer: PiecewiseLayer) -> None:
        pieces = {i: layer.pieces(i) for i in layer.units}
        two = [i for i, p in pieces.items() if len(p) == 2 and is_continuous(p)]
        rows = RowCollector()
        sets: dict[Any, list[Any]] = {}
        _write_two(layer, pieces, two, rows, sets)
        _write_many(
            layer, {i: p for i, p in pieces.items() if i not in set(two)}, rows, sets
        )
        rows.add_to(layer.block)
        add_sos(layer.block, "one_of", sets)

    def write_max(self, layer: MaxLayer) -> None:
        keys = [(j, i) for j, group in layer.arguments.items() for i in group]
        n = len(keys)
        weight = add_variables(layer.block, "weight", keys, [0.0] * n, [1.0] * n)
        slack = add_variables(layer.block, "below", keys, [0.0] * n, max_gaps(layer, keys))
        rows = RowCollector()
        sets: dict[Any, list[Any]] = {}
        for j, group in layer.arguments.items():
            for i in group:
                s, y = Row([1.0], [slack[j, i]]), Row([1.0], [layer.post[j]])
                terms = [(1.0, y), (-1.0, layer.argument_row(i)), (-1.0, s)]
                rows.zero("maximum", (j, i), combined(terms))
                sets[j, i] = [weight[j, i], slack[j, i]]
            sets[j, "all"] = [weight[j, i] for i in group]
            terms = [(1.0, Row([1.0], [weight[j, i]])) for i in group]
            rows.zero("one", j, combined(terms, -1.0))
        rows.add_to(layer.block)
        add_sos(layer.block, "one_of", sets)

    def set_values(self, block, node, pre, post, pieces) -> None:
        if isinstance(node, Max):
            set_max_slacks(block, pre, post)
            return
        for name, sign in (("right", 1.0), ("left", -1.0)):
            for i, v in _items(block, name):
                t = pieces(i)[0].upper
                number = max(0.0, sign * (float(pre[i]) - t))
                v.set_value(number, skip_validation=True)
        for (i, p), v in _items(block, "weight"):
            number = float(piece_at(pieces(i), float(pre[i])) == p)
            v.set_value(number, skip_validation=True)
        for (i, p, end), v in _items(block, "end"):
            g, x = pieces(i)[p], float(pre[i])
            number = 0.0
            if piece_at(pieces(i), x) == p:
                length = g.upper - g.lower
                share = min(1.0, max(0.0, (x - g.lower) / length)) if length > 0 else 0.0
                number = share if end == "upper" else 1.0 - share
            v.set_value(number, skip_validation=True)


def write_sides(layer: PiecewiseLayer, pieces, two, rows) -> tuple[dict, dict]:
    """``x = t + right - left`` and the value of units of two pieces.

    A ReLU's ``right`` is its ``post`` where that can't be negative anyway.
    """
    relu = {
        i
        for i in two
        if not layer.is_output
        and layer.post[i].lb == 0.0
        and (pieces[i][0].slope, pieces[i][0].intercept) == (0.0, 0.0)
        and (pieces[i][1].slope, pieces[i][1].intercept) == (1.0, 0.0)
    }
    own = [i for i in two if i not in relu]
    right = {i: layer.post[i] for i in relu}
    if own:
        tops = [pieces[i][1].upper - pieces[i][1].lower for i in own]
        right.update(add_variables(layer.block, "right", own, [0.0] * len(own), tops))
    left = {}
    if two:
        tops = [pieces[i][0].upper - pieces[i][0].lower for i in two]
        left = add_variables(layer.block, "left", two, [0.0] * len(two), tops)
    for i in two:
        first, last = pieces[i]
        r, s = Row([1.0], [right[i]]), Row([1.0], [left[i]])
        rows.zero(
            "argument",
            i,
            combined([(1.0, layer.rows[i]), (-1.0, r), (1.0, s)], -first.upper),
        )
        if i not in relu:
            y = Row([1.0], [layer.post[i]])
            terms = [(last.slope, r), (-first.slope, s), (-1.0, y)]
            rows.zero("value", i, combined(terms, last(last.lower)))
    return right, left


def _write_two(layer, pieces, two, rows, sets) -> None:
    right, left = write_sides(layer, pieces, two, rows)
    for i in two:
        sets[i, 0] = [right[i], left[i]]


def _write_many(layer, pieces: dict[int, list[Piece]], rows, sets) -> None:
    """Any units by the weights of the ends of their pieces."""
    keys = [(i, p) for i, found in pieces.items() for p in range(len(found))]
    if not keys:
        return
    ends = [(i, p, e) for i, p in keys for e in ("lower", "upper")]
    n = len(keys)
    weight = add_variables(layer.block, "weight", keys, [0.0] * n, [1.0] * n)
    end = add_variables(layer.block, "end", ends, [0.0] * 2 * n, [1.0] * 2 * n)
    for i, found in pieces.items():
        argument = [(-1.0, layer.rows[i])]
        value = [(-1.0, Row([1.0], [layer.post[i]]))]
        total = []
        for p, g in enumerate(found):
            low, high = Row([1.0], [end[i, p, "lower"]]), Row([1.0], [end[i, p, "upper"]])
            w = Row([1.0], [weight[i, p]])
            argument += [(g.lower, low), (g.upper, high)]
            value += [(g(g.lower), low), (g(g.upper), high)]
            total.append((1.0, w))
            rows.zero("ends", (i, p), combined([(1.0, low), (1.0, high), (-1.0, w)]))
        rows.zero("argument", i, combined(argument))
        rows.zero("value", i, combined(value))
        rows.zero("one", i, combined(total, -1.0))
        sets[i, 0] = [weight[i, p] for p in range(len(found))]


def max_gaps(layer: MaxLayer, keys) -> list[float]:
    """How far each argument can lie below the maximum."""
    low, high = layer.source.lower, layer.source.upper
    top = {j: max(float(high[i]) for i in g) for j, g in layer.arguments.items()}
    return [max(0.0, top[j] - float(low[i])) for j, i in keys]


def set_max_slacks(block, pre, post) -> None:
    """Values of ``weight`` and ``below``: the first largest argument is chosen."""
    best: dict[int, int] = {}
    for (j, i), _ in _items(block, "below"):
        if j not in best or pre[i] > pre[best[j]]:
            best[j] = i
    for (j, i), v in _items(block, "below"):
        v.set_value(float(post[j] - pre[i]), skip_validation=True)
    for (j, i), v in _items(block, "weight"):
        v.set_value(float(best[j] == i), skip_validation=True)


def _items(block, name: str):
    component = block.component(name)
    return () if component is None else component.items()
