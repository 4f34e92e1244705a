r"""A program with all that is constant in it on the right: :math:`\min c'x : Rx \ge d, x \ge 0`.

Variables are counted from their lower bounds, each row has a part for each of its sides, and
widths of variables are rows as well,

.. math::
    d = (b_l - A l,\ A l - b_u,\ l - u), \qquad R = (A,\ -A,\ -I) ,

which is the form that subadditive duals are defined for. An integer variable of more than two
values is written as a sum of binaries, :math:`x_j - l_j = \sum_i 2^i \beta_i`, a row whose
right-hand side is 0 for all data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.programs.program import Program

#: A bound of an integer variable this near to an integer counts as that integer; it is the
#: tolerance of branch and bound.
NEAR = 1e-7


@dataclass(frozen=True)
class Sides:
    """A program as :math:`\\min c'x + o : Rx \\ge d, 0 \\le x`, with r rows.

    Attributes
    ----------
    right : (r,) array
        Minus infinity where a row or a variable has no such side.
    size : (r,) array
        What was added up for each entry, without signs; its rounding is relative to that.
    columns : (r, n) CSC array
    cost : (n,) array
    width : (n,) array
        Largest values of the variables, infinite where there is none.
    constant, constant_size : float
        The objective at the lower bounds, and what was added up for it.
    """

    right: np.ndarray
    size: np.ndarray
    columns: sp.csc_array
    cost: np.ndarray
    width: np.ndarray
    constant: float
    constant_size: float


def sides_of(program: Program) -> Sides:
    """The form of a program whose lower bounds are finite."""
    n = program.shape[1]
    a = program.matrix
    at_lower, reach = a @ program.lower, abs(a) @ np.abs(program.lower)
    width = program.upper - program.lower
    parts = [program.row_lower - at_lower, at_lower - program.row_upper, -width]
    sizes = [
        np.abs(program.row_lower) + reach,
        np.abs(program.row_upper) + reach,
        np.abs(program.upper) + np.abs(program.lower),
    ]
    size = np.concatenate(sizes)
    products = program.cost * program.lower
    return Sides(
        right=np.concatenate(parts),
        size=np.where(np.isfinite(size), size, 0.0),
        columns=sp.csc_array(sp.vstack([a, -a, -sp.identity(n)])),
        cost=program.cost,
        width=width,
        constant=float(products.sum()) + program.offset,
        constant_size=float(np.abs(products).sum()) + abs(program.offset),
    )


class Binaries:
    """How integer variables of a program are written as sums of binaries.

    Parameters
    ----------
    base : Program
        Lower bounds are finite, and bounds of integer variables are.

    Attributes
    ----------
    bits : list of (column, power of two)
        The binaries that are added, behind the program's own columns.
    """

    def __init__(self, base: Program) -> None:
        _check(base)
        self.base = rounded = _rounded(base)
        width = rounded.upper - rounded.lower
        wide = np.flatnonzero(base.integer & (width > 1.0))
        counts = [int(width[j]).bit_length() for j in wide.tolist()]
        self.bits = [(j, i) for j, k in zip(wide.tolist(), counts) for i in range(k)]

    def write(self, program: Program) -> Program:
        """A program of the base's structure, with binaries and their rows added.

        Raises
        ------
        ValueError
            For another structure, and for integer variables that leave the base's box.
        """
        base = self.base
        same = program.shape == base.shape and (program.integer == base.integer).all()
        if not same:
            raise ValueError(
                "the program must have the rows, columns and integer variables of the "
                "one the dual was made for."
            )
        _check(program)
        program = _rounded(program)
        out = (program.lower < base.lower) | (program.upper > base.upper)
        moved = np.flatnonzero(base.integer & out)
        if len(moved):
            raise ValueError(
                f"integer variable {moved[0]} may leave the box that the dual was made for; "
                "make it for the larger box."
            )
        if not self.bits:
            return program
        return self._added(program)

    def _added(self, program: Program) -> Program:
        m, n = program.shape
        wide = list(dict.fromkeys(j for j, _ in self.bits))
        row = {j: m + k for k, j in enumerate(wide)}
        k = len(self.bits)
        rows = [row[j] - m for j in wide] + [row[j] - m for j, _ in self.bits]
        columns = wide + list(range(n, n + k))
        data = [1.0] * len(wide) + [-(2.0**i) for _, i in self.bits]
        own = sp.csr_array((data, (rows, columns)), shape=(len(wide), n + k))
        above = sp.csr_array(
            (program.matrix.data, program.matrix.indices, program.matrix.indptr),
            shape=(m, n + k),
        )
        integer = program.integer.copy()
        integer[wide] = False
        # Where a variable starts depends on the data; its binaries count from there.
        start = program.lower[wide]
        return Program(
            cost=np.append(program.cost, np.zeros(k)),
            matrix=sp.csr_array(sp.vstack([above, own])),
            row_lower=np.append(program.row_lower, start),
            row_upper=np.append(program.row_upper, start),
            lower=np.append(program.lower, np.zeros(k)),
            upper=np.append(program.upper, np.ones(k)),
            integer=np.append(integer, np.ones(k, dtype=bool)),
            offset=program.offset,
        )


def _rounded(program: Program) -> Program:
    """The program with bounds of integer variables that are integers."""
    whole = program.integer
    lower = np.where(whole, np.ceil(program.lower - NEAR), program.lower)
    upper = np.where(whole, np.floor(program.upper + NEAR), program.upper)
    return program.with_bounds(lower, upper)


def _check(program: Program) -> None:
    without = ~np.isfinite(program.lower)
    without |= program.integer & ~np.isfinite(program.upper)
    if without.any():
        raise ValueError(
            f"variable {np.flatnonzero(without)[0]} has no finite lower bound, or is an "
            "integer without an upper one; a subadditive dual counts variables from their "
            "lower bounds. Give it bounds."
        )
