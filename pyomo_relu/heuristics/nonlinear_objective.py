"""Starts for models whose objective alone isn't linear.

The sequences of linear programs (:mod:`~pyomo_relu.heuristics.sequential`) take the
objective as they take networks: its gradient at the present point in each program, its own
value where a point is judged.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pyomo.common.modeling import unique_component_name
from pyomo.core.expr.calculus.derivatives import Modes, differentiate
from pyomo.core.expr.visitor import identify_variables
from pyomo.environ import Objective, Var, minimize, value

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.heuristics.image import ModelImage
from pyomo_relu.heuristics.sequential import SequentialSearch
from pyomo_relu.heuristics.start_settings import START
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.presolve.reading import read_problem


def nonlinear_objective(model: Any) -> Any:
    """The active objective of a model where it isn't linear; else None."""
    active = list(model.component_data_objects(Objective, active=True))
    if len(active) != 1 or not hasattr(active[0].expr, "polynomial_degree"):
        return None
    degree = active[0].expr.polynomial_degree()
    return None if degree in (0, 1) else active[0]


class ExpressionCost:
    """An expression as the cost of a problem's points.

    Parameters
    ----------
    expression : Pyomo expression
    sign : float
        -1 where it is maximized.
    problem : Problem
        Its columns hold the variables; others keep their values.
    """

    def __init__(self, expression: Any, sign: float, problem: Problem) -> None:
        self.expression, self.sign = expression, sign
        place = {id(v): j for j, v in reversed(list(enumerate(problem.columns)))}
        found = list(identify_variables(expression, include_fixed=False))
        self.variables = [v for v in found if id(v) in place]
        self.columns = np.array([place[id(v)] for v in self.variables], dtype=int)

    def value(self, z: np.ndarray) -> float:
        """The cost at a point; infinite where it has none."""
        self._set(z)
        try:
            found = value(self.expression, exception=False)
        except (ArithmeticError, ValueError):
            return math.inf
        known = found is not None and math.isfinite(found)
        return self.sign * float(found) if known else math.inf

    def gradient(self, z: np.ndarray) -> np.ndarray:
        """Derivatives with respect to all columns, 0 where there is none."""
        self._set(z)
        found = np.zeros(len(z))
        try:
            slopes = differentiate(
                self.expression, wrt_list=self.variables, mode=Modes.reverse_numeric
            )
        except (ArithmeticError, ValueError):
            return found
        for j, a in zip(self.columns.tolist(), slopes):
            if math.isfinite(a):
                found[j] += self.sign * float(a)
        return found

    def _set(self, z: np.ndarray) -> None:
        for v, x in zip(self.variables, z[self.columns].tolist()):
            v.set_value(x, skip_validation=True)


def search_by_gradients(
    model: Any, deadline: Deadline, seed: int
) -> tuple[SequentialSearch, float]:
    """Look for the best point of a model whose objective isn't linear, and set it.

    Returns
    -------
    search : SequentialSearch
        What was done; its ``point`` is None where none was found.
    first : float
        CPU seconds until there was a point; infinite without one.
    """
    copy = model.clone()
    objective = nonlinear_objective(copy)
    sign = 1.0 if objective.sense == minimize else -1.0
    objective.deactivate()
    # Every variable of the objective has to be a column.
    variables = identify_variables(objective.expr, include_fixed=False)
    name = unique_component_name(copy, "gradient")
    copy.add_component(name, Objective(expr=sum(variables), sense=objective.sense))
    image = ModelImage(copy, Deadline(deadline.left() + START.reading))
    problem = read_problem(image.source, deadline).for_points(deadline)
    expression = image.source.find_component(objective).expr
    first = math.inf

    def judge(z: np.ndarray) -> None:
        nonlocal first
        if first == math.inf and problem.violation(z) <= START.feasible:
            first = Deadline().cpu_begin - deadline.cpu_begin

    cost = ExpressionCost(expression, sign, problem)
    search = SequentialSearch(problem, judge, deadline, seed, cost)
    search.run(deadline, START.patience)
    if search.point is not None:
        image.problem.deadline = NEVER
        point = image.problem.from_columns(problem.columns, search.point)
        assert point is not None
        image.write(point)
        pairs = zip(model.component_data_objects(Var), copy.component_data_objects(Var))
        for v, other in pairs:
            if not v.fixed:
                v.set_value(other.value, skip_validation=True)
    return search, first
