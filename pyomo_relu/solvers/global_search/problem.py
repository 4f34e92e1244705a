"""The user's model as networks of a few variables plus a mixed-integer linear rest.

Whatever formulation the network blocks hold is left aside: the network itself says what
its outputs are. What remains are columns,

====================  ================================================================
drivers               variables that inputs depend on and no network determines
outputs               network outputs that the rest of the model uses
rest                  the user's other variables
====================  ================================================================

and linear rows between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from pyomo.environ import value

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.bounds import crown_arrays
from pyomo_relu.formulations import network_blocks
from pyomo_relu.network import Network
from pyomo_relu.presolve.fixed_outputs import compile_with_networks
from pyomo_relu.programs.standard_form import StandardForm
from pyomo_relu.programs.strangers import check_model
from pyomo_relu.solvers.global_search.as_rows import (
    note_of_rows,
    variable_used,
    without_layers,
)
from pyomo_relu.solvers.global_search.compose import (
    BlockLinks,
    compose,
    fold_constants,
    order_links,
    read_links,
)


@dataclass
class Problem:
    """``min cost @ z`` over columns ``z = (drivers, outputs, rest)`` and linear rows.

    Attributes
    ----------
    links : list of BlockLinks
        The network blocks, each after those it reads.
    network : Network or None
        From the drivers to the queries; None when no block depends on a variable.
    n, q : int
        Number of drivers and of output columns.
    columns : list of VarData
    lower, upper, cost : (m,) arrays
        ``cost`` is to be minimized.
    integer : (m,) bool array
    offset : float
        The user's objective is ``sign * (cost @ z) + offset``.
    sign : float
        -1 where the user maximizes.
    objective : ObjectiveData or None
    matrix : (rows, m) CSR array
    row_lower, row_upper : (rows,) arrays
    queries : (Q, q) array
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
    """

    links: list[BlockLinks]
    network: Network | None
    n: int
    q: int
    columns: list[Any]
    lower: np.ndarray
    upper: np.ndarray
    cost: np.ndarray
    integer: np.ndarray
    offset: float
    sign: float
    objective: Any
    matrix: sp.csr_array
    row_lower: np.ndarray
    row_upper: np.ndarray
    queries: np.ndarray
    row_query: np.ndarray
    row_weight: np.ndarray
    cost_query: int
    cost_weight: float
    bounded: np.ndarray
    infeasible: str | None = None
    unbounded: str | None = None
    as_rows: list[str] = field(default_factory=list)

    @cached_property
    def by_id(self) -> dict[int, Any]:
        """Every variable that inputs depend on, by ``id``."""
        found = {id(v): v for v in self.columns}
        return found | {id(v): v for link in self.links for v in link.outputs}

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
            and bool((self.lower[rest] == self.upper[rest]).all())
        )

    def user_objective(self, cost: float) -> float:
        """The user's objective for a value of ``cost @ z``."""
        return self.sign * cost + self.offset

    def outputs(self, x: np.ndarray) -> np.ndarray:
        """Output columns (N, q) at drivers (N, n)."""
        if self.network is None:
            return np.zeros((len(x), 0))
        return self.network.evaluate(x)[:, : self.q]

    def violation(self, z: np.ndarray) -> float:
        """Largest violation of a row, a bound or integrality; rows relative."""
        worst = float(np.max(np.maximum(self.lower - z, z - self.upper), initial=0.0))
        whole = z[self.integer]
        worst = max(worst, float(np.max(np.abs(whole - np.round(whole)), initial=0.0)))
        activity = self.matrix @ z
        for gap, bound in (
            (self.row_lower - activity, self.row_lower),
            (activity - self.row_upper, self.row_upper),
        ):
            scale = np.where(np.isfinite(bound), np.maximum(1.0, np.abs(bound)), 1.0)
            worst = max(worst, float(np.max(gap / scale, initial=0.0)))
        return worst


def read_problem(model, deadline: Deadline = NEVER) -> Problem:
    """Split a model into networks and a mixed-integer linear rest.

    Raises
    ------
    TimeUp
        When the deadline has passed.
    IncompatibleModelError
        If the rest isn't mixed-integer linear.
    ValueError
        For nonlinear input expressions, inputs without finite bounds, and inputs whose
        bounds were widened after their block's formulation was written.
    """
    check_model(model, "relu_global")
    networks, as_rows = [], []
    for block in network_blocks(model):
        deadline.check()
        if not block.has_network:
            raise ValueError(
                f"'{block.name}' has no network; call build(network, inputs), or "
                "deactivate it."
            )
        block.check_box()
        change = next(block.changes(), None)
        if change is None:
            block.present_box()  # refuses an open box, naming the variable
            networks.append(block)
        else:
            as_rows.append(note_of_rows(block, change.text))
    while True:
        with without_layers(networks):
            form = compile_with_networks(model, "relu_global", deadline)
        variables: dict[int, Any] = {}
        links = []
        for block in networks:
            deadline.check()
            links.append(read_links(block, variables))
        used = form.column_numbers().keys() | variables.keys()
        touched = [b for b in networks if variable_used(b, used) is not None]
        if not touched:
            break
        # Their rows may use variables of further networks, so all is read again.
        for block in touched:
            name = variable_used(block, used).name
            as_rows.append(note_of_rows(block, f"'{name}' is used outside of it"))
        networks = [b for b in networks if all(b is not t for t in touched)]
    links, cut = order_links(links)
    problem = _assemble(form, links, cut, variables, deadline)
    problem.as_rows = as_rows
    return problem


def _assemble(form: StandardForm, links, cut, variables, deadline: Deadline) -> Problem:
    made = {id(v) for link in links for v in link.outputs} - cut
    drivers = [v for key, v in variables.items() if key not in made]
    used = form.column_numbers()
    constant = fold_constants(links)
    live = [link for link in links if any(one.terms for one in link.inputs)]
    low, high, extra = _boxes(drivers, live, variables, made)
    wanted, bound = _wanted(used, cut, extra, live, drivers, low, high, constant)
    of_driver = {id(v) for v in drivers}
    of_output = {id(v) for v in wanted}
    rest = [v for v in form.columns if id(v) not in of_driver | of_output]
    columns = [*drivers, *wanted, *rest]
    n, q = len(drivers), len(wanted)
    place = {id(v): j for j, v in enumerate(drivers)}
    for j, v in enumerate(wanted):  # a cut output: its own uses mean the driver
        place.setdefault(id(v), n + j)
    place |= {id(v): n + q + j for j, v in enumerate(rest)}

    m = len(columns)
    lower, upper, cost = np.full(m, -np.inf), np.full(m, np.inf), np.zeros(m)
    integer = np.zeros(m, dtype=bool)
    for j, v in enumerate(columns):
        a, b = v.bounds if not v.fixed else (value(v), value(v))
        lower[j] = -math.inf if a is None else a
        upper[j] = math.inf if b is None else b
        integer[j] = v.is_integer()
        if id(v) in constant:
            y = constant[id(v)]
            if not lower[j] - 1e-6 <= y <= upper[j] + 1e-6:
                lower[j], upper[j] = 1.0, 0.0  # crossed: infeasible
            else:
                lower[j] = upper[j] = y
    lower[:n], upper[:n] = np.maximum(lower[:n], low), np.minimum(upper[:n], high)
    sign = -1.0 if form.maximize else 1.0
    for v, c in zip(form.columns, form.cost):
        cost[place[id(v)]] += sign * c
    entries = sp.coo_array(form.matrix)
    at = np.array([place[id(v)] for v in form.columns], dtype=int)
    rows = [
        sp.csr_array(
            (entries.data, (entries.row, at[entries.col])),
            shape=(len(form.rows), m),
        )
    ]
    lows, highs = [form.row_lower], [form.row_upper]
    for terms, a, b in extra:
        if all(key in place for key in terms):
            rows.append(_row(terms, place, m))
            lows.append(np.array([a]))
            highs.append(np.array([b]))
    for j, v in enumerate(wanted):
        if id(v) in cut:
            link = sp.csr_array(
                ([1.0, -1.0], ([0, 0], [place[id(v)], n + j])), shape=(1, m)
            )
            rows.append(link)
            lows.append(np.zeros(1))
            highs.append(np.zeros(1))
    matrix = sp.csr_array(sp.vstack(rows))
    matrix.sum_duplicates()
    row_lower, row_upper = np.concatenate(lows), np.concatenate(highs)
    problem = Problem(
        links, None, n, q, columns, lower, upper, cost, integer, form.offset, sign,
        form.objective, matrix, row_lower, row_upper, np.zeros((0, q)),
        np.zeros(0, dtype=int), np.zeros(0), -1, 0.0, np.array(bound, dtype=bool),
    )  # fmt: skip
    for link in links:  # outputs of blocks that depend on no variable
        for v in link.outputs:
            if id(v) in constant and not _holds(v, constant[id(v)]):
                problem.infeasible = (
                    f"'{v.name}' is constant and violates its bounds or its domain"
                )
    _presolve(problem)
    _add_queries(problem, live, drivers, wanted, deadline)
    return problem


def _holds(v, y: float) -> bool:
    """Whether an output variable may have the value ``y``."""
    low, high = (value(v), value(v)) if v.fixed else v.bounds
    slack = 1e-6 * max(1.0, abs(y))
    if v.is_integer() and abs(y - round(y)) > slack:
        return False
    return (low is None or y >= low - slack) and (high is None or y <= high + slack)


def _row(terms: dict[int, float], place: dict[int, int], m: int):
    columns = [place[key] for key in terms]
    return sp.csr_array(
        (list(terms.values()), (np.zeros(len(columns), dtype=int), columns)), shape=(1, m)
    )


def _boxes(drivers, live, variables, made):
    """The box of the drivers, and rows for boxes of expressions and of outputs."""
    low, high = [], []
    for v in drivers:
        a, b = v.bounds
        low.append(-math.inf if a is None else float(a))
        high.append(math.inf if b is None else float(b))
    low, high = np.array(low), np.array(high)
    column = {id(v): j for j, v in enumerate(drivers)}
    extra = []
    for link in live:
        given = link.block.given_box
        for i, one in enumerate(link.inputs):
            a, b = float(given[0][i]), float(given[1][i])
            if not one.terms or (a == -math.inf and b == math.inf):
                continue
            a, b = a - one.constant, b - one.constant
            (key, w), *more = one.terms.items()
            if not more and key in column:
                a, b = (a / w, b / w) if w > 0 else (b / w, a / w)
                j = column[key]
                low[j], high[j] = max(low[j], a), min(high[j], b)
            else:
                extra.append((one.terms, a, b))
    names = {id(v): v.name for v in drivers}
    for j, v in enumerate(drivers):
        if not (math.isfinite(low[j]) and math.isfinite(high[j])):
            link = next(k for k in live for one in k.inputs if id(v) in one.terms)
            raise ValueError(
                f"'{link.block.name}': variable '{names[id(v)]}' in an input has no "
                "finite bounds, so there is no box to search; give it bounds."
            )
    return low, high, extra


def _wanted(used, cut, extra, live, drivers, low, high, constant):
    """The output variables that need a column, and whether their bounds say anything."""
    asked = {key for terms, _, _ in extra for key in terms}
    outputs = [v for link in live for v in link.outputs]
    if not outputs:
        return [], []
    implied = {}  # bounds that the block itself gave its outputs
    for link in live:
        own = link.block.written_output_bounds
        for k, v in enumerate(link.outputs):
            implied[id(v)] = (None, None) if own is None else (own[0][k], own[1][k])
    found, bound, ranges = [], [], None
    for k, v in enumerate(outputs):
        (c, d), known = v.bounds, implied[id(v)]
        own_low = c is not None and c != known[0]
        own_high = d is not None and d != known[1]
        tight = v.fixed or v.is_integer()
        if (own_low or own_high) and not tight:
            if ranges is None:
                network = compose(live, drivers, outputs, np.eye(len(outputs)))
                box = low[None], np.maximum(low, high)[None]
                ranges = [a[network.outputs[0]][0] for a in crown_arrays(network, *box)]
            tight = (own_low and c > ranges[0][k]) or (own_high and d < ranges[1][k])
        if tight or id(v) in used or id(v) in asked or id(v) in cut:
            found.append(v)
            bound.append(tight)
    return found, bound


def _presolve(p: Problem) -> None:
    """Rows of one column become bounds; rows that always hold are dropped."""
    counts = np.diff(p.matrix.indptr)
    keep = np.ones(len(counts), dtype=bool)
    for i in np.flatnonzero(counts <= 1):
        keep[i] = False
        if counts[i] == 0:
            if p.row_lower[i] > 1e-9 or p.row_upper[i] < -1e-9:
                p.infeasible = "a constraint without variables doesn't hold"
            continue
        k = p.matrix.indptr[i]
        j, a = p.matrix.indices[k], p.matrix.data[k]
        low, high = p.row_lower[i] / a, p.row_upper[i] / a
        if a < 0:
            low, high = high, low
        if p.n <= j < p.n + p.q:
            p.bounded[j - p.n] |= low > p.lower[j] or high < p.upper[j]
        p.lower[j], p.upper[j] = max(p.lower[j], low), min(p.upper[j], high)
    p.matrix = sp.csr_array(p.matrix[keep])
    p.row_lower, p.row_upper = p.row_lower[keep], p.row_upper[keep]
    _fix_free_rest(p)
    whole = p.integer & np.isfinite(p.lower)
    p.lower[whole] = np.ceil(p.lower[whole] - 1e-6)
    whole = p.integer & np.isfinite(p.upper)
    p.upper[whole] = np.floor(p.upper[whole] + 1e-6)
    crossed = np.flatnonzero(p.lower > p.upper)
    if len(crossed):
        j = crossed[0]
        if (p.lower - p.upper > 1e-9 * np.maximum(1.0, abs(p.lower))).any():
            p.infeasible = f"the bounds of '{p.columns[j].name}' cross"
        middle = 0.5 * (p.lower[crossed] + p.upper[crossed])
        p.lower[crossed] = p.upper[crossed] = middle


def _fix_free_rest(p: Problem) -> None:
    """Columns of the rest that no row uses go to their best bound."""
    in_rows = np.zeros(len(p.columns), dtype=bool)
    in_rows[p.matrix.indices] = True
    for j in range(p.n + p.q, len(p.columns)):
        if in_rows[j]:
            continue
        low, high = p.lower[j], p.upper[j]
        best = low if p.cost[j] > 0 else high
        if p.cost[j] == 0:
            best = min(max(0.0, low), high)
        if p.integer[j] and math.isfinite(best):
            best = math.ceil(best - 1e-6) if best == low else math.floor(best + 1e-6)
        if not math.isfinite(best):
            p.unbounded = f"nothing bounds '{p.columns[j].name}' in the objective"
        elif low <= high:
            p.lower[j] = p.upper[j] = best


def _add_queries(
    p: Problem,
    live,
    drivers: Sequence[Any],
    wanted: Sequence[Any],
    deadline: Deadline,
) -> None:
    rows = np.eye(p.q)
    known: dict[bytes, int] = {row.tobytes(): k for k, row in enumerate(rows)}
    found = list(rows)

    def query_of(part: np.ndarray) -> tuple[int, float]:
        places = np.flatnonzero(part)
        if not len(places):
            return -1, 0.0
        scale = part[places[0]]
        unit = part / scale
        key = unit.tobytes()
        if key not in known:
            known[key] = len(found)
            found.append(unit)
        return known[key], float(scale)

    parts = p.matrix[:, p.n : p.n + p.q].toarray()
    pairs = [query_of(part) for part in parts]
    p.row_query = np.array([k for k, _ in pairs], dtype=int)
    p.row_weight = np.array([a for _, a in pairs])
    p.cost_query, p.cost_weight = query_of(p.cost[p.n : p.n + p.q])
    p.queries = np.array(found).reshape(len(found), p.q)
    if p.q:
        p.network = compose(live, drivers, wanted, p.queries, deadline)
