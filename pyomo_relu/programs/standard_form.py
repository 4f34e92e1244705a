"""A linear Pyomo model as arrays: what HiGHS takes, and what the heuristics work on.

Pyomo's own compiler splits ranged rows in two and leaves fixed variables in rows
until the end. This one keeps one row for each constraint, so that duals and row
activities belong to constraints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from pyomo.common.gc_manager import PauseGC
from pyomo.contrib.solver.common.util import IncompatibleModelError
from pyomo.core.base import (
    Block,
    Constraint,
    Expression,
    Objective,
    Param,
    RangeSet,
    Set,
    SortComponents,
    SOSConstraint,
    Suffix,
    Var,
)
from pyomo.core.expr.numeric_expr import LinearExpression, MonomialTermExpression
from pyomo.core.expr.visitor import identify_variables
from pyomo.environ import ExternalFunction, value
from pyomo.network import Port
from pyomo.repn.linear import LinearRepnVisitor
from pyomo.repn.util import (
    FileDeterminism,
    FileDeterminism_to_SortComponents,
    categorize_valid_components,
)

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.programs.lazy_rows import LazyRow
from pyomo_relu.programs.linear_program import LinearProgram
from pyomo_relu.programs.rows import RowArrays, VariableRecorder
from pyomo_relu.programs.strangers import StrangerError, check_model, check_variables

#: Rows between two looks at the clock; a row takes some 10 microseconds.
CHECK_EVERY = 500

_VALID = {Block, Constraint, Var, Param, Expression, ExternalFunction, Set, RangeSet, Port}


class NotLinearError(IncompatibleModelError):
    """Nonlinear terms or SOS constraints where linear rows are asked for.

    Attributes
    ----------
    in_network : bool
        Whether what isn't linear is in a network block, whose formulation may change.
    """

    def __init__(self, message: str, where: Any) -> None:
        super().__init__(message)
        self.in_network = _in_network(where)


@dataclass(kw_only=True)
class StandardForm(LinearProgram):
    """A linear program whose columns and rows belong to a model.

    Attributes
    ----------
    columns : list of VarData
        Variables that occur in a row or in the objective; of fixed ones only outputs of
        networks, with equal bounds.
    integer : (n_columns,) bool array
    rows : list of ConstraintData
    objective : ObjectiveData or None
    nonlinear : list of (column, expression)
        Columns that stand for the nonlinear part of a row, or of the objective. All
        variables of the expression are columns.
    sos : list of Sos
    """

    columns: list[Any]
    integer: np.ndarray
    rows: list[Any]
    objective: Any = None
    nonlinear: list[tuple[int, Any]] = field(default_factory=list)
    sos: list[Sos] = field(default_factory=list)

    def column_numbers(self) -> dict[int, int]:
        """The column of each variable, by ``id``."""
        return {id(v): j for j, v in enumerate(self.columns)}

    def objective_value(self, x: np.ndarray) -> float:
        """The model's objective at a point."""
        return float(self.cost @ x) + self.offset


def compile_standard_form(
    model: Any,
    solver: str = "relu_highs",
    deadline: Deadline = NEVER,
    kept: Sequence[Any] = (),
    general: bool = False,
) -> StandardForm:
    """Compile the active part of a linear model.

    Parameters
    ----------
    model : BlockData
    solver : str
        The name that errors give the one who asks.
    deadline : Deadline
    kept : sequence of VarData
        Fixed variables that stay columns, with equal bounds.
    general : bool
        Take nonlinear terms and SOS constraints as well.

    Raises
    ------
    TimeUp
        When the deadline has passed.
    IncompatibleModelError
        For components and terms that a linear solver can't take, naming them.
    """
    check_model(model, solver)
    values = {id(v): float(v.value) for v in kept}
    try:
        for v in kept:
            v.fixed = False
        with PauseGC():
            form = _compile(model, solver, deadline, general)
    finally:
        for v in kept:
            v.fixed = True
    for j, v in enumerate(form.columns if kept else ()):
        if id(v) in values:
            form.lower[j] = form.upper[j] = values[id(v)]
    return form


def _compile(model: Any, solver: str, deadline: Deadline, general: bool) -> StandardForm:
    sorter = FileDeterminism_to_SortComponents(FileDeterminism.ORDERED)
    _check_components(model, sorter, solver, general)
    recorder = VariableRecorder()
    visitor = LinearRepnVisitor({}, var_recorder=recorder)
    parts = _NonlinearParts(recorder, solver, general)
    objective = _objective(model, sorter)
    cost: dict[int, float] = {}
    offset = 0.0
    if objective is not None:
        cost, offset = _linear(visitor, objective.expr, objective, parts)
    rows = _RowReader(recorder, visitor, parts)
    for number, con in enumerate(
        model.component_data_objects(Constraint, active=True, sort=sorter)
    ):
        if number % CHECK_EVERY == 0:
            deadline.check()
        rows.read(con)
    rows.flush()
    sets = _sos(model, sorter, recorder) if general else []

    columns = list(recorder.var_map.values())
    c = np.zeros(len(columns))
    for key, a in cost.items():
        c[recorder.order[key]] = a
    matrix = rows.found.matrix(len(columns))
    # Terms may cancel, so that a variable was seen but isn't used.
    used = c != 0
    used[matrix.indices] = True
    used[[recorder.order[key] for key in parts.needed]] = True
    used[[recorder.order[id(v)] for one in sets for v in one.variables]] = True
    if not used.all():
        columns = [v for v, keep in zip(columns, used.tolist()) if keep]
        c, matrix = c[used], sp.csr_array(matrix[:, used])
    user_of = partial(_user_of, c, matrix, rows.rows, objective)
    check_variables(model, columns, solver, user_of)
    lower, upper, integer = column_data(columns)
    place = {id(v): j for j, v in enumerate(columns)}
    return StandardForm(
        cost=c,
        lower=lower,
        upper=upper,
        matrix=matrix,
        row_lower=np.array(rows.low, dtype=float),
        row_upper=np.array(rows.high, dtype=float),
        integer=integer,
        offset=float(offset),
        maximize=objective is not None and objective.sense == -1,
        columns=columns,
        rows=rows.rows,
        objective=objective,
        nonlinear=[(place[id(v)], e) for v, e in parts.found],
        sos=sets,
    )


def _objective(model: Any, sorter: SortComponents) -> Any:
    """The one active objective; None where there is none."""
    found = list(model.component_data_objects(Objective, active=True, sort=sorter))
    if len(found) > 1:
        names = ", ".join(f"'{o.name}'" for o in found[:3])
        raise IncompatibleModelError(
            f"the model has {len(found)} active objectives ({names}); deactivate "
            "all but one."
        )
    return found[0] if found else None


@dataclass(frozen=True)
class Sos:
    """Of ``variables`` in this order one (``level`` 1) or two neighbours (2) aren't 0."""

    level: int
    variables: tuple[Any, ...]


def _sos(model: Any, sorter: SortComponents, recorder: VariableRecorder) -> list[Sos]:
    """The active SOS constraints of a model.

    Raises
    ------
    IncompatibleModelError
        For levels other than 1 and 2.
    """
    found = []
    for con in model.component_data_objects(SOSConstraint, active=True, sort=sorter):
        if con.level not in (1, 2):
            raise IncompatibleModelError(
                f"SOS constraint '{con.name}' has the level {con.level}; 1 and 2 are taken."
            )
        pairs = sorted(con.get_items(), key=lambda pair: pair[1])
        variables = tuple(v for v, _ in pairs)
        for v in variables:
            if v.fixed:
                raise IncompatibleModelError(
                    f"'{v.name}' in the SOS constraint '{con.name}' is fixed; give it equal "
                    "bounds instead."
                )
            if id(v) not in recorder.order:
                recorder.add(v)
        found.append(Sos(con.level, variables))
    return found


class _NonlinearParts:
    """Variables that stand for nonlinear parts of rows, where these are taken.

    Attributes
    ----------
    found : list of (variable, expression)
    needed : set of int
        ``id`` of these variables and of those in the expressions.
    """

    def __init__(self, recorder: VariableRecorder, solver: str, taken: bool) -> None:
        self.recorder, self.solver, self.taken = recorder, solver, taken
        self.found: list[tuple[Any, Any]] = []
        self.needed: set[int] = set()

    def stand_in(self, expression: Any, kind: str, where: Any) -> int:
        """The ``id`` of a variable for a part of ``where``.

        Raises
        ------
        IncompatibleModelError
            Where nonlinear parts aren't taken.
        """
        if not self.taken:
            raise NotLinearError(
                f"{kind} '{where.name}' is nonlinear; {self.solver} takes linear models only. "
                "Rewrite it, or use a solver of nonlinear models, such as relu_scip.",
                where,
            )
        v = Var(name=f"nonlinear part of {where.name}")
        v.construct()
        self.recorder.add(v)
        self.found.append((v, expression))
        inside = identify_variables(expression, include_fixed=False)
        self.needed.update(id(u) for u in (v, *inside))
        for u in identify_variables(expression, include_fixed=False):
            if id(u) not in self.recorder.order:
                self.recorder.add(u)
        return id(v)


class _RowReader:
    """Rows of a model in its order; lazy neighbours of one layer go in together."""

    def __init__(
        self, recorder: VariableRecorder, visitor: Any, parts: _NonlinearParts
    ) -> None:
        self.recorder, self.visitor, self.parts = recorder, visitor, parts
        self.rows: list[Any] = []
        self.low: list[float] = []
        self.high: list[float] = []
        self.found = RowArrays(recorder)
        self.waiting: list[LazyRow] = []

    def read(self, con: Any) -> None:
        """Add a constraint, unless it says nothing."""
        lazy = isinstance(con, LazyRow)
        if self.waiting and not (lazy and self.waiting[0]._rows is con._rows):
            self.flush()
        if lazy:
            self.waiting.append(con)
            return
        least, body, most = _parts(con)
        if least == -math.inf and most == math.inf:
            return
        plain = _plain(body, self.recorder)
        linear, constant = plain or _linear(self.visitor, body, con, self.parts)
        self.rows.append(con)
        self.low.append(least - constant)
        self.high.append(most - constant)
        self.found.add(linear)

    def flush(self) -> None:
        """Add the lazy rows that wait."""
        if not self.waiting:
            return
        source, positions = self.waiting[0]._rows, [con._position for con in self.waiting]
        constants = self.found.add_lazy(source, positions)
        for con, i, constant in zip(self.waiting, positions, constants):
            right = source.right[i] - _number(constant, "constraint", con)
            self.rows.append(con)
            self.low.append(right)
            self.high.append(right)
        self.waiting.clear()


def _user_of(
    cost: np.ndarray, matrix: sp.csr_array, rows: list[Any], objective: Any, column: int
) -> str:
    """A row that uses a column, by name, or the objective."""
    if cost[column] and objective is not None:
        return f"the objective '{objective.name}'"
    found = matrix.tocsc()[:, [column]].nonzero()[0]
    return f"constraint '{rows[int(found[0])].name}'"


def _check_components(
    model: Any, sorter: SortComponents, solver: str, general: bool
) -> None:
    valid = _VALID | {SOSConstraint} if general else _VALID
    _, unknown = categorize_valid_components(
        model, active=True, sort=sorter, valid=valid, targets={Objective, Suffix}
    )
    for ctype, components in unknown.items():
        kind = getattr(ctype, "__name__", str(ctype))
        hint = "transform or deactivate it first."
        if "SOS" in kind or "Complementarity" in kind or "Disjunct" in kind:
            hint = "use a solver that takes it."
            if "Disjunct" in kind:
                hint = "transform it, with 'gdp.bigm' for example."
            if _in_network(components[0]):
                hint = (
                    "reformulate the network with a formulation that has binaries, for "
                    f"example 'bigm', or {hint}"
                )
        message = (
            f"'{components[0].name}' is a {kind}, which {solver} can't pass to HiGHS; "
        )
        if "SOS" in kind:
            raise NotLinearError(message + hint, components[0])
        raise IncompatibleModelError(message + hint)


def _in_network(component: Any) -> bool:
    """Whether a network block holds the component."""
    while component is not None and not getattr(component, "is_network_block", False):
        component = component.parent_block()
    return component is not None


def _parts(con: Any) -> tuple[float, Any, float]:
    """Lower bound, body and upper bound of a row."""
    lower, body, upper = con.to_bounded_expression()
    if body is None:
        raise StrangerError(
            f"constraint '{con.name}' is active, but has no expression; copying a model "
            "loses one where a variable in it was deleted. Deactivate it, or write it anew."
        )
    return _bound(lower, -math.inf, con), body, _bound(upper, math.inf, con)


def _bound(bound: Any, none: float, con: Any) -> float:
    if bound is None:
        return none
    found = bound if bound.__class__ is float else float(value(bound))
    if math.isnan(found):
        raise IncompatibleModelError(f"constraint '{con.name}' has a bound that is NaN.")
    return found


def _plain(body: Any, recorder: VariableRecorder) -> tuple[dict[int, float], float] | None:
    """As :func:`_linear` for numbers times free variables; None for anything else.

    Nearly every row of a network is one of these, and the walk through it by Pyomo's
    visitor takes three times as long.
    """
    if body.__class__ is not LinearExpression:
        return None
    linear: dict[int, float] = {}
    order = recorder.order
    constant = 0.0
    for term in body.args:
        if term.__class__ is not MonomialTermExpression:
            if term.__class__ is not float or term - term != 0:
                return None
            constant += term
            continue
        a, v = term.args
        key = id(v)
        if a.__class__ is not float or a - a != 0 or key in linear or v.fixed:
            return None
        if key not in order:
            recorder.add(v)
        linear[key] = a
    return linear, constant


def _linear(
    visitor: Any, expression: Any, where: Any, parts: _NonlinearParts
) -> tuple[dict[int, float], float]:
    """Coefficients by ``id`` of the variable, and the constant."""
    kind = "objective" if where.ctype is Objective else "constraint"
    repn = visitor.walk_expression(expression)
    if repn.nonlinear is not None:
        repn.linear[parts.stand_in(repn.nonlinear, kind, where)] = 1.0
    constant = _number(repn.constant, kind, where)
    for a in repn.linear.values():
        if a.__class__ is not float and a.__class__ is not int:
            a = _number(a, kind, where)
        if a - a != 0:  # NaN or infinite
            raise IncompatibleModelError(
                f"{kind} '{where.name}' has the coefficient {a}, which is no finite number."
            )
    return repn.linear, constant


def _number(a: Any, kind: str, where: Any) -> float:
    try:
        found = float(a)
    except (TypeError, ValueError):  # also Pyomo's InvalidNumber
        found = math.nan
    if math.isnan(found):
        raise IncompatibleModelError(
            f"{kind} '{where.name}' has a coefficient or constant that is no number; a "
            "fixed variable or a Param in it may have no value."
        )
    return found


def column_data(columns: list[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bounds of variables, infinite where there are none, and which are integers.

    Raises
    ------
    IncompatibleModelError
        For domains that are neither an interval nor integers.
    """
    low, high, integer = [], [], []
    for v in columns:
        a, b = v.bounds
        low.append(-math.inf if a is None else a)
        high.append(math.inf if b is None else b)
        whole = v.is_integer()
        if not whole and not v.is_continuous():
            raise IncompatibleModelError(
                f"variable '{v.name}' has the domain {v.domain}, which HiGHS can't take; "
                "use Reals, Integers or Binary with bounds."
            )
        integer.append(whole)
    return (
        np.array(low, dtype=float),
        np.array(high, dtype=float),
        np.array(integer, dtype=bool),
    )
