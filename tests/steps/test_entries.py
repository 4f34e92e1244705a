"""`Entries` against a matrix that is filled by hand."""

from __future__ import annotations

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.steps.entries import Entries


def test_blocks_and_names():
    entries = Entries()
    first, second = entries.block((2, 2)), entries.block((3,), low=-1.0)
    entries.add(second, np.array([4, 0, 2]), [1.0, 2.0, 0.0], "b")
    entries.add(first[:, :, None], np.array([3, 1]), 0.0, "a")
    entries.add(first, np.array([0, 2]), 5.0)
    entries.sort(5)
    indices, indptr, shape = entries.pattern
    matrix = sp.csr_array((entries.values, indices, indptr), shape)
    expected = np.zeros((7, 5))
    expected[[0, 2], 0] = expected[[1, 3], 2] = 5.0
    expected[4, 4], expected[5, 0] = 1.0, 2.0
    assert (matrix.toarray() == expected).all()
    assert matrix.nnz == 3 + 8 + 4  # what is stored as 0 keeps its place
    assert (entries.low == [0, 0, 0, 0, -1, -1, -1]).all()
    assert entries.values[entries.places["b"]].tolist() == [1.0, 2.0, 0.0]
    # In the order of writing: row by row of the block, the columns 3 and 1 of each.
    assert indices[entries.places["a"]].tolist() == [3, 1] * 4
    assert set(entries.places) == {"a", "b"}
