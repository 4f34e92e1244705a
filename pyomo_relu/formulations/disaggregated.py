r"""Units written with copies of their inputs, one for each piece.

A unit :math:`y = \phi(x)`, :math:`x = \sum_q m_q s_q + b`, reads the quantities
:math:`s_q \in [l_q, u_q]`: its inputs (``hull``), or sums over groups of them
(``partition``). On piece :math:`p` it is :math:`a_p x + c_p` for
:math:`t_p \le x \le t_{p+1}`. With a binary :math:`z_p` and copies :math:`s_{qp}`,

.. math::
    s_q = \sum_p s_{qp},\qquad l_q z_p \le s_{qp} \le u_q z_p,\qquad \sum_p z_p = 1,

    X_p = \sum_q m_q s_{qp} + b z_p,\qquad t_p z_p \le X_p \le t_{p+1} z_p,\qquad
    y = \sum_p a_p X_p + c_p z_p

This is Balas' extended formulation ("Disjunctive programming", Annals of Discrete
Mathematics 5, 1979) of the union of the pieces over the box of the
:math:`s_q`, hence ideal in the space of :math:`(s, y, z)`. The outer ends :math:`t_p`
are the bounds of :math:`x`; a row for one is written only if it is tighter than what
the bounds of the :math:`s_q` say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pyomo.environ import Binary, value

from pyomo_relu.formulations.base import Piece, PiecewiseLayer
from pyomo_relu.formulations.pieces import piece_at
from pyomo_relu.formulations.values import Row, RowCollector, add_variables, combined


@dataclass
class Quantity:
    """Something a unit reads: ``weight * row``, with ``row`` in ``[lower, upper]``."""

    weight: float
    row: Row
    lower: float
    upper: float


def partial_sum(row: Row, group: list[int]) -> Quantity:
    """The sum of some terms of a row, the constant left out, with its bounds.

    A sum that is far from order one is scaled, its ``weight`` says by what. Terms are
    numbered as in :meth:`Row.terms`. The bounds are interval arithmetic, widened by what
    rounding can have done to them.
    """
    n = len(row.coefs)
    inner = [t for t in group if t < n]
    part = Row(
        [row.coefs[t] for t in inner],
        [row.variables[t] for t in inner],
        0.0,
        [row.expressions[t - n] for t in group if t >= n],
        [row.lower[t] for t in inner],
        [row.upper[t] for t in inner],
    )
    low, high, below, above = 0.0, 0.0, 0.0, 0.0
    for c, _, a, b in part.terms():
        smallest, largest = min(c * a, c * b), max(c * a, c * b)
        low, high = low + smallest, high + largest
        below, above = below + abs(smallest), above + abs(largest)
    # Each side by itself: a sum of zeros is 0, not -1e-16.
    unit = 2.0**-52 * len(group)
    low, high = low - unit * below, high + unit * above
    # A sum of 1e-8 is below a solver's tolerance: HiGHS 1.15 took the rows of one for
    # contradictory. Powers of two, for these don't round.
    size = max(-low, high)
    scale = (
        1.0
        if size == 0.0 or 1e-3 <= size <= 1e3
        else 2.0 ** round(np.log2(max(size, 1e-300)))
    )
    return Quantity(scale, part.scaled(1.0 / scale), low / scale, high / scale)


def single_terms(row: Row) -> list[Quantity]:
    """Each variable or expression of a row by itself."""
    n = len(row.coefs)
    return [
        Quantity(
            c,
            Row([1.0], [v], 0.0, [], [a], [b])
            if k < n
            else Row(expressions=[(1.0, v, a, b)]),
            a,
            b,
        )
        for k, (c, v, a, b) in enumerate(row.terms())
    ]


def write_disaggregated(
    layer: PiecewiseLayer, quantities: dict[int, list[Quantity]], eliminate: bool
) -> None:
    """Write every unit of a layer with copies of the given quantities.

    Parameters
    ----------
    layer : PiecewiseLayer
        With ``rows``.
    quantities : dict
        What each unit reads; ``sum weight * row`` is its row without the constant.
    eliminate : bool
        Write the copies of one piece, flat if there is one, as what the others leave.
        Pays where a quantity is a single variable.

    Notes
    -----
    A unit of two pieces has the binary ``on[i]``, 1 on the right one; others have
    ``piece[i, p]``. Copies are ``share[i, p, q]``.
    """
    pieces = {i: layer.pieces(i) for i in layer.units}
    two = [i for i in layer.units if len(pieces[i]) == 2]
    more = [(i, p) for i in layer.units if i not in set(two) for p in range(len(pieces[i]))]
    block = layer.block
    on = add_variables(block, "on", two, domain=Binary) if two else {}
    chosen = add_variables(block, "piece", more, domain=Binary) if more else {}
    left_out = {i: _flattest(pieces[i]) if eliminate else None for i in layer.units}
    keys = [
        (i, p, q)
        for i in layer.units
        for p in range(len(pieces[i]))
        if p != left_out[i]
        for q in range(len(quantities[i]))
    ]
    share = {}
    if keys:
        share = add_variables(
            block,
            "share",
            keys,
            [min(0.0, quantities[i][q].lower) for i, p, q in keys],
            [max(0.0, quantities[i][q].upper) for i, p, q in keys],
        )
    rows = RowCollector()
    for i in layer.units:
        found = pieces[i]
        if i in on:
            right = Row([1.0], [on[i]])
            z = [right.scaled(-1.0, 1.0), right]
        else:
            z = [Row([1.0], [chosen[i, p]]) for p in range(len(found))]
            rows.zero("one", i, combined([(1.0, r) for r in z], -1.0))
        copies = _copies(rows, i, quantities[i], share, len(found), left_out[i])
        _write_unit(rows, i, found, layer.rows[i].constant, layer, quantities[i], z, copies)
    rows.add_to(block)


def _flattest(pieces: list[Piece]) -> int:
    """The piece whose copies are left out: a flat one, for then ``y`` needs none."""
    return next((p for p, g in enumerate(pieces) if g.slope == 0), 0)


def _copies(rows, i: int, quantities, share, n_pieces: int, left_out) -> list[list[Row]]:
    """The copy of each quantity on each piece, as rows; ties them to the quantity."""
    copies = [
        [Row([1.0], [share[i, p, q]]) if p != left_out else Row() for p in range(n_pieces)]
        for q in range(len(quantities))
    ]
    for q, quantity in enumerate(quantities):
        rest = combined(
            [
                (1.0, quantity.row),
                *((-1.0, copies[q][p]) for p in range(n_pieces) if p != left_out),
            ]
        )
        if left_out is None:
            rows.zero("split", (i, q), rest)
        else:
            copies[q][left_out] = rest
    return copies


def _write_unit(rows, i, pieces, bias, layer, quantities, z, copies) -> None:
    low = sum(min(s.weight * s.lower, s.weight * s.upper) for s in quantities) + bias
    high = sum(max(s.weight * s.lower, s.weight * s.upper) for s in quantities) + bias
    slack = 1e-9 * max(1.0, -low, high)
    alone = len(quantities) == 1 and quantities[0].weight == 1.0
    total = [(-1.0, Row([1.0], [layer.post[i]]))]
    for p, g in enumerate(pieces):
        x = combined(
            [
                *((s.weight, copies[q][p]) for q, s in enumerate(quantities)),
                (bias, z[p]),
            ]
        )
        total += [(g.slope, x), (g.intercept, z[p])]
        if not alone:
            if p > 0 or g.lower > low + slack:
                rows.nonnegative(
                    "within", (i, p, "lower"), combined([(1.0, x), (-g.lower, z[p])])
                )
            if p + 1 < len(pieces) or g.upper < high - slack:
                rows.nonnegative(
                    "within", (i, p, "upper"), combined([(-1.0, x), (g.upper, z[p])])
                )
        for q, s in enumerate(quantities):
            a, b = s.lower, s.upper
            if alone:  # the ends of the piece are bounds of the only quantity
                a, b = max(a, g.lower - bias), min(b, g.upper - bias)
            copy = copies[q][p]
            rows.nonnegative(
                "limits", (i, p, q, "lower"), combined([(1.0, copy), (-a, z[p])])
            )
            rows.nonnegative(
                "limits", (i, p, q, "upper"), combined([(-1.0, copy), (b, z[p])])
            )
    rows.zero("value", i, combined(total))


def set_disaggregated_values(
    block, pre: np.ndarray, pieces: Callable[[int], list[Piece]]
) -> None:
    """Values of what :func:`write_disaggregated` adds; quantities must have theirs."""
    at: dict[int, int] = {}

    def place(i: int) -> int:
        if i not in at:
            at[i] = piece_at(pieces(i), float(pre[i]))
        return at[i]

    for name in ("on", "piece"):
        component = block.component(name)
        for key, v in () if component is None else component.items():
            number = place(key) if name == "on" else int(place(key[0]) == key[1])
            v.set_value(number, skip_validation=True)
    share = block.component("share")
    if share is None:
        return
    for v in share.values():
        v.set_value(0.0, skip_validation=True)
    # With all copies at 0, the row that ties them to a quantity shows its value.
    split, limits = block.component("split"), block.component("limits")
    for (i, p, q), v in share.items():
        if p != place(i):
            continue
        if split is not None:
            found = value(split[i, q].body, exception=False)
            shown = None if found is None else found - value(split[i, q].upper)
        else:
            rest = limits[i, _flattest(pieces(i)), q, "lower"]
            found = value(rest.body, exception=False)
            shown = None if found is None else found - value(rest.lower)
        if shown is not None:
            v.set_value(shown, skip_validation=True)
