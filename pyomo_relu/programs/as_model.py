"""A program of arrays as a Pyomo model, for any solver of Pyomo's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo
from pyomo.core.expr import LinearExpression

from pyomo_relu.programs.linear_program import LinearProgram


class ProgramModel:
    """A linear or mixed-integer program as a Pyomo model.

    Parameters
    ----------
    program : LinearProgram

    Attributes
    ----------
    model : ConcreteModel
        With a variable ``column[j]`` for each column, a constraint ``row[i]`` for each row
        and the objective ``cost``, in the sense of the program.
    """

    def __init__(self, program: LinearProgram) -> None:
        self.program, self.model = program, pyo.ConcreteModel()
        m = self.model
        m.column = pyo.Var(range(len(program.cost)))
        self._columns = list(m.column.values())
        # Pyomo refuses rows and objectives without a variable; here they have one that is 0.
        m.nothing = pyo.Var(bounds=(0.0, 0.0))
        ends = zip(program.lower.tolist(), program.upper.tolist())
        whole = program.integer
        for j, (v, (low, high)) in enumerate(zip(self._columns, ends)):
            if whole is not None and whole[j]:
                v.domain = pyo.Integers
            v.setlb(low)
            v.setub(high)
        matrix = program.matrix
        starts = matrix.indptr.tolist()
        sides = zip(program.row_lower.tolist(), program.row_upper.tolist())
        m.row = pyo.Constraint(range(len(program.row_lower)))
        for i, (low, high) in enumerate(sides):
            if low == -np.inf and high == np.inf:
                continue
            some = slice(starts[i], starts[i + 1])
            body = self._sum(matrix.data[some], matrix.indices[some])
            m.row[i] = body == low if low == high else (low, body, high)
        used = np.flatnonzero(program.cost)
        m.cost = pyo.Objective(
            expr=self._sum(program.cost[used], used, program.offset),
            sense=pyo.maximize if program.maximize else pyo.minimize,
        )

    def _sum(self, factors: np.ndarray, at: np.ndarray, const: float = 0.0) -> Any:
        """A linear expression of the columns ``at``, entries of zero left out."""
        pairs = [(a, self._columns[j]) for a, j in zip(factors.tolist(), at.tolist()) if a]
        pairs = pairs or [(1.0, self.model.nothing)]
        return LinearExpression(
            constant=const,
            linear_coefs=[a for a, _ in pairs],
            linear_vars=[v for _, v in pairs],
        )

    def set_values(self, x: np.ndarray) -> None:
        """Set the variables to a point (n_columns,)."""
        for v, value in zip(self._columns, x.tolist()):
            v.set_value(value, skip_validation=True)

    def values(self) -> np.ndarray:
        """The variables' values (n_columns,).

        One without a value, which no row and no cost has a use for, is at that of its bounds
        or 0 that is nearest to 0.
        """
        p = self.program
        x = np.clip(0.0, p.lower, p.upper)
        for j, v in enumerate(self._columns):
            if v.value is not None:
                x[j] = v.value
        return x
