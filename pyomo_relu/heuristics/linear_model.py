"""A model with its networks replaced by linear functions that agree with them at a point.

What is linear in the user's model stays as it is, integers included, so one program sees
all rows at once; only the networks are believed no farther than a trust region. Where
binaries choose an input among a few values, what the network is at each of them takes the
place of its derivative, which says nothing of a step so long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.heuristics.choices import Choice, find_choices
from pyomo_relu.network import Network
from pyomo_relu.network.gradient import jacobians
from pyomo_relu.presolve.compose import BlockLinks, side_by_side
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.programs import LinearProgram, Part, Rows, matrix_of


@dataclass
class _Batch:
    """Blocks of one network that depend on earlier batches only.

    Attributes
    ----------
    reads : (k * n_inputs, columns) CSR array
        The inputs of all blocks, one after another, are ``reads @ point + constant``.
    used : (q,) int array
        Which of the network's outputs some block's readers use.
    outputs : (k, q) int array
        Their columns.
    smooth : (k * n_inputs, columns) CSR array
        ``reads`` without the drivers that a choice determines.
    choices : _ChosenInputs
    """

    network: Network
    reads: sp.csr_array
    constant: np.ndarray
    used: np.ndarray
    outputs: np.ndarray
    smooth: sp.csr_array
    choices: _ChosenInputs

    def inputs(self, points: np.ndarray) -> np.ndarray:
        """Inputs of the blocks at points (N, n_columns), (N, k, n_inputs)."""
        flat = (self.reads @ points.T).T + self.constant
        return flat.reshape(len(points), len(self.outputs), -1)

    def evaluate(self, points: np.ndarray) -> np.ndarray:
        """Used outputs of the blocks at points (N, n_columns), (N, k, q)."""
        u = self.inputs(points)
        found = self.network.evaluate(u.reshape(-1, u.shape[2]))
        return found[:, self.used].reshape(len(points), *self.outputs.shape)


class _ChosenInputs:
    """What choices add to the inputs of the blocks of a batch.

    A pair is a block and a choice that it reads. Each has a state for each binary, and
    one in which all binaries are 0.

    Parameters
    ----------
    reads : (k * n_inputs, columns) CSR array
    n_inputs : int
    choices : sequence of Choice
    """

    def __init__(
        self, reads: sp.csr_array, n_inputs: int, choices: Sequence[Choice]
    ) -> None:
        self.n_inputs = n_inputs
        if choices:  # a model may have thousands of batches, and no choice
            by_column = sp.csc_array(reads)
        blocks: list[int] = []  # of each pair
        self.present: list[tuple[np.ndarray, Choice, np.ndarray]] = []
        pair_of, column_of, inputs, exactly = [], [], [], []
        for choice in choices:
            part = sp.csr_array(by_column[:, choice.drivers])
            rows = np.flatnonzero(np.diff(part.indptr))
            for block in np.unique(rows // n_inputs).tolist():
                weights = part[block * n_inputs : (block + 1) * n_inputs].toarray()
                states = np.vstack([choice.values, choice.none]) @ weights.T
                pair_of += [len(blocks)] * len(states)
                column_of += [*choice.columns.tolist(), -1]
                inputs.append(states)
                self.present.append((weights, choice, choice.drivers))
                exactly.append(choice.exactly)
                blocks.append(block)
        self.block = np.array(blocks, dtype=int)
        self.exactly = np.array(exactly, dtype=bool)
        self.pair_of, self.column_of = np.array(pair_of, int), np.array(column_of, int)
        self.inputs = np.concatenate(inputs) if inputs else np.zeros((0, n_inputs))

    def __len__(self) -> int:
        return len(self.block)

    def moved(self, u: np.ndarray, point: np.ndarray) -> np.ndarray:
        """The inputs of each state's block in that state, (states, n_inputs)."""
        now = np.array([w @ point[drivers] for w, _, drivers in self.present])
        return u[self.block[self.pair_of]] - now[self.pair_of] + self.inputs


@dataclass
class Tangent:
    """The networks' outputs as linear functions at a point: ``matrix @ z == right``.

    Attributes
    ----------
    point : (n_columns,) array
        The drivers and the outputs that the networks give there; the rest is 0.
    """

    point: np.ndarray
    matrix: sp.csr_array
    right: np.ndarray


class LinearModel:
    """The columns and rows of a problem, and what its networks are at a point.

    The columns are those of the problem, then further outputs that blocks read.

    Attributes
    ----------
    n_columns : int
    rows : Rows
        The problem's own, then the bounds of what follows the networks.
    soft : (rows,) bool array
        Which rows hold what follows, so that a linear function's error may break them.
    definitions : Rows
    integers : (k,) int array
        Columns of the user's integers.
    chosen, choosing : int arrays
        Drivers that choices determine, and the binaries that do so.
    """

    def __init__(self, problem: Problem, deadline: Deadline = NEVER) -> None:
        self.problem = p = problem
        live = [link for link in p.links if any(one.terms for one in link.inputs)]
        made = self._columns_of_outputs(live)
        place = made | {id(v): j for j, v in enumerate(p.columns[: p.n])}
        self.choices = find_choices(p)
        none = np.zeros(0, dtype=int)
        self.chosen = np.concatenate([none, *(c.drivers for c in self.choices)])
        self.choosing = np.concatenate([none, *(c.columns for c in self.choices)])
        self._is_chosen = np.zeros(self.n_columns, dtype=bool)
        self._is_chosen[self.chosen] = True
        self.batches = []
        for group in side_by_side(live, deadline):
            if self._used[id(group[0].block.network)]:
                self.batches.append(self._batch(group, place, made))
        self.integers = np.flatnonzero(p.integer)
        #: Columns that follow the networks: outputs, and what is defined by them.
        self.following = np.zeros(self.n_columns, dtype=bool)
        self.following[p.n : p.n + p.q] = True
        self.following[p.defined] = True
        self.following[[part.column for part in p.nonlinear]] = True
        self.rows = self._rows()
        self.soft = abs(self.rows.matrix) @ self.following.astype(float) > 0
        self.definitions = self._definitions()
        self.cost = np.concatenate([p.cost, np.zeros(self.n_columns - len(p.cost))])

    def _columns_of_outputs(self, live: Sequence[BlockLinks]) -> dict[int, int]:
        """The column of each output that somebody uses, by ``id``; sets their number."""
        p = self.problem
        made = {id(v): p.n + j for j, v in enumerate(p.columns[p.n : p.n + p.q])}
        read = {key for link in live for one in link.inputs for key in one.terms}
        self._used: dict[int, set[int]] = {}  # positions by id of the network
        for link in live:
            own = {j for j, v in enumerate(link.outputs) if id(v) in made or id(v) in read}
            self._used.setdefault(id(link.block.network), set()).update(own)
        self.n_columns = len(p.columns)
        for link in live:
            for j in self._used[id(link.block.network)]:
                if made.setdefault(id(link.outputs[j]), self.n_columns) == self.n_columns:
                    self.n_columns += 1
        return made

    def _batch(
        self, links: Sequence[BlockLinks], place: dict[int, int], made: dict[int, int]
    ) -> _Batch:
        rows, columns, values = list[int](), list[int](), list[float]()
        constant = list[float]()
        for link in links:
            for one in link.inputs:
                for key, a in one.terms.items():
                    rows.append(len(constant))
                    columns.append(place[key])
                    values.append(a)
                constant.append(one.constant)
        shape = (len(constant), self.n_columns)
        at = np.array(rows, dtype=int), np.array(columns, dtype=int)
        reads = sp.csr_array((np.array(values), at), shape=shape)
        used = np.array(sorted(self._used[id(links[0].block.network)]), dtype=int)
        outputs = np.array([[made[id(link.outputs[j])] for j in used] for link in links])
        smooth = reads.copy()
        smooth.data[self._is_chosen[smooth.indices]] = 0.0
        smooth.eliminate_zeros()
        network = links[0].block.network
        chosen = _ChosenInputs(reads, network.n_inputs, self.choices)
        return _Batch(network, reads, np.array(constant), used, outputs, smooth, chosen)

    def _rows(self) -> Rows:
        """The user's rows over all columns, and bounds of what follows the networks."""
        p = self.problem
        wide = p.matrix.copy()
        wide.resize((wide.shape[0], self.n_columns))
        own = Rows(sp.csr_array(wide), p.row_lower, p.row_upper)
        outputs = p.n + np.flatnonzero(p.bounded)
        finite = np.isfinite(p.lower[p.defined]) | np.isfinite(p.upper[p.defined])
        parts = np.array([part.column for part in p.nonlinear], dtype=int)
        parts = parts[np.isfinite(p.lower[parts]) | np.isfinite(p.upper[parts])]
        at = np.concatenate([outputs, p.defined[finite & ~p.implied[p.defined]], parts])
        part = (np.arange(len(at)), at, np.ones(len(at)))
        bounds = matrix_of(len(at), self.n_columns, [part])
        return Rows(
            sp.csr_array(sp.vstack([own.matrix, bounds], format="csr")),
            np.concatenate([own.lower, p.lower[at]]),
            np.concatenate([own.upper, p.upper[at]]),
        )

    def _definitions(self) -> Rows:
        """What defined columns are, as rows that always hold."""
        p, k = self.problem, len(self.problem.defined)
        if not k:
            return Rows(sp.csr_array((0, self.n_columns)), np.zeros(0), np.zeros(0))
        own = matrix_of(k, len(p.columns), [(np.arange(k), p.defined, np.ones(k))])
        matrix = sp.csr_array(own - p.definition)
        matrix.resize((k, self.n_columns))
        return Rows(matrix, p.definition_constant, p.definition_constant)

    # ------------------------------------------------------------------- the networks
    def roll_out(self, points: np.ndarray) -> np.ndarray:
        """Set the outputs of (N, n_columns) points by their drivers, block after block."""
        for batch in self.batches:
            points[:, batch.outputs] = batch.evaluate(points)
        return points

    def at(self, x: np.ndarray) -> np.ndarray:
        """Drivers (n,) and the outputs they lead to, (n_columns,); the rest is 0."""
        point = np.zeros((1, self.n_columns))
        point[0, : self.problem.n] = x
        return self.roll_out(point)[0]

    def tangent(self, x: np.ndarray, deadline: Deadline = NEVER) -> Tangent:
        """The networks as linear functions at drivers ``x``."""
        point = self.at(x)
        parts, right = [], []
        for batch in self.batches:
            deadline.check()
            k, q = batch.outputs.shape
            u = batch.inputs(point[None])[0]
            slopes = jacobians(batch.network, u, batch.used)
            across = sp.csr_array(_block_diagonal(slopes) @ batch.smooth)
            here = batch.network.evaluate(u)[:, batch.used]
            value = here.ravel() - across @ point
            if len(batch.choices):
                steps, shift = self._steps(batch, u, here, point)
                across, value = sp.csr_array(across + steps), value + shift
            at = np.arange(k * q)
            own = sp.csr_array((np.ones(k * q), (at, batch.outputs.ravel())), across.shape)
            parts.append(sp.csr_array(own - across))
            right.append(value)
        if not parts:
            return Tangent(point, sp.csr_array((0, self.n_columns)), np.zeros(0))
        stacked = sp.csr_array(sp.vstack(parts, format="csr"))
        return Tangent(point, stacked, np.concatenate(right))

    def _steps(
        self, batch: _Batch, u: np.ndarray, here: np.ndarray, point: np.ndarray
    ) -> tuple[sp.csr_array, np.ndarray]:
        """How choices change outputs: a coefficient of each binary, and a constant."""
        k, q = batch.outputs.shape
        choices = batch.choices
        there = batch.network.evaluate(choices.moved(u, point))[:, batch.used]
        change = there - here[choices.block[choices.pair_of]]
        none = choices.column_of < 0
        base = np.where(choices.exactly[:, None], 0.0, change[none])
        shift = np.zeros((k, q))
        np.add.at(shift, choices.block, base)
        change = (change - base[choices.pair_of])[~none]
        block = choices.block[choices.pair_of[~none]]
        rows = (block[:, None] * q + np.arange(q)).ravel()
        columns = np.repeat(choices.column_of[~none], q)
        shape = (k * q, self.n_columns)
        return sp.csr_array((change.ravel(), (rows, columns)), shape=shape), shift.ravel()

    def formulas(self, point: np.ndarray) -> Rows:
        """The problem's formulas as linear functions at a point (n_columns,).

        One that has no value or no slope there is left free.
        """
        z = point[: len(self.problem.columns)]
        parts: list[Part] = []
        right: list[float] = []
        for part in self.problem.nonlinear:
            y, slopes = part.formula.value(z[None])[0], part.formula.gradient(z)
            if np.isfinite(y) and np.isfinite(slopes).all():
                columns = np.append(part.formula.columns, part.column)
                rows = np.full(len(columns), len(right))
                parts.append((rows, columns, np.append(-slopes, 1.0)))
                right.append(y - slopes @ z[part.formula.columns])
        matrix, side = matrix_of(len(right), self.n_columns, parts), np.array(right)
        return Rows(matrix, side, side)

    # -------------------------------------------------------------------- the program
    def program(
        self, tangent: Tangent, low: np.ndarray, high: np.ndarray, cost: np.ndarray
    ) -> LinearProgram:
        """The linear program around a point.

        Parameters
        ----------
        low, high : (problem columns,) arrays
            Bounds of the problem's columns; those that follow the networks have rows.
        cost : (n_columns,) array
        """
        p, far = self.problem, np.full(self.n_columns, np.inf)
        lower, upper = -far, far.copy()
        lower[: len(low)], upper[: len(high)] = low, high
        lower[self.following], upper[self.following] = -np.inf, np.inf
        rows, fixed = self.rows, self.definitions
        integer = np.zeros(self.n_columns, dtype=bool)
        integer[: len(p.integer)] = p.integer
        integer[self.following] = False
        matrices = [rows.matrix, fixed.matrix, tangent.matrix]
        return LinearProgram(
            cost=cost,
            lower=lower,
            upper=upper,
            matrix=sp.csr_array(sp.vstack(matrices, format="csr")),
            row_lower=np.concatenate([rows.lower, fixed.lower, tangent.right]),
            row_upper=np.concatenate([rows.upper, fixed.upper, tangent.right]),
            integer=integer & (lower < upper),
        )

    def elastic(self, program: LinearProgram, weight: float) -> LinearProgram:
        """The program that breaks soft rows as little as it can.

        The cost counts by ``weight``; each unit of violation, relative to the row's
        bound, costs 1.
        """
        soft = np.flatnonzero(self.soft)
        finite = [np.isfinite(a[soft]) for a in (self.rows.lower, self.rows.upper)]
        up, down = soft[finite[0]], soft[finite[1]]
        at = np.concatenate([up, down])
        signs = np.concatenate([np.ones(len(up)), -np.ones(len(down))])
        bound = np.concatenate([self.rows.lower[up], self.rows.upper[down]])
        k, m = len(at), len(program.row_lower)
        extra = sp.csr_array((signs, (at, np.arange(k))), shape=(m, k))
        none = np.zeros(k)
        assert program.integer is not None
        return replace(
            program,
            cost=np.concatenate([weight * program.cost, 1.0 / np.maximum(1.0, abs(bound))]),
            lower=np.concatenate([program.lower, none]),
            upper=np.concatenate([program.upper, none + np.inf]),
            matrix=sp.csr_array(sp.hstack([program.matrix, extra], format="csr")),
            integer=np.concatenate([program.integer, none.astype(bool)]),
        )

    def broken(self, point: np.ndarray) -> float:
        """The sum of violations of soft rows, each relative to its bound."""
        activity = self.rows.matrix @ point
        total = 0.0
        for gap, bound in (
            (self.rows.lower - activity, self.rows.lower),
            (activity - self.rows.upper, self.rows.upper),
        ):
            use = self.soft & np.isfinite(bound)
            scaled = gap[use] / np.maximum(1.0, abs(bound[use]))
            total += float(np.maximum(scaled, 0.0).sum())
        return total


def _block_diagonal(blocks: np.ndarray) -> sp.csr_array:
    """(k, q, n) matrices along a diagonal, (k q, k n)."""
    k, q, n = blocks.shape
    columns = (np.arange(k)[:, None, None] * n + np.arange(n)).repeat(q, axis=1)
    return sp.csr_array(
        (blocks.ravel(), columns.ravel(), np.arange(k * q + 1) * n), shape=(k * q, k * n)
    )


__all__ = ["LinearModel", "Tangent"]
