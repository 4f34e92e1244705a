"""What a formulation wrote into a block, and what has been changed there since.

A search in the space of the inputs takes the network for what the block means. That
holds as long as the block's layers are what the formulation wrote and nobody else uses
their variables. Users do change them: they fix a binary, bound a neuron, deactivate a
row; and Pyomo's transformations relax, scale, aggregate, strip and add slacks. So a
block keeps a record of every variable and row as it was written, and compares.

Kinds of change differ in what they leave of the network. Some only take points away (a
fixed variable, a tighter bound, one more row); then the network still says what the
outputs are. After the others only the rows do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyomo.core.expr.relational_expr import EqualityExpression
from pyomo.environ import (
    Block,
    BooleanVar,
    Constraint,
    Expression,
    Param,
    RangeSet,
    Set,
    Suffix,
    Var,
    value,
)
from pyomo.gdp import Disjunct
from pyomo.repn import generate_standard_repn

from pyomo_relu.base.index_set import data_of
from pyomo_relu.block.guard import BoxGuard
from pyomo_relu.programs.lazy_rows import LazyRow

#: Components that state nothing about a model's variables.
_PASSIVE = {Block, Disjunct, BooleanVar, Expression, Param, RangeSet, Set, Suffix, Var}
#: Largest relative difference of two numbers that count as the same: what multiplying by
#: a factor and dividing by it again leaves.
SAME = 1e-12


@dataclass(frozen=True)
class Change:
    """One difference between a block and what its formulation wrote.

    Attributes
    ----------
    text : str
        What was changed, by name, as the end of a sentence.
    restricts : bool
        Whether it can only take points away.
    """

    text: str
    restricts: bool


class WrittenRecord:
    """A block's layers as a formulation wrote them.

    Parameters
    ----------
    block : ReLUNetBlockData
        With the layers in place.
    """

    def __init__(self, block: Any) -> None:
        layers = block.component("layer")
        self.layers = layers
        self.box_rows = block.component("input_box")
        self.variables, self.rows, self.others = map(tuple, _contents(layers))
        self.lower, self.upper, self.integer, self.fixed = _states(self.variables)
        self.contents = tuple(_content(row) for row in self.rows)
        #: Whether a copy lacks something that the original had lost.
        self.incomplete = False

    def __deepcopy__(self, memo: dict[int, Any]) -> WrittenRecord:
        new = WrittenRecord.__new__(WrittenRecord)
        memo[id(self)] = new
        new.__dict__.update({k: deepcopy(v, memo) for k, v in self._living().items()})
        return new

    def __getstate__(self) -> dict[str, Any]:
        return self._living()

    def _living(self) -> dict[str, Any]:
        """The attributes without data whose component was deleted, which can't be copied."""
        state = dict(self.__dict__)
        here = [_is_alive(v) for v in self.variables]
        rows = [_is_alive(row) for row in self.rows]
        others = [_is_alive(c) for c in self.others]
        if all(here) and all(rows) and all(others):
            return state
        keep = {"rows": rows, "contents": rows, "others": others, "variables": here}
        for name, kept in keep.items():
            state[name] = tuple(d for d, k in zip(state[name], kept) if k)
        for name in ("lower", "upper", "integer", "fixed"):
            state[name] = state[name][np.array(here, dtype=bool)]
        return state | {"incomplete": True}

    def changes(self, block: Any) -> Iterator[Change]:
        """Every difference between the block now and the record."""
        layers = block.component("layer")
        if layers is None or layers is not self.layers:
            yield Change("its layers were removed", False)
            return
        if self.incomplete:
            yield Change("some of its variables and rows were deleted", False)
        if block.component("outputs") is None:
            yield Change("its components were renamed", False)
        yield from self._changed_variables()
        yield from self._changed_statements(layers)

    def _changed_variables(self) -> Iterator[Change]:
        lower, upper, integer, fixed = _states(self.variables)
        kinds = (
            (fixed & ~self.fixed, "was fixed", True),
            (~fixed & self.fixed, "was unfixed", False),
            (self.integer & ~integer, "was relaxed", False),
            (integer & ~self.integer, "was made integer", True),
            ((lower < self.lower) | (upper > self.upper), "lost a bound", False),
            ((lower > self.lower) | (upper < self.upper), "got a tighter bound", True),
        )
        for found, what, restricts in kinds:
            if found.any():
                v = self.variables[int(np.argmax(found))]
                yield Change(f"'{v.name}' {what}", restricts)

    def _changed_statements(self, layers: Any) -> Iterator[Change]:
        _, rows, others = _contents(layers)
        now = {id(row) for row in (*rows, *others)}
        then = {id(row) for row in (*self.rows, *self.others)}
        gone = next((r for r in (*self.rows, *self.others) if id(r) not in now), None)
        if gone is not None:
            yield Change(f"'{gone.name}' was deactivated or removed", False)
        new = next((r for r in (*rows, *others) if id(r) not in then), None)
        if new is not None:
            # What isn't a row, such as a disjunct's relaxation, may replace written rows.
            yield Change(f"'{new.name}' was added", new.ctype is Constraint)
        for row, content in zip(self.rows, self.contents):
            if id(row) in now and not _same_content(row, content):
                yield Change(f"'{row.name}' was rewritten", False)
                break


def _is_alive(data: Any) -> bool:
    """Whether a variable or row still belongs to a component."""
    return data.parent_component() is not None


def is_as_written(block: Any) -> bool:
    """Whether nothing was changed in a block since its formulation was written."""
    return next(block.changes(), None) is None


def _states(
    variables: Sequence[Any],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Lower and upper bounds, domains included; which are integer, which are fixed."""
    low, high = np.full(len(variables), -math.inf), np.full(len(variables), math.inf)
    integer = np.zeros(len(variables), dtype=bool)
    domains = [v.domain for v in variables]
    for domain in {id(d): d for d in domains}.values():  # few, and slow to ask
        own = np.array([d is domain for d in domains])
        some = variables[int(np.argmax(own))]
        integer[own] = some.is_integer()
        for side, end in zip((low, high), domain.bounds()):
            side[own] = side[own] if end is None else end
    np.maximum(low, _numbers([v._lb for v in variables], -math.inf), out=low)
    np.minimum(high, _numbers([v._ub for v in variables], math.inf), out=high)
    return low, high, integer, np.array([v.fixed for v in variables], dtype=bool)


def _numbers(bounds: list[Any], without: float) -> np.ndarray:
    """Bounds as they are now; they may be expressions of Params."""
    found = (
        without if b is None else b if b.__class__ is float else value(b) for b in bounds
    )
    return np.fromiter(found, dtype=float, count=len(bounds))


def _components(block: Any, active: bool = True) -> Iterator[tuple[Any, bool]]:
    """All components of a block and the blocks in it, and whether a solver sees them."""
    for component in block.component_map().values():
        seen = active and component.active
        yield component, seen
        if component.ctype is Block or component.ctype is Disjunct:
            for data in component.values():
                yield from _components(data, seen and data.active)


def _contents(layers: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """The variables of all layers, the active rows, and what else states something.

    Variables of disjuncts are among them, References aren't.
    """
    variables: list[Any] = []
    rows: list[Any] = []
    others: list[Any] = []
    for layer in layers.values():
        for component, seen in _components(layer, layers.active and layer.active):
            if component.ctype is Var:
                if not component.is_reference():
                    variables += data_of(component)
            elif seen and component.ctype not in _PASSIVE:
                found = rows if component.ctype is Constraint else others
                found += [d for d in data_of(component) if d.active]
    return variables, rows, others


def _content(row: Any) -> Any:
    """What a row says: its expression, or where a lazy row has it from."""
    if isinstance(row, LazyRow):
        return row._rows, row._position
    return row._expr


def _same_content(row: Any, content: Any) -> bool:
    """Whether a row says what it said, word for word but for rounding.

    A multiple of it means the same, but a formulation that reads its rows to give its
    variables values would go wrong.
    """
    now = _content(row)
    if now is content:
        return True
    if isinstance(content, tuple):
        rows, position = content
        if isinstance(now, tuple):
            return now[0] is rows and now[1] == position
        content = EqualityExpression((rows.body(position), rows.right[position]))
    then = Constraint(expr=content)
    then.construct()
    return _same_numbers(_linear(then), _linear(row))


def _same_numbers(a: dict[Any, float] | None, b: dict[Any, float] | None) -> bool:
    if a is None or b is None or a.keys() != b.keys():
        return False
    return all(
        x == b[k] or abs(x - b[k]) <= SAME * max(abs(x), abs(b[k])) for k, x in a.items()
    )


def _linear(row: Any) -> dict[Any, float] | None:
    """Coefficients of free variables by ``id``, constant and sides; None if nonlinear."""
    # The check of a guard asks for changes itself.
    read = row.unguarded if isinstance(row, BoxGuard) else row.to_bounded_expression
    low, body, high = read(evaluate_bounds=True)
    repn = generate_standard_repn(body, compute_values=True, quadratic=False)
    if repn.nonlinear_expr is not None:
        return None
    terms: dict[Any, float] = {}
    for c, v in zip(repn.linear_coefs, repn.linear_vars):
        terms[id(v)] = terms.get(id(v), 0.0) + float(c)
    terms = {k: c for k, c in terms.items() if c != 0}
    terms["constant"] = float(repn.constant)
    terms["lower"] = -math.inf if low is None else float(low)
    terms["upper"] = math.inf if high is None else float(high)
    return terms
