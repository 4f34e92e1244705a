"""Rows that are added to a linear program of the LP rung, and the program with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.bounds.array_model import ArrayModel

#: A cut is added where it is violated by more than this share of the unit's range.
TOLERANCE = 1e-5


@dataclass
class Rows:
    """Rows ``matrix @ columns <= upper``, each up to its slack."""

    matrix: sp.csr_array
    upper: np.ndarray
    slack: np.ndarray


@dataclass
class Extended:
    """A model with more rows, as certificates read it."""

    matrix: sp.csr_array
    lower: np.ndarray
    upper: np.ndarray
    row_lower: np.ndarray
    row_upper: np.ndarray
    row_slack: np.ndarray
    n_columns: int
    n_rows: int


def extended(model: ArrayModel | Extended, rows: Rows) -> Extended:
    """The model and the rows below it."""
    n = len(rows.upper)
    return Extended(
        sp.csr_array(sp.vstack([model.matrix, rows.matrix])),
        model.lower,
        model.upper,
        np.concatenate([model.row_lower, np.full(n, -np.inf)]),
        np.concatenate([model.row_upper, rows.upper]),
        np.concatenate([model.row_slack, rows.slack]),
        model.n_columns,
        model.n_rows + n,
    )
