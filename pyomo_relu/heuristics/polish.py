"""Polishing a solution: the same activation pattern, but exact.

A MIP solver may leave a binary at 1e-6, and big-M times that leaks into the network.
With the pattern fixed the model is a linear program without big-M to leak through.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import numpy as np

from pyomo_relu.heuristics.image import ModelImage
from pyomo_relu.heuristics.region import solve_fixed
from pyomo_relu.heuristics.start import FEASIBLE

logger = logging.getLogger(__name__)


@dataclass
class Polished:
    """What polishing did.

    Attributes
    ----------
    before, after : float or None
        Objective, None for a model without one or if nothing was found.
    error_before, error_after : float
        Largest ``block.error()`` of the networks in the model.
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


def polish(model, time_limit: float = 60.0) -> Polished:
    """Fix all activation patterns and the user's integers, and solve the LP left.

    Parameters
    ----------
    model : Block
        Solved: all inputs of its networks have values.
    time_limit : float
        In seconds.

    Returns
    -------
    Polished

    Raises
    ------
    ValueError
        If a variable outside the networks has no value.
    """
    image = ModelImage(model)
    form, problem = image.form, image.problem
    old = image.present()
    if old is None:
        raise ValueError(
            f"'{model.name}' has variables without a value; solve it before polishing."
        )
    before = _errors(image)
    value = form.objective_value(old)
    integers = np.flatnonzero(form.integer & ~problem.layer_columns)
    deadline = time.perf_counter() + time_limit
    exact = problem.fill_layers(old.copy())
    patterns = [exact]
    if image._original is None:
        patterns.append(old)  # the solver's own binaries, if they say otherwise
    best: np.ndarray | None = None
    for point in patterns:
        fixed = np.concatenate([problem.pattern_columns, integers])
        found = solve_fixed(form, fixed, np.round(point[fixed]), deadline)
        if found is None:
            continue
        filled = problem.fill_layers(found.copy())
        filled[integers] = np.round(filled[integers])
        if form.violation(filled) <= 1e-9 or form.violation(filled) <= form.violation(
            found
        ):
            found = filled
        best = found
        break
    if best is None or form.violation(best) > FEASIBLE:
        logger.warning(
            "'%s' couldn't be polished: with its activation pattern fixed no feasible "
            "point was found; the values are as before.",
            model.name,
        )
        return Polished(value, None, before, before, form.violation(old), False)
    image.write(best)
    return Polished(
        value,
        form.objective_value(best),
        before,
        _errors(image),
        form.violation(best),
        True,
    )


def _errors(image: ModelImage) -> float:
    return max(block.error() for block in image.own_blocks)
