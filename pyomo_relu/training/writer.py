"""`ModelWriter`: a Pyomo model and the values that its variables have for a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyomo.environ as pyo
from pyomo.core.expr.numeric_expr import LinearExpression

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.steps.step_network import StepNetwork


def linear(coefficients: Any, variables: Any, constant: float = 0.0) -> LinearExpression:
    """``coefficients @ variables + constant`` without the cost of building a sum."""
    return LinearExpression(
        constant=float(constant),
        linear_coefs=[float(c) for c in coefficients],
        linear_vars=list(variables),
    )


def is_number(entry: Any) -> bool:
    """Whether an entry of an array of variables is a number, as biases may be."""
    return isinstance(entry, (int, float))


def values_of(variables: np.ndarray) -> np.ndarray:
    """The present values of an array of variables, 0 where there is none."""
    found = [pyo.value(v, exception=False) or 0.0 for v in np.ravel(variables)]
    return np.array(found, dtype=float).reshape(np.shape(variables))


class ModelWriter:
    """Writes a model; the clock is looked at on the way.

    Parameters
    ----------
    deadline : Deadline
        When it has passed, the next piece raises ``TimeUp``.

    Attributes
    ----------
    model : ConcreteModel
    """

    def __init__(self, deadline: Deadline = NEVER) -> None:
        self.check = deadline.check
        self.model = pyo.ConcreteModel()
        self._followers: list[tuple[np.ndarray, Callable[[StepNetwork], Any]]] = []

    def variables(self, name: str, shape: tuple[int, ...], **options: Any) -> np.ndarray:
        """A new indexed variable as an array of that shape."""
        # Made one by one below, so that the time is looked at between them.
        component = pyo.Var(*[range(n) for n in shape], dense=False, **options)
        self.model.add_component(name, component)
        found = np.empty(shape, dtype=object)
        for index in np.ndindex(*shape):
            self.check()
            found[index] = component[index if len(index) > 1 else index[0]]
        return found

    def constraints(self, name: str, rows: list[Any]) -> None:
        """A new constraint with the rows as its members."""
        if rows:
            component = pyo.Constraint(range(len(rows)))
            self.model.add_component(name, component)
            for r, row in enumerate(rows):
                self.check()
                component.add(r, row)

    def absolute(self, name: str, variables: list[Any]) -> np.ndarray:
        """New variables that are at least the absolute values of others."""
        size = self.variables(f"{name}_size", (len(variables),), bounds=(0, None))
        rows = [row for a, v in zip(size, variables) for row in (a >= v, a >= -v)]
        self.constraints(f"{name}_rows", rows)
        every = np.array(variables, dtype=object)
        self.follow(size, lambda network: np.abs(values_of(every)))
        return size

    def follow(
        self, variables: np.ndarray, values: Callable[[StepNetwork], np.ndarray]
    ) -> None:
        """Say which values variables have for a network.

        They are asked for in the order of these calls, so that they may depend on the
        values of variables before them.
        """
        self._followers.append((variables, values))

    def start(self, network: StepNetwork) -> None:
        """Give every variable the value it has for a network."""
        for variables, values in self._followers:
            for v, x in zip(variables.flat, np.ravel(values(network))):
                if not is_number(v) and not v.fixed:
                    v.set_value(float(x), skip_validation=True)
