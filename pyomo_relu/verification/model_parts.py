"""Parts of Pyomo models over the inputs of a network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo


def input_variables(m: pyo.ConcreteModel, lower: np.ndarray, upper: np.ndarray) -> None:
    """Add ``m.x`` with these bounds."""
    low, high = lower.tolist(), upper.tolist()
    m.x = pyo.Var(range(len(low)), bounds=lambda m, i: (low[i], high[i]))


def absolute_differences(
    m: pyo.ConcreteModel, pairs: list[tuple[Any, Any]], bound: float
) -> pyo.Var:
    """Add variables ``m.change >= |a - b|`` for pairs of expressions; ``bound`` is theirs."""
    n = range(len(pairs))
    m.change = pyo.Var(n, bounds=(0, bound))
    m.above = pyo.Constraint(n, rule=lambda m, k: m.change[k] >= pairs[k][0] - pairs[k][1])
    m.below = pyo.Constraint(n, rule=lambda m, k: m.change[k] >= pairs[k][1] - pairs[k][0])
    return m.change


def input_values(m: pyo.ConcreteModel) -> np.ndarray | None:
    """The values of ``m.x`` within their bounds, (n,); None where one has none."""
    if any(v.value is None for v in m.x.values()):
        return None
    return np.array([min(max(v.value, v.lb), v.ub) for v in m.x.values()], dtype=float)
