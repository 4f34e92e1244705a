"""Rows of a model as CSR arrays: from Pyomo's linear forms, or straight from weights."""

from __future__ import annotations

import math
from itertools import chain
from typing import Any

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.programs.lazy_rows import AffineRows


class VariableRecorder:
    """Numbers the variables that Pyomo's linear visitor meets, in that order.

    Pyomo's own recorders also take the other members of an indexed variable, and
    number fixed ones.
    """

    def __init__(self) -> None:
        self.var_map: dict[int, Any] = {}
        self.order: dict[int, int] = {}

    def add(self, variable: Any) -> None:
        """Called by the visitor for a variable that it hasn't seen and that is free."""
        key = id(variable)
        self.order[key] = len(self.order)
        self.var_map[key] = variable


class RowArrays:
    """Collects rows in CSR form while the model is walked."""

    def __init__(self, recorder: VariableRecorder) -> None:
        self.recorder = recorder
        self.order = recorder.order
        self.counts: list[int] = []
        self.chunks: list[tuple[np.ndarray, np.ndarray]] = []
        self._index: list[Any] = []
        self._data: list[Any] = []
        self._waiting = 0
        self._columns: dict[int, np.ndarray] = {}

    def add(self, linear: dict[int, float]) -> None:
        """Add a row by coefficients, by ``id`` of the variable."""
        self._index.append(map(self.order.__getitem__, linear))
        self._data.append(linear.values())
        self._waiting += len(linear)
        self.counts.append(len(linear))

    def add_lazy(self, rows: AffineRows, positions: list[int]) -> list[float]:
        """Add lazy rows straight from the weights; returns the constants of their bodies.

        Parameters
        ----------
        rows : AffineRows
        positions : list of int
            Which of them, one after another.
        """
        if id(rows) not in self._columns:
            self._columns[id(rows)] = np.array([self._column(v) for v in rows.variables])
        columns = self._columns[id(rows)]
        tails = np.array([self._column(rows.tails[i]) for i in positions])
        self._flush()
        if (columns < 0).any() or (tails < 0).any():
            return [self._add_partly(rows, i, t) for i, t in zip(positions, tails.tolist())]
        part = rows.matrix[positions]
        if sp.issparse(part):
            index = np.insert(columns[part.indices], part.indptr[1:], tails)
            data = np.insert(part.data, part.indptr[1:], -1.0)
            self.counts += (np.diff(part.indptr) + 1).tolist()
        else:
            index = np.column_stack([np.broadcast_to(columns, part.shape), tails]).ravel()
            data = np.column_stack([part, np.full(len(part), -1.0)]).ravel()
            self.counts += [part.shape[1] + 1] * len(part)
        self.chunks.append((index, data))
        return [0.0] * len(positions)

    def _add_partly(self, rows: AffineRows, i: int, tail: int) -> float:
        """One row with fixed variables, which go into the constant."""
        where, data = rows.part(i)
        index = self._columns[id(rows)][where]
        fixed = index < 0
        positions = np.arange(len(rows.variables))[where][fixed].tolist()
        values = [rows.variables[j].value for j in positions]
        constant = math.fsum(
            a * (math.nan if v is None else v) for a, v in zip(data[fixed].tolist(), values)
        )
        index, data = index[~fixed], data[~fixed]
        if tail < 0:
            value = rows.tails[i].value
            constant -= math.nan if value is None else value
        else:
            index, data = np.append(index, tail), np.append(data, -1.0)
        self.chunks.append((index, data))
        self.counts.append(len(index))
        return constant

    def _column(self, v: Any) -> int:
        """The column of a variable, -1 if it is fixed."""
        column = self.order.get(id(v))
        if column is None:
            if v.fixed:
                return -1
            self.recorder.add(v)
            column = self.order[id(v)]
        return column

    def _flush(self) -> None:
        if self._waiting:
            self.chunks.append(
                (
                    np.fromiter(chain.from_iterable(self._index), np.int32, self._waiting),
                    np.fromiter(chain.from_iterable(self._data), float, self._waiting),
                )
            )
        self._index, self._data, self._waiting = [], [], 0

    def matrix(self, n_columns: int) -> sp.csr_array:
        """All rows, without entries that are zero."""
        self._flush()
        index = [c[0] for c in self.chunks] or [np.zeros(0, dtype=np.int32)]
        data = [c[1] for c in self.chunks] or [np.zeros(0)]
        pointer = np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)])
        matrix = sp.csr_array(
            (
                np.concatenate(data),
                np.concatenate(index).astype(np.int32, copy=False),
                pointer.astype(np.int32),
            ),
            shape=(len(self.counts), n_columns),
        )
        if not matrix.data.all():
            matrix.eliminate_zeros()
        return matrix
