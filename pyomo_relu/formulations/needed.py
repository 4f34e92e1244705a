"""What of a network must be written: entries on which an output depends over the box.

Units that are constant over the box, and whatever only they read, cost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.bounds import Bounds
from pyomo_relu.formulations.base import Formulation
from pyomo_relu.formulations.units import Piece, unit_pieces
from pyomo_relu.network import Affine, Max, PiecewiseLinear, Smooth


@dataclass
class Needed:
    """What must be written of each node.

    Attributes
    ----------
    pieces : dict
        Of each piecewise-linear node the pieces of every unit.
    arguments : dict
        Of each max node the arguments of every unit that can be the largest.
    entries : list of (size,) bool arrays
        Entries on which an output depends over the box.
    variables : list of (size,) bool arrays
        Entries that must be variables of their own, if they are needed.
    """

    bounds: Bounds
    formulations: dict[int, Formulation]
    pieces: dict[int, list[list[Piece]]] = field(default_factory=dict)
    arguments: dict[int, list[list[int]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        network = self.bounds.network
        self.nodes = network.nodes
        self.entries = [np.zeros(n.size, dtype=bool) for n in self.nodes]
        self.variables = [np.zeros(n.size, dtype=bool) for n in self.nodes]
        for i in network.outputs:
            self.entries[i][:] = self.variables[i][:] = True
        for i in reversed(range(len(self.nodes))):
            self._pass_back(i)

    def _pass_back(self, i: int) -> None:
        """Note what node ``i`` needs of the nodes that it reads."""
        node, own, bounds = self.nodes[i], self.entries[i], self.bounds
        if isinstance(node, Affine):
            for s, w in zip(node.sources, node.weights):
                used = _used_columns(w[own])
                self.entries[s] |= used
        elif isinstance(node, PiecewiseLinear):
            self._pass_piecewise(i, node)
        elif isinstance(node, Smooth):
            moves = own & (bounds.lower[node.source] < bounds.upper[node.source])
            self.entries[node.source] |= moves
            self.variables[node.source] |= moves
        elif isinstance(node, Max):
            low, high = bounds.lower[node.source], bounds.upper[node.source]
            found = [node.contenders(j, low, high).tolist() for j in range(node.size)]
            self.arguments[i] = found
            for j in np.flatnonzero(own).tolist():
                self.entries[node.source][found[j]] = True
        if isinstance(node, (Affine, Max)):
            for s in node.sources:
                self.variables[s][:] = True

    def _pass_piecewise(self, i: int, node: PiecewiseLinear) -> None:
        low = self.bounds.lower[node.source].tolist()
        high = self.bounds.upper[node.source].tolist()
        found = [unit_pieces(node, u, low[u], high[u]) for u in range(node.size)]
        self.pieces[i] = found
        explicit = self.formulations[i].needs_preactivation
        for u in np.flatnonzero(self.entries[i]).tolist():
            several = len(found[u]) > 1
            if several or found[u][0].slope != 0:
                self.entries[node.source][u] = True
            if (explicit and several) or is_identity(found[u]):
                self.variables[node.source][u] = True


def _used_columns(weights: Any) -> np.ndarray:
    sizes = abs(weights) if sp.issparse(weights) else np.abs(weights)
    return np.asarray(sizes.sum(axis=0) > 0).ravel()


def is_identity(pieces: list[Piece]) -> bool:
    """Whether a unit is its argument over the box."""
    return len(pieces) == 1 and pieces[0].slope == 1 and pieces[0].intercept == 0
