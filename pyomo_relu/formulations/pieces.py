"""Exact models of one piecewise-linear unit in the space of (pre, post).

All three describe the closed graph of the function: at a step both values are allowed.
Each is ideal: its relaxation is the convex hull of that graph over the interval.

Source: Vielma, Ahmed, Nemhauser, "Mixed-integer models for nonseparable
piecewise-linear optimization", Operations Research 58(2), 2010, sections 2.1 and 4.1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pyomo.core.expr.numeric_expr import LinearExpression
from pyomo.core.expr.relational_expr import EqualityExpression, InequalityExpression
from pyomo.environ import Binary

from pyomo_relu.formulations.units import (
    Piece,
    PiecesOf,
    PiecewiseLayer,
    assign,
    is_continuous,
    is_relu,
    is_step,
    piece_keys,
    places,
)
from pyomo_relu.formulations.values import (
    Row,
    RowCollector,
    add_rows,
    add_variables,
    at_most,
    row_at_most,
)


def step_rows(row: Row, post: Any, z: Any, pieces: list[Piece]) -> list[Any]:
    r"""A step from ``c0`` to ``c1`` at ``t``.

    .. math:: y = c_0 + (c_1 - c_0) z,\quad l + (t - l) z \le x \le t + (u - t) z
    """
    first, last = pieces
    jump = last.intercept - first.intercept
    low, t, high = first.lower, first.upper, last.upper
    return [
        EqualityExpression(
            (
                LinearExpression(linear_coefs=[1.0, -jump], linear_vars=[post, z]),
                first.intercept,
            )
        ),
        row_at_most(row, [t - high], [z], t),
        row_at_most(row.scaled(-1.0), [t - low], [z], -low),
    ]


def two_piece_rows(
    row: Row, post: Any, z: Any, pieces: list[Piece], bounded: bool = True
) -> list:
    r"""Two pieces ``g0``, ``g1`` that meet at ``t``: big-M with the exact constants.

    For a convex unit (``a1 > a0``; a concave one has the signs reversed)

    .. math::
        y \ge g_0(x),\quad y \ge g_1(x),\quad
        y \le g_0(x) + (a_1 - a_0)(u - t) z,\quad
        y \le g_1(x) + (a_1 - a_0)(t - l)(1 - z)

    A row that a constant piece makes a bound of ``y`` is left to that bound, unless
    the variable isn't ``bounded`` by this package alone (an output is also the user's).
    """
    first, last = pieces
    sign = 1.0 if last.slope > first.slope else -1.0
    bend = last.slope - first.slope

    def row_of(
        g: Piece, factor: float, constant: float, coefs: list, variables: list
    ) -> Any:
        """``factor * (g(x) + constant) + sum coefs * variables <= 0``."""
        shift = factor * (g.intercept + constant)
        if g.slope == 0:
            return at_most(coefs, variables, -shift)
        return row_at_most(row.scaled(factor * g.slope, shift), coefs, variables, 0.0)

    under = [g for g in pieces if g.slope != 0 or not bounded]
    rows = [row_of(g, sign, 0.0, [-sign], [post]) for g in under]
    right, left = bend * (last.upper - first.upper), bend * (first.upper - first.lower)
    for g, coefficient, constant in ((first, right, 0.0), (last, -left, left)):
        rows.append(row_of(g, -sign, constant, [sign, -sign * coefficient], [post, z]))
    return rows


def relu_rows(x: Any, post: Any, z: Any, lower: float, upper: float) -> list[Any]:
    """:func:`two_piece_rows` of a ReLU over one variable, in fewer steps."""
    above = LinearExpression(linear_coefs=(1.0, -1.0), linear_vars=(x, post))
    off = LinearExpression(linear_coefs=(1.0, -upper), linear_vars=(post, z))
    on = LinearExpression(linear_coefs=(-1.0, 1.0, -lower), linear_vars=(x, post, z))
    return [
        InequalityExpression((above, 0.0), False),
        InequalityExpression((off, 0.0), False),
        InequalityExpression((on, -lower), False),
    ]


def _add_two_pieces(layer: PiecewiseLayer, rows: dict[int, Row], pieces: dict) -> None:
    z = add_variables(layer.block, "on", list(pieces), domain=Binary)
    units = {}
    for i, found in pieces.items():
        own = _two_piece_unit(layer, i, rows[i], z[i], found)
        units.update({(i, k): row for k, row in enumerate(own)})
    add_rows(layer.block, "unit", units)


def _two_piece_unit(
    layer: PiecewiseLayer, i: int, row: Row, z: Any, pieces: list[Piece]
) -> list[Any]:
    """The rows of a unit of two pieces, in the smallest way."""
    post = layer.post[i]
    if is_step(pieces):
        return step_rows(row, post, z, pieces)
    is_variable = row.coefs == [1.0] and not row.expressions and row.constant == 0.0
    if not layer.is_output and is_variable and is_relu(pieces):
        if pieces[0].upper == 0.0:
            return relu_rows(row.variables[0], post, z, pieces[0].lower, pieces[1].upper)
    return two_piece_rows(row, post, z, pieces, not layer.is_output)


def _are_plain_relus(layer: PiecewiseLayer) -> bool:
    """Whether all units get :func:`relu_rows`: the rows that most models consist of."""
    return (
        layer.node.function == "relu"
        and not layer.is_output
        and all(
            x.__class__ is not float and x.is_variable_type() for x in layer.pre.values()
        )
    )


def _add_relus(layer: PiecewiseLayer) -> None:
    """What :func:`_add_two_pieces` adds for plain ReLUs, without looking at their pieces."""
    z = add_variables(layer.block, "on", layer.units, domain=Binary)
    rows = {}
    for i in layer.units:
        own = relu_rows(layer.pre[i], layer.post[i], z[i], layer.lower[i], layer.upper[i])
        rows[i, 0], rows[i, 1], rows[i, 2] = own
    add_rows(layer.block, "unit", rows)


def add_incremental(layer: PiecewiseLayer, rows: dict[int, Row], pieces: dict) -> None:
    r"""Continuous units of three or more pieces: ordered binaries.

    .. math::
        x = l + \sum_p d_p,\quad y = f(l) + \sum_p a_p d_p,\quad
        (t_{p+1} - t_p) z_p \le d_p \le (t_{p+1} - t_p) z_{p-1}

    with :math:`z_{-1} = 1` and no lower row for the last piece.
    """
    block, keys = layer.block, piece_keys(pieces)
    lengths = {(i, p): pieces[i][p].upper - pieces[i][p].lower for i, p in keys}
    d = add_variables(block, "step", keys, 0.0, lengths.values())
    inner = [(i, p) for i, p in keys if p + 1 < len(pieces[i])]
    z = add_variables(block, "beyond", inner, domain=Binary)
    new = RowCollector()
    for i, found in pieces.items():
        ds = [d[i, p] for p in range(len(found))]
        row, first = rows[i], found[0]
        sums = row.body([-1.0] * len(ds), ds), first.lower - row.constant
        new.add("argument", i, EqualityExpression(sums))
        coefs = [g.slope for g in found] + [-1.0]
        value = LinearExpression(linear_coefs=coefs, linear_vars=[*ds, layer.post[i]])
        new.add("value", i, EqualityExpression((value, -first(first.lower))))
        for p in range(len(found) - 1):
            full = at_most([lengths[i, p], -1.0], [z[i, p], d[i, p]], 0.0)
            start = at_most([1.0, -lengths[i, p + 1]], [d[i, p + 1], z[i, p]], 0.0)
            new.add("order", (i, p, "full"), full)
            new.add("order", (i, p, "start"), start)
    new.add_to(block)


def add_multiple_choice(layer: PiecewiseLayer, rows: dict[int, Row], pieces: dict) -> None:
    r"""Any units: a copy of the pre-activation for each piece, one of them chosen.

    .. math::
        x = \sum_p x_p,\quad y = \sum_p a_p x_p + c_p z_p,\quad
        t_p z_p \le x_p \le t_{p+1} z_p,\quad \sum_p z_p = 1
    """
    block, keys = layer.block, piece_keys(pieces)
    low = [min(0.0, pieces[i][p].lower) for i, p in keys]
    high = [max(0.0, pieces[i][p].upper) for i, p in keys]
    x = add_variables(block, "part", keys, low, high)
    z = add_variables(block, "piece", keys, domain=Binary)
    new = RowCollector()
    for i, found in pieces.items():
        xs = [x[i, p] for p in range(len(found))]
        zs = [z[i, p] for p in range(len(found))]
        sums = rows[i].body([-1.0] * len(xs), xs), -rows[i].constant
        new.add("part_argument", i, EqualityExpression(sums))
        coefs = [g.slope for g in found] + [g.intercept for g in found] + [-1.0]
        variables = [*xs, *zs, layer.post[i]]
        value = LinearExpression(linear_coefs=coefs, linear_vars=variables)
        new.add("part_value", i, EqualityExpression((value, 0.0)))
        for p, g in enumerate(found):
            new.add("ends", (i, p, "lower"), at_most([g.lower, -1.0], [zs[p], xs[p]], 0.0))
            new.add("ends", (i, p, "upper"), at_most([1.0, -g.upper], [xs[p], zs[p]], 0.0))
        new.one_of("one", i, zs)
    new.add_to(block)


def write_pieces(layer: PiecewiseLayer) -> None:
    """Write the units of a layer, each in the smallest of the models above.

    Two-piece units get a binary ``on[i]``, 1 on the right piece.
    """
    if _are_plain_relus(layer):
        _add_relus(layer)
        return
    rows = {i: layer.pre_row(i) for i in layer.units}
    pieces = layer.all_pieces()
    smooth = {i: found for i, found in pieces.items() if is_continuous(found)}
    two = [i for i, p in pieces.items() if len(p) == 2 and (i in smooth or is_step(p))]
    if two:
        _add_two_pieces(layer, rows, {i: pieces.pop(i) for i in two})
    if many := {i: found for i, found in pieces.items() if i in smooth}:
        add_incremental(layer, rows, many)
    if rest := {i: found for i, found in pieces.items() if i not in smooth}:
        add_multiple_choice(layer, rows, rest)


def set_piece_values(block: Any, pre: np.ndarray, pieces: PiecesOf) -> None:
    """Values of everything :func:`write_pieces` adds."""
    place = places(pre, pieces)

    def step(key: tuple[int, int]) -> float:
        g = pieces(key[0])[key[1]]
        return min(max(float(pre[key[0]]), g.lower), g.upper) - g.lower

    assign(block, "on", place)
    assign(block, "step", step)
    assign(block, "beyond", lambda key: int(place(key[0]) > key[1]))
    assign(block, "part", lambda k: float(pre[k[0]]) if place(k[0]) == k[1] else 0.0)
    assign(block, "piece", lambda key: int(place(key[0]) == key[1]))
