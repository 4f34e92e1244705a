"""Inputs that are nonlinear expressions: variables of their own, which rows define.

What a network reads is then linear, and what is nonlinear stands in a row as if the user
had written ``v == expression`` and given the network ``v``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from pyomo.core.expr.visitor import identify_variables
from pyomo.environ import Constraint, Var

from pyomo_relu.programs.linear_program import Part, matrix_of, stacked
from pyomo_relu.programs.standard_form import StandardForm, column_data


@dataclass
class NonlinearInputs:
    """Variables that stand for nonlinear inputs of network blocks.

    Attributes
    ----------
    found : list of (variable, expression)
    parts : list of variables
        After :meth:`in_form`: those that are equal to the expressions.
    """

    found: list[tuple[Any, Any]] = field(default_factory=list)
    parts: list[Any] = field(default_factory=list)

    def stand_in(self, block: Any, i: int, entry: Any) -> Any:
        """The variable for input ``i`` of a block, within the bounds that this has.

        Raises
        ------
        ValueError
            If a side of the input is open, naming the variable.
        """
        low, high = block.present_box()
        v = _variable(f"input {i} of {block.name}", float(low[i]), float(high[i]))
        self.found.append((v, entry))
        return v

    def in_form(self, form: StandardForm) -> StandardForm:
        """The form with a row for each of these variables."""
        if not self.found:
            return form
        columns, place = list(form.columns), form.column_numbers()

        def number(v: Any) -> int:
            if id(v) not in place:
                place[id(v)] = len(columns)
                columns.append(v)
            return place[id(v)]

        nonlinear, parts, rows = list(form.nonlinear), list[Part](), list(form.rows)
        for i, (v, expression) in enumerate(self.found):
            part = _variable(f"nonlinear part of {v.name}", None, None)
            self.parts.append(part)
            for u in identify_variables(expression, include_fixed=False):
                number(u)
            nonlinear.append((number(part), expression))
            parts.append((np.full(2, i), [number(v), number(part)], [1.0, -1.0]))
            row = Constraint(expr=v == part, name=f"definition of {v.name}")
            row.construct()
            rows.append(row)
        n, count, none = len(columns), len(self.found), np.zeros(len(self.found))
        new = columns[len(form.columns) :]
        low, high, whole = column_data(new)
        matrix = form.matrix.copy()
        matrix.resize((matrix.shape[0], n))
        more = np.zeros(len(new))
        return replace(
            form,
            cost=np.concatenate([form.cost, more]),
            lower=np.concatenate([form.lower, low]),
            upper=np.concatenate([form.upper, high]),
            matrix=stacked(matrix, matrix_of(count, n, parts)),
            row_lower=np.concatenate([form.row_lower, none]),
            row_upper=np.concatenate([form.row_upper, none]),
            integer=np.concatenate([form.integer, whole]),
            columns=columns,
            rows=rows,
            nonlinear=nonlinear,
        )

    def columns(self, columns: list[Any]) -> np.ndarray:
        """The columns (k, 2) of the variables and of those that they are equal to."""
        place = {id(v): j for j, v in reversed(list(enumerate(columns)))}
        pairs = [(place[id(v)], place[id(w)]) for (v, _), w in zip(self.found, self.parts)]
        return np.array(pairs, dtype=int).reshape(-1, 2)


def _variable(name: str, low: float | None, high: float | None) -> Any:
    """A variable that belongs to no model."""
    v = Var(name=name, bounds=(low, high))
    v.construct()
    return v
