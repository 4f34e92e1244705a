"""Points that may be counterexamples, and the check that makes them ones.

A point is believed only after the network was run on it in float64, the property was
evaluated on these outputs, and the point lies in the region, each without a tolerance.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import numpy as np

from pyomo_relu.network import Network
from pyomo_relu.verification.input_region import Region
from pyomo_relu.verification.properties import Property
from pyomo_relu.verification.starts_of_attack import Starts
from pyomo_relu.verification.verify_settings import VERIFY

logger = logging.getLogger(__name__)

#: A program for the network, ``x (n_inputs,) -> y (n_outputs,)``.
Reference = Callable[[np.ndarray], np.ndarray]


class Candidates:
    """The points that a verification has seen; the best one of each set is a start.

    Attributes
    ----------
    upper : (sets,) array
        The least margin of each set at any point.
    witness : (n_inputs,) array or None
        The first counterexample.
    details : dict
        ``reference_disagrees``, where another program for the same network did.
    """

    def __init__(
        self,
        network: Network,
        region: Region,
        prop: Property,
        starts: Starts,
        reference: Reference | None,
    ) -> None:
        self.network, self.region, self.prop = network, region, prop
        self.starts, self.reference = starts, reference
        self.upper = np.full(len(prop.unsafe), np.inf)
        self.witness: np.ndarray | None = None
        self.details: dict[str, bool] = {}

    def confirm(self, x: np.ndarray) -> bool:
        """Whether a point is a counterexample: run again, no tolerance anywhere."""
        if not np.isfinite(x).all() or not self.region.contains(x):
            return False
        y = self.network.evaluate(x.reshape(1, -1))[0]
        return self.prop.violated(x, y) and self._agrees(x, y)

    def _agrees(self, x: np.ndarray, y: np.ndarray) -> bool:
        """Whether the reference has the same outputs up to their rounding."""
        if self.reference is None:
            return True
        other = np.asarray(self.reference(x), dtype=float).reshape(-1)
        apart = abs(other - y).max() if other.shape == y.shape else np.inf
        if apart <= VERIFY.agreement * (1.0 + abs(y).max()):
            return True
        self.details["reference_disagrees"] = True
        logger.warning(
            "the reference and the network differ by %g at a counterexample, "
            "which is not believed; check how the network was read.",
            apart,
        )
        return False

    def offer(self, sets: Iterable[int], points: np.ndarray, values: np.ndarray) -> bool:
        """Note points and their margins; whether one is a counterexample."""
        for d, x, value in zip(sets, points, values):
            if value < self.upper[d]:
                self.upper[d], self.starts.points[int(d)] = value, x.copy()
        for k in np.argsort(values, kind="stable"):
            if self.witness is None and values[k] <= 0 and self.confirm(points[k]):
                self.witness = points[k].copy()
        return self.witness is not None
