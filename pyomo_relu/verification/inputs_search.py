"""One unsafe set decided by `relu_global`: branch and bound on the inputs, to the end.

Slower to begin with than :mod:`~pyomo_relu.verification.input_splitting`, and stronger: the
rows of a set are used together, they shrink the boxes, and a box with few undecided
neurons becomes a small mixed-integer program.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyomo.environ as pyo
from pyomo.contrib.solver.common.results import TerminationCondition

from pyomo_relu.block import ReLUNetBlock
from pyomo_relu.solvers.global_search import ReluGlobal
from pyomo_relu.verification.margins import Margins
from pyomo_relu.verification.regions import Ball

#: The set is made larger by this much, relative to its numbers, for a proof that no
#: point is in it: more than any tolerance of the search.
WIDER = 1e-6


@dataclass
class InputsResult:
    """What the search says about one set.

    Attributes
    ----------
    proved : bool
        Whether no point of the region is in the set.
    witness : (n_inputs,) array or None
        A point that the caller's check has confirmed.
    boxes : int
        How many were bounded.
    """

    proved: bool = False
    witness: np.ndarray | None = None
    boxes: int = 0


def search_inputs(
    margins: Margins,
    d: int,
    confirm: Callable[[np.ndarray], bool],
    seconds: float | None = None,
) -> InputsResult:
    """Prove that no point of the region is in a set, or find one that is.

    Parameters
    ----------
    margins : Margins
    d : int
        The set.
    confirm : callable
        Whether a point (n_inputs,) is a counterexample.
    seconds : float, optional
    """
    end = None if seconds is None else time.perf_counter() + seconds
    found = InputsResult()
    # The set made larger, for the proof; then smaller, for a point well within it.
    for wider in (WIDER, -WIDER):
        left = None if end is None else end - time.perf_counter()
        if left is not None and left <= 0:
            break
        model = _model(margins, d, wider)
        if model is None:
            found.proved = wider > 0
            break
        results = ReluGlobal().solve(
            model,
            time_limit=left,
            load_solutions=False,
            raise_exception_on_nonoptimal_result=False,
        )
        found.boxes += int(results.extra_info.get("mip_node_count", None).value() or 0)
        condition = results.termination_condition
        if condition is not TerminationCondition.convergenceCriteriaSatisfied:
            found.proved = condition is TerminationCondition.provenInfeasible and wider > 0
            break
        results.solution_loader.load_vars()
        x = np.array([[v.value for v in model.x.values()]], dtype=float)
        x = margins.region.project(x)[0]
        if confirm(x):
            found.witness = x
            break
    return found


def _model(margins: Margins, d: int, wider: float) -> pyo.ConcreteModel | None:
    """Any point of a set; None where no point of any region is in it."""
    region, unsafe = margins.region, margins.property.unsafe[d]
    m = pyo.ConcreteModel()
    low, high = region.lower.tolist(), region.upper.tolist()
    m.x = pyo.Var(range(region.size), bounds=lambda m, i: (low[i], high[i]))
    m.net = ReLUNetBlock(network=margins.original, inputs=m.x, formulation=None)
    parts = [(unsafe.outputs, list(m.net.outputs.values()))]
    if unsafe.inputs is not None:
        parts.append((unsafe.inputs, list(m.x.values())))
    m.rows = pyo.ConstraintList()
    for k, limit in enumerate(unsafe.limit.tolist()):
        terms = [
            c * v for a, variables in parts for c, v in zip(a[k].tolist(), variables) if c
        ]
        if terms:
            m.rows.add(pyo.quicksum(terms) <= limit + wider * (1.0 + abs(limit)))
        elif limit < 0 or (unsafe.strict and limit <= 0):
            return None  # a row without a variable holds everywhere or nowhere
    if margins.ball is not None:
        _in_ball(m, margins.ball, wider)
    m.none = pyo.Objective(expr=0.0)
    return m


def _in_ball(m: pyo.ConcreteModel, ball: Ball, wider: float) -> None:
    center, n = ball.center.tolist(), range(ball.size)
    m.change = pyo.Var(n, bounds=(0, ball.radius))
    m.above = pyo.Constraint(n, rule=lambda m, i: m.change[i] >= m.x[i] - center[i])
    m.below = pyo.Constraint(n, rule=lambda m, i: m.change[i] >= center[i] - m.x[i])
    limit = max(0.0, ball.radius + wider * (1.0 + ball.radius))
    m.ball = pyo.Constraint(expr=pyo.quicksum(m.change.values()) <= limit)
