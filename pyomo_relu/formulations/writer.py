"""Writing a network into a block: what is needed, affine rows, then each layer.

A pass from the outputs back finds what must be written at all: units that are
constant over the box, and whatever only they read, cost nothing. A pass forward then
writes each layer into a block of its own, named after it. A stable active ReLU is its
pre-activation's variable; only unstable units reach the formulation.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from pyomo.environ import Block, Set

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.bounds.well_scaled import WellScaled
from pyomo_relu.formulations.base import Formulation
from pyomo_relu.formulations.units import MaxLayer, Piece, PiecewiseLayer, unit_pieces
from pyomo_relu.formulations.values import (
    Entry,
    Row,
    Values,
    add_rows,
    add_variables,
    affine_rows,
    entry_row,
    link,
)
from pyomo_relu.network import Affine, Input, Max, PiecewiseLinear
from pyomo_relu.programs.lazy_rows import (
    AffineRows,
    add_lazy_rows,
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
        self.pieces: dict[int, list[list[Piece]]] = {}
        self.arguments: dict[int, list[list[int]]] = {}
        self.needed = self._needed()
        self.wanted = self._wanted()

    # ------------------------------------------------------- what must be written
    def _needed(self) -> list[np.ndarray]:
        """For each node, the entries on which an output depends over the box."""
        nodes = self.network.nodes
        needed = [np.zeros(n.size, dtype=bool) for n in nodes]
        for i in self.network.outputs:
            needed[i][:] = True
        for i in range(len(nodes) - 1, -1, -1):
            node, low, high = nodes[i], self.bounds.lower, self.bounds.upper
            if isinstance(node, Affine):
                for s, w in zip(node.sources, node.weights):
                    rows = w[needed[i]]
                    used = (abs(rows) if sp.issparse(rows) else np.abs(rows)).sum(
                        axis=0
                    ) > 0
                    needed[s] |= np.asarray(used).ravel()
            elif isinstance(node, PiecewiseLinear):
                self.pieces[i] = self._pieces(i, node)
                for u in np.flatnonzero(needed[i]).tolist():
                    pieces = self.pieces[i][u]
                    if len(pieces) > 1 or pieces[0].slope != 0:
                        needed[node.source][u] = True
            elif isinstance(node, Max):
                source_low, source_high = low[node.source], high[node.source]
                self.arguments[i] = [
                    _undominated(node.group(j), source_low, source_high)
                    for j in range(node.size)
                ]
                for j in np.flatnonzero(needed[i]).tolist():
                    needed[node.source][self.arguments[i][j]] = True
        return needed

    def _pieces(self, i: int, node: PiecewiseLinear) -> list[list[Piece]]:
        low = self.bounds.lower[node.source].tolist()
        high = self.bounds.upper[node.source].tolist()
        return [unit_pieces(node, u, low[u], high[u]) for u in range(node.size)]

    def _wanted(self) -> list[np.ndarray]:
        """For each affine node, the entries that must be variables of their own."""
        nodes = self.network.nodes
        wanted = [np.zeros(n.size, dtype=bool) for n in nodes]
        for i in self.network.outputs:
            wanted[i][:] = True
        for i, node in enumerate(nodes):
            if isinstance(node, Affine):
                for s in node.sources:
                    wanted[s] |= self.needed[s]
            elif isinstance(node, Max):
                wanted[node.source] |= self.needed[node.source]
            elif isinstance(node, PiecewiseLinear):
                explicit = self.formulations[i].needs_preactivation
                for u in np.flatnonzero(self.needed[i]).tolist():
                    pieces = self.pieces[i][u]
                    if (explicit and len(pieces) > 1) or _is_identity(pieces):
                        wanted[node.source][u] = True
        return wanted

    # -------------------------------------------------------------------- writing
    def write(self) -> Block:
        """Return a block, indexed by layer name, that holds all components."""
        nodes = self.network.nodes
        names = [
            n.name
            for i, n in enumerate(nodes)
            if not isinstance(n, Input) or self.written.is_scaled(i)
        ]
        container = Block(Set(initialize=names, dimen=1))
        container.construct()
        # By this the variables of a formulation that was replaced can be told.
        container.is_network_layer = True
        chosen = list(dict.fromkeys(self.formulations.values()))
        for formulation in chosen:
            formulation.begin(self.written)
        for i, node in enumerate(nodes):
            if isinstance(node, Input):
                self._write_input(i, node, container)
            elif isinstance(node, Affine):
                self._write_affine(i, node, container[node.name])
            elif isinstance(node, PiecewiseLinear):
                self._write_piecewise(i, node, container[node.name])
            elif isinstance(node, Max):
                self._write_max(i, node, container[node.name])
        for formulation in chosen:
            written = [
                container[nodes[i].name]
                for i, own in self.formulations.items()
                if own is formulation
            ]
            formulation.transform(written)
        return container

    def _new_variables(self, i: int, block, units: list[int]) -> dict[int, Any]:
        """The variables of the given units: the outputs, or new ones with bounds."""
        if i in self.targets:
            return {u: self.targets[i][u] for u in units}
        if not units:
            return {}
        return add_variables(
            block,
            "out",
            units,
            self.bounds.lower[i][units].tolist(),
            self.bounds.upper[i][units].tolist(),
        )

    def _write_input(self, i: int, node: Input, container) -> None:
        """The user's entries, or variables in other units that rows tie to them."""
        entries = list(self.inputs[i])
        if self.written.is_scaled(i):
            block, factor = container[node.name], self.written.factor(i).tolist()
            own = [
                u
                for u, e in enumerate(entries)
                if self.needed[i][u] and factor[u] != 1.0 and not isinstance(e, float)
            ]
            low, high = self.bounds.lower[i][own], self.bounds.upper[i][own]
            found = add_variables(block, "out", own, low.tolist(), high.tolist())
            rows = {}
            for u, v in found.items():
                given = entry_row(entries[u], 0.0, 0.0)
                rows[u] = link(given, Row([1.0], [v]), factor[u], margin=True)
            add_rows(block, "scale", rows)
            _warn_of_extremes([entries[u] for u in own], [factor[u] for u in own])
            for u, e in enumerate(entries):
                if isinstance(e, float):
                    entries[u] = e * factor[u]
            entries = [found.get(u, e) for u, e in enumerate(entries)]
        self.values[i] = Values(entries, self.bounds.lower[i], self.bounds.upper[i])

    def _finish(self, i: int, block, entries: list[Entry], copies: dict[int, Row]) -> None:
        """Note a node's entries; ``copies`` are rows that outputs must equal."""
        if i in self.targets and copies:
            targets = self.targets[i]
            add_rows(
                block, "copy", {u: row.equals(targets[u]) for u, row in copies.items()}
            )
            for u in copies:
                entries[u] = targets[u]
        if i in self.scaled_targets:
            factor = self.written.factor(i).tolist()
            rows = {}
            for u, target in enumerate(self.scaled_targets[i]):
                own = entry_row(entries[u], 0.0, 0.0)
                rows[u] = link(Row([1.0], [target]), own, factor[u])
            add_rows(block, "scale", rows)
        self.values[i] = Values(entries, self.bounds.lower[i], self.bounds.upper[i])

    def _write_affine(self, i: int, node: Affine, block) -> None:
        units = np.flatnonzero(self.needed[i] & self.wanted[i])
        if self._write_lazily(i, node, block, units):
            return
        rows = affine_rows(node, [self.values[s] for s in node.sources], units)
        entries: list[Entry] = [None] * node.size
        free, constant = {}, {}
        for u, row in zip(units.tolist(), rows):
            if row.is_constant:
                entries[u] = row.constant
                constant[u] = row
            else:
                free[u] = row
        variables = self._new_variables(i, block, list(free))
        add_rows(block, "affine", {u: row.equals(variables[u]) for u, row in free.items()})
        for u, v in variables.items():
            entries[u] = v
        self._finish(i, block, entries, constant)

    def _write_lazily(self, i: int, node: Affine, block, units: np.ndarray) -> bool:
        """Write a big layer whose sources are variables and numbers; False if it isn't."""
        sources = [self.values[s] for s in node.sources]
        if any(v.expressions for v in sources):
            return False
        parts = [w[units] for w in node.weights]
        constant = node.bias[units].copy()
        for part, v in zip(parts, sources):
            constant += part @ v.constants
        parts = [
            part if len(v.variables) == part.shape[1] else part[:, v.variables]
            for part, v in zip(parts, sources)
        ]
        matrix = parts[0]
        if len(parts) > 1:
            matrix = sp.hstack([sp.csr_array(p) for p in parts], format="csr")
        variables = [v for values in sources for v in values.variable_list]
        if not wants_lazy_rows(matrix, variables):
            return False
        if sp.issparse(matrix) or not matrix.all():
            matrix = sp.csr_array(matrix)
            matrix.eliminate_zeros()
            if not np.diff(matrix.indptr).all():
                return False  # a constant unit, which needs no row
        found = self._new_variables(i, block, units.tolist())
        tails = list(found.values())
        rows = AffineRows(matrix, variables, tails, (-constant).tolist())
        add_lazy_rows(block, "affine", list(found), rows)
        entries: list[Entry] = [None] * node.size
        for u, v in found.items():
            entries[u] = v
        self._finish(i, block, entries, {})
        return True

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

    def _write_piecewise(self, i: int, node: PiecewiseLinear, block) -> None:
        entries: list[Entry] = [None] * node.size
        copies: dict[int, Row] = {}
        stable, unstable = [], []
        source = self.values[node.source]
        for u in np.flatnonzero(self.needed[i]).tolist():
            pieces = self.pieces[i][u]
            if len(pieces) > 1:
                unstable.append(u)
            elif pieces[0].slope == 0:
                entries[u] = float(pieces[0].intercept)
                copies[u] = Row(constant=entries[u])
            elif _is_identity(pieces):
                entries[u] = source.entries[u]
                if i in self.targets:
                    copies[u] = entry_row(entries[u], 0.0, 0.0)
            else:
                stable.append(u)
        variables = self._new_variables(i, block, sorted(stable + unstable))
        entries = [variables.get(u, e) for u, e in enumerate(entries)]
        rows = self._source_rows(node.source, stable) if stable else {}
        scaled = {}
        for u in stable:
            piece = self.pieces[i][u][0]
            scaled[u] = rows[u].scaled(piece.slope, piece.intercept).equals(variables[u])
        add_rows(block, "stable", scaled)
        if unstable:
            formulation = self.formulations[i]
            layer = PiecewiseLayer(block, node, unstable, is_output=i in self.targets)
            layer.post = {u: variables[u] for u in unstable}
            low, high = source.lower.tolist(), source.upper.tolist()
            layer.lower = {u: low[u] for u in unstable}
            layer.upper = {u: high[u] for u in unstable}
            if formulation.needs_preactivation:
                layer.pre = {u: source.entries[u] for u in unstable}
            if formulation.needs_rows or not formulation.needs_preactivation:
                layer.rows = self._source_rows(node.source, unstable)
            formulation.write_piecewise(layer)
        self._finish(i, block, entries, copies)

    def _write_max(self, i: int, node: Max, block) -> None:
        source = self.values[node.source]
        entries: list[Entry] = [None] * node.size
        copies: dict[int, Row] = {}
        several: dict[int, list[int]] = {}
        for j in np.flatnonzero(self.needed[i]).tolist():
            arguments = self.arguments[i][j]
            if len(arguments) > 1:
                several[j] = arguments
                continue
            (a,) = arguments
            entries[j] = source.entries[a]
            if i in self.targets:
                copies[j] = entry_row(entries[j], 0.0, 0.0)
        variables = self._new_variables(i, block, list(several))
        for j, v in variables.items():
            if j in several:
                entries[j] = v
        if several:
            layer = MaxLayer(block, node, list(several), source, several)
            layer.post = {j: variables[j] for j in several}
            inner = sorted({a for arguments in several.values() for a in arguments})
            layer.rows = self._source_rows(node.source, inner)
            self.formulations[i].write_max(layer)
        self._finish(i, block, entries, copies)


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


def _is_identity(pieces: list[Piece]) -> bool:
    return len(pieces) == 1 and pieces[0].slope == 1 and pieces[0].intercept == 0


def _undominated(group: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> list[int]:
    """Entries of a group that can be its maximum (Tjeng et al., section 4.2).

    An entry is left out if its upper bound is below the largest lower bound; of those
    that are equal to it, as with repeated entries, one stays.
    """
    group = np.unique(group)
    best = group[np.argmax(lower[group])]
    kept = [int(a) for a in group if upper[a] > lower[best] or a == best]
    return kept
