"""A filter of points: what counts as success where a step trades violation for cost.

Source: Fletcher, Leyffer, Toint, SIAM Journal on Optimization 13, 2002.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyomo_relu.heuristics.start_settings import SEQUENTIAL


@dataclass
class Place:
    """Where a search stands: a point with what the networks give, violation and cost."""

    point: np.ndarray
    broken: float
    cost: float

    @property
    def holds(self) -> bool:
        """Whether the networks' outputs break no row."""
        return self.broken <= SEQUENTIAL.holds

    def ahead_of(self, other: Place) -> bool:
        """Whether this is worth more: feasible first, then cheaper."""
        if self.holds and other.holds:
            return self.cost < other.cost - SEQUENTIAL.gain * max(1.0, abs(self.cost))
        return self.broken < other.broken


def passes(new: Place, kept: Sequence[Place]) -> bool:
    """Whether a place is better in one respect than each before it."""
    gain = SEQUENTIAL.gain * max(1.0, abs(new.cost))
    for old in kept:
        if new.holds and old.holds:
            passes = new.cost < old.cost - gain
        else:
            margin = SEQUENTIAL.margin * new.broken * max(1.0, abs(old.cost))
            less = new.broken <= (1.0 - SEQUENTIAL.margin) * old.broken
            passes = less or new.cost < old.cost - gain - margin
        if not passes:
            return False
    return True
