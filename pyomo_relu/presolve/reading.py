"""Reading a model as a :class:`~pyomo_relu.presolve.problem.Problem`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyomo.common.gc_manager import PauseGC
from pyomo.environ import value

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.bounds import crown_arrays
from pyomo_relu.formulations import network_blocks
from pyomo_relu.presolve.as_rows import note_of_rows, variable_used, without_layers
from pyomo_relu.presolve.compose import (
    BlockLinks,
    LinearInput,
    compose,
    fold_constants,
    order_links,
    read_links,
)
from pyomo_relu.presolve.eliminate import eliminate
from pyomo_relu.presolve.fixed_outputs import compile_with_networks
from pyomo_relu.presolve.model_scope import unchanged_models
from pyomo_relu.presolve.nonlinear_inputs import NonlinearInputs
from pyomo_relu.presolve.problem import NonlinearPart, Problem, SosColumns
from pyomo_relu.presolve.substitute import Definitions, find_definitions
from pyomo_relu.presolve.tabulate import Tabulated, bound_outputs, tabulate
from pyomo_relu.programs import LinearProgram, ProgramBuilder, matrix_of, part_of
from pyomo_relu.programs.formula import Formula
from pyomo_relu.programs.standard_form import StandardForm
from pyomo_relu.programs.strangers import check_model

#: A constant output may break its bounds by so much, relative to it (chosen by hand).
TOLERANCE = 1e-6


def read_problem(
    model: Any,
    deadline: Deadline = NEVER,
    solver: str = "relu_global",
    general: bool = False,
) -> Problem:
    """Split a model into networks and a mixed-integer linear rest.

    Parameters
    ----------
    model : BlockData
    deadline : Deadline
    solver : str
        The name that errors give the one who asks.
    general : bool
        Take nonlinear terms, in inputs, too, and SOS constraints as well, see
        :attr:`Problem.nonlinear <pyomo_relu.presolve.problem.Problem>`.

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
    check_model(model, solver)
    # The collector of garbage would walk through the model again and again.
    with PauseGC():
        return _read(model, deadline, solver, general)


def _read(model: Any, deadline: Deadline, solver: str, general: bool) -> Problem:
    with unchanged_models():
        networks, as_rows = _networks(model, deadline)
    while True:
        with without_layers(networks):
            form = compile_with_networks(model, solver, deadline, general)
        variables: dict[int, Any] = {}
        links, inputs = [], NonlinearInputs()
        stand_in = inputs.stand_in if general else None
        for block in networks:
            deadline.check()
            links.append(read_links(block, variables, solver, stand_in))
        form = inputs.in_form(form)
        used = form.column_numbers().keys() | variables.keys()
        touched = [b for b in networks if variable_used(b, used) is not None]
        if not touched:
            break
        # Their rows may use variables of further networks, so all is read again.
        for block in touched:
            name = variable_used(block, used).name
            as_rows.append(note_of_rows(block, f"'{name}' is used outside of it"))
        gone = {id(b) for b in touched}
        networks = [b for b in networks if id(b) not in gone]
    links, cut = order_links(links)
    table = tabulate(form, links)
    cut &= {id(v) for link in table.links for v in link.outputs}
    return _Reading(table, cut, variables, as_rows, inputs).problem(deadline)


@dataclass
class _Reading:
    """What both views of a model are made from.

    Attributes
    ----------
    table : Tabulated
        The model without the rows of its networks, and these as the user wrote them, each
        after those it reads; some are rows of the model.
    cut : set of int
        ``id`` of outputs that are read before they are made: inputs of their own, which
        a row makes equal to the output.
    variables : dict
        What inputs depend on, by ``id``.
    as_rows : list of str
    inputs : NonlinearInputs
        Which of the variables stand for expressions.
    """

    table: Tabulated
    cut: set[int]
    variables: dict[int, Any]
    as_rows: list[str]
    inputs: NonlinearInputs

    def problem(self, deadline: Deadline) -> Problem:
        """The view for bounds: what is affine in one variable is replaced."""
        definitions = self._definitions(general=False, deadline=deadline)
        problem = self._view(definitions, (), deadline)

        def for_points(deadline: Deadline) -> Problem | None:
            more = self._definitions(general=True, deadline=deadline)
            if more.row.keys() == definitions.row.keys():
                return None
            with PauseGC():
                return self._view(more, [id(v) for v in problem.columns], deadline)

        problem.make_points_view = for_points
        return problem

    def _definitions(self, general: bool, deadline: Deadline) -> Definitions:
        form, links = self.table.form, self.table.links
        return find_definitions(form, links, self.cut, self.variables, general, deadline)

    def _view(
        self, definitions: Definitions, asked: Iterable[int], deadline: Deadline
    ) -> Problem:
        """The model, its inputs written with their definitions."""
        table = self.table
        deadline.check()
        links, cut = order_links(definitions.in_links(table.links), self.cut)
        assembly = _Assembly(
            table.form, links, cut, self.variables, definitions, asked, deadline
        )
        problem = assembly.problem()
        problem.as_rows = self.as_rows
        problem.stand_ins = self.inputs.columns(problem.columns)
        eliminate(problem, assembly.own_rows)
        problem.tabulated = table.as_rows
        problem.define(table.made_of)
        problem.simplify()
        problem.drop_implied()
        bound_outputs(problem)
        problem.find_queries()
        deadline.check()
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
        ``id`` of outputs that are inputs of their own.
    variables : dict
        What inputs of the user's blocks depend on, by ``id``.
    definitions : Definitions
        With which the inputs of the links are written.
    asked : iterable of int
        ``id`` of variables that shall be columns in any case.
    deadline : Deadline
    """

    def __init__(
        self,
        form: StandardForm,
        links: list[BlockLinks],
        cut: set[int],
        variables: dict[int, Any],
        definitions: Definitions,
        asked: Iterable[int],
        deadline: Deadline,
    ) -> None:
        self.form, self.links, self.cut = form, links, cut
        self.definitions, self.asked = definitions, set(asked)
        self.deadline = deadline
        self.by_id = variables | {id(v): v for v in form.columns}
        self.drivers = self._drivers(variables)
        self.constant = fold_constants(links)
        self.live = [link for link in links if any(one.terms for one in link.inputs)]
        # Boxes of expressions and of outputs: terms, least and largest value.
        self.boxes: list[tuple[dict[int, float], float, float]] = []
        self.low, self.high = self._driver_box()
        self.wanted, self.bounded = self._wanted()
        known = {id(v) for v in (*self.drivers, *self.wanted)}
        self.rest = [v for v in form.columns if id(v) not in known]
        known |= {id(v) for v in form.columns}
        self.rest += [v for key, v in variables.items() if self._alone(key, known)]

    def _drivers(self, variables: dict[int, Any]) -> list[Any]:
        """What inputs read and no network makes, in the order in which it is met."""
        made = {id(v) for link in self.links for v in link.outputs} - self.cut
        read = {key for link in self.links for one in link.inputs for key in one.terms}
        return [v for key, v in self.by_id.items() if key in read and key not in made]

    def _ends(self, v: Any) -> tuple[float, float]:
        """The bounds of a variable; where it has none, what rows of one variable say."""
        low, high = _bounds(v)
        if math.isinf(low) or math.isinf(high):
            return self.definitions.columns.box(v)
        return low, high

    def _outside(self) -> str | None:
        """Why the model is infeasible, where a constant input isn't in its given box."""
        for link in self.links:
            for i, one in enumerate(link.inputs):
                low, high = (float(side[i]) for side in link.given_box)
                slack = TOLERANCE * max(1.0, abs(one.constant))
                if not one.terms and not low - slack <= one.constant <= high + slack:
                    return (
                        f"input {i} of '{link.block.name}' is {one.constant:g}, outside of "
                        f"the bounds [{low:g}, {high:g}] that its block was given"
                    )
        return None

    def _alone(self, key: int, known: set[int]) -> bool:
        """Whether a variable of inputs occurs in nothing else, and has one value."""
        return key in self.definitions.made_of and key not in known

    def _driver_box(self) -> tuple[np.ndarray, np.ndarray]:
        """The box of the drivers; what else boxes of inputs say is kept for rows."""
        ends = np.array([self._ends(v) for v in self.drivers], dtype=float).reshape(-1, 2)
        low, high = ends[:, 0].copy(), ends[:, 1].copy()
        column = {id(v): j for j, v in enumerate(self.drivers)}

        def meet(one: LinearInput, a: float, b: float) -> bool:
            """Shrink the box where a linear function has one term; whether it has."""
            if len(one.terms) != 1:
                return False
            ((key, w),) = one.terms.items()
            if key not in column:
                return False
            a, b = (a - one.constant) / w, (b - one.constant) / w
            j = column[key]
            low[j], high[j] = max(low[j], min(a, b)), min(high[j], max(a, b))
            return True

        for link in self.live:
            for one, a, b in zip(link.inputs, *map(np.ndarray.tolist, link.given_box)):
                if not one.terms or (a == -math.inf and b == math.inf):
                    continue
                if not meet(one, a, b):
                    self.boxes.append((one.terms, a - one.constant, b - one.constant))
        for key, one in self.definitions.made_of.items():
            meet(one, *self._ends(self.by_id[key]))
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
        asked |= {key for terms, _, _ in self.boxes for key in terms} | self.asked
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
            network = compose(self.live, self.drivers, outputs, queries, self.deadline)
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
        defined = [key for key in self.definitions.made_of if key in self.definitions.row]
        made_of = [self.definitions.made_of[key] for key in defined]
        self.own_rows = np.array([self.definitions.row[k] for k in defined], dtype=int)
        parts = [
            (
                np.full(len(one.terms), k),
                [place[j] for j in one.terms],
                [*one.terms.values()],
            )
            for k, one in enumerate(made_of)
        ]
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
            infeasible=self._broken_constant() or self._outside(),
            defined=np.array([place[key] for key in defined], dtype=int),
            definition=matrix_of(len(defined), len(columns), parts),
            definition_constant=np.array([one.constant for one in made_of]),
            nonlinear=[
                NonlinearPart(int(at[j]), Formula(e, place)) for j, e in form.nonlinear
            ],
            sos=[
                SosColumns(one.level, np.array([place[id(v)] for v in one.variables]))
                for one in form.sos
            ],
        )

    def _program(
        self, columns: list[Any], place: dict[int, int], at: np.ndarray
    ) -> LinearProgram:
        form, n, builder = self.form, len(self.drivers), ProgramBuilder()
        ends = np.array([self._column_bounds(v) for v in columns], dtype=float).reshape(
            -1, 2
        )
        low, high = ends[:, 0].copy(), ends[:, 1].copy()
        low[:n], high[:n] = np.maximum(low[:n], self.low), np.minimum(high[:n], self.high)
        builder.add_columns(low, high, [v.is_integer() for v in columns])
        r, c, values = part_of(form.matrix)
        builder.add_rows(
            len(form.row_lower), [(r, at[c], values)], form.row_lower, form.row_upper
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
