"""Which blocks count as their rows, and which as their networks.

The search knows networks, not what a formulation wrote of them. Where the user has
changed what was written, or uses a variable of it, only the rows say what was meant:
such a block's rows go into the mixed-integer rest, and its variables with them.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from pyomo_relu.presolve.model_scope import table_rows_around


@contextmanager
def without_layers(blocks: Iterable[Any]) -> Iterator[None]:
    """The formulations' constraints deactivated for a moment, and what they imply."""
    stopped, implied = [], []
    try:
        for block in blocks:
            for rows in table_rows_around(block):
                if rows.active:
                    rows.deactivate()
                    implied.append(rows)
            layers = block.component("layer")
            if layers is None:
                continue
            for data in layers.values():
                if data.active:
                    data.deactivate()
                    stopped.append((layers, data))
        yield
    finally:
        for layers, data in stopped:
            data.activate()
            layers._active = True
        for rows in implied:
            rows.activate()


def variable_used(block: Any, used: Container[int]) -> Any:
    """A variable inside of a block among those that are used; None if there is none."""
    return next((v for v in block.layer_variables if id(v) in used), None)


def note_of_rows(block: Any, why: str) -> str:
    """A note that a block counts as its rows; refused where they say something else.

    Raises
    ------
    ValueError
        For a block without rows, and one whose rows don't say all of its network.
    """
    remedy = (
        f"undo that, or call {block.name}.reformulate('bigm') and make the change again "
        "on what that writes."
    )
    if block.bounds is None:
        raise ValueError(
            f"'{block.name}' has no formulation whose rows could be taken instead of its "
            f"network, but {why}; give it one before that."
        )
    for formulation in block.formulations.values():
        if not formulation.says_all:
            raise ValueError(
                f"'{block.name}' holds the formulation '{formulation.title}', which doesn't "
                f"say all of its network, and can't be left aside, since {why}; {remedy}"
            )
    return f"'{block.name}' counts as its rows, not as its network, since {why}"
