"""What must hold of a node before anything computes with it, checked on raw arrays.

SciPy's and NumPy's compiled loops believe the index arrays that they are given: a CSR
matrix with an index out of range reads or writes foreign memory. Arrays that come from
a file are therefore checked here first.
"""

from __future__ import annotations

import numpy as np


def check_numbers(array: np.ndarray, shape: tuple[int, ...], what: str) -> None:
    """Raise ValueError unless ``array`` holds finite float64 numbers in this shape."""
    if array.dtype != np.float64:
        raise ValueError(f"{what} has the dtype {array.dtype}, not float64")
    if array.shape != shape:
        raise ValueError(f"{what} has the shape {array.shape}, not {shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{what} has numbers that are not finite")


def check_pointers(pointers: np.ndarray, rows: int, entries: int, what: str) -> None:
    """Raise ValueError unless ``pointers`` split ``entries`` entries into ``rows`` rows."""
    _check_integers(pointers, what)
    if pointers.shape != (rows + 1,):
        raise ValueError(f"{what} has the shape {pointers.shape}, not ({rows + 1},)")
    if pointers[0] != 0 or pointers[-1] != entries or (pointers[1:] < pointers[:-1]).any():
        raise ValueError(f"{what} does not rise from 0 to {entries}")


def check_indices(indices: np.ndarray, limit: int, what: str) -> None:
    """Raise ValueError unless all ``indices`` count entries of a vector of ``limit``."""
    _check_integers(indices, what)
    if indices.ndim != 1:
        raise ValueError(f"{what} has the shape {indices.shape}")
    if indices.size and not (0 <= indices.min() and indices.max() < limit):
        raise ValueError(f"{what} leaves the range 0 to {limit - 1}")


def check_csr(
    data: np.ndarray,
    indices: np.ndarray,
    pointers: np.ndarray,
    shape: tuple[int, int],
    what: str,
) -> None:
    """Raise ValueError unless the parts make a CSR matrix of this shape.

    Within a row, indices must increase: sorted, none of them twice.
    """
    rows, columns = shape
    check_indices(indices, columns, f"{what}, indices")
    check_pointers(pointers, rows, len(indices), f"{what}, indptr")
    check_numbers(data, (len(indices),), f"{what}, data")
    rises = np.ones(len(indices) + 1, dtype=bool)
    rises[1:-1] = indices[1:] > indices[:-1]
    rises[pointers] = True  # the first entry of a row may be anything
    if not rises.all():
        raise ValueError(f"{what} has a row with unsorted or repeated indices")


def check_pieces(
    breakpoints: np.ndarray, slopes: np.ndarray, intercepts: np.ndarray, what: str
) -> None:
    """Raise ValueError unless the rows of the arrays are piecewise-linear functions."""
    if breakpoints.ndim != 2:
        raise ValueError(f"{what}, breakpoints has the shape {breakpoints.shape}")
    rows, k = breakpoints.shape
    check_numbers(breakpoints, (rows, k), f"{what}, breakpoints")
    check_numbers(slopes, (len(slopes), k + 1), f"{what}, slopes")
    check_numbers(intercepts, (len(intercepts), k + 1), f"{what}, intercepts")
    if (breakpoints[:, 1:] < breakpoints[:, :-1]).any():
        raise ValueError(f"{what} has breakpoints that decrease")


def _check_integers(array: np.ndarray, what: str) -> None:
    if array.dtype not in (np.int32, np.int64):
        raise ValueError(f"{what} has the dtype {array.dtype}, not int32 or int64")
