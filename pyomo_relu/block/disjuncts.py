"""A network block inside a ``pyomo.gdp`` Disjunct.

A transformation such as ``gdp.bigm`` makes its own copies of a disjunct's rows, valid for
the bounds of that moment, and deactivates the disjunct. So what the block can't be
relaxed with is refused when it is written, a box that no longer holds when the rows are
read, and whatever would change the rows afterwards, for the copies would stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyomo.core.expr.relational_expr import (
    EqualityExpression,
    InequalityExpression,
    RangedExpression,
)
from pyomo.environ import Block, Constraint, SOSConstraint, value
from pyomo.gdp import Disjunct
from pyomo.mpec import Complementarity

from pyomo_relu.formulations.values import as_if_free

#: What no ``gdp`` transformation relaxes, and what it is called.
UNRELAXABLE = {
    SOSConstraint: "special ordered sets",
    Complementarity: "complementarity conditions that no mpec transformation has rewritten",
}


def enclosing_disjunct(block: Any) -> Any | None:
    """The innermost Disjunct that holds a block; None if there is none."""
    parent = block.parent_block()
    while parent is not None and parent.ctype is not Disjunct:
        parent = parent.parent_block()
    return parent


def _disjuncts(block: Any) -> Iterator[Any]:
    found = enclosing_disjunct(block)
    while found is not None:
        yield found
        found = enclosing_disjunct(found)


def refuse_transformed(block: Any) -> None:
    """Refuse to write a block whose rows a transformation has copied already.

    Raises
    ------
    ValueError
        Naming the disjunct.
    """
    for disjunct in _disjuncts(block):
        if disjunct.transformation_block is not None:
            raise ValueError(
                f"'{block.name}': the Disjunct '{disjunct.name}' was transformed by "
                "pyomo.gdp, whose copies of the network's rows would stay as they are; "
                "change the block before the transformation, or start from a clone of "
                "the model as it was then."
            )


def refuse_unrelaxable(block: Any, container: Any) -> None:
    """Refuse layers that no transformation can relax, in a block inside a Disjunct.

    Raises
    ------
    ValueError
        Saying what to choose instead.
    """
    disjunct = enclosing_disjunct(block)
    if disjunct is None:
        return
    for kind, what in UNRELAXABLE.items():
        for layer in container.values():
            if any(layer.component_data_objects(kind, active=True, descend_into=Block)):
                raise ValueError(
                    f"'{block.name}' is inside the Disjunct '{disjunct.name}', and its "
                    f"formulation writes {what} (layer '{layer.index()}'), which pyomo.gdp "
                    "can't relax; choose another, for example formulation='bigm', or put "
                    "the block outside and only the rows on its outputs into the Disjunct."
                )


def make_relaxable(container: Any) -> None:
    """Give rows of one variable a positive coefficient.

    ``gdp.mbigm`` of Pyomo 6.10 takes ``-x <= -3`` for ``x <= 3``: it divides both sides
    by the coefficient and doesn't swap them. Fixed variables count as numbers there, but
    they may be freed later, and a mutable Param may change: both stay in the row.
    """
    for row in container.component_data_objects(Constraint, descend_into=(Block, Disjunct)):
        low, body, high = row.to_bounded_expression()
        repn = as_if_free(body)
        if not repn.is_linear():
            continue
        terms = [(c, v) for c, v in zip(repn.linear_coefs, repn.linear_vars) if value(c)]
        free = [c for c, v in terms if not v.fixed] or [c for c, _ in terms]
        if len(free) != 1 or value(free[0]) > 0:
            continue
        turned, shift = sum(-c * v for c, v in terms), repn.constant
        if row.equality:
            row.set_value(EqualityExpression((turned, shift - high)))
            continue
        below, above = (None if side is None else shift - side for side in (high, low))
        row.set_value(_between(below, turned, above))


def _between(low: Any, body: Any, high: Any) -> Any:
    """The relation ``low <= body <= high``; a side that is None is left out."""
    if low is None:
        return InequalityExpression((body, high), False)
    if high is None:
        return InequalityExpression((low, body), False)
    return RangedExpression((low, body, high), (False, False))


def check_while_relaxed(block: Any) -> None:
    """Called when a row of the block is read: refuse a transformation that is under way.

    Raises
    ------
    ValueError
        If the inputs may leave the box that the rows hold for, or if the block was
        written before it came into the Disjunct.
    """
    for disjunct in _disjuncts(block):
        if disjunct.active and disjunct.transformation_block is not None:
            block.check_box()
            if not block._relaxable:
                raise ValueError(
                    f"'{block.name}' was written before it came into the Disjunct "
                    f"'{disjunct.name}'; call its reformulate() there, before the "
                    "transformation."
                )
