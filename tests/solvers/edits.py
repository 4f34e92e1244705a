"""What users do to a model with network blocks: the list, and what edits have in common.

Each kind is a function in ``edits_inside.py`` or ``edits_of_models.py``. It takes the model
and a random generator, and changes the model in place or returns another. It raises
:class:`NotHere` where the model has nothing to do it to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyomo.environ as pyo
from pyomo.common.errors import InfeasibleConstraintException
from pyomo.core.base.block import BlockData

from pyomo_relu.formulations import network_blocks


class NotHere(Exception):
    """The model has nothing that could be edited so."""


Edit = Callable[[Any, np.random.Generator], Any]
EDITS: dict[str, Edit] = {}


def edit(function: Edit) -> Edit:
    """Register an edit under the function's name."""
    EDITS[function.__name__] = function
    return function


# ------------------------------------------------------------------------ what there is
def pick(rng: np.random.Generator, things) -> Any:
    found = list(things)
    if not found:
        raise NotHere
    return found[int(rng.integers(len(found)))]


def a_block(m, rng) -> Any:
    """An active network block that still has its layers and outputs."""
    return pick(
        rng,
        [b for b in network_blocks(m) if b.component("layer") and b.component("outputs")],
    )


def inner(m, rng, kind: Callable[[Any], bool] = lambda v: True) -> Any:
    """A free variable inside of a block."""
    return pick(
        rng, [v for v in a_block(m, rng).layer_variables if kind(v) and not v.fixed]
    )


def written_row(m, rng) -> Any:
    layers = a_block(m, rng).component("layer")
    return pick(
        rng,
        (c for k in layers.values() for c in k.component_data_objects(pyo.Constraint)),
    )


def an_input(m, rng) -> Any:
    """A variable that a network reads itself."""
    entries = a_block(m, rng).entries
    return pick(
        rng,
        [
            e
            for e in entries
            if not isinstance(e, float) and e.is_variable_type() and not e.fixed
        ],
    )


def an_output(m, rng) -> Any:
    return pick(rng, [v for v in a_block(m, rng).component("outputs").values()])


def objective(m) -> Any:
    return pick(
        np.random.default_rng(0), m.component_data_objects(pyo.Objective, active=True)
    )


def new_name(m, base: str) -> str:
    k = 0
    while hasattr(m, f"{base}{k}"):
        k += 1
    return f"{base}{k}"


def add(m, component, base: str = "extra") -> None:
    m.add_component(new_name(m, base), component)


def span(v) -> tuple[float, float]:
    if v.lb is None or v.ub is None:
        raise NotHere
    return v.lb, v.ub


def transform(name: str, m, **kwds) -> Any:
    return pyo.TransformationFactory(name).apply_to(m, **kwds)


def is_binary(v) -> bool:
    return v.is_integer()


def apply_edits(m, names, rng: np.random.Generator) -> tuple[BlockData, list[str]]:
    """The model after the edits that it has a place for, and which those were.

    Raises
    ------
    ValueError
        From an edit that the package refuses.
    """
    done = []
    for name in names:
        try:
            m = EDITS[name](m, rng) or m
        except NotHere:
            continue
        except InfeasibleConstraintException:
            pass  # found by a transformation; what it has done until then stays
        done.append(name)
    return m, done
