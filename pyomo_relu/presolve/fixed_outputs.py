"""A model with networks in standard form: fixed outputs of networks stay columns."""

from __future__ import annotations

from typing import Any

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.formulations import network_blocks
from pyomo_relu.presolve.model_scope import checked_boxes, unchanged_models
from pyomo_relu.programs.standard_form import StandardForm, compile_standard_form
from pyomo_relu.programs.strangers import check_model


def compile_with_networks(
    model: Any,
    solver: str = "relu_highs",
    deadline: Deadline = NEVER,
    general: bool = False,
) -> StandardForm:
    """Compile the active part of a linear model that may hold network blocks.

    An output that the user has fixed stays a column with equal bounds, so that whoever
    looks for points finds it in the network. For the parameters and errors see
    :func:`~pyomo_relu.programs.standard_form.compile_standard_form`.
    """
    check_model(model, solver)
    blocks = list(network_blocks(model))
    fixed = [
        v
        for block in blocks
        for v in block.output_variables
        if v.fixed and v.value is not None
    ]
    with unchanged_models():  # each network checks its box when its first row is read
        if not fixed:
            return compile_standard_form(model, solver, deadline, (), general)
        # They are free while rows are read, which is no change that a box has to mind.
        with checked_boxes(blocks):
            return compile_standard_form(model, solver, deadline, fixed, general)
