"""A linear or mixed-integer program as arrays: the one carrier of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np

from pyomo_relu.base.lazy import sparse as sp

#: Row numbers from 0, columns and values of some entries; a number serves all of them.
Part = tuple[Any, Any, Any]


class Rows(NamedTuple):
    """Rows ``lower <= matrix @ x <= upper``, each up to its slack for rounding."""

    matrix: sp.csr_array
    lower: np.ndarray
    upper: np.ndarray
    slack: np.ndarray | None = None


@dataclass
class LinearProgram:
    """``cost @ x + offset`` over ``row_lower <= matrix @ x <= row_upper`` and a box.

    Attributes
    ----------
    cost, lower, upper : (n_columns,) arrays
    matrix : (n_rows, n_columns) CSR array
    row_lower, row_upper : (n_rows,) arrays
    integer : (n_columns,) bool array or None
        Which columns must be integers; None for none.
    offset : float
        Constant of the objective.
    maximize : bool
    row_slack : (n_rows,) array or None
        By how much a point of the program may break each row through the rounding of
        the row's own numbers; certificates subtract it. None for not at all.
    """

    cost: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    matrix: sp.csr_array
    row_lower: np.ndarray
    row_upper: np.ndarray
    integer: np.ndarray | None = None
    offset: float = 0.0
    maximize: bool = False
    row_slack: np.ndarray | None = None

    @property
    def is_mip(self) -> bool:
        """Whether a column must be integer."""
        return self.integer is not None and bool(self.integer.any())

    @property
    def size(self) -> np.ndarray:
        """The largest absolute value of each column, (n_columns,)."""
        return np.maximum(abs(self.lower), abs(self.upper))

    def with_rows(self, rows: Rows) -> Self:
        """The program and these rows below its own."""
        slack = self.row_slack
        if rows.slack is not None or slack is not None:
            none = np.zeros(len(self.row_lower)) if slack is None else slack
            more = np.zeros(len(rows.lower)) if rows.slack is None else rows.slack
            slack = np.concatenate([none, more])
        return replace(
            self,
            matrix=stacked(self.matrix, rows.matrix),
            row_lower=np.concatenate([self.row_lower, rows.lower]),
            row_upper=np.concatenate([self.row_upper, rows.upper]),
            row_slack=slack,
        )

    def violation(self, x: np.ndarray) -> float:
        """Largest violation of a row, a bound or integrality at a point.

        Row violations are divided by ``max(1, |bound|)``.
        """
        worst = float(np.max(np.maximum(self.lower - x, x - self.upper), initial=0.0))
        if self.integer is not None:
            whole = x[self.integer]
            worst = max(worst, float(np.max(abs(whole - np.round(whole)), initial=0.0)))
        activity = self.matrix @ x
        for gap, bound in (
            (self.row_lower - activity, self.row_lower),
            (activity - self.row_upper, self.row_upper),
        ):
            scale = np.where(np.isfinite(bound), np.maximum(1.0, abs(bound)), 1.0)
            worst = max(worst, float(np.max(gap / scale, initial=0.0)))
        return worst


def stacked(top: sp.csr_array, bottom: sp.csr_array) -> sp.csr_array:
    """One matrix below another; SciPy's ``vstack`` takes ten times as long."""
    return sp.csr_array(
        (
            np.concatenate([top.data, bottom.data]),
            np.concatenate([top.indices, bottom.indices]),
            np.concatenate([top.indptr, bottom.indptr[1:] + top.indptr[-1]]),
        ),
        shape=(top.shape[0] + bottom.shape[0], top.shape[1]),
    )


def part_of(matrix: Any, rows: np.ndarray | None = None) -> Part:
    """The entries of a dense or CSR array, or of some of its rows, numbered from 0."""
    if not sp.issparse(matrix):
        some = matrix if rows is None else matrix[rows]
        r, columns = some.nonzero()
        return r, columns, some[r, columns]
    counts = np.diff(matrix.indptr)
    if rows is None:
        r = np.repeat(np.arange(len(counts)), counts)
        return r, matrix.indices, matrix.data
    first, counts = matrix.indptr[rows], counts[rows]
    r = np.repeat(np.arange(len(rows)), counts)
    at = np.arange(len(r)) + np.repeat(first - np.cumsum(counts) + counts, counts)
    return r, matrix.indices[at], matrix.data[at]


def matrix_of(n_rows: int, n_columns: int, parts: Sequence[Part]) -> sp.csr_array:
    """A CSR array of parts; entries at one place are added."""
    rows, columns, values = [np.zeros(0, int)], [np.zeros(0, int)], [np.zeros(0)]
    for r, c, v in parts:
        rows.append(np.asarray(r))
        columns.append(np.asarray(c))
        values.append(np.full(len(rows[-1]), v, float))
    found = sp.csr_array(
        (
            np.concatenate(values),
            (np.concatenate(rows).astype(np.int64), np.concatenate(columns).astype(int)),
        ),
        shape=(n_rows, n_columns),
    )
    found.sum_duplicates()
    return found


class ProgramBuilder:
    """Columns and rows of a program, added some at a time."""

    def __init__(self) -> None:
        self.n_columns = self.n_rows = 0
        self._columns: list[tuple[np.ndarray, ...]] = []
        self._parts: list[Part] = []
        self._rows: list[tuple[np.ndarray, ...]] = []
        self._program: LinearProgram | None = None

    def add_columns(self, lower: Any, upper: Any, integer: Any = False) -> np.ndarray:
        """Add columns between bounds; returns their numbers."""
        lower = np.atleast_1d(np.asarray(lower, dtype=float))
        n = len(lower)
        self._columns.append((lower, np.full(n, upper, float), np.full(n, integer, bool)))
        self.n_columns += n
        self._program = None
        return np.arange(self.n_columns - n, self.n_columns)

    def add_rows(
        self, n: int, parts: Sequence[Part], lower: Any, upper: Any, slack: Any = 0.0
    ) -> None:
        """Add ``n`` rows from parts; bounds and slack are numbers or arrays."""
        self._parts += [(np.asarray(r) + self.n_rows, c, v) for r, c, v in parts]
        self._rows.append(tuple(np.full(n, a, float) for a in (lower, upper, slack)))
        self.n_rows += n
        self._program = None

    def add_program(self, other: ProgramBuilder, place: np.ndarray) -> None:
        """Add the rows of another program, whose columns have these numbers here."""
        self._parts += [(r + self.n_rows, place[c], v) for r, c, v in other._parts]
        self._rows += other._rows
        self.n_rows += other.n_rows
        self._program = None

    def columns(self) -> list[np.ndarray]:
        """Lower bounds, upper bounds and integrality of the columns."""
        none = (np.zeros(0), np.zeros(0), np.zeros(0, dtype=bool))
        return [np.concatenate(arrays) for arrays in zip(none, *self._columns)]

    @property
    def program(self) -> LinearProgram:
        """What has been added by now, without an objective."""
        if self._program is None:
            lower, upper, integer = self.columns()
            low, high, slack = (
                np.concatenate(arrays) for arrays in zip((np.zeros(0),) * 3, *self._rows)
            )
            matrix = matrix_of(self.n_rows, self.n_columns, self._parts)
            matrix.eliminate_zeros()
            self._program = LinearProgram(
                cost=np.zeros(self.n_columns),
                lower=lower,
                upper=upper,
                matrix=matrix,
                row_lower=low,
                row_upper=high,
                integer=integer,
                row_slack=slack,
            )
        return self._program
