"""The values that a model holds as a point, where the time was up before a search began.

A search evaluates the present values anew, and repairs them where they don't fit; for that
it reads the whole model. Where the limit doesn't even allow reading, this looks whether
the values are a feasible point as they are: most often they are those of the solve before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from pyomo.core.expr.visitor import identify_variables
from pyomo.environ import value

from pyomo_relu.formulations import network_blocks
from pyomo_relu.presolve.as_rows import variable_used, without_layers
from pyomo_relu.presolve.fixed_outputs import compile_with_networks
from pyomo_relu.presolve.model_scope import unchanged_models
from pyomo_relu.presolve.problem import SosColumns
from pyomo_relu.programs.standard_form import StandardForm, column_data
from pyomo_relu.solvers.results import PointLoader

#: The largest violation of a feasible point, rows relative to their side, as in all searches.
FEASIBLE = 1e-6
#: How far an output may be from what the network says, relative to it where that is above
#: 1. The searches hand back what the network says, so this has to cover rounding only; a
#: point of another solver, which meets its rows to 1e-6, is left to the searches.
LEAK = 1e-9


class PresentLoader(PointLoader):
    """The values that the variables had at the end of the call."""

    def __init__(self, model: Any, variables: Iterable[Any]) -> None:
        super().__init__(model, True)
        self._values = [(v, float(v.value)) for v in variables]

    def _pairs(self) -> Iterable[tuple[Any, float]]:
        return self._values


def offered_point(
    model: Any, solver: str, by_rows: bool = False
) -> tuple[PresentLoader, float] | None:
    """The present values and their objective, if they are a feasible point; else None.

    Every row, bound and integrality of the model holds to 1e-6, and each network is
    evaluated at its inputs and agrees with its outputs. The values stay.

    Parameters
    ----------
    model : BlockData
    solver : str
        The name that errors give the one who asks.
    by_rows : bool
        Whether the rows that formulations wrote have to hold as well.

    Raises
    ------
    IncompatibleModelError
        For components that no solver of the package takes, naming them.
    """
    blocks = list(network_blocks(model))
    with unchanged_models():
        if not all(_agrees(block) for block in blocks):
            return None
        # Of what the user has changed inside of a block, only the rows say what is meant.
        plain = [b for b in blocks if not by_rows and next(b.changes(), None) is None]
        with without_layers(plain):
            form = compile_with_networks(model, solver, general=True)
    inside = _variables_of(blocks)
    used = form.column_numbers().keys() | inside.keys()
    if any(variable_used(block, used) is not None for block in plain):
        return None
    found = _value_of(form)
    if found is None or not _within(inside.values()):
        return None
    own = [v for v in form.columns if v.value is not None]
    rest = [v for k, v in inside.items() if k not in form.column_numbers()]
    return PresentLoader(model, [*own, *rest]), found


def _agrees(block: Any) -> bool:
    """Whether a block's outputs are what its network says of its inputs."""
    try:
        block.check_box()
        low, high = block.present_box()
        leak = block.leak()
    except ValueError:  # no network, no value, or a box that was widened
        return False
    x = block.input_values()[0]
    size = max((abs(value(y)) for y in block.output_variables), default=0.0)
    inside = bool(((x >= low - FEASIBLE) & (x <= high + FEASIBLE)).all())
    return inside and leak <= LEAK * max(1.0, size)


def _variables_of(blocks: Iterable[Any]) -> dict[int, Any]:
    """The free variables of inputs and outputs by ``id``, those without a value left out."""
    found: dict[int, Any] = {}
    for block in blocks:
        for entry in (*block.entries, *block.output_variables):
            if not isinstance(entry, float):
                for v in identify_variables(entry, include_fixed=False):
                    if v.value is not None:
                        found[id(v)] = v
    return found


def _within(variables: Iterable[Any]) -> bool:
    """Whether variables are within their bounds, and whole where they have to be."""
    some = list(variables)
    lower, upper, integer = column_data(some)
    x = np.array([v.value for v in some], dtype=float)
    whole = abs(x - np.round(x))[integer]
    worst = np.maximum(lower - x, x - upper).max(initial=0.0)
    return bool(max(worst, whole.max(initial=0.0)) <= FEASIBLE)


def _value_of(form: StandardForm) -> float | None:
    """The objective at the present values; None where they aren't a feasible point."""
    x = np.array([math.nan if v.value is None else v.value for v in form.columns], float)
    place = form.column_numbers()
    for column, expression in form.nonlinear:
        try:
            x[column] = value(expression)
        except (ValueError, ArithmeticError, TypeError):
            return None  # a variable without a value, or a function at a place it hasn't
    if not np.isfinite(x).all() or form.violation(x) > FEASIBLE:
        return None
    for one in form.sos:
        columns = np.array([place[id(v)] for v in one.variables], dtype=int)
        if SosColumns(one.level, columns).violation(x) > FEASIBLE:
            return None
    return form.objective_value(x)
