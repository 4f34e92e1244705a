"""Polishing a solution: the same activation pattern, but exact.

A MIP solver may leave a binary at 1e-6, and big-M times that leaks into the network.
With the pattern fixed the model is a linear program without big-M to leak through.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.heuristics.image import ModelImage
from pyomo_relu.heuristics.region_walk import solve_fixed
from pyomo_relu.heuristics.start_settings import START

logger = logging.getLogger(__name__)


@dataclass
class Polished:
    """What polishing did.

    Attributes
    ----------
    before, after : float or None
        Objective, None for a model without one or if nothing was found.
    error_before, error_after : float
        Largest ``block.leak()`` of the networks in the model.
    violation : float
        Largest violation of the model at the values it has now.
    changed : bool
        Whether new values were set; otherwise the model has its old ones.
    """

    before: float | None
    after: float | None
    error_before: float
    error_after: float
    violation: float
    changed: bool


def polish(model: Any, time_limit: float = 60.0) -> Polished:
    """Fix all activation patterns and the user's integers, and solve the LP left.

    Parameters
    ----------
    model : Block
        Solved: all inputs of its networks have values.
    time_limit : float
        In seconds.

    Raises
    ------
    ValueError
        If a variable outside the networks has no value.
    """
    image = ModelImage(model)
    form, old = image.form, image.present()
    if old is None:
        raise ValueError(
            f"'{model.name}' has variables without a value; solve it before polishing."
        )
    error, value = _largest_error(image), form.objective_value(old)
    best = _best_of_pattern(image, old, Deadline(time_limit))
    if best is None or form.violation(best) > START.feasible:
        logger.warning(
            "'%s' couldn't be polished: with its activation pattern fixed no feasible "
            "point was found; the values are as before.",
            model.name,
        )
        return Polished(value, None, error, error, form.violation(old), False)
    image.write(best)
    after, violation = form.objective_value(best), form.violation(best)
    return Polished(value, after, error, _largest_error(image), violation, True)


def _best_of_pattern(
    image: ModelImage, old: np.ndarray, deadline: Deadline
) -> np.ndarray | None:
    """The optimum with all binaries as the networks, or else the solver, say."""
    form, problem = image.form, image.problem
    integers = problem.users_integers
    fixed = np.concatenate([problem.pattern_columns, integers])
    patterns = [problem.fill_layers(old.copy())]
    if not image.is_copy:
        patterns.append(old)
    for point in patterns:
        found = solve_fixed(form, fixed, np.round(point[fixed]), deadline)
        if found is None:
            continue
        filled = problem.fill_layers(found.copy())
        filled[integers] = np.round(filled[integers])
        exact = form.violation(filled) <= max(START.exact, form.violation(found))
        return filled if exact else found
    return None


def _largest_error(image: ModelImage) -> float:
    return max(block.leak() for block in image.own_blocks)
