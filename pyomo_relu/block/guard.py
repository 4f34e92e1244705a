"""A row that refuses to be written when an input may leave the box of the network.

The constraints of a network hold for the box that its bounds were computed for. A user
who widens the bounds of an input afterwards would get a wrong optimum from a solver
that knows nothing of networks. So one constraint of each block checks the box whenever
a writer or a solver's interface reads it. Printing it checks nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyomo.core.base.constraint import ConstraintData
from pyomo.core.expr.numvalue import as_numeric, native_types
from pyomo.environ import Block, Constraint, value

from pyomo_relu.block.disjuncts import check_while_relaxed
from pyomo_relu.presolve.model_scope import boxes_are_checked
from pyomo_relu.programs.lazy_rows import LazyRow, OrdinaryRow


def _side(part: int, read: Callable[[Any], Any], doc: str) -> property:
    """A property: one of a row's bounds, or None."""

    def side(self: Any) -> Any:
        bound = self._parts()[part]
        return None if bound is None else read(bound)

    return property(side, doc=doc)


class BoxGuard:
    """Mixed into the data of a constraint; what asks a row for its bounds is checked.

    Writers call ``to_bounded_expression``, other interfaces read ``has_lb`` and ``has_ub``
    or ``expr``.
    """

    __slots__ = ()

    def _network_block(self) -> Any:
        """The network block that the row guards; None once it is in none any more."""
        block: Any = self.parent_block()  # type: ignore[attr-defined]
        while block is not None and not hasattr(block, "check_box"):
            block = block.parent_block()
        return block

    def _check(self) -> None:
        block = self._network_block()
        if block is not None and not boxes_are_checked():
            block.check_box()

    def _parts(self) -> tuple[Any, Any, Any]:
        block = self._network_block()
        if block is not None:
            check_while_relaxed(block)  # printing passes, a gdp transformation may not
        return super().to_bounded_expression()  # type: ignore[misc]

    def unguarded(self, evaluate_bounds: bool = False) -> tuple[Any, Any, Any]:
        """Lower bound, body and upper bound without the check, which asks what was changed."""
        return super().to_bounded_expression(evaluate_bounds)  # type: ignore[misc]

    def to_bounded_expression(self, evaluate_bounds: bool = False) -> tuple[Any, Any, Any]:
        """Lower bound, body and upper bound, if the inputs stay in their box."""
        self._check()
        return super().to_bounded_expression(evaluate_bounds)  # type: ignore[misc]

    def has_lb(self) -> bool:
        """Whether there is a lower bound, if the inputs stay in their box."""
        self._check()
        return self.lb is not None

    def has_ub(self) -> bool:
        """Whether there is an upper bound, if the inputs stay in their box."""
        self._check()
        return self.ub is not None

    @property
    def expr(self) -> Any:
        """The expression, if the inputs stay in their box."""
        self._check()
        return super().expr  # type: ignore[misc]

    @property
    def equality(self) -> bool:
        """Whether both sides are one; transformations ask while a model is changing."""
        low, _, high = self._parts()
        if low is None or high is None:
            return False
        return low is high or (
            low.__class__ in native_types and high.__class__ in native_types and low == high
        )

    def set_value(self, expr: Any) -> None:
        """Say something else and stay a guard: a scaled model has a box, too."""
        block = self._network_block()
        if block is not None:
            block.remember_scalings()
        try:
            super().set_value(expr)  # type: ignore[misc]
        finally:  # a lazy row is now another kind of row, or was put back to its own
            self.__class__ = GUARDED.get(type(self), type(self))

    @property
    def body(self) -> Any:
        """The body."""
        return as_numeric(self._parts()[1])

    lower = _side(0, as_numeric, "The lower bound as an expression, or None.")
    upper = _side(2, as_numeric, "The upper bound as an expression, or None.")
    lb = _side(0, value, "The lower bound, or None.")
    ub = _side(2, value, "The upper bound, or None.")

    def __call__(self, exception: Any = True) -> Any:
        """The value of the body."""
        return value(self._parts()[1], exception=exception)


class GuardedRow(BoxGuard, ConstraintData):
    """An ordinary row with the check."""

    __slots__ = ()


class GuardedLazyRow(BoxGuard, LazyRow):
    """A lazy row with the check; it stays lazy until someone sets its expression."""

    __slots__ = ()


class GuardedOrdinaryRow(BoxGuard, OrdinaryRow):
    """What a guarded lazy row becomes."""

    __slots__ = ()


GUARDED: dict[type, type] = {
    ConstraintData: GuardedRow,
    LazyRow: GuardedLazyRow,
    OrdinaryRow: GuardedOrdinaryRow,
}


def guard_box(block: Any) -> bool:
    """Let the first plain row below ``block`` check the block's box.

    Rows of disjuncts are passed over: a transformation replaces them.

    Returns
    -------
    bool
        False if there is no such row.
    """
    for row in block.component_data_objects(Constraint, active=True, descend_into=Block):
        kind = GUARDED.get(type(row))
        if kind is not None:
            row.__class__ = kind
            return True
    return False
