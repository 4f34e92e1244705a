"""`Program`: the data of a mixed-integer linear program as arrays, and as one vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pyomo_relu.base.lazy import sparse as sp

#: The parts of the data vector, in this order.
PARTS = ("offset", "cost", "row_lower", "row_upper", "lower", "upper", "matrix")


@dataclass(frozen=True)
class Program:
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

    cost: np.ndarray
    matrix: sp.csr_array
    row_lower: np.ndarray
    row_upper: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    integer: np.ndarray
    offset: float = 0.0

    @classmethod
    def from_arrays(
        cls,
        cost: Sequence[float],
        matrix,
        *,
        row_lower=-np.inf,
        row_upper=np.inf,
        lower=0.0,
        upper=np.inf,
        integer=False,
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
        vectors = {
            "row_lower": (row_lower, m),
            "row_upper": (row_upper, m),
            "lower": (lower, n),
            "upper": (upper, n),
        }
        made = {}
        for name, (given, size) in vectors.items():
            try:
                made[name] = np.broadcast_to(np.asarray(given, dtype=float), size).copy()
            except ValueError as e:
                raise ValueError(f"{name} must have {size} entries.") from e
        whole = np.broadcast_to(np.asarray(integer, dtype=bool), n).copy()
        found = cls(c, a, **made, integer=whole, offset=float(offset))
        found.check()
        return found

    def check(self) -> None:
        """Raise ValueError for NaN, infinite coefficients, and bounds that cross."""
        vector = self.to_vector()
        if np.isnan(vector).any():
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
        return np.concatenate(
            [
                [self.offset],
                self.cost,
                self.row_lower,
                self.row_upper,
                self.lower,
                self.upper,
                self.matrix.data,
            ]
        )

    def with_vector(self, vector: np.ndarray) -> Program:
        """The program with the same structure and other data."""
        at = self.slices()
        if vector.shape != (at["matrix"].stop,):
            raise ValueError(
                f"the data vector must have {at['matrix'].stop} entries, not "
                f"{vector.shape}."
            )
        a = self.matrix
        return replace(
            self,
            offset=float(vector[0]),
            cost=vector[at["cost"]].copy(),
            row_lower=vector[at["row_lower"]].copy(),
            row_upper=vector[at["row_upper"]].copy(),
            lower=vector[at["lower"]].copy(),
            upper=vector[at["upper"]].copy(),
            matrix=sp.csr_array(
                (vector[at["matrix"]].copy(), a.indices, a.indptr), a.shape
            ),
        )

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
        return np.concatenate(
            [
                [1.0],
                x,
                np.maximum(y, 0.0),
                np.minimum(y, 0.0),
                np.maximum(reduced, 0.0),
                np.minimum(reduced, 0.0),
                -y[self.entry_rows()] * x[self.matrix.indices],
            ]
        )
