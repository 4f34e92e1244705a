"""Networks whose inputs take few values: rows, or at least exact ranges.

Where binaries of which at most one is 1 say what all inputs of a network are, its outputs
are affine in them, exactly: ``y == sum f(v[k]) z[k]``. The row is as tight as can be, and
the network is gone. Where several choices do, all values together bound the outputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network import Network, PiecewiseLinear
from pyomo_relu.presolve.compose import BlockLinks, LinearInput
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.presolve.settings import VALUES
from pyomo_relu.presolve.substitute import Columns
from pyomo_relu.presolve.values import ByChoice, FiniteValues, find_values
from pyomo_relu.programs import Rows, matrix_of
from pyomo_relu.programs.standard_form import StandardForm


@dataclass
class Tabulated:
    """A model some of whose networks are rows.

    Attributes
    ----------
    form : StandardForm
        With rows for the outputs of the networks, and columns for all of these outputs.
    links : list of BlockLinks
        Those that are still networks.
    as_rows : list of BlockLinks
        The others.
    made_of : dict
        What choices make of inputs and outputs of the others, in terms of binaries.
    """

    form: StandardForm
    links: list[BlockLinks]
    as_rows: list[BlockLinks] = field(default_factory=list)
    made_of: dict[int, LinearInput] = field(default_factory=dict)


def tabulate(form: StandardForm, links: Sequence[BlockLinks]) -> Tabulated:
    """Write networks whose inputs one choice determines as rows of a model.

    Parameters
    ----------
    form : StandardForm
        Of the model without the rows of its networks.
    links : sequence of BlockLinks
        Each after those it reads.
    """
    if not form.integer.any():
        return Tabulated(form, list(links))
    table = _Table(form)
    left, taken = list[BlockLinks](), list[BlockLinks]()
    for link in links:
        (taken if table.take(link) else left).append(link)
    if not taken:
        return Tabulated(form, left)
    return Tabulated(table.form_with_rows(taken), left, taken, table.made_of)


class _Table:
    """What choices make of variables, by ``id``; more is known with each network."""

    def __init__(self, form: StandardForm) -> None:
        self.form, self.columns = form, Columns(form)
        self.found: FiniteValues = find_values(form, self.columns.low, self.columns.high)
        self.by_id = {id(form.columns[j]): one for j, one in self.found.by_choice.items()}
        self.made_of: dict[int, LinearInput] = {}

    def take(self, link: BlockLinks) -> bool:
        """Evaluate a network at all that a choice can be; whether one is enough."""
        network = link.block.network
        used = {key for one in link.inputs for key in one.terms}
        moving = {key for key in used if self._constant(key) is None}
        numbers = {self.by_id[key].choice for key in moving if key in self.by_id}
        if len(numbers) != 1 or not moving <= self.by_id.keys() or _has_steps(network):
            return False
        number = numbers.pop()
        choice = self.found.choices[number]
        if len(choice.columns) * len(link.outputs) > VALUES.most_entries:
            return False
        # One row for each binary, then one for none of them.
        inputs = [self._at(one, len(choice.columns)) for one in link.inputs]
        y = network.evaluate(np.column_stack(inputs))
        base = np.zeros(y.shape[1]) if choice.exactly else y[-1]
        weights = y[:-1] - base
        for k, v in enumerate(link.outputs):
            self.by_id[id(v)] = ByChoice(number, weights[:, k], float(base[k]))
        for key in [*moving, *(id(v) for v in link.outputs)]:
            self._note(key)
        return True

    def _constant(self, key: int) -> float | None:
        j = self.columns.number.get(key)
        if j is None or self.columns.low[j] != self.columns.high[j]:
            return None
        return float(self.columns.low[j])

    def _at(self, one: LinearInput, size: int) -> np.ndarray:
        """An input for each binary at 1, and for none."""
        found = np.full(size + 1, one.constant)
        for key, a in one.terms.items():
            known = self._constant(key)
            if known is not None:
                found += a * known
            else:
                made = self.by_id[key]
                found += a * (made.constant + np.append(made.weights, 0.0))
        return found

    def _note(self, key: int) -> None:
        """Keep what a variable is made of, unless it is one of the binaries."""
        made = self.by_id[key]
        columns = self.found.choices[made.choice].columns
        ids = [id(self.form.columns[j]) for j in columns.tolist()]
        if key not in ids:
            terms = {k: float(w) for k, w in zip(ids, made.weights) if w != 0}
            self.made_of[key] = LinearInput(terms, made.constant)

    def form_with_rows(self, links: Sequence[BlockLinks]) -> StandardForm:
        """The form with a row for each output, and for each given box of an input."""
        form = self.form
        new = [
            v for link in links for v in link.outputs if id(v) not in self.columns.number
        ]
        number = self.columns.number | {
            id(v): len(form.columns) + k for k, v in enumerate(new)
        }
        rows: list[tuple[dict[int, float], float, float]] = []
        for link in links:
            for v in link.outputs:
                made = self.made_of[id(v)]
                terms = {id(v): 1.0} | {key: -a for key, a in made.terms.items()}
                rows.append((terms, made.constant, made.constant))
            for one, low, high in zip(link.inputs, *link.given_box):
                if one.terms and (np.isfinite(low) or np.isfinite(high)):
                    rows.append((one.terms, low - one.constant, high - one.constant))
        parts = [
            (np.full(len(terms), i), [number[key] for key in terms], [*terms.values()])
            for i, (terms, _, _) in enumerate(rows)
        ]
        more = matrix_of(len(rows), len(number), parts)
        ends = [np.array([row[k] for row in rows], dtype=float) for k in (1, 2)]
        return self._widened(new).with_rows(Rows(more, *ends))

    def _widened(self, new: Sequence[Any]) -> StandardForm:
        """The form with more columns that no row uses yet."""
        form, zero = self.form, np.zeros(len(new))
        matrix = form.matrix.copy()
        matrix.resize((matrix.shape[0], matrix.shape[1] + len(new)))
        boxes = np.array([self._range(v) for v in new], dtype=float).reshape(-1, 2)
        whole = np.array([v.is_integer() for v in new], dtype=bool)
        return replace(
            form,
            cost=np.concatenate([form.cost, zero]),
            lower=np.concatenate([form.lower, boxes[:, 0]]),
            upper=np.concatenate([form.upper, boxes[:, 1]]),
            matrix=sp.csr_array(matrix),
            integer=np.concatenate([form.integer, whole]),
            columns=[*form.columns, *new],
        )

    def _range(self, v: Any) -> tuple[float, float]:
        """The bounds of an output, or what it takes by choice where it has none."""
        made = self.by_id[id(v)]
        values = np.append(made.weights, 0.0) + made.constant
        if self.found.choices[made.choice].exactly:
            values = values[:-1]
        low, high = self.columns.box(v)
        low = float(values.min()) if np.isinf(low) else low
        return low, float(values.max()) if np.isinf(high) else high


def bound_outputs(p: Problem) -> None:
    """Give output columns the exact range, where all inputs of a network take few values.

    Parameters
    ----------
    p : Problem
        Simplified; bounds of its output columns are changed.
    """
    if not p.integer.any() or p.infeasible is not None:
        return
    values = find_values(p, p.lower, p.upper).values
    for j in (j for j, some in values.items() if not len(some)):
        p.infeasible = f"'{p.columns[j].name}' has no value within its bounds"
        return
    single = np.flatnonzero(p.lower[: p.n] == p.upper[: p.n])
    values |= {j: p.lower[[j]] for j in single.tolist()}
    by_id = {id(p.columns[j]): v for j, v in values.items() if j < p.n}
    column = {id(v): p.n + j for j, v in enumerate(p.columns[p.n : p.n + p.q])}
    for link in p.links:
        if any(id(v) in column for v in link.outputs):
            y = _everywhere(link, by_id)
            for v, some in zip(link.outputs, () if y is None else y.T):
                if id(v) in column:
                    _bound(p, column[id(v)], some)


def _everywhere(link: BlockLinks, values: Mapping[int, np.ndarray]) -> np.ndarray | None:
    """Outputs (N, k) for all values of what inputs read; None where these are too many."""
    keys = list(dict.fromkeys(key for one in link.inputs for key in one.terms))
    if not keys or not values.keys() >= set(keys) or _has_steps(link.block.network):
        return None
    axes = [values[key] for key in keys]
    if math.prod(map(len, axes)) > VALUES.most:
        return None
    grid = np.array(np.meshgrid(*axes, indexing="ij")).reshape(len(keys), -1)
    x, zero = dict(zip(keys, grid)), np.zeros(grid.shape[1])
    inputs = [
        sum((a * x[key] for key, a in one.terms.items()), zero + one.constant)
        for one in link.inputs
    ]
    return link.block.network.evaluate(np.column_stack(inputs))


def _bound(p: Problem, j: int, y: np.ndarray) -> None:
    """Bound a column by all values that it can have."""
    slack = VALUES.outside * max(1.0, float(abs(y).max()))
    low, high = float(y.min()) - slack, float(y.max()) + slack
    if low > p.upper[j] or high < p.lower[j]:
        name = p.columns[j].name
        p.infeasible = f"no values of its inputs bring '{name}' within its bounds"
    else:
        p.lower[j], p.upper[j] = max(p.lower[j], low), min(p.upper[j], high)


def _has_steps(network: Network) -> bool:
    """Whether both values of a step count somewhere, so that a table isn't all."""
    return any(
        isinstance(node, PiecewiseLinear) and not node.is_continuous
        for node in network.nodes
    )
