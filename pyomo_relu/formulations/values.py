"""What a node's entries are in a Pyomo model, and affine rows over them.

An entry is a variable, a number (a unit that is constant over the box) or an
expression (an input the user gave as one). Rows fold the numbers into the constant.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import numpy as np
from pyomo.core.base.initializer import InitializerBase
from pyomo.core.expr.numeric_expr import LinearExpression
from pyomo.core.expr.relational_expr import (
    EqualityExpression,
    InequalityExpression,
    RangedExpression,
)
from pyomo.core.expr.visitor import identify_variables
from pyomo.environ import Constraint, SOSConstraint, Var
from pyomo.repn import StandardRepn, generate_standard_repn

from pyomo_relu.base.index_set import data_of, index_set
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network import Affine

#: A variable, a number or an expression.
Entry = Any


class Values:
    """The entries of one node, with their bounds, sorted by what they are.

    Attributes
    ----------
    entries : list
        ``None`` where no later layer needs the entry.
    lower, upper : (size,) arrays
    """

    def __init__(self, entries: list[Entry], lower: np.ndarray, upper: np.ndarray) -> None:
        self.entries = entries
        self.lower, self.upper = lower, upper
        constants = np.zeros(len(entries))
        variables, expressions = [], []
        for i, e in enumerate(entries):
            if e is None:
                continue
            if e.__class__ is float:
                constants[i] = e
            elif e.is_variable_type():
                variables.append(i)
            else:
                expressions.append(i)
        self.constants = constants
        self.variables = np.array(variables, dtype=np.int64)
        self.expressions = expressions
        self.variable_list = [entries[i] for i in variables]


@dataclass(slots=True)
class Row:
    """``sum coefs * variables + sum c * e + constant``.

    ``lower`` and ``upper`` bound each variable; ``expressions`` holds (c, e, l, u).
    """

    coefs: list[float] = field(default_factory=list)
    variables: list = field(default_factory=list)
    constant: float = 0.0
    expressions: list[tuple[float, Any, float, float]] = field(default_factory=list)
    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)

    @property
    def is_constant(self) -> bool:
        """Whether no variable is left in it."""
        return not self.coefs and not self.expressions

    def scaled(self, factor: float, offset: float = 0.0) -> Row:
        """``factor * self + offset``."""
        return Row(
            [factor * c for c in self.coefs],
            list(self.variables),
            factor * self.constant + offset,
            [(factor * c, e, a, b) for c, e, a, b in self.expressions],
            self.lower,
            self.upper,
        )

    def body(self, coefs: Sequence[float] = (), variables: Sequence = ()) -> Any:
        """The expression without its constant, plus the given terms."""
        total = LinearExpression(
            linear_coefs=self.coefs + list(coefs),
            linear_vars=self.variables + list(variables),
        )
        parts = [c * e for c, e, _, _ in self.expressions]
        if parts and not self.coefs and not coefs:
            total = parts.pop(0)  # a sum of nothing has no unit of measurement
        for part in parts:
            total = total + part
        return total

    def expression(self) -> Any:
        """The whole expression, its constant included."""
        return self.body() + self.constant

    def terms(self) -> list[tuple[float, Any, float, float]]:
        """All (coefficient, variable or expression, lower, upper)."""
        return [
            *zip(self.coefs, self.variables, self.lower, self.upper),
            *self.expressions,
        ]

    def part(self, numbers: Iterable[int], constant: float = 0.0) -> Row:
        """The terms of the given numbers, as :meth:`terms` counts them."""
        n = len(self.coefs)
        numbers = list(numbers)
        inner = [t for t in numbers if t < n]
        coefs, variables, lower, upper = (
            [found[t] for t in inner]
            for found in (self.coefs, self.variables, self.lower, self.upper)
        )
        rest = [self.expressions[t - n] for t in numbers if t >= n]
        return Row(coefs, variables, constant, rest, lower, upper)

    def equals(self, variable: Any) -> EqualityExpression:
        """The constraint ``row == variable``."""
        return EqualityExpression((self.body([-1.0], [variable]), -self.constant))


#: What remains of a sum below this share of its largest term is rounding (chosen by hand:
#: some tens of units in the last place).
ROUNDING = 1e-14


def combined(terms: Iterable[tuple[float, Row]], constant: float = 0.0) -> Row:
    """``sum factor * row + constant`` with one term for each variable, zeros left out.

    So is what cancels down to rounding: solvers drop such coefficients or stumble on them.
    """
    coefs: dict[int, float] = {}
    sizes: dict[int, float] = {}
    variables: dict[int, Any] = {}
    expressions: dict[int, tuple[float, Any, float, float]] = {}
    for factor, row in terms:
        if factor == 0.0:
            continue
        constant += factor * row.constant
        for c, v in zip(row.coefs, row.variables):
            k, part = id(v), factor * c
            if k in coefs:
                coefs[k] += part
                sizes[k] = max(sizes[k], abs(part))
            else:
                coefs[k], sizes[k], variables[k] = part, abs(part), v
        for c, e, low, high in row.expressions:
            old = expressions.get(id(e))
            total = factor * c + (old[0] if old else 0.0)
            expressions[id(e)] = (total, e, low, high)
    kept = [k for k, c in coefs.items() if abs(c) > ROUNDING * sizes[k]]
    return Row(
        [coefs[k] for k in kept],
        [variables[k] for k in kept],
        constant,
        [term for term in expressions.values() if term[0] != 0.0],
    )


def entry_row(entry: Entry, lower: float, upper: float) -> Row:
    """A single entry as a row."""
    if entry.__class__ is float:
        return Row(constant=entry)
    if entry.is_variable_type():
        return Row([1.0], [entry], 0.0, [], [lower], [upper])
    return Row(expressions=[(1.0, entry, lower, upper)])


def term(variable: Any) -> Row:
    """A variable as a row, without its bounds."""
    return Row([1.0], [variable])


def affine_rows(node: Affine, sources: Sequence[Values], units: np.ndarray) -> list[Row]:
    """The rows ``units`` of an affine node over the entries of its sources."""
    rows = [Row(constant=c) for c in node.bias[units].tolist()]
    for w, values in zip(node.weights, sources):
        part = w[units]
        for row, c in zip(rows, (part @ values.constants).tolist()):
            row.constant += c
        for i in values.expressions:
            column = part[:, [i]].toarray() if sp.issparse(part) else part[:, [i]]
            bounds = float(values.lower[i]), float(values.upper[i])
            for row, c in zip(rows, column.ravel().tolist()):
                if c:
                    row.expressions.append((c, values.entries[i], *bounds))
        _append_variables(rows, part, values)
    return rows


def _append_variables(rows: list[Row], part: Any, values: Values) -> None:
    index, variables = values.variables, values.variable_list
    if not len(index):
        return
    part = part[:, index]
    lower, upper = values.lower[index].tolist(), values.upper[index].tolist()
    if not sp.issparse(part) and part.all():
        for row, coefs in zip(rows, part.tolist()):
            row.coefs += coefs
            row.variables += variables
            row.lower += lower
            row.upper += upper
        return
    matrix = sp.csr_array(part)
    matrix.eliminate_zeros()
    data, columns = matrix.data.tolist(), matrix.indices.tolist()
    pointer = matrix.indptr.tolist()
    for k, row in enumerate(rows):
        where = columns[pointer[k] : pointer[k + 1]]
        row.coefs += data[pointer[k] : pointer[k + 1]]
        row.variables += [variables[j] for j in where]
        row.lower += [lower[j] for j in where]
        row.upper += [upper[j] for j in where]


#: Least coefficient of a user's quantity in a row that ties it to a scaled one: far above
#: what solvers drop, and small enough for the row's numbers to meet its tolerance.
LEAST_LINK = 2.0**-20

#: Largest: beyond it solvers warn of the coefficient, or refuse it (HiGHS from 1e15 on).
LARGEST_LINK = 2.0**40

#: For quantities whose factor is below it, the row that ties them has a margin.
FACTOR_WITH_MARGIN = 2.0**-30

#: The margin, as a share of the range of the scaled quantity: far below any tolerance,
#: and as small as Gurobi 13 takes without making it 0 (2**-40 was fine, 2**-48 not).
LINK_MARGIN = 2.0**-36


def link_coefficient(factor: float) -> float:
    """The coefficient of a quantity in rows that hold ``factor`` times the quantity.

    ``factor`` itself makes the row's numbers of order one. Where a solver would drop it,
    or refuse it, the next it takes.
    """
    return min(max(factor, LEAST_LINK), LARGEST_LINK)


def link(given: Row, scaled: Row, factor: float, margin: bool = False) -> Any:
    """The constraint ``scaled == factor * given`` as a solver can hold it.

    ``scaled`` is of order one. The row is multiplied by a power of two so that its
    tolerance is one of ``scaled`` where the coefficients allow it.

    Notes
    -----
    An equation of two variables is what a presolve substitutes first. From ranges of
    1e9 on, Gurobi 13 puts the large variable in place of the scaled one, and the
    coefficients are back that the scaled one is there to avoid: it was wrong in 12 of
    100 random networks with inputs up to 1e12, in none where the row has a ``margin``.
    """
    own = link_coefficient(factor)
    row = combined([(own, given), (-own / factor, scaled)])
    if not margin or factor >= FACTOR_WITH_MARGIN:
        return EqualityExpression((row.body(), -row.constant))
    width = own / factor * LINK_MARGIN
    ends = -row.constant - width, width - row.constant
    return RangedExpression((ends[0], row.body(), ends[1]), False)


def as_if_free(expression: Any) -> StandardRepn:
    """The terms of an expression, with those of variables that are fixed now.

    They may be freed after a block was written. Mutable Params, which may change, stay in
    coefficients and constant.
    """
    fixed = [v for v in identify_variables(expression) if v.fixed]
    for v in fixed:
        v.fixed = False
    try:
        return generate_standard_repn(expression, compute_values=False)
    finally:
        for v in fixed:
            v.fixed = True


# ---------------------------------------------------------------- adding components
def add_variables(
    block: Any,
    name: str,
    units: Sequence,
    lower: Iterable[float] | float | None = None,
    upper: Iterable[float] | float | None = None,
    **options: Any,
) -> dict[Any, Any]:
    """Add a variable for each unit, with its bounds; return them by unit.

    ``lower`` and ``upper`` are one number for all, or sequences in the order of ``units``.
    """
    units = list(units)
    variable = Var(index_set(units), **options)
    block.add_component(name, variable)
    found = data_of(variable)
    if lower is not None:
        for v, bound in zip(found, _each(lower)):
            v.setlb(bound)
    if upper is not None:
        for v, bound in zip(found, _each(upper)):
            v.setub(bound)
    return dict(zip(units, found))


def _each(bounds: Iterable[float] | float) -> Iterable[float]:
    return repeat(bounds) if isinstance(bounds, float) else bounds


def add_rows(block: Any, name: str, rows: dict) -> None:
    """Add a constraint with the given relational expression for each index."""
    if not rows:
        return
    block.add_component(name, Constraint(index_set(rows), rule=RuleOnce(rows)))


def add_sos(block: Any, name: str, sets: dict[Any, list], level: int = 1) -> None:
    """Add a special ordered set of the given variables for each index."""
    if not sets:
        return
    index = index_set(sets)
    index.construct()
    rows = {k: (v, list(range(1, len(v) + 1))) for k, v in sets.items()}
    block.add_component(name, SOSConstraint(index, rule=RuleOnce(rows), sos=level))


class RowCollector:
    """Rows of a layer by component name, in the order in which the names come.

    A row over no variables is left out.
    """

    def __init__(self) -> None:
        self.rows: dict[str, dict] = {}

    def add(self, name: str, key: Any, relation: Any) -> None:
        """Note a relational expression."""
        self.rows.setdefault(name, {})[key] = relation

    def nonnegative(self, name: str, key: Any, row: Row) -> None:
        """Note ``row >= 0``."""
        if not row.is_constant:
            self.add(name, key, InequalityExpression((-row.constant, row.body()), False))

    def zero(self, name: str, key: Any, row: Row) -> None:
        """Note ``row == 0``."""
        if not row.is_constant:
            self.add(name, key, EqualityExpression((row.body(), -row.constant)))

    def between(
        self, name: str, key: tuple, low: float, row: Row, high: float, factor: Row
    ) -> None:
        """Note ``low * factor <= row <= high * factor``, as two rows."""
        below = combined([(1.0, row), (-low, factor)])
        above = combined([(-1.0, row), (high, factor)])
        self.nonnegative(name, (*key, "lower"), below)
        self.nonnegative(name, (*key, "upper"), above)

    def one_of(self, name: str, key: Any, variables: Iterable[Any]) -> None:
        """Note that variables add up to 1."""
        self.zero(name, key, combined([(1.0, term(v)) for v in variables], -1.0))

    def add_to(self, block: Any) -> None:
        """Add everything noted to a block."""
        for name, rows in self.rows.items():
            add_rows(block, name, rows)


class RuleOnce(InitializerBase):
    """A rule that hands out each row once: nothing is held twice, and it pickles.

    An initializer of Pyomo's own kind, for it looks into the code of any other callable.
    """

    __slots__ = ("rows",)

    def __init__(self, rows: dict) -> None:
        self.rows = dict(rows)

    def __call__(self, block: Any, *index: Any) -> Any:
        return self.rows.pop(index if len(index) > 1 else index[0])


def at_most(coefs: Sequence[float], variables: Sequence, bound: float) -> Any:
    """The constraint ``sum coefs * variables <= bound``."""
    body = LinearExpression(linear_coefs=list(coefs), linear_vars=list(variables))
    return InequalityExpression((body, bound), False)


def row_at_most(row: Row, coefs: Sequence[float], variables: Sequence, bound: float) -> Any:
    """The constraint ``row + sum coefs * variables <= bound``."""
    return InequalityExpression((row.body(coefs, variables), bound - row.constant), False)
