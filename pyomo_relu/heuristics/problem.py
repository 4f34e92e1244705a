"""Where the networks of a model sit in its standard form.

The heuristics work on the arrays of the whole model. For each network block they need
which columns it reads, which hold its outputs, which belong to its layers, and what
values those take at an input: the formulation itself says so, hence every formulation
that can be passed to a solver is served, a user's own included.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from pyomo.environ import Constraint
from pyomo.repn.linear import LinearRepnVisitor

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.formulations.layer_values import LayerValues
from pyomo_relu.programs.rows import VariableRecorder
from pyomo_relu.programs.standard_form import StandardForm

#: Pre-activations below this count as on the boundary of their linear region.
BOUNDARY = 1e-6


@dataclass
class BlockColumns:
    """One network block in the columns of the standard form.

    Attributes
    ----------
    block : ReLUNetBlockData
    matrix : (n_inputs, n_columns) CSR array
        The inputs are ``matrix @ point + constant``.
    constant : (n_inputs,) array
    outputs : (n_outputs,) int array
        Columns, -1 for an output that is none because it is fixed or unused.
    own : int array
        Columns of the variables in the block's layers.
    variables : list of VarData
        Those variables.
    others : list of VarData
        Variables in the layers that are no columns: fixed by the user, or unused.
    values : LayerValues
        Gives all of them the values that the network implies.
    """

    block: Any
    matrix: sp.csr_array
    constant: np.ndarray
    outputs: np.ndarray
    own: np.ndarray
    variables: list[Any]
    others: list[Any]
    values: LayerValues

    @cached_property
    def reads(self) -> np.ndarray:
        """The columns that the inputs depend on."""
        return np.unique(self.matrix.indices)

    @cached_property
    def _weights(self) -> sp.csr_array:
        """(n_inputs, n_reads): what a block costs doesn't grow with the model."""
        return sp.csr_array(self.matrix[:, self.reads])

    def inputs(self, points: np.ndarray) -> np.ndarray:
        """Inputs (N, n_inputs) at points (N, n_columns)."""
        return (self._weights @ points[:, self.reads].T).T + self.constant

    def pull_back(self, gradient: np.ndarray) -> np.ndarray:
        """Gradients with respect to :attr:`reads` from those of the inputs."""
        return (self._weights.T @ gradient.T).T

    def layer_values(self, x: np.ndarray, shift: float = 0.0) -> np.ndarray:
        """Values of the columns :attr:`own` at an input; the model keeps its own.

        With ``shift`` all pre-activations are moved by it: what differs from one sign
        of the shift to the other are the binaries of units on the border.
        """
        shown = [*self.variables, *self.others]
        saved = [v.value for v in shown]
        try:
            self.values.set(x, shift)
            return np.array([v.value for v in self.variables], dtype=float)
        finally:
            for v, old in zip(shown, saved):
                v.set_value(old, skip_validation=True)


class NetworkProblem:
    """A model's standard form with its network blocks in the order they depend.

    Attributes
    ----------
    form : StandardForm
    maps : list of BlockColumns
    drivers : int array
        Columns that inputs depend on and no network determines.
    io : int array
        Drivers and outputs.
    layer_columns : (n_columns,) bool array
        Columns inside layers.
    layer_rows : (n_rows,) bool array
        Rows inside layers; the others are the user's.
    deadline : Deadline
        When it has passed, what walks over all networks raises ``TimeUp``.
    """

    def __init__(self, form: StandardForm, blocks, deadline: Deadline = NEVER) -> None:
        self.form = form
        self.deadline = deadline
        n = len(form.columns)
        numbers = form.column_numbers()
        self.maps = []
        for block in blocks:
            deadline.check()
            self.maps.append(_columns_of(block, form, numbers))
        self.maps = _in_order(self.maps)
        determined = np.zeros(n, dtype=bool)
        read = np.zeros(n, dtype=bool)
        self.layer_columns = np.zeros(n, dtype=bool)
        for one in self.maps:
            determined[one.outputs[one.outputs >= 0]] = True
            read[one.matrix.indices] = True
            self.layer_columns[one.own] = True
        self.drivers = np.flatnonzero(read & ~determined)
        self.io = np.flatnonzero(read | determined)
        inside = {id(c) for b in blocks for c in layer_components(b, Constraint)}
        self.layer_rows = np.array(
            [id(c.parent_component()) in inside for c in form.rows], dtype=bool
        )
        #: Binaries and other integers that the networks determine.
        self.pattern_columns = np.flatnonzero(self.layer_columns & form.integer)

    @cached_property
    def rest(self) -> np.ndarray:
        """The user's other columns: neither inputs, outputs nor layers."""
        free = ~self.layer_columns
        free[self.io] = False
        return np.flatnonzero(free)

    @cached_property
    def driver_box(self) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of the drivers; a missing one is put 1000 from the other or from 0."""
        low, high = self.form.lower[self.drivers], self.form.upper[self.drivers]
        low, high = low.copy(), high.copy()
        for one in self.maps:  # a network's box bounds inputs that are single columns
            a, b = one.block.bounds.input_box
            for i in range(len(a)):
                at = slice(one.matrix.indptr[i], one.matrix.indptr[i + 1])
                if at.stop - at.start == 1 and one.matrix.data[at][0] == 1.0:
                    k = np.searchsorted(self.drivers, one.matrix.indices[at][0])
                    if k < len(self.drivers) and (
                        self.drivers[k] == one.matrix.indices[at][0]
                    ):
                        low[k] = max(low[k], a[i] - one.constant[i])
                        high[k] = min(high[k], b[i] - one.constant[i])
        open_low, open_high = ~np.isfinite(low), ~np.isfinite(high)
        low[open_low] = np.where(open_high, 0.0, high)[open_low] - 1e3
        high[open_high] = low[open_high] + np.where(open_low, 2e3, 1e3)[open_high]
        return low, np.maximum(low, high)

    def forward(self, points: np.ndarray) -> np.ndarray:
        """Set the output columns of (N, n_columns) points from their drivers."""
        for one in self.maps:
            self.deadline.check()
            y = one.block.network.evaluate(one.inputs(points))
            keep = one.outputs >= 0
            points[:, one.outputs[keep]] = y[:, keep]
        return points

    def fill_layers(self, point: np.ndarray) -> np.ndarray:
        """Set the columns of outputs and layers of one point from its drivers."""
        self.forward(point[None, :])
        with self._showing(point):
            for one in self.maps:
                self.deadline.check()
                point[one.own] = one.layer_values(one.inputs(point[None, :])[0])
        return point

    @contextmanager
    def _showing(self, point: np.ndarray) -> Iterator[None]:
        """Inputs and outputs have a point's values: some formulations read those."""
        columns = [self.form.columns[j] for j in self.io.tolist()]
        saved = [v.value for v in columns]
        try:
            for v, x in zip(columns, point[self.io].tolist()):
                v.set_value(x, skip_validation=True)
            yield
        finally:
            for v, old in zip(columns, saved):
                v.set_value(old, skip_validation=True)

    def pattern(self, point: np.ndarray) -> np.ndarray:
        """Values of :attr:`pattern_columns` at the drivers of a point."""
        return self.fill_layers(point.copy())[self.pattern_columns]

    def undecided(self, point: np.ndarray, shift: float = BOUNDARY) -> np.ndarray:
        """Which pattern columns may change with a step out of the region, bool."""
        point = self.forward(point.copy()[None, :])[0]
        sides = []
        with self._showing(point):
            for sign in (shift, -shift):
                moved = point.copy()
                for one in self.maps:
                    self.deadline.check()
                    x = one.inputs(point[None, :])[0]
                    moved[one.own] = one.layer_values(x, sign)
                sides.append(moved[self.pattern_columns])
        return sides[0] != sides[1]


def layer_components(block, ctype) -> Iterator[Any]:
    """Components of a type in the layers of a network block; References left out."""
    layers = block.component("layer")
    for layer in () if layers is None else layers.values():
        for component in layer.component_objects(ctype):
            if not component.is_reference():
                yield component


def complete_through_networks(form: StandardForm, blocks, point: np.ndarray) -> None:
    """Fill NaN entries of outputs and layers whose network's inputs are known."""
    numbers = form.column_numbers()
    for one in _in_order([_columns_of(b, form, numbers) for b in blocks]):
        x = one.inputs(np.nan_to_num(point, nan=0.0)[None, :])[0]
        if np.isnan(point[one.matrix.indices]).any():
            continue
        y = one.block.network.evaluate(x)
        keep = one.outputs >= 0
        where = one.outputs[keep]
        point[where] = np.where(np.isnan(point[where]), y[keep], point[where])
        if np.isnan(point[one.own]).any():
            point[one.own] = one.layer_values(x)


def _columns_of(block, form: StandardForm, numbers: dict[int, int]) -> BlockColumns:
    n = len(form.columns)
    rows: list[int] = []
    columns: list[int] = []
    data: list[float] = []
    constant = np.zeros(len(block.entries))
    recorder = VariableRecorder()
    variables = recorder.var_map
    visitor = LinearRepnVisitor({}, var_recorder=recorder)
    for i, entry in enumerate(block.entries):
        if isinstance(entry, float):
            constant[i] = entry
            continue
        if entry.is_variable_type():
            terms, known = ({id(entry): 1.0}, 0.0) if not entry.fixed else ({}, entry.value)
            variables[id(entry)] = entry
        else:
            repn = visitor.walk_expression(entry)
            if repn.nonlinear is not None:
                raise ValueError(
                    f"'{block.name}': input {i} is a nonlinear expression, for which no "
                    "start can be sought."
                )
            terms, known = repn.linear, float(repn.constant)
        constant[i] = known
        for key, a in terms.items():
            if key in numbers:
                rows.append(i)
                columns.append(numbers[key])
                data.append(a)
            else:  # nothing in the model depends on it
                constant[i] += a * _some_value(variables[key])
    matrix = sp.csr_array((data, (rows, columns)), shape=(len(constant), n))
    outputs = np.array(
        [numbers.get(id(v), -1) for v in block.component("outputs").values()], dtype=int
    )
    own, found, others = [], [], []
    for v in block.layer_variables:
        if id(v) in numbers:
            own.append(numbers[id(v)])
            found.append(v)
        else:
            others.append(v)
    at = np.array(own, dtype=int)
    values = block.layer_values()
    return BlockColumns(block, matrix, constant, outputs, at, found, others, values)


def set_unused_inputs(blocks) -> None:
    """Give inputs that nothing in a model depends on a value, if they have none."""
    for block in blocks:
        for entry in block.entries:
            if not isinstance(entry, float) and entry.is_variable_type():
                if entry.value is None:
                    entry.set_value(_some_value(entry), skip_validation=True)


def _some_value(v) -> float:
    low, high = v.bounds
    start = 0.0 if v.value is None else float(v.value)
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    return min(max(start, low), high)


def _in_order(maps: list[BlockColumns]) -> list[BlockColumns]:
    """Each block after those whose outputs it reads.

    Raises
    ------
    ValueError
        If networks read each other in a circle.
    """
    left, order = list(maps), []
    done: set[int] = set()
    made = {int(j): k for k, m in enumerate(maps) for j in m.outputs if j >= 0}
    numbers = {id(m): k for k, m in enumerate(maps)}
    while left:
        ready = [
            m
            for m in left
            if all(made.get(int(j), -1) in done | {-1} for j in m.matrix.indices)
        ]
        if not ready:
            names = ", ".join(f"'{m.block.name}'" for m in left)
            raise ValueError(
                f"the networks {names} read each other's outputs in a circle; no start "
                "can be sought for them."
            )
        order += ready
        done |= {numbers[id(m)] for m in ready}
        left = [m for m in left if numbers[id(m)] not in done]
    return order
