"""Writing a network into a block: affine rows, then each layer.

A pass forward writes what is needed of each layer into a block of its own, named after
it. A stable active ReLU is its pre-activation's variable; only unstable units reach the
formulation.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pyomo.environ import Block

from pyomo_relu.base.index_set import index_set
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.bounds.well_scaled import WellScaled
from pyomo_relu.formulations.base import Formulation
from pyomo_relu.formulations.needed import Needed, is_identity
from pyomo_relu.formulations.units import MaxLayer, PiecewiseLayer, SmoothLayer
from pyomo_relu.formulations.values import (
    Entry,
    Row,
    Values,
    add_rows,
    add_variables,
    affine_rows,
    entry_row,
    link,
    term,
)
from pyomo_relu.network import Affine, Input, Max, PiecewiseLinear, Smooth
from pyomo_relu.programs.lazy_rows import (
    AffineRows,
    add_lazy_rows,
    may_be_lazy,
    wants_lazy_rows,
)

logger = logging.getLogger(__name__)

#: Factors of an input between which all solvers that were tried were right: SCIP 10 takes a
#: variable whose range is below 1e-9 for fixed, HiGHS calls some models of smaller ones
#: infeasible; CBC was wrong for some from 1e7 on, SCIP and Gurobi 13 from 5e8 on, and HiGHS
#: 1.16 for a block in a Disjunct at 1e9.
SMALLEST_FACTOR, LARGEST_FACTOR = 2.0**-22, 2.0**24


class NetworkWriter:
    """Writes one network, with its bounds and formulations, into a new block.

    Where the network is written in other units than the user's, inputs and outputs get
    variables ``out`` of their own, which rows ``scale`` tie to the user's.

    Parameters
    ----------
    written : WellScaled
        The network in the units of its rows, with bounds of every node.
    formulations : dict
        The formulation of each nonlinear node.
    inputs : list
        A variable, float or expression for each entry of the flat input vector.
    outputs : list of VarData
        The variables that must equal the flat output vector.
    """

    def __init__(
        self,
        written: WellScaled,
        formulations: dict[int, Formulation],
        inputs: Sequence[Entry],
        outputs: Sequence[Any],
    ) -> None:
        self.written = written
        self.bounds = written.bounds
        self.network = written.network
        self.formulations = formulations
        self.inputs = {i: list(inputs[s]) for i, s in self.network.input_slices()}
        self.targets: dict[int, Sequence[Any]] = {}
        self.scaled_targets: dict[int, Sequence[Any]] = {}
        for i, s in self.network.output_slices():
            own = self.scaled_targets if written.is_scaled(i) else self.targets
            own[i] = outputs[s]
        self.values: dict[int, Values] = {}
        self.need = Needed(self.bounds, formulations)
        self.needed = self.need.entries

    # -------------------------------------------------------------------- writing
    def write(self) -> Block:
        """Return a block, indexed by layer name, that holds all components."""
        nodes = self.network.nodes
        names = [
            n.name
            for i, n in enumerate(nodes)
            if not isinstance(n, Input) or self.written.is_scaled(i)
        ]
        container = Block(index_set(names))
        container.construct()
        # By this the variables of a formulation that was replaced can be told.
        container.is_network_layer = True
        layers: dict[Formulation, list[Any]] = {f: [] for f in self.formulations.values()}
        for formulation in layers:
            formulation.begin(self.written)
        writers: dict[type, Callable[..., None]] = {
            Affine: self._write_affine,
            PiecewiseLinear: self._write_piecewise,
            Smooth: self._write_smooth,
            Max: self._write_max,
        }
        for i, node in enumerate(nodes):
            if isinstance(node, Input) and not self.written.is_scaled(i):
                self._note(i, list(self.inputs[i]))
                continue
            block = container[node.name]
            if isinstance(node, Input):
                self._write_scaled_input(i, block)
            else:
                writers[type(node)](i, node, block)
            if i in self.formulations:
                layers[self.formulations[i]].append(block)
        for formulation, written in layers.items():
            formulation.transform(written)
        return container

    def _note(self, i: int, entries: list[Entry]) -> None:
        self.values[i] = Values(entries, self.bounds.lower[i], self.bounds.upper[i])

    def _new_variables(self, i: int, block: Any, units: list[int]) -> dict[int, Any]:
        """The variables of the given units: the outputs, or new ones with bounds."""
        if i in self.targets:
            return {u: self.targets[i][u] for u in units}
        if not units:
            return {}
        return self._add_out(i, block, units)

    def _add_out(self, i: int, block: Any, units: list[int]) -> dict[int, Any]:
        low, high = self.bounds.lower[i][units], self.bounds.upper[i][units]
        return add_variables(block, "out", units, low.tolist(), high.tolist())

    def _write_scaled_input(self, i: int, block: Any) -> None:
        """Variables in other units than the user's entries, which rows tie to them."""
        entries, factor = list(self.inputs[i]), self.written.factor(i).tolist()
        numbers = [u for u, e in enumerate(entries) if isinstance(e, float)]
        own = [
            u
            for u in np.flatnonzero(self.needed[i]).tolist()
            if factor[u] != 1.0 and not isinstance(entries[u], float)
        ]
        found = self._add_out(i, block, own)
        rows = {}
        for u, v in found.items():
            given = entry_row(entries[u], 0.0, 0.0)
            rows[u] = link(given, term(v), factor[u], margin=True)
        add_rows(block, "scale", rows)
        _warn_of_extremes([entries[u] for u in own], [factor[u] for u in own])
        for u in numbers:
            entries[u] *= factor[u]
        self._note(i, [found.get(u, e) for u, e in enumerate(entries)])

    def _finish(
        self, i: int, block: Any, entries: list[Entry], copies: dict[int, Row]
    ) -> None:
        """Note a node's entries; ``copies`` are rows that outputs must equal."""
        if i in self.targets and copies:
            targets = self.targets[i]
            rows = {u: row.equals(targets[u]) for u, row in copies.items()}
            add_rows(block, "copy", rows)
            for u in copies:
                entries[u] = targets[u]
        if i in self.scaled_targets:
            factor = self.written.factor(i).tolist()
            rows = {}
            for u, target in enumerate(self.scaled_targets[i]):
                own = entry_row(entries[u], 0.0, 0.0)
                rows[u] = link(term(target), own, factor[u])
            add_rows(block, "scale", rows)
        self._note(i, entries)

    def _write_affine(self, i: int, node: Affine, block: Any) -> None:
        units = np.flatnonzero(self.needed[i] & self.need.variables[i])
        sources = [self.values[s] for s in node.sources]
        entries: list[Entry] = [None] * node.size
        copies = {}
        lazy = _lazy_matrix(node, sources, units)
        if lazy is not None:
            variables = self._new_variables(i, block, units.tolist())
            matrix, constant = lazy
            read = [v for values in sources for v in values.variable_list]
            tails = list(variables.values())
            rows = AffineRows(matrix, read, tails, (-constant).tolist())
            add_lazy_rows(block, "affine", list(variables), rows)
        else:
            free = {}
            for u, row in zip(units.tolist(), affine_rows(node, sources, units)):
                if row.is_constant:
                    entries[u] = row.constant
                    copies[u] = row
                else:
                    free[u] = row
            variables = self._new_variables(i, block, list(free))
            ordinary = {u: row.equals(variables[u]) for u, row in free.items()}
            add_rows(block, "affine", ordinary)
        for u, v in variables.items():
            entries[u] = v
        self._finish(i, block, entries, copies)

    def _source_rows(self, source: int, units: list[int]) -> dict[int, Row]:
        """Entries of a node written over the layer before, where that is affine."""
        node = self.network.nodes[source]
        if isinstance(node, Affine):
            values = [self.values[s] for s in node.sources]
            return dict(zip(units, affine_rows(node, values, np.array(units, dtype=int))))
        v = self.values[source]
        return {
            u: entry_row(v.entries[u], float(v.lower[u]), float(v.upper[u])) for u in units
        }

    def _write_piecewise(self, i: int, node: PiecewiseLinear, block: Any) -> None:
        entries: list[Entry] = [None] * node.size
        copies: dict[int, Row] = {}
        stable, unstable = [], []
        source, pieces = self.values[node.source], self.need.pieces[i]
        for u in np.flatnonzero(self.needed[i]).tolist():
            first = pieces[u][0]
            if len(pieces[u]) > 1:
                unstable.append(u)
            elif first.slope == 0:
                entries[u] = float(first.intercept)
                copies[u] = Row(constant=entries[u])
            elif is_identity(pieces[u]):
                entries[u] = source.entries[u]
                if i in self.targets:
                    copies[u] = entry_row(entries[u], 0.0, 0.0)
            else:
                stable.append(u)
        variables = self._new_variables(i, block, sorted(stable + unstable))
        entries = [variables.get(u, e) for u, e in enumerate(entries)]
        rows = self._source_rows(node.source, stable) if stable else {}
        scaled = {}
        for u, row in rows.items():
            piece = pieces[u][0]
            scaled[u] = row.scaled(piece.slope, piece.intercept).equals(variables[u])
        add_rows(block, "stable", scaled)
        if unstable:
            post = {u: variables[u] for u in unstable}
            layer = PiecewiseLayer(block, node, unstable, post=post)
            self._write_unstable(i, layer)
        self._finish(i, block, entries, copies)

    def _write_unstable(self, i: int, layer: PiecewiseLayer) -> None:
        """Hand the unstable units of a layer to its formulation."""
        formulation, units = self.formulations[i], layer.units
        source = self.values[layer.node.source]
        low, high = source.lower.tolist(), source.upper.tolist()
        layer.is_output = i in self.targets
        layer.lower, layer.upper = {u: low[u] for u in units}, {u: high[u] for u in units}
        if formulation.needs_preactivation:
            layer.pre = {u: source.entries[u] for u in units}
        if formulation.needs_rows or not formulation.needs_preactivation:
            layer.rows = self._source_rows(layer.node.source, units)
        formulation.write_piecewise(layer)

    def _write_smooth(self, i: int, node: Smooth, block: Any) -> None:
        """Hand the units whose argument varies to the formulation; the others are numbers."""
        entries: list[Entry] = [None] * node.size
        copies: dict[int, Row] = {}
        source, units = self.values[node.source], []
        low, high = source.lower.tolist(), source.upper.tolist()
        for u in np.flatnonzero(self.needed[i]).tolist():
            if low[u] < high[u]:
                units.append(u)
            else:
                entries[u] = float(node(source.lower[u]))
                copies[u] = Row(constant=entries[u])
        variables = self._new_variables(i, block, units)
        for u, v in variables.items():
            entries[u] = v
        if units:
            pre = {u: source.entries[u] for u in units}
            ends = ({u: side[u] for u in units} for side in (low, high))
            layer = SmoothLayer(block, node, units, pre, variables, *ends)
            self.formulations[i].write_smooth(layer)
        self._finish(i, block, entries, copies)

    def _write_max(self, i: int, node: Max, block: Any) -> None:
        source = self.values[node.source]
        entries: list[Entry] = [None] * node.size
        copies: dict[int, Row] = {}
        several: dict[int, list[int]] = {}
        for j in np.flatnonzero(self.needed[i]).tolist():
            arguments = self.need.arguments[i][j]
            if len(arguments) > 1:
                several[j] = arguments
            else:
                entries[j] = source.entries[arguments[0]]
                copies[j] = entry_row(entries[j], 0.0, 0.0)
        variables = self._new_variables(i, block, list(several))
        for j, v in variables.items():
            entries[j] = v
        if several:
            inner = sorted({a for arguments in several.values() for a in arguments})
            rows = self._source_rows(node.source, inner)
            units = list(several)
            layer = MaxLayer(block, node, units, source, several, variables, rows)
            self.formulations[i].write_max(layer)
        self._finish(i, block, entries, copies)


def _lazy_matrix(
    node: Affine, sources: list[Values], units: np.ndarray
) -> tuple[Any, np.ndarray] | None:
    """The matrix and the constant of lazy rows; None where rows must be expressions.

    Rows of a big layer can be lazy if its sources are variables and numbers, and if no
    unit is constant, for such a unit needs no row.
    """
    if not may_be_lazy(len(units) * sum(len(v.variable_list) for v in sources)):
        return None
    if any(v.expressions for v in sources):
        return None
    constant = node.bias[units].copy()
    parts = []
    for w, v in zip(node.weights, sources):
        part = w[units]
        constant += part @ v.constants
        whole = len(v.variables) == part.shape[1]
        parts.append(part if whole else part[:, v.variables])
    matrix = parts[0]
    if len(parts) > 1:
        matrix = sp.hstack([sp.csr_array(p) for p in parts], format="csr")
    if not wants_lazy_rows(matrix, [v for values in sources for v in values.variable_list]):
        return None
    if sp.issparse(matrix) or not matrix.all():
        matrix = sp.csr_array(matrix)
        matrix.eliminate_zeros()
        if not np.diff(matrix.indptr).all():
            return None
    return matrix, constant


def _warn_of_extremes(entries: list[Entry], factors: list[float]) -> None:
    """Name the first variable whose range its solver may not resolve, if there is one."""
    for e, factor in zip(entries, factors):
        if e.is_variable_type() and not SMALLEST_FACTOR <= factor <= LARGEST_FACTOR:
            logger.warning(
                "'%s' moves in a range of about %.0e, which not every solver resolves. "
                "Declare a variable s of order one instead, and give %.0e * s as the "
                "input.",
                e.name,
                1.0 / factor,
                1.0 / factor,
            )
            return
