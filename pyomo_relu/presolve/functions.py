"""The networks of a problem as functions of a few columns each, for a solver of programs.

Where a search composes all networks into one, a solver that has rows, integers and a tree
of its own wants each network by itself: the fewer columns a function reads, the tighter is
what is said of it over a box. Outputs that only other networks read, and sums that an input
reads, get columns of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network import Network
from pyomo_relu.presolve.compose import BlockLinks, LinearInput, compose
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.programs import LinearProgram, ProgramBuilder


@dataclass
class NetworkFunction:
    """``z[outputs] == network(z[inputs])``.

    Attributes
    ----------
    name : str
        Of its block.
    network : Network
    inputs : (n,) int array
    outputs : (q,) int array
    """

    name: str
    network: Network
    inputs: np.ndarray
    outputs: np.ndarray


@dataclass
class Separated:
    """A problem as a program and functions.

    Attributes
    ----------
    program : LinearProgram
        The columns of the problem, then those of sums and of outputs that the problem has
        no column for; its rows, then ``sum - column == 0``.
    functions : list of NetworkFunction
        Each after those that it reads; only drivers come back, where networks read each
        other in a circle.
    sums : list of (column, columns, weights, constant)
        What the added columns of sums are.
    """

    program: LinearProgram
    functions: list[NetworkFunction]
    sums: list[tuple[int, np.ndarray, np.ndarray, float]]

    def levels(self) -> list[list[NetworkFunction]]:
        """The functions by how many others there are in a row before them."""
        depth: dict[int, int] = {}
        parts = {j: columns.tolist() for j, columns, _, _ in self.sums}
        found: list[list[NetworkFunction]] = []
        for f in self.functions:
            read = [i for j in f.inputs.tolist() for i in parts.get(j, [j])]
            level = max((depth.get(j, 0) for j in read), default=0)
            depth.update(dict.fromkeys(f.outputs.tolist(), level + 1))
            if level == len(found):
                found.append([])
            found[level].append(f)
        return found

    def bound_sums(self) -> None:
        """Bound the columns of sums by those that they are of, in place."""
        low, high = self.program.lower, self.program.upper
        for j, columns, weights, constant in self.sums:
            ends = np.array([weights * low[columns], weights * high[columns]])
            low[j] = max(low[j], ends.min(axis=0).sum() + constant)
            high[j] = min(high[j], ends.max(axis=0).sum() + constant)

    def complete(self, z: np.ndarray) -> np.ndarray:
        """All columns, (M,), of a point (m,) of the problem, whose outputs it has."""
        found = np.zeros(len(self.program.lower))
        found[: len(z)] = z
        waiting = list(self.sums)
        for function in self.functions:
            needed = set(function.inputs.tolist())
            for one in [s for s in waiting if s[0] in needed]:
                j, columns, weights, constant = one
                found[j] = found[columns] @ weights + constant
                waiting.remove(one)
            added = function.outputs >= len(z)
            if added.any():
                y = function.network.evaluate(found[function.inputs])
                found[function.outputs[added]] = y[added]
        return found


class _Columns:
    """The columns of the program under construction."""

    def __init__(self, p: Problem) -> None:
        self.count = len(p.columns)
        #: Where an input finds a variable, by ``id``; of a driver that is an output, too,
        #: the driver.
        self.read: dict[int, int] = {}
        for j, v in enumerate(p.columns):
            self.read.setdefault(id(v), j)
        #: Where a function writes an output.
        self.written = {id(p.columns[j]): j for j in range(p.n, p.n + p.q)}
        self.sums: dict[tuple, int] = {}

    def new(self) -> int:
        """The number of one more column."""
        self.count += 1
        return self.count - 1


def separate(p: Problem, deadline: Deadline = NEVER) -> Separated:
    """Write the networks of a problem as functions of its columns.

    Raises
    ------
    TimeUp
        When the deadline has passed.
    """
    columns, functions = _Columns(p), []
    live = [link for link in p.links if any(one.terms for one in link.inputs)]
    readers = {key for link in live for one in link.inputs for key in one.terms}
    for link in live:
        deadline.check()
        for v in link.outputs:
            if id(v) in readers and id(v) not in columns.read:
                columns.read[id(v)] = columns.written[id(v)] = columns.new()
        function = _function(link, columns)
        if function is not None:
            functions.append(function)
    sums = [
        (j, np.array(key[1], dtype=int), np.array(key[2]), float(key[0]))
        for key, j in columns.sums.items()
    ]
    return Separated(_program(p, columns.count, sums), functions, sums)


def _inputs(link: BlockLinks, columns: _Columns) -> list[LinearInput]:
    """Inputs in terms of columns; sums of several have one where that makes them fewer."""
    found = []
    for one in link.inputs:
        terms: dict[int, float] = {}
        for key, a in one.terms.items():
            j = columns.read[key]
            terms[j] = terms.get(j, 0.0) + a
        found.append(LinearInput(terms, one.constant))
    moving = sum(bool(one.terms) for one in found)
    if len({j for one in found for j in one.terms}) <= moving:
        return found
    return [_summed(one, columns) if len(one.terms) > 1 else one for one in found]


def _summed(one: LinearInput, columns: _Columns) -> LinearInput:
    """A sum as a column of its own; equal sums share it."""
    where = tuple(sorted(one.terms))
    key = one.constant, where, tuple(one.terms[j] for j in where)
    if key not in columns.sums:
        columns.sums[key] = columns.new()
    return LinearInput({columns.sums[key]: 1.0}, 0.0)


class _Column:
    """Stands for a column where a variable is asked for."""


def _function(link: BlockLinks, columns: _Columns) -> NetworkFunction | None:
    """A block as a function of columns; None where nobody reads it."""
    outputs = [v for v in link.outputs if id(v) in columns.written]
    if not outputs:
        return None
    inputs = _inputs(link, columns)
    used = sorted({j for one in inputs for j in one.terms})
    marks = [_Column() for _ in used]
    key = {j: id(mark) for j, mark in zip(used, marks)}
    written = [
        LinearInput({key[j]: a for j, a in one.terms.items()}, one.constant)
        for one in inputs
    ]
    own = BlockLinks(link.block, written, link.outputs)
    eye = sp.eye_array(len(outputs), format="csr")
    network = compose([own], marks, outputs, eye)
    places = [columns.written[id(v)] for v in outputs]
    return NetworkFunction(link.block.name, network, np.array(used), np.array(places))


def _program(
    p: Problem, count: int, sums: list[tuple[int, np.ndarray, np.ndarray, float]]
) -> LinearProgram:
    """The problem's program with the columns of sums and of further outputs."""
    builder, more = ProgramBuilder(), count - len(p.columns)
    low = np.concatenate([p.lower, np.full(more, -np.inf)])
    high = np.concatenate([p.upper, np.full(more, np.inf)])
    whole = np.concatenate([p.integer, np.zeros(more, dtype=bool)])
    for j, columns, weights, constant in sums:
        zero = np.zeros(len(columns) + 1, dtype=int)
        part = (zero, np.append(columns, j), np.append(weights, -1.0))
        builder.add_rows(1, [part], -constant, -constant)
    builder.add_columns(low, high, whole)
    added = builder.program
    matrix = p.matrix.copy()
    matrix.resize((matrix.shape[0], count))
    return LinearProgram(
        cost=np.concatenate([p.cost, np.zeros(more)]),
        lower=low,
        upper=high,
        matrix=sp.csr_array(sp.vstack([matrix, added.matrix], format="csr")),
        row_lower=np.concatenate([p.row_lower, added.row_lower]),
        row_upper=np.concatenate([p.row_upper, added.row_upper]),
        integer=whole,
        offset=p.offset,
    )
