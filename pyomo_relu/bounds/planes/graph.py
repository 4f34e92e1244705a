"""Planes of any network, by the backward pass through its graph.

Steps are bounded by their closed graph: at a step both of its values are between the
planes.
"""

from __future__ import annotations

import numpy as np

from pyomo_relu.bounds.box_bounds import BoxBounds
from pyomo_relu.bounds.crown import crown_arrays
from pyomo_relu.bounds.planes.base import BoxPlanes, Planes, with_one_output_node
from pyomo_relu.network import Network

#: Slope rules of the hidden neurons, and of the planes of the outputs.
HIDDEN_RULES, PLANE_RULES = ("adaptive", "one"), ("adaptive", "zero", "one")


class GraphPlanes(BoxPlanes):
    """Any network over boxes.

    Parameters
    ----------
    network : Network
    low, high : (n,) arrays
    """

    def __init__(self, network: Network, low: np.ndarray, high: np.ndarray) -> None:
        super().__init__(network, low, high)
        sides = [(k, sign) for sign in (1.0, -1.0) for k in range(self.q)]
        self._bounder = BoxBounds(
            with_one_output_node(network), sides, HIDDEN_RULES, PLANE_RULES
        )
        known = crown_arrays(self._bounder.network, low[None], high[None])
        self._stored = self._bounder.inherited.stored(*known, 1)
        self._owners = np.tile(np.arange(self.q), len(PLANE_RULES))

    def over(
        self,
        low: np.ndarray,
        high: np.ndarray,
        stored: np.ndarray | None = None,
        at: np.ndarray | None = None,
    ) -> Planes:
        low, high = self.box(low, high)
        known = self._stored if stored is None else stored[None]
        found = self._bounder(low[None], high[None], known)
        undecided, q = int(found.unstable[0]), self.q
        rules = slice(None) if undecided else slice(1)
        rows = np.concatenate([found.slopes[0], found.consts[0][..., None]], axis=-1)[rules]
        owners = self._owners[: len(rows) * q]
        return Planes(
            rows[:, :q].reshape(len(owners), -1),
            owners,
            -rows[:, q:].reshape(len(owners), -1),
            owners,
            found.low[0, :q],
            -found.low[0, q:],
            found.stored[0],
            undecided,
        )
