"""The user's model as networks of a few variables plus a mixed-integer linear rest.

Whatever formulation the network blocks hold is left aside: the network itself says what
its outputs are. What remains are columns,

====================  ================================================================
drivers               variables that inputs depend on and no network determines
outputs               network outputs that the rest of the model uses
rest                  the user's other variables
====================  ================================================================

and linear rows between them. Some columns of the rest are *defined*: a row gives their
value, so inputs that were theirs read what they are made of
(:mod:`~pyomo_relu.presolve.substitute`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network import Network
from pyomo_relu.presolve.compose import BlockLinks, LinearInput
from pyomo_relu.presolve.values import WHOLE, ValueGrid, find_values
from pyomo_relu.programs import LinearProgram, matrix_of
from pyomo_relu.programs.formula import Formula
from pyomo_relu.programs.linear_program import stacked

#: Bounds that cross by less, relative to them, are equal (chosen by hand).
CROSSING = 1e-9
#: So many values of units are held at once where a network is evaluated (64 MiB).
MOST_VALUES = 2**23


@dataclass(frozen=True)
class NonlinearPart:
    """A column that is a formula of others.

    Attributes
    ----------
    column : int
    formula : Formula
    """

    column: int
    formula: Formula


@dataclass(frozen=True)
class SosColumns:
    """Of ``columns`` in this order one (``level`` 1) or two neighbours (2) aren't 0."""

    level: int
    columns: np.ndarray

    def violation(self, z: np.ndarray) -> float:
        """By how much a point (m,) misses it: the least number that had to be 0."""
        size = abs(z[self.columns])
        if self.level == 1:
            return float(np.sort(size)[:-1].max(initial=0.0))
        pairs = range(max(len(size) - 1, 1))
        others = [np.delete(size, [k, k + 1][: len(size)]) for k in pairs]
        return min((float(o.max(initial=0.0)) for o in others), default=0.0)


@dataclass(kw_only=True)
class Problem(LinearProgram):
    """``min cost @ z`` over columns ``z = (drivers, outputs, rest)`` and linear rows.

    The user's objective is ``sign * (cost @ z) + offset``.

    Attributes
    ----------
    links : list of BlockLinks
        The network blocks, each after those it reads.
    network : Network or None
        From the drivers to the queries; None when no block depends on a variable.
    n, q : int
        Number of drivers and of output columns.
    columns : list of VarData
    integer : (m,) bool array
    sign : float
        -1 where the user maximizes.
    objective : ObjectiveData or None
    queries : (Q, q) CSR array
        What :attr:`network` gives: the output columns, then combinations of them that
        a row or the objective uses.
    row_query : (rows,) int array
        The query that is a row's network part, -1 for none.
    row_weight : (rows,) array
        What the query is multiplied by in the row.
    cost_query : int
        Likewise for the objective; its weight is :attr:`cost_weight`.
    bounded : (q,) bool array
        Whether an output's own bounds say more than the network does.
    infeasible, unbounded : str or None
        Why the model is, where reading it shows that.
    as_rows : list of str
        Which network blocks count as the rows of their formulation, and why: the user
        has changed something inside, or uses a variable of theirs. Their variables are
        in the rest.
    tabulated : list of BlockLinks
        Network blocks that are rows here, since binaries choose among few inputs
        (:mod:`~pyomo_relu.presolve.tabulate`); inputs and outputs are columns.
    defined : (d,) int array
        Columns of the rest that are ``definition @ z + definition_constant``, of drivers,
        outputs and binaries.
    definition : (d, m) CSR array
    definition_constant : (d,) array
    implied : (m,) bool array
        Defined columns that no row and no cost uses, within their bounds whatever the
        drivers are: a search may leave them aside.
    nonlinear : list of NonlinearPart
        Columns that stand for nonlinear parts of rows and of the objective. Neither they
        nor what they are made of is fixed or left out.
    sos : list of SosColumns
    stand_ins : (k, 2) int array
        Drivers that stand for nonlinear inputs, and the nonlinear columns that they are.
    make_points_view : callable or None
        Makes what :meth:`for_points` returns, before a deadline.
    """

    links: list[BlockLinks]
    n: int
    q: int
    columns: list[Any]
    integer: np.ndarray
    bounded: np.ndarray
    network: Network | None = None
    sign: float = 1.0
    objective: Any = None
    queries: sp.csr_array = None
    row_query: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))
    row_weight: np.ndarray = field(default_factory=lambda: np.zeros(0))
    cost_query: int = -1
    cost_weight: float = 0.0
    infeasible: str | None = None
    unbounded: str | None = None
    as_rows: list[str] = field(default_factory=list)
    tabulated: list[BlockLinks] = field(default_factory=list)
    defined: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))
    definition: sp.csr_array = None
    definition_constant: np.ndarray = field(default_factory=lambda: np.zeros(0))
    implied: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    nonlinear: list[NonlinearPart] = field(default_factory=list)
    sos: list[SosColumns] = field(default_factory=list)
    stand_ins: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), dtype=int))
    make_points_view: Callable[[Deadline], Problem | None] | None = None

    def __post_init__(self) -> None:
        self._points_view: Problem | None = None
        if len(self.implied) != len(self.columns):
            self.implied = np.zeros(len(self.columns), dtype=bool)

    def for_points(self, deadline: Deadline = NEVER) -> Problem:
        """The same model with fewer free drivers, for those who look for points.

        There what outputs of networks and sums of variables define is replaced, too. The
        problem itself where nothing more is defined. It is made once.

        Raises
        ------
        TimeUp
            When the deadline has passed before there is one.
        """
        if self._points_view is None:
            view = (
                None if self.make_points_view is None else self.make_points_view(deadline)
            )
            self._points_view = self if view is None else view
        return self._points_view

    def in_columns_of(self, other: Problem, z: np.ndarray) -> np.ndarray:
        """Points (N, m) of this view in the columns (N, ...) of another one.

        Outputs are evaluated and defined columns settled in both. An output that is a
        driver, too, is meant as the driver.
        """
        z = z.copy()
        self.complete(z)
        place: dict[int, int] = {}
        for j, v in enumerate(self.columns):
            place.setdefault(id(v), j)
        at = np.array([place.get(id(v), -1) for v in other.columns], dtype=int)
        found = z[:, at]
        found[:, at < 0] = 0.0  # outputs that have a column in the other view only
        other.complete(found)
        return found

    def complete(self, z: np.ndarray) -> None:
        """Give outputs and defined columns of points (N, m) their values, in place."""
        for _ in range(len(self.stand_ins) + 1):  # an input may read another's output
            z[:, self.n : self.n + self.q] = self.outputs(z[:, : self.n])
            self.settle(z)
            inputs, values = self.stand_ins.T
            if (z[:, inputs] == z[:, values]).all() or not np.isfinite(z[:, values]).all():
                return
            ends = self.lower[inputs], self.upper[inputs]
            z[:, inputs] = np.clip(z[:, values], *ends)

    @cached_property
    def by_id(self) -> dict[int, Any]:
        """Every variable that inputs depend on, by ``id``."""
        found = {id(v): v for v in self.columns}
        links = [*self.tabulated, *self.links]
        return found | {id(v): v for link in links for v in link.outputs}

    @cached_property
    def grid(self) -> ValueGrid:
        """The continuous drivers that can take few values only, by the problem's rows."""
        if not self.integer.any() or self.infeasible is not None:
            return ValueGrid({})
        found = find_values(self, self.lower, self.upper).values
        mine = [j for j in found if j < self.n and not self.integer[j] and len(found[j])]
        return ValueGrid({j: found[j] for j in sorted(mine)})

    @property
    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of the drivers."""
        return self.lower[: self.n], self.upper[: self.n]

    @property
    def is_box(self) -> bool:
        """Whether nothing but the box constrains the drivers: no LP is needed."""
        rest = slice(self.n + self.q, None)
        return (
            not len(self.row_lower)
            and not self.bounded.any()
            and bool((self.implied | (self.lower == self.upper))[rest].all())
        )

    @property
    def n_queries(self) -> int:
        """Number of outputs of the network."""
        return int(self.queries.shape[0])

    def query(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The output columns that a query combines, and their weights."""
        span = slice(self.queries.indptr[k], self.queries.indptr[k + 1])
        return self.queries.indices[span], self.queries.data[span]

    def user_objective(self, cost: float) -> float:
        """The user's objective for a value of ``cost @ z``."""
        return self.sign * cost + self.offset

    def outputs(self, x: np.ndarray) -> np.ndarray:
        """Output columns (N, q) at drivers (N, n)."""
        if self.network is None:
            return np.zeros((len(x), 0))
        units = sum(node.size for node in self.network.nodes)
        some = max(1, MOST_VALUES // units)
        parts = [x[i : i + some] for i in range(0, len(x), some)] or [x]
        found = [self.network.evaluate(part)[:, : self.q] for part in parts]
        return np.concatenate(found)

    def define(self, made_of: Mapping[int, LinearInput]) -> None:
        """Add definitions of columns of the rest, by ``id``; others have theirs already."""
        place = {id(v): j for j, v in reversed(list(enumerate(self.columns)))}
        known = {*self.defined.tolist(), *range(self.n + self.q)}
        some = [
            (place[key], one) for key, one in made_of.items() if place[key] not in known
        ]
        parts = [
            (
                np.full(len(one.terms), k),
                [place[j] for j in one.terms],
                [*one.terms.values()],
            )
            for k, (_, one) in enumerate(some)
        ]
        more = matrix_of(len(some), len(self.columns), parts)
        constant = [one.constant for _, one in some]
        self.defined = np.append(self.defined, np.array([j for j, _ in some], dtype=int))
        self.definition = stacked(self.definition, more)
        self.definition_constant = np.append(self.definition_constant, constant)

    def settle(self, z: np.ndarray) -> None:
        """Give defined and nonlinear columns of points (N, m) their values, in place."""
        if len(self.defined):
            z[:, self.defined] = (self.definition @ z.T).T + self.definition_constant
        for part in self.nonlinear:
            z[:, part.column] = part.formula.value(z)

    def violation(self, x: np.ndarray) -> float:
        """As that of a program, and by how much formulas and SOS constraints are missed."""
        worst = super().violation(x)
        for part in self.nonlinear:
            y = float(part.formula.value(x[None])[0])
            if not abs(y) < math.inf:
                return math.inf
            worst = max(worst, abs(y - x[part.column]) / max(1.0, abs(y)))
        return max([worst, *(one.violation(x) for one in self.sos)])

    @property
    def beside_rows(self) -> np.ndarray:
        """The columns of formulas and SOS constraints, (k,)."""
        parts = [np.append(part.formula.columns, part.column) for part in self.nonlinear]
        found = [np.zeros(0, dtype=int), *parts, *(one.columns for one in self.sos)]
        return np.unique(np.concatenate(found))

    def sides(self, part: NonlinearPart) -> tuple[bool, bool]:
        """Whether a nonlinear column may be above its formula, and whether below.

        Where rows and cost only ask that the column be small, it may be above: what it
        stands for is then even smaller.
        """
        j = part.column
        uses = sp.csc_array(self.matrix[:, [j]])
        low, high = self.row_lower[uses.indices], self.row_upper[uses.indices]
        up = np.where(uses.data > 0, np.isfinite(low), np.isfinite(high)).any()
        down = np.where(uses.data > 0, np.isfinite(high), np.isfinite(low)).any()
        up = up or np.isfinite(self.lower[j]) or self.cost[j] < 0
        down = down or np.isfinite(self.upper[j]) or self.cost[j] > 0
        return not up, not down

    # ------------------------------------------------------------------- simplification
    def simplify(self) -> None:
        """Make rows of one column bounds, drop rows that always hold, fix free columns."""
        counts = np.diff(self.matrix.indptr)
        empty = (counts == 0) & ((self.row_lower > 1e-9) | (self.row_upper < -1e-9))
        if empty.any():
            self.infeasible = "a constraint without variables doesn't hold"
        for i in np.flatnonzero(counts == 1):
            self._use_as_bound(i)
        self._keep_rows(counts > 1)
        self._fix_free_rest()
        whole = self.integer & np.isfinite(self.lower)
        self.lower[whole] = np.ceil(self.lower[whole] - WHOLE)
        whole = self.integer & np.isfinite(self.upper)
        self.upper[whole] = np.floor(self.upper[whole] + WHOLE)
        crossed = np.flatnonzero(self.lower > self.upper)
        if len(crossed):
            gap = self.lower - self.upper
            if (gap > CROSSING * np.maximum(1.0, abs(self.lower))).any():
                name = self.columns[crossed[0]].name
                self.infeasible = f"the bounds of '{name}' cross"
            middle = 0.5 * (self.lower[crossed] + self.upper[crossed])
            self.lower[crossed] = self.upper[crossed] = middle

    def drop_implied(self) -> None:
        """Drop the row of each defined column that nothing else needs.

        Asked after :meth:`simplify`. The bounds of such a column must hold for all drivers
        in their box, or its row stays.
        """
        d, n = self.defined, self.n
        if not len(d):
            return
        low, high = self.box
        parts = sp.csr_array(self.definition[:, :n])
        up, down = parts.maximum(0.0), parts.minimum(0.0)
        least = up @ low + down @ high + self.definition_constant
        most = up @ high + down @ low + self.definition_constant
        others = sp.csr_array(self.definition[:, n:])
        within = np.asarray(np.diff(others.indptr) == 0)
        for bound, excess in (
            (self.lower[d], self.lower[d] - least),
            (self.upper[d], most - self.upper[d]),
        ):
            size = np.where(np.isfinite(bound), np.maximum(1.0, abs(bound)), 1.0)
            within &= excess <= CROSSING * size
        uses = sp.csc_array(self.matrix)
        single = np.diff(uses.indptr)[d] == 1
        alone = within & single & (self.cost[d] == 0) & ~np.isin(d, self.beside_rows)
        found = d[alone]
        self.lower[found] = np.maximum(self.lower[found], least[alone])
        self.upper[found] = np.minimum(self.upper[found], most[alone])
        rows = uses.indices[uses.indptr[found]]
        keep = np.ones(len(self.row_lower), dtype=bool)
        keep[rows] = False
        self.implied[found] = True
        self._keep_rows(keep)

    def _keep_rows(self, keep: np.ndarray) -> None:
        self.matrix = sp.csr_array(self.matrix[keep])
        self.row_lower, self.row_upper = self.row_lower[keep], self.row_upper[keep]

    def _use_as_bound(self, i: np.integer) -> None:
        """Meet the bounds of a row's only column with the row's."""
        k = self.matrix.indptr[i]
        j, a = self.matrix.indices[k], self.matrix.data[k]
        low, high = self.row_lower[i] / a, self.row_upper[i] / a
        if a < 0:
            low, high = high, low
        if self.n <= j < self.n + self.q:
            self.bounded[j - self.n] |= low > self.lower[j] or high < self.upper[j]
        self.lower[j] = max(self.lower[j], low)
        self.upper[j] = min(self.upper[j], high)

    def _fix_free_rest(self) -> None:
        """Columns of the rest that no row uses go to their best bound."""
        free = np.ones(len(self.columns), dtype=bool)
        free[: self.n + self.q] = False
        free[self.matrix.indices] = False
        free[self.beside_rows] = False
        for j in np.flatnonzero(free):
            low, high = self.lower[j], self.upper[j]
            best = low if self.cost[j] > 0 else high
            if self.cost[j] == 0:
                best = min(max(0.0, low), high)
            if self.integer[j] and math.isfinite(best):
                up = best == low
                best = math.ceil(best - WHOLE) if up else math.floor(best + WHOLE)
            if not math.isfinite(best):
                name = self.columns[j].name
                self.unbounded = f"nothing bounds '{name}' in the objective"
            elif low <= high:
                self.lower[j] = self.upper[j] = best

    # -------------------------------------------------------------------------- queries
    def find_queries(self) -> None:
        """The combinations of outputs that rows and objective use, each once."""
        one = np.ones(1)
        known = {_key(np.array([j]), one): j for j in range(self.q)}
        found = [(np.array([j]), one) for j in range(self.q)]

        def query_of(places: np.ndarray, values: np.ndarray) -> tuple[int, float]:
            if not len(places):
                return -1, 0.0
            unit = values / values[0]
            k = known.setdefault(_key(places, unit), len(found))
            if k == len(found):
                found.append((places, unit))
            return k, float(values[0])

        parts = sp.csr_array(self.matrix[:, self.n : self.n + self.q])
        ends = zip(parts.indptr, parts.indptr[1:])
        pairs = [query_of(parts.indices[a:b], parts.data[a:b]) for a, b in ends]
        self.row_query = np.array([k for k, _ in pairs], dtype=int)
        self.row_weight = np.array([a for _, a in pairs], dtype=float)
        cost = self.cost[self.n : self.n + self.q]
        places = np.flatnonzero(cost)
        self.cost_query, self.cost_weight = query_of(places, cost[places])
        rows = [
            (np.full(len(places), k), places, unit)
            for k, (places, unit) in enumerate(found)
        ]
        self.queries = matrix_of(len(found), self.q, rows)


def _key(places: np.ndarray, unit: np.ndarray) -> bytes:
    return places.astype(np.int64).tobytes() + unit.tobytes()
