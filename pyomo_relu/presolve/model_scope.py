"""Which model bounds hold for that rely on more than the box of the inputs.

They carry a mark of the constraints and variable bounds of the model; a block whose model
no longer has that mark refuses them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from pyomo.core.expr.visitor import identify_mutable_parameters
from pyomo.environ import Block, Constraint, Var, value

from pyomo_relu.bounds import Bounds
from pyomo_relu.formulations import network_blocks

#: The block with rows that tables imply, which are no rows of the user's.
TABLE_ROWS = "table_rows"


def table_rows_around(block: Any) -> Iterator[Any]:
    """Blocks of such rows in the blocks around one, the nearest first."""
    around = block.parent_block()
    while around is not None:
        found = around.component(TABLE_ROWS)
        if found is not None and hasattr(found, "relied_on"):
            yield found
        around = around.parent_block()


def written_data(model: Any, ctype: type, *, in_disjuncts: bool = False) -> set[int]:
    """The ``id`` of what formulations wrote, of rows of boxes and rows of tables."""
    written: set[int] = set()
    for block in network_blocks(model, active=None, in_disjuncts=in_disjuncts):
        layers, rows = block.component("layer"), block.component("input_box")
        for layer in () if layers is None else layers.values():
            written.update(id(d) for d in layer.component_data_objects(ctype))
        if rows is not None:
            written.update(id(d) for d in rows.values())
    for around in model.block_data_objects(active=None, descend_into=Block):
        implied = around.component(TABLE_ROWS)
        if hasattr(implied, "relied_on"):
            written.update(id(d) for d in implied.component_data_objects(ctype))
    return written


def users_data(model: Any, ctype: type) -> list[Any]:
    """Active data of the user's own, what formulations wrote left out."""
    written = written_data(model, ctype)
    data = model.component_data_objects(ctype, active=True, descend_into=Block)
    return [d for d in data if id(d) not in written]


def model_mark(model: Any) -> str:
    """A digest of the user's constraints and variable bounds.

    Objectives, variable values and fixed variables don't count, and neither do the
    networks' formulations and the bounds that these give the outputs.
    """
    digest = hashlib.sha256()
    outputs: dict[int, tuple[float | None, float | None]] = {}
    for block in network_blocks(model, active=None):
        outputs.update(block.users_output_bounds())
    for c in sorted(users_data(model, Constraint), key=lambda c: c.name):
        text = (
            c.body.to_string(compute_values=False) if hasattr(c.body, "to_string") else ""
        )
        low, high = value(c.lower), value(c.upper)
        digest.update(f"{c.name}|{low!r}|{text}|{high!r}\n".encode())
        digest.update(repr(_parameters(c.body)).encode())
    for v in sorted(users_data(model, Var), key=lambda v: v.name):
        low, high = outputs.get(id(v), (v.lb, v.ub))
        digest.update(f"{v.name}|{low!r}|{high!r}|{v.domain}\n".encode())
    for block in network_blocks(model, active=None):
        digest.update(f"{block.name}|{block.active}|{block.network.fingerprint}".encode())
    return digest.hexdigest()[:32]


def _parameters(expression: Any) -> list[float]:
    return [value(p, exception=False) for p in identify_mutable_parameters(expression)]


#: What was found out of models while nobody changes them, by what it is and the model's
#: ``id``; None while somebody may.
_known: ContextVar[dict[tuple[str, int], Any] | None] = ContextVar(
    "known of models", default=None
)
T = TypeVar("T")


@contextmanager
def unchanged_models() -> Iterator[None]:
    """Inside, no model is changed, so what all its blocks ask of it is found out once.

    Each such answer takes a walk through the whole model, and every block asks.
    """
    known = _known.get()
    token = _known.set({} if known is None else known)
    try:
        yield
    finally:
        _known.reset(token)


#: Whether the boxes of all networks have been checked just now.
_checked: ContextVar[bool] = ContextVar("boxes are checked", default=False)


@contextmanager
def checked_boxes(blocks: Iterable[Any]) -> Iterator[None]:
    """Check the boxes of networks that are written, and inside read their rows without.

    For those who change the model for a moment while its rows are read.

    Raises
    ------
    ValueError
        As a row of a network does that is read.
    """
    for block in blocks:
        layers = block.component("layer")
        if layers is not None and any(data.active for data in layers.values()):
            block.check_box()
    token = _checked.set(True)
    try:
        yield
    finally:
        _checked.reset(token)


def boxes_are_checked() -> bool:
    """Whether :func:`checked_boxes` has checked them."""
    return _checked.get()


def once(what: str, model: Any, find: Callable[[Any], T]) -> T:
    """What ``find`` says of a model, found once inside of :func:`unchanged_models`."""
    known = _known.get()
    if known is None:
        return find(model)
    key = what, id(model)
    if key not in known:
        known[key] = find(model)
    found: T = known[key]
    return found


def _mark_and_rewritten(model: Any) -> tuple[str, dict[int, str]]:
    """The mark of a model, and the names of networks whose rows say something else."""
    blocks = network_blocks(model, active=None)
    return model_mark(model), {id(b): b.name for b in blocks if not speaks_for_itself(b)}


def model_scope(block: Any) -> str:
    """The scope of bounds that rely on the model of ``block`` as it is now.

    Other networks count as they are written, or as the rows they have become.
    """
    mark, rewritten = once("mark", block.model(), _mark_and_rewritten)
    others = [name for key, name in rewritten.items() if key != id(block)]
    text = "|".join([mark, *sorted(others)])
    return f"model {hashlib.sha256(text.encode()).hexdigest()[:32]}"


def speaks_for_itself(block: Any) -> bool:
    """Whether the network says what a block's outputs can be at its inputs."""
    return all(change.restricts for change in block.changes())


def is_stale(block: Any, bounds: Bounds) -> bool:
    """Whether bounds rely on a model that has changed since."""
    return bounds.scope != "box" and bounds.scope != model_scope(block)


def check_scope(block: Any, bounds: Bounds) -> None:
    """Raise if bounds rely on a model that has changed since.

    Raises
    ------
    ValueError
        Saying how to get valid ones.
    """
    if is_stale(block, bounds):
        raise ValueError(
            f"'{block.name}': its bounds were tightened with the constraints of the whole "
            "model, which have changed since (or a variable's bounds have); call "
            f"{block.name}.tighten('model') again, or reformulate(..., bounds='crown')."
        )
