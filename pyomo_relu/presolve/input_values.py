"""What the inputs of network blocks can be by the rows of their model, for tables."""

from __future__ import annotations

from typing import Any

import numpy as np
from pyomo.contrib.solver.common.util import IncompatibleModelError
from pyomo.environ import value
from pyomo.repn import generate_standard_repn

from pyomo_relu.formulations import network_blocks
from pyomo_relu.presolve.as_rows import without_layers
from pyomo_relu.presolve.fixed_outputs import compile_with_networks
from pyomo_relu.presolve.model_scope import once
from pyomo_relu.presolve.settings import VALUES
from pyomo_relu.presolve.values import FiniteValues, distinct, find_values
from pyomo_relu.programs.standard_form import StandardForm

#: A choice of values by their binaries, or values.
Values = dict[float, Any] | list[float]


def input_values(block: Any) -> dict[int, Values]:
    """The inputs of a block that take few values, and which, by the model around it.

    Parameters
    ----------
    block : ReLUNetBlockData

    Returns
    -------
    dict
        For positions of inputs a mapping from values to the binaries
        that choose them, where exactly one of these is 1; else a list of values. Nothing
        where the model isn't linear.
    """
    return once("input values", block.model(), _InputValues).of(block)


def check_input_values(block: Any) -> None:
    """Raise if rows have come to allow an input other values than its table has.

    Only of tables that took their values from the model. The blocks of an indexed component
    are checked when its first active one is, all from one reading of the model.

    Raises
    ------
    ValueError
        Naming the input, and what mends it.
    """
    component = block.parent_component()
    first = next((b for b in component.values() if b.active), None)
    if first is None or first is not block:
        return
    family = [b for b in component.values() if b.active]
    told = {b: found for b in family if (found := _from_model(b))}
    if not told:
        return
    known = _InputValues(block.model())
    for one, values in told.items():
        now = known.of(one)
        for i, before in values.items():
            if not _covers(before, now.get(i)):
                raise ValueError(
                    f"'{one.name}': its table has the values of input {i} "
                    f"('{one.entries[i]}') that rows of the model allowed, and they allow "
                    f"others now. Call {one.name}.reformulate()."
                )


def _from_model(block: Any) -> Any:
    for formulation in block.formulations.values():
        if formulation.values_from_model:
            return formulation.values_from_model
    return None


def _covers(before: Any, now: Values | None) -> bool:
    """Whether what an input could be before covers what it can be now."""
    if now is None:
        return False
    had, has = np.array([*before], dtype=float), np.array([*now], dtype=float)
    near = VALUES.same * np.maximum(1.0, np.abs(has))
    if not all((abs(had - v) <= e).any() for v, e in zip(has, near)):
        return False
    if isinstance(before, dict):  # the table's rows say which binary belongs to a value
        return isinstance(now, dict) and all(before.get(v) is z for v, z in now.items())
    return True


class _InputValues:
    """One reading of a model, for all of its blocks."""

    def __init__(self, model: Any) -> None:
        self.form: StandardForm | None = None
        self.found = FiniteValues()
        try:
            with without_layers(list(network_blocks(model))):
                self.form = compile_with_networks(model, "table")
        except (IncompatibleModelError, ValueError):
            return  # a nonlinear model says nothing
        form = self.form
        low, high = form.lower.copy(), form.upper.copy()
        self.found = find_values(form, low, high)
        self.number = form.column_numbers()

    def of(self, block: Any) -> dict[int, Values]:
        """What :func:`input_values` says."""
        found: dict[int, Values] = {}
        if self.form is None:
            return found
        for i, entry in enumerate(block.entries):
            values = None if isinstance(entry, float) else self._of_entry(entry)
            if values is not None:
                found[i] = values
        return found

    def _of_entry(self, entry: Any) -> Values | None:
        """The values of a variable or a linear expression."""
        assert self.form is not None
        repn = generate_standard_repn(entry)
        terms = [
            (self.number[id(v)], float(a))
            for v, a in zip(repn.linear_vars, repn.linear_coefs)
            if id(v) in self.number
        ]
        if not repn.is_linear() or not 0 < len(terms) == len(repn.linear_vars):
            return None
        constant = float(value(repn.constant))
        if len(terms) == 1:
            (j, factor), binaries = terms[0], self.form.columns
            members = self.found.members(j)
            if members is not None:
                return {constant + factor * v: binaries[k] for v, k in members.items()}
        total = np.array([constant])
        for j, factor in terms:
            part = self.found.values.get(j)
            if part is None or len(part) * len(total) > VALUES.most:
                return None
            total = distinct(np.add.outer(total, factor * part).ravel())
        return total.tolist()
