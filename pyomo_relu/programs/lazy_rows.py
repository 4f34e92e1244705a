"""Affine rows that become Pyomo expressions only when someone asks.

A dense layer of 512 by 512 weights is 262,144 terms; as expressions they take 40 MB
and most of the time of building. Here the constraint component is an ordinary
``Constraint``, but its data know only their row of the weight matrix. Writers and
solvers ask a constraint for ``to_bounded_expression()`` and get an expression made on
the spot; whoever reads or sets ``.expr`` turns the row into an ordinary one for good.

Pyomo does the same for its own template constraints. What is private here: the slots
``_component``, ``_active``, ``_index`` and ``_expr`` of ``ConstraintData``, and the
dictionary ``_data`` of an indexed component. Where a version of Pyomo differs,
:data:`SUPPORTED` is False and rows are written as expressions at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any
from weakref import ref

import numpy as np
from pyomo.core.base.constraint import ConstraintData
from pyomo.core.expr.numeric_expr import LinearExpression
from pyomo.core.expr.relational_expr import EqualityExpression
from pyomo.environ import Constraint

from pyomo_relu.base.index_set import index_set
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network.nodes import Weight

#: Layers with at least so many weights get lazy rows.
LAZY_ABOVE = 5_000


class AffineRows:
    """``matrix @ variables - tails == right``, row by row; shared by its constraints.

    Attributes
    ----------
    matrix : (n_rows, n) dense or CSR array, never changed
    variables : tuple of n VarData, each once
    tails : tuple of n_rows VarData
    right : list of n_rows floats
    """

    def __init__(
        self,
        matrix: Weight,
        variables: Iterable[Any],
        tails: Iterable[Any],
        right: list[float],
    ) -> None:
        self.matrix = matrix
        self.variables = tuple(variables)
        self.tails = tuple(tails)
        self.right = right

    def __deepcopy__(self, memo: dict[int, Any]) -> AffineRows:
        new = AffineRows.__new__(AffineRows)
        memo[id(self)] = new
        new.matrix, new.right = self.matrix, self.right
        new.variables = tuple(deepcopy(v, memo) for v in self.variables)
        new.tails = tuple(deepcopy(v, memo) for v in self.tails)
        return new

    def part(self, i: int) -> tuple[np.ndarray | slice, np.ndarray]:
        """Positions of the variables in row ``i``, and their coefficients."""
        if sp.issparse(self.matrix):
            at = slice(self.matrix.indptr[i], self.matrix.indptr[i + 1])
            return self.matrix.indices[at], self.matrix.data[at]
        return slice(None), self.matrix[i]

    def body(self, i: int) -> LinearExpression:
        """Row ``i`` as an expression."""
        where, coefs = self.part(i)
        if isinstance(where, slice):
            variables = list(self.variables)
        else:
            variables = [self.variables[j] for j in where.tolist()]
        variables.append(self.tails[i])
        return LinearExpression(linear_coefs=[*coefs.tolist(), -1.0], linear_vars=variables)


class OrdinaryRow(ConstraintData):
    """What a lazy row becomes: an ordinary constraint with two unused slots."""

    __slots__ = ("_rows", "_position")


class LazyRow(ConstraintData):
    """The data of one constraint, without its expression."""

    __slots__ = ("_rows", "_position")

    def __init__(self, rows: AffineRows, position: int, component: Any, index: Any) -> None:
        # Slots of the base classes, which mypy doesn't look up there.
        self._component = component  # type: ignore[misc]
        self._active = True  # type: ignore[misc]
        self._index = index  # type: ignore[misc]
        self._expr = None  # type: ignore[misc]
        self._rows = rows
        self._position = position

    def to_bounded_expression(
        self, evaluate_bounds: bool = False
    ) -> tuple[float, Any, float]:
        """The bounds and the body; the body is made anew each time."""
        right = self._rows.right[self._position]
        return right, self._rows.body(self._position), right

    def coefficients(self) -> np.ndarray:
        """The coefficients of the variables, that of the tail, -1, left out."""
        return self._rows.part(self._position)[1]

    @property
    def expr(self) -> Any:
        """The expression; from now on the constraint keeps it."""
        body = self._rows.body(self._position)
        self.set_value(EqualityExpression((body, self._rows.right[self._position])))
        return self._expr

    @property
    def equality(self) -> bool:
        """True."""
        return True

    def set_value(self, expr: Any) -> None:
        """Become an ordinary constraint with this expression."""
        rows, position = self._rows, self._position
        self._rows = self._position = None  # type: ignore[assignment]  # unused from here
        self.__class__ = OrdinaryRow
        try:
            self.set_value(expr)
        except Exception:
            self._rows, self._position = rows, position
            self.__class__ = LazyRow
            raise


def _supported() -> bool:
    slots = {s for c in ConstraintData.__mro__ for s in getattr(c, "__slots__", ())}
    return (
        ConstraintData.__slots__ == ("_expr",)
        and {"_component", "_active", "_index"} <= slots
        and hasattr(ConstraintData, "to_bounded_expression")
    )


#: Whether this version of Pyomo has constraints of the expected layout.
SUPPORTED = _supported()


def may_be_lazy(size: int) -> bool:
    """Whether rows of at most so many weights can be big enough."""
    return SUPPORTED and size >= LAZY_ABOVE


def wants_lazy_rows(matrix: Weight, variables: Iterable[Any]) -> bool:
    """Whether rows over these variables are big enough, and can be lazy."""
    size = matrix.nnz if sp.issparse(matrix) else matrix.size
    if not may_be_lazy(size):
        return False
    ids = [id(v) for v in variables]
    return len(set(ids)) == len(ids)


def add_lazy_rows(block: Any, name: str, units: list[int], rows: AffineRows) -> None:
    """Add a constraint over ``units``, one lazy row for each."""
    constraint = Constraint(index_set(units))
    block.add_component(name, constraint)
    component = ref(constraint)
    constraint._data = {
        u: LazyRow(rows, position, component, u) for position, u in enumerate(units)
    }
