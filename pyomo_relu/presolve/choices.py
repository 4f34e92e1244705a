"""Which binaries choose the values of a network's inputs.

People write the price of a product as ``p == sum(P[k] * z[k])`` with one ``z`` at 1, hand a
network the binaries of a category, or a pressure that depends on a routing. Such an input
takes few values, each with a binary that stands for it. Here they are found in the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.presolve.problem import Problem

#: Coefficients and sides that differ by less, relative to them, are equal (by hand).
EQUAL = 1e-9


@dataclass(frozen=True, eq=False)
class Choice:
    """Binaries of which at most one is 1, and the drivers that they determine.

    Attributes
    ----------
    columns : (s,) int array
        Columns of the binaries.
    exactly : bool
        Whether one of them is 1 in every feasible point.
    drivers : (d,) int array
        Columns of the drivers that have no other freedom.
    values : (s, d) array
        What the drivers are while a binary is 1.
    none : (d,) array
        What they are while all binaries are 0.
    """

    columns: np.ndarray
    exactly: bool
    drivers: np.ndarray
    values: np.ndarray
    none: np.ndarray


def find_choices(problem: Problem) -> list[Choice]:
    """The choices that determine drivers, each binary in one choice at most.

    A driver that several choices determine together is left out.

    Parameters
    ----------
    problem : Problem
        Simplified: its rows of one column are bounds.
    """
    rows = _FreeRows(problem)
    sets = _sets(rows)
    set_of = np.full(len(problem.columns), -1)
    for k, one in enumerate(sets):
        set_of[one.columns] = k
    place = np.zeros(len(problem.columns), dtype=int)
    for one in sets:
        place[one.columns] = np.arange(len(one.columns))
    determined: list[list[_Defined]] = [[] for _ in sets]
    for defined in _definitions(rows, set_of):
        determined[set_of[defined.columns[0]]].append(defined)
    found = []
    for one, own in zip(sets, determined):
        if not own:
            continue
        none = np.array([defined.constant for defined in own])
        values = np.tile(none, (len(one.columns), 1))
        for d, defined in enumerate(own):
            values[place[defined.columns], d] += defined.values
        drivers = np.array([defined.driver for defined in own])
        found.append(Choice(one.columns, one.exactly, drivers, values, none))
    return found


class _FreeRows:
    """The rows of a problem, without what is fixed.

    Attributes
    ----------
    binary : (columns,) bool array
    count, binaries : (rows,) arrays
        How many columns of a row can move, and how many of them are binary.
    """

    def __init__(self, problem: Problem) -> None:
        p = self.problem = problem
        fixed = p.lower == p.upper
        at = p.matrix @ np.where(fixed, p.lower, 0.0)
        self.low, self.high = p.row_lower - at, p.row_upper - at
        self.matrix = sp.csr_array(p.matrix @ sp.diags_array((~fixed).astype(float)))
        self.matrix.eliminate_zeros()
        self.binary = p.integer & (p.lower == 0.0) & (p.upper == 1.0)
        self.count = np.diff(self.matrix.indptr)
        self.binaries = (self.matrix != 0).astype(float) @ self.binary.astype(float)

    def row(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Columns and coefficients of a row."""
        span = slice(self.matrix.indptr[i], self.matrix.indptr[i + 1])
        return self.matrix.indices[span], self.matrix.data[span]


@dataclass(frozen=True, eq=False)
class _Set:
    """Binaries of which at most one is 1, or exactly one."""

    columns: np.ndarray
    exactly: bool


@dataclass(frozen=True, eq=False)
class _Defined:
    """A driver that is ``constant + values @ binaries``."""

    driver: int
    columns: np.ndarray
    values: np.ndarray
    constant: float


def _sets(rows: _FreeRows) -> list[_Set]:
    """Disjoint sets of binaries; the longest rows first, what is left one by one."""
    found: list[_Set] = []
    left = rows.binary.copy()
    candidates = np.flatnonzero((rows.count > 1) & (rows.binaries == rows.count))
    for i in candidates[np.argsort(-rows.count[candidates], kind="stable")].tolist():
        columns, values = rows.row(i)
        a = values[0]
        if not left[columns].all() or (abs(values - a) > EQUAL * abs(a)).any():
            continue
        low, high = sorted((rows.low[i] / a, rows.high[i] / a))
        if 1.0 - EQUAL <= high < 2.0 - EQUAL:
            found.append(_Set(columns, bool(low > EQUAL)))
            left[columns] = False
    return found + [_Set(np.array([j]), False) for j in np.flatnonzero(left).tolist()]


def _definitions(rows: _FreeRows, set_of: np.ndarray) -> Iterator[_Defined]:
    """Each driver that is binary itself, or that a row defines by binaries of one set."""
    p = rows.problem
    one, known = np.ones(1), set[int]()
    for j in np.flatnonzero(rows.binary[: p.n]).tolist():
        known.add(j)
        yield _Defined(j, np.array([j]), one, 0.0)
    equal = (rows.low == rows.high) & (rows.binaries == rows.count - 1) & (rows.count > 1)
    for i in np.flatnonzero(equal).tolist():
        columns, values = rows.row(i)
        k = int(np.argmin(rows.binary[columns]))
        j, others = int(columns[k]), np.delete(columns, k)
        if j >= p.n or j in known or p.integer[j] or len(np.unique(set_of[others])) > 1:
            continue
        known.add(j)
        a = values[k]
        yield _Defined(j, others, -np.delete(values, k) / a, float(rows.low[i] / a))
