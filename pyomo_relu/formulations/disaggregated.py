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
from typing import Any

import numpy as np
from pyomo.environ import Binary, value

from pyomo_relu.formulations.units import (
    Piece,
    PiecesOf,
    PiecewiseLayer,
    assign,
    piece_keys,
    places,
)
from pyomo_relu.formulations.values import (
    Row,
    RowCollector,
    add_variables,
    combined,
    entry_row,
    term,
)

#: Sums whose largest absolute value is between these are left as they are; others are
#: scaled to order one. HiGHS 1.15 took the rows of a sum of 1e-8 for contradictory.
SMALLEST_SUM, LARGEST_SUM = 1e-3, 1e3

#: A row for the outer end of a piece is left out if the end is within this share of what
#: the bounds of the quantities say (chosen by hand, far below solvers' tolerances).
SAME_END = 1e-9


@dataclass(slots=True)
class Quantity:
    """Something a unit reads: ``weight * row``, with ``row`` in ``[lower, upper]``."""

    weight: float
    row: Row
    lower: float
    upper: float

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest value of ``weight * row``."""
        a, b = self.weight * self.lower, self.weight * self.upper
        return min(a, b), max(a, b)


def partial_sum(row: Row, group: list[int]) -> Quantity:
    """The sum of some terms of a row, the constant left out, with its bounds.

    A sum that is far from order one is scaled, its ``weight`` says by what. Terms are
    numbered as in :meth:`Row.terms`. The bounds are interval arithmetic, widened by what
    rounding can have done to them.
    """
    part = row.part(group)
    low, high, below, above = 0.0, 0.0, 0.0, 0.0
    for c, _, a, b in part.terms():
        smallest, largest = min(c * a, c * b), max(c * a, c * b)
        low, high = low + smallest, high + largest
        below, above = below + abs(smallest), above + abs(largest)
    # Each side by itself: a sum of zeros is 0, not -1e-16.
    unit = 2.0**-52 * len(group)
    low, high = low - unit * below, high + unit * above
    size, scale = max(-low, high), 1.0
    if size != 0.0 and not SMALLEST_SUM <= size <= LARGEST_SUM:
        scale = 2.0 ** round(np.log2(max(size, 1e-300)))  # powers of two don't round
    return Quantity(scale, part.scaled(1.0 / scale), low / scale, high / scale)


def single_terms(row: Row) -> list[Quantity]:
    """Each variable or expression of a row by itself."""
    return [Quantity(c, entry_row(v, a, b), a, b) for c, v, a, b in row.terms()]


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
    block, pieces = layer.block, layer.all_pieces()
    two = [i for i in layer.units if len(pieces[i]) == 2]
    more = piece_keys({i: found for i, found in pieces.items() if len(found) != 2})
    on = add_variables(block, "on", two, domain=Binary) if two else {}
    chosen = add_variables(block, "piece", more, domain=Binary) if more else {}
    left_out = {i: _flattest(found) if eliminate else None for i, found in pieces.items()}
    share = _add_copies(block, piece_keys(pieces), quantities, left_out)
    rows = RowCollector()
    for i, found in pieces.items():
        if i in on:
            z = [term(on[i]).scaled(-1.0, 1.0), term(on[i])]
        else:
            own = [chosen[i, p] for p in range(len(found))]
            rows.one_of("one", i, own)
            z = [term(v) for v in own]
        copies = _copies(rows, i, quantities[i], share, len(found), left_out[i])
        unit = _Unit(i, found, layer.rows[i].constant, quantities[i], z, copies)
        unit.write(rows, layer.post_row(i))
    rows.add_to(block)


def _flattest(pieces: list[Piece]) -> int:
    """The piece whose copies are left out: a flat one, for then ``y`` needs none."""
    return next((p for p, g in enumerate(pieces) if g.slope == 0), 0)


def _add_copies(
    block: Any,
    keys: list[tuple[int, int]],
    quantities: dict[int, list[Quantity]],
    left_out: dict[int, int | None],
) -> dict[Any, Any]:
    """The variables ``share[i, p, q]``."""
    found = [
        ((i, p, q), quantity)
        for i, p in keys
        if p != left_out[i]
        for q, quantity in enumerate(quantities[i])
    ]
    if not found:
        return {}
    low, high = [min(0.0, s.lower) for _, s in found], [max(0.0, s.upper) for _, s in found]
    return add_variables(block, "share", [key for key, _ in found], low, high)


def _copies(
    rows: RowCollector,
    i: int,
    quantities: list[Quantity],
    share: dict[Any, Any],
    n_pieces: int,
    left_out: int | None,
) -> list[list[Row]]:
    """The copy of each quantity on each piece, as rows; ties them to the quantity."""
    written = [p for p in range(n_pieces) if p != left_out]
    copies = []
    for q, quantity in enumerate(quantities):
        own = {p: term(share[i, p, q]) for p in written}
        rest = combined([(1.0, quantity.row), *((-1.0, own[p]) for p in written)])
        if left_out is None:
            rows.zero("split", (i, q), rest)
        else:
            own[left_out] = rest
        copies.append([own[p] for p in range(n_pieces)])
    return copies


@dataclass
class _Unit:
    """A unit with its pieces, their binaries ``z`` and their copies of the quantities."""

    i: int
    pieces: list[Piece]
    bias: float
    quantities: list[Quantity]
    z: list[Row]
    copies: list[list[Row]]

    def write(self, rows: RowCollector, post: Row) -> None:
        """Add the rows for each piece, and that of the value."""
        low = sum(s.ends[0] for s in self.quantities) + self.bias
        high = sum(s.ends[1] for s in self.quantities) + self.bias
        slack = SAME_END * max(1.0, -low, high)
        total = [(-1.0, post)]
        for p, (g, z) in enumerate(zip(self.pieces, self.z)):
            weighted = ((s.weight, c[p]) for s, c in zip(self.quantities, self.copies))
            x = combined([*weighted, (self.bias, z)])
            total += [(g.slope, x), (g.intercept, z)]
            if not self._is_alone:
                if p > 0 or g.lower > low + slack:
                    row = combined([(1.0, x), (-g.lower, z)])
                    rows.nonnegative("within", (self.i, p, "lower"), row)
                if p + 1 < len(self.pieces) or g.upper < high - slack:
                    row = combined([(-1.0, x), (g.upper, z)])
                    rows.nonnegative("within", (self.i, p, "upper"), row)
            for q, s in enumerate(self.quantities):
                a, b = s.lower, s.upper
                if self._is_alone:  # the ends of the piece are bounds of the only quantity
                    a, b = max(a, g.lower - self.bias), min(b, g.upper - self.bias)
                rows.between("limits", (self.i, p, q), a, self.copies[q][p], b, z)
        rows.zero("value", self.i, combined(total))

    @property
    def _is_alone(self) -> bool:
        return len(self.quantities) == 1 and self.quantities[0].weight == 1.0


def set_disaggregated_values(block: Any, pre: np.ndarray, pieces: PiecesOf) -> None:
    """Values of what :func:`write_disaggregated` adds; quantities must have theirs."""
    place = places(pre, pieces)
    assign(block, "on", place)
    assign(block, "piece", lambda key: int(place(key[0]) == key[1]))
    split, limits = block.component("split"), block.component("limits")

    def shown(key: tuple[int, int, int]) -> float | None:
        i, _, q = key
        if split is not None:
            return residual(split[i, q], "upper")
        return residual(limits[i, _flattest(pieces(i)), q, "lower"], "lower")

    set_copies(block, lambda key: place(key[0]) == key[1], shown)


def residual(row: Any, side: str) -> float | None:
    """What is left of a row's body beyond one of its sides; None without a value."""
    found = value(row.body, exception=False)
    return None if found is None else found - value(getattr(row, side))


def set_copies(
    block: Any,
    is_chosen: Callable[[Any], bool],
    shown: Callable[[Any], float | None],
) -> None:
    """Give the copies ``share`` of what was chosen their values, and 0 to the others.

    With all copies at 0, ``shown`` finds in a row that ties a copy to a quantity the
    value of the quantity.
    """
    assign(block, "share", lambda key: 0.0)
    share = block.component("share")
    for key, v in () if share is None else share.items():
        if is_chosen(key) and (number := shown(key)) is not None:
            v.set_value(number, skip_validation=True)
