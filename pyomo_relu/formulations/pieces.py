"""Exact models of one piecewise-linear unit in the space of (pre, post).

All three describe the closed graph of the function: at a step both values are allowed.
Each is ideal: its relaxation is the convex hull of that graph over the interval.

Source: Vielma, Ahmed, Nemhauser, "Mixed-integer models for nonseparable
piecewise-linear optimization", Operations Research 58(2), 2010, sections 2.1 and 4.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pyomo.core.expr.numeric_expr import LinearExpression
from pyomo.core.expr.relational_expr import EqualityExpression
from pyomo.environ import Binary

from pyomo_relu.formulations.base import Piece
from pyomo_relu.formulations.values import (
    Row,
    add_rows,
    add_variables,
    at_most,
    row_at_most,
)


def is_continuous(pieces: list[Piece]) -> bool:
    """Whether neighbours meet at the breakpoint between them."""
    for a, b in zip(pieces, pieces[1:]):
        left, right = a(a.upper), b(b.lower)
        if abs(left - right) > 1e-12 * max(1.0, abs(left), abs(right)):
            return False
    return True


def is_step(pieces: list[Piece]) -> bool:
    """Whether the unit has two values, one on each side of a breakpoint."""
    return len(pieces) == 2 and pieces[0].slope == 0 == pieces[1].slope


def step_rows(row: Row, post: Any, z: Any, pieces: list[Piece]) -> list:
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
    rows = []
    for g in (first, last):
        if g.slope != 0:  # sign * g(x) <= sign * y
            rows.append(
                row_at_most(
                    row.scaled(sign * g.slope, sign * g.intercept), [-sign], [post], 0.0
                )
            )
        elif not bounded:
            rows.append(at_most([-sign], [post], -sign * g.intercept))
    right, left = bend * (last.upper - first.upper), bend * (first.upper - first.lower)
    for g, coefficient, constant in ((first, right, 0.0), (last, -left, left)):
        if g.slope != 0:  # sign * y <= sign * (g(x) + coefficient * z + constant)
            rows.append(
                row_at_most(
                    row.scaled(-sign * g.slope, -sign * (g.intercept + constant)),
                    [sign, -sign * coefficient],
                    [post, z],
                    0.0,
                )
            )
        else:
            rows.append(
                at_most(
                    [sign, -sign * coefficient], [post, z], sign * (g.intercept + constant)
                )
            )
    return rows


def relu_rows(row: Row, post: Any, z: Any, lower: float, upper: float) -> list:
    """:func:`two_piece_rows` of a ReLU over one variable, in fewer steps."""
    (x,) = row.variables
    return [
        at_most([1.0, -1.0], [x, post], 0.0),
        at_most([1.0, -upper], [post, z], 0.0),
        at_most([-1.0, 1.0, -lower], [x, post, z], -lower),
    ]


def _is_plain_relu(row: Row, first: Piece, last: Piece) -> bool:
    return (
        row.coefs == [1.0]
        and not row.expressions
        and row.constant == 0.0
        and (first.slope, first.intercept) == (0.0, 0.0)
        and (last.slope, last.intercept) == (1.0, 0.0)
        and first.upper == 0.0
    )


def add_incremental(block, rows: dict[int, Row], post: dict, pieces: dict) -> None:
    r"""Continuous units of three or more pieces: ordered binaries.

    .. math::
        x = l + \sum_p d_p,\quad y = f(l) + \sum_p a_p d_p,\quad
        (t_{p+1} - t_p) z_p \le d_p \le (t_{p+1} - t_p) z_{p-1}

    with :math:`z_{-1} = 1` and no lower row for the last piece.
    """
    keys = [(i, p) for i, found in pieces.items() for p in range(len(found))]
    lengths = {(i, p): pieces[i][p].upper - pieces[i][p].lower for i, p in keys}
    d = add_variables(block, "step", keys, [0.0] * len(keys), list(lengths.values()))
    z = add_variables(
        block, "beyond", [(i, p) for i, p in keys if p + 1 < len(pieces[i])], domain=Binary
    )
    argument, value, order = {}, {}, {}
    for i, found in pieces.items():
        ds = [d[i, p] for p in range(len(found))]
        row = Row(rows[i].coefs, rows[i].variables, rows[i].constant, rows[i].expressions)
        argument[i] = EqualityExpression(
            (row.body([-1.0] * len(ds), ds), found[0].lower - row.constant)
        )
        value[i] = EqualityExpression(
            (
                LinearExpression(
                    linear_coefs=[g.slope for g in found] + [-1.0],
                    linear_vars=[*ds, post[i]],
                ),
                -found[0](found[0].lower),
            )
        )
        for p in range(len(found) - 1):
            order[i, p, "full"] = at_most([lengths[i, p], -1.0], [z[i, p], d[i, p]], 0.0)
            order[i, p, "start"] = at_most(
                [1.0, -lengths[i, p + 1]], [d[i, p + 1], z[i, p]], 0.0
            )
    add_rows(block, "argument", argument)
    add_rows(block, "value", value)
    add_rows(block, "order", order)


def add_multiple_choice(block, rows: dict[int, Row], post: dict, pieces: dict) -> None:
    r"""Any units: a copy of the pre-activation for each piece, one of them chosen.

    .. math::
        x = \sum_p x_p,\quad y = \sum_p a_p x_p + c_p z_p,\quad
        t_p z_p \le x_p \le t_{p+1} z_p,\quad \sum_p z_p = 1
    """
    keys = [(i, p) for i, found in pieces.items() for p in range(len(found))]
    x = add_variables(
        block,
        "part",
        keys,
        [min(0.0, pieces[i][p].lower) for i, p in keys],
        [max(0.0, pieces[i][p].upper) for i, p in keys],
    )
    z = add_variables(block, "piece", keys, domain=Binary)
    argument, value, ends, one = {}, {}, {}, {}
    for i, found in pieces.items():
        xs = [x[i, p] for p in range(len(found))]
        zs = [z[i, p] for p in range(len(found))]
        row = rows[i]
        argument[i] = EqualityExpression((row.body([-1.0] * len(xs), xs), -row.constant))
        coefs = [g.slope for g in found] + [g.intercept for g in found] + [-1.0]
        value[i] = EqualityExpression(
            (LinearExpression(linear_coefs=coefs, linear_vars=[*xs, *zs, post[i]]), 0.0)
        )
        one[i] = EqualityExpression(
            (LinearExpression(linear_coefs=[1.0] * len(zs), linear_vars=zs), 1.0)
        )
        for p, g in enumerate(found):
            ends[i, p, "lower"] = at_most([g.lower, -1.0], [z[i, p], x[i, p]], 0.0)
            ends[i, p, "upper"] = at_most([1.0, -g.upper], [x[i, p], z[i, p]], 0.0)
    add_rows(block, "part_argument", argument)
    add_rows(block, "part_value", value)
    add_rows(block, "ends", ends)
    add_rows(block, "one", one)


def piece_at(pieces: list[Piece], x: float) -> int:
    """The piece that holds ``x``; a breakpoint belongs to the right one."""
    p = 0
    while p + 1 < len(pieces) and x >= pieces[p + 1].lower:
        p += 1
    return p


def write_pieces(layer, rows: dict[int, Row]) -> None:
    """Write the units of a layer, each in the smallest of the models above.

    Two-piece units get a binary ``on[i]``, 1 on the right piece.
    """
    pieces = {i: layer.pieces(i) for i in layer.units}
    two = [i for i, p in pieces.items() if is_step(p) or (len(p) == 2 and is_continuous(p))]
    z = add_variables(layer.block, "on", two, domain=Binary) if two else {}
    found = {}
    for i in two:
        if is_step(pieces[i]):
            unit = step_rows(rows[i], layer.post[i], z[i], pieces[i])
        elif not layer.is_output and _is_plain_relu(rows[i], *pieces[i]):
            low, high = pieces[i][0].lower, pieces[i][1].upper
            unit = relu_rows(rows[i], layer.post[i], z[i], low, high)
        else:
            unit = two_piece_rows(
                rows[i], layer.post[i], z[i], pieces[i], not layer.is_output
            )
        found.update({(i, k): row for k, row in enumerate(unit)})
    add_rows(layer.block, "unit", found)
    many = {i: p for i, p in pieces.items() if i not in z and is_continuous(p)}
    if many:
        add_incremental(layer.block, rows, layer.post, many)
    rest = {i: p for i, p in pieces.items() if i not in z and i not in many}
    if rest:
        add_multiple_choice(layer.block, rows, layer.post, rest)


def set_piece_values(block, pre: np.ndarray, pieces: Callable[[int], list[Piece]]) -> None:
    """Values of everything :func:`write_pieces` adds.

    ``pieces(i)`` returns the pieces of unit ``i`` as they were written.
    """
    for i, v in _items(block, "on"):
        v.set_value(piece_at(pieces(i), float(pre[i])), skip_validation=True)
    for (i, p), v in _items(block, "step"):
        g = pieces(i)[p]
        v.set_value(
            min(max(float(pre[i]), g.lower), g.upper) - g.lower, skip_validation=True
        )
    for (i, p), v in _items(block, "beyond"):
        v.set_value(int(piece_at(pieces(i), float(pre[i])) > p), skip_validation=True)
    for (i, p), v in _items(block, "part"):
        chosen = piece_at(pieces(i), float(pre[i])) == p
        v.set_value(float(pre[i]) if chosen else 0.0, skip_validation=True)
    for (i, p), v in _items(block, "piece"):
        v.set_value(int(piece_at(pieces(i), float(pre[i])) == p), skip_validation=True)


def _items(block, name: str):
    component = block.component(name)
    return () if component is None else component.items()
