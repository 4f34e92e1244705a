"""A linear or mixed-integer program as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.lazy import sparse as sp


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

    @property
    def is_mip(self) -> bool:
        """Whether a column must be integer."""
        return self.integer is not None and bool(self.integer.any())
