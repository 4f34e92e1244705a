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
        y: np.ndarray | None = None,
    ) -> Planes:
        low, high = self.box(low, high)
        known = None if stored is None else stored[None]
        return self.over_many(low[None], high[None], known)[0]

    def over_many(
        self, low: np.ndarray, high: np.ndarray, stored: np.ndarray | None = None
    ) -> list[Planes]:
        count, q = len(low), self.q
        if stored is None:
            stored = np.repeat(self._stored, count, axis=0)
        bounds = self._bounder(low, high, stored)
        found = []
        for k in range(count):
            undecided = int(bounds.unstable[k])
            # Without undecided neurons all rules give the same.
            rules = slice(None) if undecided else slice(1)
            rows = np.concatenate([bounds.slopes[k], bounds.consts[k][..., None]], axis=-1)
            rows = rows[rules]
            owners = self._owners[: len(rows) * q]
            found.append(
                Planes(
                    rows[:, :q].reshape(len(owners), -1),
                    owners,
                    -rows[:, q:].reshape(len(owners), -1),
                    owners,
                    bounds.low[k, :q],
                    -bounds.low[k, q:],
                    bounds.stored[k],
                    undecided,
                )
            )
        return found
