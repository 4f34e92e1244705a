"""Dense or CSR: the few operations on weight matrices that must serve both."""

from __future__ import annotations

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network.nodes import Weight

#: A matrix with fewer non-zeros than this share of its entries is kept as CSR (chosen by
#: hand: a CSR entry takes 12 bytes, a dense one 8, and products of dense ones are faster).
SPARSE_BELOW = 0.25

#: Smaller matrices, in entries, are dense whatever they hold (chosen by hand).
SMALL = 256

#: A product is computed sparse where a dense result had this many times the entries of
#: its factors: it would not be kept dense, see :func:`compact` (chosen by hand).
WIDE = 8


def nonzeros(w: Weight) -> int:
    """Number of non-zero entries."""
    return int(w.nnz) if sp.issparse(w) else int(np.count_nonzero(w))


def row_nonzeros(w: Weight) -> np.ndarray:
    """Number of non-zero entries of each row."""
    return np.diff(w.indptr) if sp.issparse(w) else np.count_nonzero(w, axis=1)


def dense(w: Weight) -> np.ndarray:
    """As a dense array."""
    return w.toarray() if sp.issparse(w) else w


def absolute(w: Weight) -> Weight:
    """Entry by entry ``|w|``, in the storage of ``w``."""
    return abs(w)


def add(a: Weight, b: Weight) -> Weight:
    """``a + b``; sparse if both are."""
    if sp.issparse(a) and sp.issparse(b):
        return sp.csr_array(a + b)
    return dense(a) + dense(b)


def add_to(terms: dict[int, Weight], key: int, w: Weight) -> None:
    """Add a matrix to the one that a key has, if it has one."""
    terms[key] = add(terms[key], w) if key in terms else w


def product(outer: Weight, inner: Weight) -> Weight:
    """``outer @ inner``; sparse if both are."""
    if sp.issparse(outer) and sp.issparse(inner):
        result = sp.csr_array(outer @ inner)
        result.sort_indices()  # later SciPy would do it in place, in a read-only array
        return result
    if sp.issparse(inner):
        if outer.shape[0] * inner.shape[1] > WIDE * (outer.size + inner.nnz):
            # A few columns picked out of very many: dense would be mostly zeros.
            return product(sp.csr_array(outer), inner)
        return np.asarray((inner.T @ outer.T).T)
    return np.asarray(outer @ inner)


def product_memory(outer: Weight, inner: Weight) -> float:
    """Bytes that :func:`product` may take at most."""
    entries = float(outer.shape[0]) * inner.shape[1]
    if not (sp.issparse(outer) and sp.issparse(inner)):
        return 8.0 * entries
    columns = np.bincount(outer.indices, minlength=outer.shape[1]).astype(float)
    return 16.0 * min(entries, float(columns @ row_nonzeros(inner)))


def compact(w: Weight) -> Weight:
    """``w`` in the storage that suits its number of non-zeros."""
    entries = w.shape[0] * w.shape[1]
    if entries > SMALL and nonzeros(w) < SPARSE_BELOW * entries:
        return w if sp.issparse(w) else sp.csr_array(w)
    return dense(w)
