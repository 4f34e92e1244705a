"""Where the networks of a model sit in its standard form.

The heuristics work on the arrays of the whole model. For each network block they need
which columns it reads, which hold its outputs, which belong to its layers, and what
values those take at an input: the formulation itself says so, hence every formulation
that can be passed to a solver is served, a user's own included.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from pyomo.common.gc_manager import PauseGC
from pyomo.environ import Constraint
from pyomo.repn.linear import LinearRepnVisitor

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.formulations.layer_values import LayerValues
from pyomo_relu.heuristics.start_settings import START
from pyomo_relu.programs.rows import VariableRecorder
from pyomo_relu.programs.standard_form import StandardForm


@contextmanager
def values_restored(variables: Iterable[Any]) -> Iterator[None]:
    """Give variables their values back at the end."""
    saved = [(v, v.value) for v in variables]
    try:
        yield
    finally:
        for v, old in saved:
            v.set_value(old, skip_validation=True)


def selection(columns: np.ndarray, n: int) -> sp.csr_array:
    """Rows that pick some of ``n`` columns, (len(columns), n)."""
    k = len(columns)
    return sp.csr_array((np.ones(k), (np.arange(k), columns)), shape=(k, n))


@dataclass
class BlockColumns:
    """One network block in the columns of the standard form.

    Attributes
    ----------
    matrix, constant : (n_inputs, n_columns) CSR array, (n_inputs,) array
        The inputs are ``matrix @ point + constant``.
    outputs : (n_outputs,) int array
        Columns, -1 for an output that is none because it is fixed or unused.
    own, variables : (k,) int array, list of VarData
        The variables in the block's layers, and their columns.
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
        own = np.searchsorted(self.reads, self.matrix.indices)
        shape = (self.matrix.shape[0], len(self.reads))
        return sp.csr_array((self.matrix.data, own, self.matrix.indptr), shape=shape)

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
        with values_restored([*self.variables, *self.others]):
            self.values.set(x, shift)
            return np.array([v.value for v in self.variables], dtype=float)


class NetworkProblem:
    """A model's standard form with its network blocks in the order they depend.

    Attributes
    ----------
    drivers : int array
        Columns that inputs depend on and no network determines.
    io : int array
        Drivers and outputs.
    layer_columns : (n_columns,) bool array
        Columns inside layers.
    layer_rows : (n_rows,) bool array
        Rows inside layers; the others are the user's.
    pattern_columns : int array
        Binaries and other integers that the networks determine.
    deadline : Deadline
        When it has passed, what walks over all networks raises ``TimeUp``.
    """

    def __init__(
        self, form: StandardForm, blocks: Iterable[Any], deadline: Deadline = NEVER
    ) -> None:
        self.form, self.deadline = form, deadline
        blocks = list(blocks)
        n, numbers = len(form.columns), form.column_numbers()
        maps = []
        with PauseGC():
            for block in blocks:
                deadline.check()
                maps.append(_columns_of(block, form, numbers))
        self.maps = _in_order(maps)
        determined, read = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        self.layer_columns = np.zeros(n, dtype=bool)
        for one in self.maps:
            determined[one.outputs[one.outputs >= 0]] = True
            read[one.matrix.indices] = True
            self.layer_columns[one.own] = True
        self.drivers = np.flatnonzero(read & ~determined)
        self.io = np.flatnonzero(read | determined)
        inside = {id(c) for b in blocks for c in _layer_components(b, Constraint)}
        self.layer_rows = np.array(
            [id(c.parent_component()) in inside for c in form.rows], dtype=bool
        )
        self.pattern_columns = np.flatnonzero(self.layer_columns & form.integer)

    @cached_property
    def outputs(self) -> np.ndarray:
        """Columns that the networks determine outside of their layers."""
        return np.setdiff1d(self.io, self.drivers)

    @cached_property
    def users_integers(self) -> np.ndarray:
        """Integer columns outside of all layers."""
        return np.flatnonzero(self.form.integer & ~self.layer_columns)

    @cached_property
    def rest(self) -> np.ndarray:
        """The user's other columns: neither inputs, outputs nor layers."""
        free = ~self.layer_columns
        free[self.io] = False
        return np.flatnonzero(free)

    @cached_property
    def driver_box(self) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of the drivers; a missing one is put far from the other or from 0."""
        low, high = self.form.lower[self.drivers], self.form.upper[self.drivers]
        low, high = low.copy(), high.copy()
        place = {int(j): k for k, j in enumerate(self.drivers)}
        for one in self.maps:  # a network's box bounds inputs that are single columns
            a, b = one.block.bounds.input_box
            for i in range(len(a)):
                at = slice(one.matrix.indptr[i], one.matrix.indptr[i + 1])
                if at.stop - at.start != 1 or one.matrix.data[at][0] != 1.0:
                    continue
                k = place.get(int(one.matrix.indices[at][0]))
                if k is not None:
                    low[k] = max(low[k], a[i] - one.constant[i])
                    high[k] = min(high[k], b[i] - one.constant[i])
        far, open_low, open_high = START.open_box, ~np.isfinite(low), ~np.isfinite(high)
        low[open_low] = np.where(open_high, 0.0, high)[open_low] - far
        high[open_high] = low[open_high] + np.where(open_low, 2.0 * far, far)[open_high]
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
        self._set_layers(point, point, 0.0)
        return point

    def _set_layers(self, point: np.ndarray, target: np.ndarray, shift: float) -> None:
        """Write the layers' values at a point into ``target``."""
        columns = [self.form.columns[j] for j in self.io.tolist()]
        with values_restored(columns):  # some formulations read inputs and outputs
            for v, x in zip(columns, point[self.io].tolist()):
                v.set_value(x, skip_validation=True)
            for one in self.maps:
                self.deadline.check()
                target[one.own] = one.layer_values(one.inputs(point[None, :])[0], shift)

    def from_columns(self, columns: Iterable[Any], values: np.ndarray) -> np.ndarray | None:
        """The point at which variables have values, layers filled in; None if some lack.

        Parameters
        ----------
        columns : iterable of VarData
            All drivers and all of the user's other variables, perhaps more.
        values : array
            As many.
        """
        numbers = self._numbers
        point = np.full(len(self.form.columns), math.nan)
        for v, x in zip(columns, values.tolist()):
            j = numbers.get(id(v))
            if j is not None:
                point[j] = x
        if np.isnan(point[self.drivers]).any() or np.isnan(point[self.rest]).any():
            return None
        point[self.layer_columns] = 0.0
        return self.fill_layers(np.nan_to_num(point, nan=0.0))

    @cached_property
    def _numbers(self) -> dict[int, int]:
        return self.form.column_numbers()

    def pattern(self, point: np.ndarray) -> np.ndarray:
        """Values of :attr:`pattern_columns` at the drivers of a point."""
        return self.fill_layers(point.copy())[self.pattern_columns]

    def undecided(self, point: np.ndarray) -> np.ndarray:
        """Which pattern columns may change with a step out of the region, bool."""
        point = self.forward(point.copy()[None, :])[0]
        sides = []
        for shift in (START.border, -START.border):
            moved = point.copy()
            self._set_layers(point, moved, shift)
            sides.append(moved[self.pattern_columns])
        return sides[0] != sides[1]


def _layer_components(block: Any, ctype: type) -> Iterator[Any]:
    """Components of a type in the layers of a network block; References left out."""
    layers = block.component("layer")
    for layer in () if layers is None else layers.values():
        for component in layer.component_objects(ctype):
            if not component.is_reference():
                yield component


def complete_through_networks(
    form: StandardForm, blocks: Iterable[Any], point: np.ndarray
) -> None:
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


def _columns_of(block: Any, form: StandardForm, numbers: dict[int, int]) -> BlockColumns:
    rows: list[int] = []
    columns: list[int] = []
    data: list[float] = []
    constant = np.zeros(len(block.entries))
    recorder = VariableRecorder()
    visitor = LinearRepnVisitor({}, var_recorder=recorder)
    for i, entry in enumerate(block.entries):
        terms, constant[i] = _linear_entry(block, i, entry, visitor, recorder.var_map)
        for key, a in terms.items():
            if key in numbers:
                rows.append(i)
                columns.append(numbers[key])
                data.append(a)
            else:  # nothing in the model depends on it
                constant[i] += a * _some_value(recorder.var_map[key])
    shape = (len(constant), len(form.columns))
    matrix = sp.csr_array((data, (rows, columns)), shape=shape)
    outputs = [numbers.get(id(v), -1) for v in block.component("outputs").values()]
    layers = list(block.layer_variables)
    held = [v for v in layers if id(v) in numbers]
    own = np.array([numbers[id(v)] for v in held], dtype=int)
    others = [v for v in layers if id(v) not in numbers]
    return BlockColumns(
        block, matrix, constant, np.array(outputs, int), own, held, others,
        block.layer_values(),
    )  # fmt: skip


def _linear_entry(
    block: Any, i: int, entry: Any, visitor: LinearRepnVisitor, variables: dict[int, Any]
) -> tuple[dict[int, float], float]:
    """An input as coefficients of variables, by their ids, and a constant."""
    if isinstance(entry, float):
        return {}, entry
    if entry.is_variable_type():
        variables[id(entry)] = entry
        return ({}, entry.value) if entry.fixed else ({id(entry): 1.0}, 0.0)
    found = visitor.walk_expression(entry)
    if found.nonlinear is not None:
        raise ValueError(
            f"'{block.name}': input {i} is a nonlinear expression, for which no start can "
            "be sought."
        )
    return found.linear, float(found.constant)


def set_unused_inputs(blocks: Iterable[Any]) -> None:
    """Give inputs that nothing in a model depends on a value, if they have none."""
    for block in blocks:
        for entry in block.entries:
            if not isinstance(entry, float) and entry.is_variable_type():
                if entry.value is None:
                    entry.set_value(_some_value(entry), skip_validation=True)


def _some_value(v: Any) -> float:
    low, high = v.bounds
    start = 0.0 if v.value is None else float(v.value)
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    return min(max(start, low), high)


def _in_order(maps: list[BlockColumns]) -> list[BlockColumns]:
    """Each block after those whose outputs it reads; ValueError for a circle."""
    made = {int(j): k for k, m in enumerate(maps) for j in m.outputs if j >= 0}
    needs = [{made[int(j)] for j in m.matrix.indices if int(j) in made} for m in maps]
    levels = _levels(needs)
    circle = [m for m, level in zip(maps, levels) if level is None]
    if circle:
        names = ", ".join(f"'{m.block.name}'" for m in circle)
        raise ValueError(
            f"the networks {names} read each other's outputs in a circle; no start "
            "can be sought for them."
        )
    return [m for _, m in sorted(zip(levels, maps), key=lambda pair: pair[0] or 0)]


def _levels(needs: list[set[int]]) -> list[int | None]:
    """For each block the longest way to it from one that needs none; None in a circle."""
    readers: list[list[int]] = [[] for _ in needs]
    for k, own in enumerate(needs):
        for j in own:
            readers[j].append(k)
    missing = [len(own) for own in needs]
    levels: list[int | None] = [None] * len(needs)
    ready, level = [k for k, count in enumerate(missing) if not count], 0
    while ready:
        following = []
        for j in ready:
            levels[j] = level
            for k in readers[j]:
                missing[k] -= 1
                if not missing[k]:
                    following.append(k)
        ready, level = following, level + 1
    return levels
