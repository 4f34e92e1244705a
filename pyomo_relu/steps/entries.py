"""`Entries`: the rows of a matrix, written block by block, some entries known by name."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyomo_relu.base.lazy import sparse as sp


class Entries:
    """Rows ``low <= matrix @ x`` as triples (row, column, value).

    Attributes
    ----------
    values : (nnz,) array
        After :meth:`sort`, as CSR has them.
    pattern : (indices, indptr, shape)
        Of CSR.
    places : dict of str to int array
        Where the entries of each name are among the values, in the order of writing.
    low : (n_rows,) array
    """

    def __init__(self) -> None:
        self._triples: list[list[np.ndarray]] = []
        self._names: list[str] = []
        self._low: list[np.ndarray] = []
        self._n_rows = 0

    def block(self, shape: tuple[int, ...], low: float = 0.0) -> np.ndarray:
        """The numbers of new rows, in an array of this shape."""
        size = int(np.prod(shape))
        self._low.append(np.full(size, low))
        self._n_rows += size
        return np.arange(self._n_rows - size, self._n_rows).reshape(shape)

    def add(
        self, rows: np.ndarray, columns: np.ndarray, values: Any, name: str = ""
    ) -> None:
        """Write entries, whose rows, columns and values are broadcast against each other."""
        triple = np.broadcast_arrays(rows, columns, np.asarray(values, dtype=float))
        self._triples.append([part.reshape(-1) for part in triple])
        self._names.append(name)

    def sort(self, n_columns: int) -> None:
        """Bring all into the order of CSR."""
        rows, columns, values = (np.concatenate(part) for part in zip(*self._triples))
        # Numbers in place of values, from 1, so that none is dropped as a zero.
        number = np.arange(1.0, len(rows) + 1.0)
        shape = (self._n_rows, n_columns)
        matrix = sp.csr_array((number, (rows, columns)), shape=shape)
        matrix.sort_indices()
        order = matrix.data.astype(int) - 1
        place = np.empty(len(order), dtype=int)
        place[order] = np.arange(len(order))
        self.values, self.low = values[order], np.concatenate(self._low)
        self.pattern = (matrix.indices, matrix.indptr, shape)
        names = np.repeat(self._names, [len(part[0]) for part in self._triples])
        self.places = {str(k): place[names == k] for k in dict.fromkeys(self._names) if k}
