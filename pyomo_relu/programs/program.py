"""`Program`: a linear or mixed-integer program whose data are one vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.programs.linear_program import LinearProgram

#: The parts of the data vector, in this order.
PARTS = ("offset", "cost", "row_lower", "row_upper", "lower", "upper", "matrix")


@dataclass(kw_only=True)
class Program(LinearProgram):
    """``min cost @ x + offset`` over ``row_lower <= matrix @ x <= row_upper``.

    Attributes
    ----------
    cost : (n,) array
    matrix : (m, n) CSR array
        Entries that are stored as 0 are data like any other.
    row_lower, row_upper : (m,) arrays
    lower, upper : (n,) arrays
    integer : (n,) bool array
    offset : float
    """

    integer: np.ndarray

    @classmethod
    def from_arrays(
        cls,
        cost: Sequence[float] | np.ndarray,
        matrix: Any,
        *,
        row_lower: Any = -np.inf,
        row_upper: Any = np.inf,
        lower: Any = 0.0,
        upper: Any = np.inf,
        integer: Any = False,
        offset: float = 0.0,
    ) -> Program:
        """Check and convert arrays; scalars stand for constant vectors.

        Raises
        ------
        ValueError
            For shapes that don't fit, NaN, and bounds that cross.
        """
        c = np.array(cost, dtype=float)
        a = matrix.copy() if sp.issparse(matrix) else sp.csr_array(np.atleast_2d(matrix))
        a = sp.csr_array(a, dtype=float)
        a.sort_indices()
        if c.ndim != 1 or a.shape[1] != len(c):
            raise ValueError(f"the matrix has shape {a.shape}, the cost {c.shape}.")
        m, n = a.shape
        vectors: dict[str, Any] = {}
        for name, given, size in (
            ("row_lower", row_lower, m),
            ("row_upper", row_upper, m),
            ("lower", lower, n),
            ("upper", upper, n),
        ):
            try:
                vectors[name] = np.broadcast_to(np.asarray(given, float), size).copy()
            except ValueError as e:
                raise ValueError(f"{name} must have {size} entries.") from e
        whole = np.broadcast_to(np.asarray(integer, dtype=bool), n).copy()
        found = cls(cost=c, matrix=a, **vectors, integer=whole, offset=float(offset))
        found.check()
        return found

    def check(self) -> None:
        """Raise ValueError for NaN, infinite coefficients, and bounds that cross."""
        if np.isnan(self.to_vector()).any():
            raise ValueError("the data of the program have NaN.")
        if not (np.isfinite(self.cost).all() and np.isfinite(self.matrix.data).all()):
            raise ValueError("a cost or a coefficient of the program is infinite.")
        for low, high, what in (
            (self.row_lower, self.row_upper, "row"),
            (self.lower, self.upper, "variable"),
        ):
            crossed = np.flatnonzero(low > high)
            if len(crossed):
                raise ValueError(f"the bounds of {what} {crossed[0]} cross.")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.matrix.shape

    def slices(self) -> dict[str, slice]:
        """Where each of :data:`PARTS` lies in the data vector."""
        m, n = self.shape
        sizes = (1, n, m, m, n, n, self.matrix.nnz)
        ends = np.cumsum(sizes)
        return {p: slice(int(e - s), int(e)) for p, s, e in zip(PARTS, sizes, ends)}

    def to_vector(self) -> np.ndarray:
        """All data: offset, cost, row and variable bounds, entries of the matrix."""
        vectors = [getattr(self, part) for part in PARTS[1:-1]]
        return np.concatenate([[self.offset], *vectors, self.matrix.data])

    def with_vector(self, vector: np.ndarray) -> Program:
        """The program with the same structure and other data."""
        at, a = self.slices(), self.matrix
        if vector.shape != (at["matrix"].stop,):
            raise ValueError(
                f"the data vector must have {at['matrix'].stop} entries, not "
                f"{vector.shape}."
            )
        parts: dict[str, Any] = {part: vector[at[part]].copy() for part in PARTS}
        parts["offset"] = float(vector[0])
        parts["matrix"] = sp.csr_array((parts["matrix"], a.indices, a.indptr), a.shape)
        return replace(self, **parts)

    def entry_rows(self) -> np.ndarray:
        """The row of every stored entry of the matrix."""
        return np.repeat(np.arange(self.shape[0]), np.diff(self.matrix.indptr))

    def with_bounds(self, lower: np.ndarray, upper: np.ndarray) -> Program:
        """The program with other bounds of its variables."""
        return replace(self, lower=lower, upper=upper)

    def with_integers(self, x: np.ndarray) -> Program:
        """The linear program with the integer variables fixed at a point."""
        lower, upper = self.lower.copy(), self.upper.copy()
        lower[self.integer] = upper[self.integer] = np.round(x[self.integer])
        return replace(self, lower=lower, upper=upper, integer=np.zeros_like(self.integer))

    def objective(self, x: np.ndarray) -> float:
        """The objective at a point."""
        return float(self.cost @ x) + self.offset

    def envelope(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        r"""Derivative of the optimal value in all data, by the envelope formula.

        With the Lagrangian
        :math:`c^\top x + y_+^\top(b_l - Ax) + y_-^\top(b_u - Ax)`, where
        :math:`y = y_+ + y_-`, at a primal and a dual solution:
        :math:`dz = x^\top dc + y_+^\top db_l + y_-^\top db_u - y^\top (dA)\, x`, and the
        reduced costs for bounds of continuous variables. Bounds of integer variables
        get 0: between integers the value doesn't depend on them.

        Parameters
        ----------
        x : (n,) array
            Optimal point of the LP with fixed integers.
        y : (m,) array
            Its row duals, ``y >= 0`` at lower bounds.

        Returns
        -------
        (n_data,) array
            As in :meth:`to_vector`.
        """
        reduced = self.cost - self.matrix.T @ y
        reduced[self.integer] = 0.0
        sides = [
            side(part, 0.0) for part in (y, reduced) for side in (np.maximum, np.minimum)
        ]
        entries = -y[self.entry_rows()] * x[self.matrix.indices]
        return np.concatenate([[1.0], x, *sides, entries])
