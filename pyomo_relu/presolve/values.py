"""Which variables take few values, by integers and by rows that choose.

A price is one of a grid, ``p == sum(P[k] * z[k])`` with ``sum(z[k]) == 1``; a pressure
depends on a routing, ``p == 1.2 + 0.8 * z``; a level is ``0.25 * n`` with an integer ``n``.
Such a variable needs no interval: a search may go from value to value, and a network of
such inputs is a table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.presolve.settings import VALUES
from pyomo_relu.programs import LinearProgram

#: An integer's bound is rounded inwards from so far outside (chosen by hand).
WHOLE = 1e-6


@dataclass(frozen=True, eq=False)
class Choice:
    """Binaries of which at most one is 1.

    Attributes
    ----------
    columns : (s,) int array
    exactly : bool
        Whether one of them is 1 in every feasible point.
    """

    columns: np.ndarray
    exactly: bool


@dataclass(frozen=True, eq=False)
class ByChoice:
    """A variable that a choice determines: ``constant + weights @ z`` of its binaries.

    Attributes
    ----------
    choice : int
        Its number.
    weights : (s,) array
    constant : float
    """

    choice: int
    weights: np.ndarray
    constant: float


@dataclass
class FiniteValues:
    """What is known of the values of a program's columns.

    Attributes
    ----------
    choices : list of Choice
        Disjoint; a binary that no row puts into one is one of its own.
    by_choice : dict
        Columns that one choice determines, its binaries among them.
    values : dict
        The values that a column can take, in increasing order; columns with equal bounds
        are left out.
    """

    choices: list[Choice] = field(default_factory=list)
    by_choice: dict[int, ByChoice] = field(default_factory=dict)
    values: dict[int, np.ndarray] = field(default_factory=dict)

    def members(self, j: int) -> dict[float, int] | None:
        """The binary column of each value of column ``j``; None where there are others.

        That is so where a choice of exactly one binary determines the column, with another
        value for each.
        """
        one = self.by_choice.get(j)
        if one is None or not self.choices[one.choice].exactly:
            return None
        values = one.constant + one.weights
        if len(np.unique(values)) < len(values):
            return None
        return dict(zip(values.tolist(), self.choices[one.choice].columns.tolist()))


def find_values(
    program: LinearProgram, lower: np.ndarray, upper: np.ndarray
) -> FiniteValues:
    """Which columns of a program take few values, and which.

    Parameters
    ----------
    program : LinearProgram
        With integers.
    lower, upper : (m,) arrays
        Bounds of the columns, as tight as they are known.

    Returns
    -------
    FiniteValues
        Every feasible point has these values, up to rounding; not each of them need be
        feasible. A value outside of the column's bounds is left out.
    """
    rows = _Rows(program, lower, upper)
    found = FiniteValues(rows.choices(), {}, {})
    for number, choice in enumerate(found.choices):
        for k, j in enumerate(choice.columns.tolist()):
            weights = np.zeros(len(choice.columns))
            weights[k] = 1.0
            found.by_choice[j] = ByChoice(number, weights, 0.0)
            found.values[j] = np.array([0.0, 1.0])
    for j in np.flatnonzero(rows.integer & ~rows.binary).tolist():
        least, most = np.ceil(lower[j] - WHOLE), np.floor(upper[j] + WHOLE)
        if 0 <= most - least < VALUES.most:  # finite, too
            found.values[j] = np.arange(least, most + 0.5)
    for i, j in rows.defining(found.values):
        _define(found, rows, i, j)
    return found


def _define(found: FiniteValues, rows: _Rows, i: int, j: int) -> None:
    """What the row ``i`` says of the values of the column ``j``."""
    columns, weights, constant = rows.solved_for(i, j)
    numbers = np.array(
        [
            found.by_choice[k].choice if k in found.by_choice else -1
            for k in columns.tolist()
        ]
    )
    total = np.array([constant])
    for number in np.unique(numbers).tolist():
        mine = numbers == number
        if number < 0:
            parts = [w * found.values[k] for k, w in zip(columns[mine], weights[mine])]
        else:
            parts = [_of_choice(found, number, columns[mine], weights[mine])]
        for part in parts:
            if len(total) * len(part) > VALUES.most:
                return
            total = distinct(np.add.outer(total, part).reshape(-1))
    slack = VALUES.outside * np.maximum(1.0, abs(total))
    inside = (total >= rows.lower[j] - slack) & (total <= rows.upper[j] + slack)
    found.values[j] = np.clip(total[inside], rows.lower[j], rows.upper[j])
    if len(columns) and (numbers == numbers[0]).all() and numbers[0] >= 0:
        of_choice = [found.by_choice[k] for k in columns.tolist()]
        found.by_choice[j] = ByChoice(
            int(numbers[0]),
            np.sum([w * one.weights for w, one in zip(weights, of_choice)], axis=0),
            constant + sum(float(w) * one.constant for w, one in zip(weights, of_choice)),
        )


def _of_choice(
    found: FiniteValues, number: int, columns: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """The values of a sum over columns that one choice determines."""
    of_choice = [found.by_choice[k] for k in columns.tolist()]
    total = np.sum([w * one.weights for w, one in zip(weights, of_choice)], axis=0)
    base = sum(float(w) * one.constant for w, one in zip(weights, of_choice))
    part = base + total
    if not found.choices[number].exactly:
        part = np.append(part, base)
    return distinct(part)


def distinct(values: np.ndarray) -> np.ndarray:
    """Values in increasing order, those that only rounding tells apart once."""
    values = np.sort(values)
    if len(values) < 2:
        return values
    size = VALUES.same * np.maximum(1.0, abs(values[1:]))
    return values[np.append(True, np.diff(values) > size)]


class ValueGrid:
    """Coordinates of boxes and points that can take few values only.

    Parameters
    ----------
    values : mapping
        For the numbers of these coordinates, their values in increasing order.
    """

    def __init__(self, values: Mapping[int, np.ndarray]) -> None:
        self.values = dict(values)

    def shrink(self, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        """Shrink boxes (N, n) to the values inside them, in place; which have none."""
        empty = np.zeros(len(lower), dtype=bool)
        for j, v in self.values.items():
            slack = VALUES.same * np.maximum(1.0, abs(v))
            first = np.searchsorted(v + slack, lower[:, j])
            last = np.searchsorted(v - slack, upper[:, j], side="right") - 1
            none = first > last
            empty |= none
            lower[:, j] = np.where(none, lower[:, j], v[np.minimum(first, len(v) - 1)])
            upper[:, j] = np.where(none, upper[:, j], v[last])
        return empty

    def round(self, x: np.ndarray) -> None:
        """Move a point (n,) to the nearest values, in place."""
        for j, v in self.values.items():
            x[j] = v[np.argmin(abs(v - x[j]))]


class _Rows:
    """The rows of a program without the columns of one value.

    Attributes
    ----------
    lower, upper : (m,) arrays
    integer, binary : (m,) bool arrays
        Without the columns of one value.
    """

    def __init__(
        self, program: LinearProgram, lower: np.ndarray, upper: np.ndarray
    ) -> None:
        fixed = lower == upper
        self.lower, self.upper = lower, upper
        whole = np.zeros(len(lower), bool) if program.integer is None else program.integer
        self.integer = whole & ~fixed
        self.binary = self.integer & (lower == 0.0) & (upper == 1.0)
        known = program.matrix @ np.where(fixed, lower, 0.0)
        self.low, self.high = program.row_lower - known, program.row_upper - known
        free = sp.diags_array((~fixed).astype(float))
        self.matrix = sp.csr_array(program.matrix @ free)
        self.matrix.eliminate_zeros()
        self.count = np.diff(self.matrix.indptr)

    def row(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Columns and coefficients of a row."""
        span = slice(self.matrix.indptr[i], self.matrix.indptr[i + 1])
        return self.matrix.indices[span], self.matrix.data[span]

    def solved_for(self, i: int, j: int) -> tuple[np.ndarray, np.ndarray, float]:
        """An equality as ``x_j == weights @ x[columns] + constant``."""
        columns, values = self.row(i)
        own = columns == j
        a = float(values[own][0])
        return columns[~own], -values[~own] / a, float(self.low[i]) / a

    def choices(self) -> list[Choice]:
        """Disjoint sets of binaries, those of the longest rows first."""
        taken = np.zeros(len(self.lower), dtype=bool)
        found = []
        binaries = (self.matrix != 0).astype(float) @ self.binary.astype(float)
        rows = np.flatnonzero((self.count > 1) & (binaries == self.count))
        rows = rows[self.count[rows] <= VALUES.most]
        for i in rows[np.argsort(-self.count[rows], kind="stable")].tolist():
            columns, values = self.row(i)
            a = values[0]
            same = abs(values - a) <= VALUES.same * abs(a)
            if not same.all() or taken[columns].any():
                continue
            low, high = sorted((self.low[i] / a, self.high[i] / a))
            if 1.0 - VALUES.same <= high < 2.0 - VALUES.same:
                found.append(Choice(columns.copy(), bool(low > VALUES.same)))
                taken[columns] = True
        for j in np.flatnonzero(self.binary & ~taken).tolist():
            found.append(Choice(np.array([j]), False))
        return found

    def defining(self, known: dict[int, np.ndarray]) -> Iterator[tuple[int, int]]:
        """Equalities in which one column is not known, and that column.

        Columns become known while this is iterated over, which makes further rows define.
        """
        equal = (self.low == self.high) & np.isfinite(self.low) & (self.count > 0)
        equal &= self.count <= VALUES.most
        seen = np.zeros(len(self.lower), dtype=bool)
        seen[list(known)] = True
        missing = self.count - ((self.matrix != 0).astype(float) @ seen.astype(float))
        uses = sp.csc_array(self.matrix)
        ready = np.flatnonzero(equal & (missing == 1))[::-1].tolist()
        while ready:
            i = ready.pop()
            columns, _ = self.row(i)
            left = columns[~seen[columns]]
            if len(left) != 1 or self.integer[left[0]]:
                continue
            j = int(left[0])
            yield i, j
            if j not in known:
                continue
            seen[j] = True
            rows = uses.indices[uses.indptr[j] : uses.indptr[j + 1]]
            missing[rows] -= 1
            ready += rows[equal[rows] & (missing[rows] == 1)].tolist()
