"""Values of a block's layers at an input: what the network implies for each variable."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyomo_relu.bounds.well_scaled import WellScaled
from pyomo_relu.formulations.base import Formulation
from pyomo_relu.formulations.units import Piece, PiecesOf, assign, unit_pieces
from pyomo_relu.formulations.whole import LAYER, whole_of
from pyomo_relu.network import Max, PiecewiseLinear


class LayerValues:
    """Sets the variables of a block's layers.

    Parameters
    ----------
    layers : Block or None
        What a :class:`~pyomo_relu.formulations.NetworkWriter` wrote, by layer name;
        None, and nothing is set.
    written : WellScaled or None
        The network it was written of.
    formulations : dict
        The formulation of each nonlinear node.
    """

    def __init__(
        self,
        layers: Any,
        written: WellScaled | None,
        formulations: dict[int, Formulation],
    ) -> None:
        self.layers, self.written = layers, written
        self.formulations = formulations
        self._found: dict[int, dict[int, list[Piece]]] = {}

    def set(self, point: np.ndarray, shift: float = 0.0) -> None:
        """Set all variables at one input, in the user's units.

        Variables of the inputs and outputs, which some formulations read, must have
        their values.

        Parameters
        ----------
        point : (n_inputs,) array
        shift : float
            Added to every pre-activation as it is written; the entries of a maximum are
            moved apart by it, so that ties break either way.
        """
        if self.layers is None or self.written is None:
            return
        network = self.written.network
        whole = whole_of(self.formulations)
        if whole is not None:
            moved = np.asarray(point, dtype=float) + shift
            whole.set_network_values(self.layers[LAYER], moved, network.evaluate(point))
            return
        x = self.written.point(np.asarray(point, dtype=float).reshape(1, -1))
        values = [a[0] for a in network.activations(x)]
        for i, node in enumerate(network.nodes):
            if i in network.inputs and not self.written.is_scaled(i):
                continue
            block = self.layers[node.name]
            assign(block, "out", values[i].tolist().__getitem__)
            if isinstance(node, (PiecewiseLinear, Max)):
                pre = values[node.source]
                if shift and isinstance(node, Max):
                    pre = pre + shift * np.linspace(-1.0, 1.0, len(pre))
                elif shift:
                    pre = pre + shift
                pieces = self._pieces(i)
                self.formulations[i].set_values(block, node, pre, values[i], pieces)

    def _pieces(self, i: int) -> PiecesOf:
        """The pieces of a unit of node ``i`` as it was written, found once."""
        known = self._found.setdefault(i, {})
        assert self.written is not None
        bounds = self.written.bounds
        node = bounds.network.nodes[i]

        def pieces(u: int) -> list[Piece]:
            assert isinstance(node, PiecewiseLinear)
            if u not in known:
                low, high = bounds.lower[node.source][u], bounds.upper[node.source][u]
                known[u] = unit_pieces(node, u, float(low), float(high))
            return known[u]

        return pieces
