"""One unsafe set decided by `relu_global`: branch and bound on the inputs, to the end.

Slower to begin with than :mod:`~pyomo_relu.verification.input_splitting`, and stronger:
the rows of a set are used together, they shrink the boxes, and a box with few undecided
neurons becomes a small mixed-integer program.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyomo.environ as pyo

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.block import ReLUNetBlock
from pyomo_relu.solvers import ReluGlobal
from pyomo_relu.solvers.quietly import solve_quietly
from pyomo_relu.verification.margins import Margins
from pyomo_relu.verification.model_parts import (
    absolute_differences,
    input_values,
    input_variables,
)
from pyomo_relu.verification.verdict import SetVerdict
from pyomo_relu.verification.verify_settings import VERIFY


def decide_by_relu_global(
    margins: Margins,
    d: int,
    confirm: Callable[[np.ndarray], bool],
    deadline: Deadline = NEVER,
) -> SetVerdict:
    """Prove that no point of the region is in set ``d``, or find one that is.

    ``confirm`` says whether a point (n_inputs,) is a counterexample.
    """
    found = SetVerdict()
    # The set made larger, for the proof; then smaller, for a point well within it.
    for wider in (VERIFY.wider, -VERIFY.wider):
        if deadline.expired():
            break
        model = _model(margins, d, wider)
        if model is None:
            found.lower = np.inf if wider > 0 else found.lower
            break
        solved = solve_quietly(ReluGlobal(), model, deadline.limit)
        found.nodes += solved.nodes
        if solved.status != "optimal":
            if solved.status == "infeasible" and wider > 0:
                found.lower = np.inf
            break
        x = input_values(model)
        assert x is not None
        x = margins.region.project(x[None])[0]
        if confirm(x):
            found.witness = x
            break
    return found


def _model(margins: Margins, d: int, wider: float) -> pyo.ConcreteModel | None:
    """Any point of a set; None where no point of any region is in it."""
    region, unsafe = margins.region, margins.property.unsafe[d]
    m = pyo.ConcreteModel()
    input_variables(m, region.lower, region.upper)
    m.net = ReLUNetBlock(network=margins.original, inputs=m.x, formulation=None)
    parts = [(unsafe.outputs, list(m.net.outputs.values()))]
    if unsafe.inputs is not None:
        parts.append((unsafe.inputs, list(m.x.values())))
    m.rows = pyo.ConstraintList()
    for k, limit in enumerate(unsafe.limit.tolist()):
        terms = [c * v for a, vs in parts for c, v in zip(a[k].tolist(), vs) if c]
        if terms:
            m.rows.add(pyo.quicksum(terms) <= limit + wider * (1.0 + abs(limit)))
        elif limit < 0 or (unsafe.strict and limit <= 0):
            return None  # a row without a variable holds everywhere or nowhere
    ball = margins.ball
    if ball is not None:
        pairs = list(zip(m.x.values(), ball.center.tolist()))
        change = absolute_differences(m, pairs, ball.radius)
        limit = max(0.0, ball.radius + wider * (1.0 + ball.radius))
        m.ball = pyo.Constraint(expr=pyo.quicksum(change.values()) <= limit)
    m.none = pyo.Objective(expr=0.0)
    return m
