"""Inputs that an equality of the model defines, replaced by what defines them.

People write ``x[t + 1] == net[t].outputs[0]`` or ``p == 1.2 + 0.8 r`` and let the next
network read ``x[t + 1]`` or ``p``. Where the network reads the right-hand side instead,
the equality needs no search: fewer drivers are free, and each point of them meets it. The
variable stays a column with its row and its bounds.

There are two views of a model. In the first one only variables that are affine in *one*
variable of the user's are replaced, and those with one value: that costs nothing. In the
second one, for points, outputs of networks, sums, and integers that no network reads take
part too: what is left free is what can really be chosen. For bounds that is the worse view
of a chain: the states cut it into short networks with boxes between them. And a pressure
that follows a routing bounds a well better than the routing does (gaslift17, 15 CPU s:
170.9 and 178.1 for an optimum of 163.2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.presolve.compose import BlockLinks, LinearInput, substituted
from pyomo_relu.presolve.settings import SUBSTITUTION
from pyomo_relu.presolve.values import WHOLE
from pyomo_relu.programs.standard_form import StandardForm


class Columns:
    """What the rows of one variable, its bounds and its domain say of each variable.

    Parameters
    ----------
    form : StandardForm
        Of the model without the rows of its networks.
    """

    def __init__(self, form: StandardForm) -> None:
        self.form = form
        self.number = form.column_numbers()
        low, high = form.lower.copy(), form.upper.copy()
        for v, j in ((v, self.number[id(v)]) for v in form.columns if v.fixed):
            low[j] = high[j] = float(v.value)
        ends = form.matrix.indptr
        for i in np.flatnonzero(np.diff(ends) == 1):
            j, a = form.matrix.indices[ends[i]], form.matrix.data[ends[i]]
            if a != 0:
                one, other = form.row_lower[i] / a, form.row_upper[i] / a
                low[j] = max(low[j], min(one, other))
                high[j] = min(high[j], max(one, other))
        whole = form.integer
        low[whole] = np.ceil(low[whole] - WHOLE)
        high[whole] = np.floor(high[whole] + WHOLE)
        self.low, self.high = low, high

    def box(self, v: Any) -> tuple[float, float]:
        """The least and the largest value of a variable, infinite where there is none."""
        j = self.number.get(id(v))
        if j is not None:
            return float(self.low[j]), float(self.high[j])
        if v.fixed:
            return float(v.value), float(v.value)
        low, high = v.bounds
        return -math.inf if low is None else low, math.inf if high is None else high

    def constant(self, v: Any) -> float | None:
        """The only value of a variable; None where there are more, or none at all."""
        low, high = self.box(v)
        return low if low == high else None

    def equalities(self) -> Iterator[tuple[int, np.ndarray, np.ndarray, float]]:
        """Rows that are equalities of few terms, the shortest first.

        Yields the number, columns, coefficients and right-hand side of each, without
        columns of one value.
        """
        form, ends = self.form, self.form.matrix.indptr
        counts = np.diff(ends)
        fit = (form.row_lower == form.row_upper) & np.isfinite(form.row_lower)
        fit &= (counts > 1) & (counts <= SUBSTITUTION.most_terms)
        # What stands for a nonlinear part is nobody's definition.
        parts = np.zeros(len(form.lower))
        parts[[j for j, _ in form.nonlinear]] = 1.0
        fit &= abs(form.matrix) @ parts == 0
        rows = np.flatnonzero(fit)
        for i in rows[np.argsort(counts[rows], kind="stable")].tolist():
            columns, values = (
                a[ends[i] : ends[i + 1]] for a in (form.matrix.indices, form.matrix.data)
            )
            single = self.low[columns] == self.high[columns]
            used = (values != 0) & ~single
            if used.any():
                known = float(values[single] @ self.low[columns[single]])
                side = float(form.row_lower[i]) - known
                yield i, columns[used], values[used], side


@dataclass
class Definitions:
    """What variables are made of, by ``id``.

    Attributes
    ----------
    columns : Columns
    made_of : dict
        Each definition in terms of variables that have none.
    row : dict
        The row of the standard form that defines a variable; none for one that can have
        a single value only.
    """

    columns: Columns
    made_of: dict[int, LinearInput]
    row: dict[int, int]

    def in_links(self, links: Sequence[BlockLinks]) -> list[BlockLinks]:
        """The blocks, their inputs written with what defines them; always copies."""
        return [
            BlockLinks(
                link.block,
                [substituted(one, self.made_of) for one in link.inputs],
                link.outputs,
            )
            for link in links
        ]


def find_definitions(
    form: StandardForm,
    links: Sequence[BlockLinks],
    cut: set[int],
    variables: dict[int, Any],
    general: bool,
    deadline: Deadline = NEVER,
) -> Definitions:
    """What the model's rows make of the variables that inputs depend on.

    Parameters
    ----------
    form : StandardForm
        Of the model without the rows of its networks.
    links : sequence of BlockLinks
        Each after those it reads.
    cut : set of int
        ``id`` of outputs that are inputs of their own.
    variables : dict
        What inputs depend on, by ``id``.
    general : bool
        Whether outputs and sums of several variables may define one.
    deadline : Deadline

    Raises
    ------
    TimeUp
        When the deadline has passed.
    """
    search = _Search(form, links, cut, variables)
    found, row = search.constants(), dict[int, int]()
    for i, columns, values, side in search.columns.equalities():
        deadline.check()
        j = search.defined_by(columns, values, found, general)
        if j < 0:
            continue
        key = id(form.columns[columns[j]])
        terms = {
            id(form.columns[c]): -float(a / values[j])
            for k, (c, a) in enumerate(zip(columns.tolist(), values))
            if k != j
        }
        found[key], row[key] = LinearInput(terms, side / float(values[j])), i
    made_of = _written_out(found, links, cut)
    row = {key: i for key, i in row.items() if key in made_of}
    return Definitions(search.columns, made_of, row)


class _Search:
    """Which variable a row may define."""

    def __init__(
        self,
        form: StandardForm,
        links: Sequence[BlockLinks],
        cut: set[int],
        variables: dict[int, Any],
    ) -> None:
        self.form, self.columns = form, Columns(form)
        self.made = {id(v): k for k, link in enumerate(links) for v in link.outputs}
        self.drivers = {k: v for k, v in variables.items() if k not in self.made}
        self.met = {key: k for k, key in enumerate(variables)}
        self.cut = cut
        #: The links that read a variable.
        self.readers: dict[int, set[int]] = {}
        for k, link in enumerate(links):
            for one in link.inputs:
                for key in one.terms:
                    self.readers.setdefault(key, set()).add(k)

    def constants(self) -> dict[int, LinearInput]:
        """Drivers that can have one value only."""
        found: dict[int, LinearInput] = {}
        for key, v in self.drivers.items():
            only = self.columns.constant(v)
            if only is not None:
                found[key] = LinearInput({}, only)
        return found

    def defined_by(
        self,
        columns: np.ndarray,
        values: np.ndarray,
        found: dict[int, LinearInput],
        general: bool,
    ) -> int:
        """The position in a row of the variable that it shall define; -1 for none."""
        keys = [id(self.form.columns[j]) for j in columns.tolist()]
        outputs = {self.made[key] for key in keys if key in self.made}
        if not general and (len(keys) > 2 or outputs):
            return -1
        if not general and any(self._switches(j) for j in columns.tolist()):
            return -1
        least = SUBSTITUTION.least_share * abs(values).max()
        best, rank = -1, (False, -1)
        for k, key in enumerate(keys):
            v = self.drivers.get(key)
            if v is None or key in found or key not in self.readers:
                continue
            if v.is_integer() or abs(values[k]) < least:
                continue
            if general and not self._affordable(keys, key):
                continue
            # What is defined comes after what defines it: it isn't read by a network
            # that makes a term of the row, and is met late.
            mine = not (self.readers[key] & outputs), self.met[key]
            if mine > rank:
                best, rank = k, mine
        return best

    def _switches(self, j: int) -> bool:
        """Whether a column is an integer that no network reads by itself."""
        key = id(self.form.columns[j])
        return bool(self.form.integer[j]) and key not in self.readers

    def _affordable(self, keys: Sequence[int], defined: int) -> bool:
        """Whether what a definition makes drivers of is bounded, and is not too much."""
        new = [
            self.form.columns[self.columns.number[key]]
            for key in keys
            if key != defined and key not in self.drivers and key not in self.made
        ]
        if len(keys) <= 2:
            return True  # the defined variable's bounds are bounds of the other one
        if not all(np.isfinite(self.columns.box(v)).all() for v in new):
            return False
        whole = all(v.is_integer() for v in new)
        return len(new) <= (SUBSTITUTION.most_new if whole else 1)


def _written_out(
    found: dict[int, LinearInput], links: Sequence[BlockLinks], cut: set[int]
) -> dict[int, LinearInput]:
    """Definitions in terms of what isn't defined, without those that close a circle."""
    found = dict(found)
    while True:
        order, dropped = _in_order(found, links, cut)
        if not dropped:
            break
        for key in (_on_circles(found, links, cut) & _backward(found, links)) or dropped:
            del found[key]
    done: dict[int, LinearInput] = {}
    for key in order:
        one = substituted(found[key], done)
        if len(one.terms) <= SUBSTITUTION.most_terms:
            done[key] = one
    return done


def _backward(found: dict[int, LinearInput], links: Sequence[BlockLinks]) -> set[int]:
    """Definitions by outputs of blocks that come after one that reads the variable.

    As a recycle's: the streams on the way are defined by what is before them.
    """
    maker = {id(v): k for k, link in enumerate(links) for v in link.outputs}
    first: dict[int, int] = {}
    for k, link in enumerate(links):
        for one in link.inputs:
            for key in one.terms:
                first.setdefault(key, k)
    last = {
        key: max((maker.get(k, -1) for k in one.terms), default=-1)
        for key, one in found.items()
    }
    return {key for key in found if last[key] >= first.get(key, len(links))}


def _on_circles(
    found: dict[int, LinearInput], links: Sequence[BlockLinks], cut: set[int]
) -> set[int]:
    """Definitions that need themselves, by way of others and of links."""
    from scipy.sparse.csgraph import connected_components

    maker = {id(v): k for k, link in enumerate(links) for v in link.outputs}
    number = {key: len(links) + k for k, key in enumerate(found)}
    entries = [(k, one) for k, link in enumerate(links) for one in link.inputs]
    entries += [(number[key], one) for key, one in found.items()]
    edges = [
        (node, number[key] if key in number else maker[key])
        for node, one in entries
        for key in one.terms
        if key in number or (key in maker and key not in cut)
    ]
    at = np.array(edges, dtype=int).reshape(-1, 2)
    size = len(links) + len(found)
    graph = sp.coo_array((np.ones(len(at)), (at[:, 0], at[:, 1])), (size, size))
    group = connected_components(graph, directed=True, connection="strong")[1]
    several = np.bincount(group, minlength=size)[group] > 1
    return {key for key, k in number.items() if several[k]}


def _in_order(
    found: dict[int, LinearInput], links: Sequence[BlockLinks], cut: set[int]
) -> tuple[list[int], set[int]]:
    """Each definition after those it needs, and which to drop since they need themselves.

    A depth-first search over definitions and, as ``-1 - k``, links. After definitions
    were dropped it has to be asked again.
    """
    maker = {id(v): -1 - k for k, link in enumerate(links) for v in link.outputs}

    def needs(node: int) -> Iterator[int]:
        entries = links[-1 - node].inputs if node < 0 else [found[node]]
        for key in (key for one in entries for key in one.terms):
            if key in found:
                yield key
            elif key in maker and key not in cut:
                yield maker[key]

    order: list[int] = []
    dropped: set[int] = set()
    open_: dict[int, bool] = {}
    for start in found:
        if start in open_:
            continue
        open_[start], path = True, [(start, needs(start))]
        while path:
            node, left = path[-1]
            following = next(left, None)
            if following is None:
                path.pop()
                open_[node] = False
                if node >= 0:
                    order.append(node)
            elif following not in open_:
                open_[following] = True
                path.append((following, needs(following)))
            elif open_[following]:
                # Links alone are no circle, so there is a definition on the way back.
                back = (n for n, _ in reversed(path) if n >= 0)
                dropped.add(following if following >= 0 else next(back))
    return order, dropped
