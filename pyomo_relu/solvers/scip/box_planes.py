"""Planes of a network over boxes, by the bounds that ``relu_global`` uses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyomo_relu.network import Network
from pyomo_relu.solvers.global_search.box_bounds import BoxBounds


@dataclass(frozen=True)
class Planes:
    """What is known of ``q`` outputs over one box of ``n`` inputs; rounding is included.

    Attributes
    ----------
    below : (K, n + 1) array
        Slopes, then the constant: ``y[of_below] >= below @ (x, 1)``.
    of_below : (K,) int array
    above : (L, n + 1) array
    of_above : (L,) int array
    low, high : (q,) arrays
        Bounds of the outputs.
    stored : array or None
        Bounds of hidden neurons, which boxes inside inherit.
    undecided : int
        Neurons that are not decided in the box.
    """

    below: np.ndarray
    of_below: np.ndarray
    above: np.ndarray
    of_above: np.ndarray
    low: np.ndarray
    high: np.ndarray
    stored: np.ndarray | None
    undecided: int


class BoxPlanes:
    """A network's planes over boxes."""

    def __init__(self, network: Network, low: np.ndarray, high: np.ndarray) -> None:
        self.network = network
        self.n, self.q = network.n_inputs, network.n_outputs
        sides = [(k, sign) for sign in (1.0, -1.0) for k in range(self.q)]
        self._bounds = BoxBounds(network, sides, plane_rules=("adaptive", "zero"))

    def evaluate(self, x: np.ndarray) -> np.ndarray:
        """The outputs (q,) at inputs (n,)."""
        return self.network.evaluate(x)

    def over(
        self,
        low: np.ndarray,
        high: np.ndarray,
        stored: np.ndarray | None = None,
        at: np.ndarray | None = None,
    ) -> Planes:
        """The planes over a box."""
        start = self._bounds.inherited.start() if stored is None else stored
        found = self._bounds(low[None], high[None], start)
        q, n = self.q, self.n
        rows = np.concatenate([found.slopes[0], found.consts[0][:, :, None]], axis=2)
        below = rows[:, :q].reshape(-1, n + 1)
        above = -rows[:, q:].reshape(-1, n + 1)
        of = np.tile(np.arange(q), len(rows))
        least, most = found.low[0, :q], -found.low[0, q:]
        return Planes(
            below, of, above, of, least, most, found.stored, int(found.unstable[0])
        )

    def branching(
        self, low: np.ndarray, high: np.ndarray, planes: Planes, at: np.ndarray
    ) -> np.ndarray:
        """How much splitting each input is worth, (n,)."""
        slopes = np.concatenate([planes.below, planes.above])[:, :-1]
        return abs(slopes).max(axis=0) * (high - low)


def box_planes(network: Network, low: np.ndarray, high: np.ndarray) -> BoxPlanes:
    """The planes of a network over boxes inside of one."""
    return BoxPlanes(network, low, high)
