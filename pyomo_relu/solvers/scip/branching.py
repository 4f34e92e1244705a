"""Where a node is split: at an input of a network or at the side of a neuron.

What either is worth to the networks that are off is told in one unit: how much of what an
output is off it may bring. For an input that is how far planes move over its width, as a
share of the output's range; for a neuron's side it is its share in what the planes lose at the
LP's point. What both gain in the end the LPs of the children tell
(:mod:`~pyomo_relu.solvers.scip.gains`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pyomo_relu.solvers.scip.gains import Candidate, Gains
from pyomo_relu.solvers.scip.held import Held
from pyomo_relu.solvers.scip.settings import HANDLER
from pyomo_relu.solvers.scip.together import Together


class Branching:
    """Chooses the variable to branch on.

    Parameters
    ----------
    networks : Together
    """

    def __init__(self, networks: Together) -> None:
        self.networks, self.gains = networks, Gains()

    def choose(
        self,
        wrong: np.ndarray,
        off: np.ndarray,
        z: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
    ) -> Candidate | None:
        """The best candidate; None where nothing can be split.

        Parameters
        ----------
        wrong : int array
            The networks that are off, not empty.
        off : (K,) array
            How far each is.
        z, low, high : (V + S + 1,) arrays
            The LP's point and the node's bounds.
        """
        networks = self.networks
        first = len(networks.columns)
        size = np.maximum(1.0, np.maximum(abs(low), abs(high)))
        can = high - low > HANDLER.narrow * size
        can[first:] &= (low[first:] == 0.0) & (high[first:] == 1.0)
        scores = np.zeros(networks.count + 1)
        for k, held in zip(wrong.tolist(), networks.held(wrong, low, high)):
            x = networks.x[k, : networks.planes[k].n]
            start, end = networks.sides[k].tolist()
            if np.count_nonzero(can[x]) > HANDLER.few_inputs and can[start:end].any():
                scores[start:end] = off[k] * networks.worth_of_sides(k, held, z)
                if (scores[start:end][can[start:end]] > 0.0).any():
                    continue
            here = np.clip(z[x], low[x], high[x])
            np.add.at(scores, x, off[k] * self._inputs(k, held, here, (high - low)[x]))
        scores[~can] = 0.0
        some = np.flatnonzero(scores > HANDLER.promising * scores.max()).tolist()
        if not some:
            return None
        return self.gains.best(
            Candidate(j, float(scores[j]), "side" if j >= first else "input") for j in some
        )

    def _inputs(
        self, k: int, held: Held, here: np.ndarray, width: np.ndarray
    ) -> np.ndarray:
        """What splits of a network's inputs are worth, (n,)."""
        box, planes = self.networks.planes[k], held.planes
        score = box.branching(held.low[: box.n], held.high[: box.n], planes, here)
        spread = max(float((planes.high - planes.low).max()), 1e-300)
        by_width = HANDLER.by_width * width / max(float(width.max()), 1e-300)
        return (score + max(float(score.max()), 1e-300) * by_width) / spread


def split_point(v: Any, low: float, high: float, x: float) -> float:
    """Where an input is cut; between two integers, if it is one."""
    width = high - low
    at = HANDLER.middle * 0.5 * (low + high) + (1.0 - HANDLER.middle) * x
    at = min(max(at, low + HANDLER.inner * width), high - HANDLER.inner * width)
    if v.isIntegral():
        return min(max(math.floor(at), math.ceil(low)), math.floor(high) - 1.0) + 0.5
    return at
