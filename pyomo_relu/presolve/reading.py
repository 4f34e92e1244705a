"""Reading a model as a :class:`~pyomo_relu.presolve.problem.Problem`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pyomo.environ import value

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.bounds import crown_arrays
from pyomo_relu.formulations import network_blocks
from pyomo_relu.presolve.as_rows import note_of_rows, variable_used, without_layers
from pyomo_relu.presolve.compose import (
    BlockLinks,
    compose,
    fold_constants,
    order_links,
    read_links,
)
from pyomo_relu.presolve.fixed_outputs import compile_with_networks
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.programs import LinearProgram, ProgramBuilder, part_of
from pyomo_relu.programs.standard_form import StandardForm
from pyomo_relu.programs.strangers import check_model

#: A constant output may break its bounds by so much, relative to it (chosen by hand).
TOLERANCE = 1e-6


def read_problem(model: Any, deadline: Deadline = NEVER) -> Problem:
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
    networks, as_rows = _networks(model, deadline)
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
    assembly = _Assembly(form, links, cut, variables)
    problem = assembly.problem()
    problem.as_rows = as_rows
    problem.simplify()
    problem.find_queries()
    if problem.q:
        drivers, wanted = assembly.drivers, assembly.wanted
        queries = problem.queries
        problem.network = compose(assembly.live, drivers, wanted, queries, deadline)
    return problem


def _networks(model: Any, deadline: Deadline) -> tuple[list[Any], list[str]]:
    """The blocks that count as their networks, and why the others do as their rows."""
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
    return networks, as_rows


class _Assembly:
    """The columns and rows of a problem.

    Parameters
    ----------
    form : StandardForm
        Of the model without the rows of its networks.
    links : list of BlockLinks
        Each after those it reads.
    cut : set of int
        ``id`` of outputs that are read before they are made: inputs of their own, which
        a row makes equal to the output.
    variables : dict
        What inputs depend on, by ``id``.
    """

    def __init__(
        self,
        form: StandardForm,
        links: list[BlockLinks],
        cut: set[int],
        variables: dict[int, Any],
    ) -> None:
        self.form, self.links, self.cut = form, links, cut
        made = {id(v) for link in links for v in link.outputs} - cut
        self.drivers = [v for key, v in variables.items() if key not in made]
        self.constant = fold_constants(links)
        self.live = [link for link in links if any(one.terms for one in link.inputs)]
        # Boxes of expressions and of outputs: terms, least and largest value.
        self.boxes: list[tuple[dict[int, float], float, float]] = []
        self.low, self.high = self._driver_box()
        self.wanted, self.bounded = self._wanted()
        known = {id(v) for v in (*self.drivers, *self.wanted)}
        self.rest = [v for v in form.columns if id(v) not in known]

    def _driver_box(self) -> tuple[np.ndarray, np.ndarray]:
        """The box of the drivers; what else boxes of inputs say is kept for rows."""
        ends = np.array([_bounds(v) for v in self.drivers]).reshape(-1, 2)
        low, high = ends[:, 0].copy(), ends[:, 1].copy()
        column = {id(v): j for j, v in enumerate(self.drivers)}
        for link in self.live:
            for one, a, b in zip(link.inputs, *map(np.ndarray.tolist, link.given_box)):
                if not one.terms or (a == -math.inf and b == math.inf):
                    continue
                a, b = a - one.constant, b - one.constant
                (key, w), *more = one.terms.items()
                if not more and key in column:
                    a, b = (a / w, b / w) if w > 0 else (b / w, a / w)
                    j = column[key]
                    low[j], high[j] = max(low[j], a), min(high[j], b)
                else:
                    self.boxes.append((one.terms, a, b))
        for k in np.flatnonzero(~(np.isfinite(low) & np.isfinite(high))):
            v = self.drivers[k]
            link = next(b for b in self.live for one in b.inputs if id(v) in one.terms)
            raise ValueError(
                f"'{link.block.name}': variable '{v.name}' in an input has no "
                "finite bounds, so there is no box to search; give it bounds."
            )
        return low, high

    def _wanted(self) -> tuple[list[Any], np.ndarray]:
        """The output variables that need a column, and whether their bounds say more."""
        outputs = [v for link in self.live for v in link.outputs]
        tight = self._tight(outputs)
        asked = self.form.column_numbers().keys() | self.cut
        asked |= {key for terms, _, _ in self.boxes for key in terms}
        keep = [k for k, v in enumerate(outputs) if tight[k] or id(v) in asked]
        return [outputs[k] for k in keep], tight[keep]

    def _tight(self, outputs: list[Any]) -> np.ndarray:
        """Which outputs have a domain, or bounds of the user's, inside their range."""
        tight = np.array([v.fixed or v.is_integer() for v in outputs], dtype=bool)
        written: list[tuple[Any, Any]] = []  # bounds that the block gave its outputs
        for link in self.live:
            own = link.block.written_output_bounds
            written += zip(*own) if own is not None else [(None, None)] * len(link.outputs)
        low, high = np.full(len(outputs), -np.inf), np.full(len(outputs), np.inf)
        for k, (v, known) in enumerate(zip(outputs, written)):
            a, b = v.bounds
            low[k] = -np.inf if a is None or a == known[0] else a
            high[k] = np.inf if b is None or b == known[1] else b
        if (~tight & (np.isfinite(low) | np.isfinite(high))).any():
            queries = sp.eye_array(len(outputs), format="csr")
            network = compose(self.live, self.drivers, outputs, queries)
            box = self.low[None], np.maximum(self.low, self.high)[None]
            least, most = (a[network.outputs[0]][0] for a in crown_arrays(network, *box))
            tight |= (low > least) | (high < most)
        return tight

    # ------------------------------------------------------------------- the problem
    def problem(self) -> Problem:
        """Columns and rows; not simplified, and without a network of the queries."""
        form, n, q = self.form, len(self.drivers), len(self.wanted)
        columns = [*self.drivers, *self.wanted, *self.rest]
        # A cut output: its own uses mean the driver, which comes first.
        place: dict[int, int] = {}
        for j, v in enumerate(columns):
            place.setdefault(id(v), j)
        at = np.array([place[id(v)] for v in form.columns], dtype=int)
        sign = -1.0 if form.maximize else 1.0
        cost = np.zeros(len(columns))
        np.add.at(cost, at, sign * form.cost)
        program = self._program(columns, place, at)
        assert program.integer is not None
        return Problem(
            cost=cost,
            lower=program.lower,
            upper=program.upper,
            matrix=program.matrix,
            row_lower=program.row_lower,
            row_upper=program.row_upper,
            integer=program.integer,
            offset=form.offset,
            links=self.links,
            n=n,
            q=q,
            columns=columns,
            bounded=self.bounded,
            sign=sign,
            objective=form.objective,
            infeasible=self._broken_constant(),
        )

    def _program(
        self, columns: list[Any], place: dict[int, int], at: np.ndarray
    ) -> LinearProgram:
        form, n, builder = self.form, len(self.drivers), ProgramBuilder()
        ends = np.array([self._column_bounds(v) for v in columns]).reshape(-1, 2)
        low, high = ends[:, 0].copy(), ends[:, 1].copy()
        low[:n], high[:n] = np.maximum(low[:n], self.low), np.minimum(high[:n], self.high)
        builder.add_columns(low, high, [v.is_integer() for v in columns])
        r, c, values = part_of(form.matrix)
        builder.add_rows(
            len(form.rows), [(r, at[c], values)], form.row_lower, form.row_upper
        )
        zero = np.zeros(1, dtype=int)
        for terms, a, b in self.boxes:
            if all(key in place for key in terms):
                where = np.array([place[key] for key in terms])
                part = (np.zeros_like(where), where, list(terms.values()))
                builder.add_rows(1, [part], a, b)
        for j, v in enumerate(self.wanted):
            if id(v) in self.cut:
                parts = [(zero, zero + place[id(v)], 1.0), (zero, zero + n + j, -1.0)]
                builder.add_rows(1, parts, 0.0, 0.0)
        return builder.program

    def _column_bounds(self, v: Any) -> tuple[float, float]:
        """Bounds of a column; a constant output is its value, or crossed bounds."""
        low, high = _bounds(v)
        y = self.constant.get(id(v))
        if y is None:
            return low, high
        return (y, y) if low - TOLERANCE <= y <= high + TOLERANCE else (1.0, 0.0)

    def _broken_constant(self) -> str | None:
        """Why the model is infeasible, where an output of constants can't be its value."""
        for link in self.links:
            for v in link.outputs:
                y = self.constant.get(id(v))
                if y is not None and not _holds(v, y):
                    return f"'{v.name}' is constant and violates its bounds or its domain"
        return None


def _bounds(v: Any) -> tuple[float, float]:
    """The bounds of a variable, both its value where it is fixed."""
    if v.fixed:
        return value(v), value(v)
    low, high = v.bounds
    return -math.inf if low is None else low, math.inf if high is None else high


def _holds(v: Any, y: float) -> bool:
    """Whether an output variable may have the value ``y``."""
    low, high = _bounds(v)
    slack = TOLERANCE * max(1.0, abs(y))
    if v.is_integer() and abs(y - round(y)) > slack:
        return False
    return low - slack <= y <= high + slack
