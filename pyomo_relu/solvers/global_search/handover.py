"""Problems with too many inputs for boxes: one MIP, started from a point.

Halving an image's 784 inputs one at a time gains nothing before the sun is cold. Such
a problem goes to HiGHS at once, with the decided neurons folded away, the linear
bounds of the root box in the big-M constraints, and a start from the network.
"""

from __future__ import annotations

import math

import numpy as np

from pyomo_relu.bounds import compute_bounds
from pyomo_relu.solvers.global_search.cost_search import CostSearch
from pyomo_relu.solvers.global_search.mip import BoxMIP


class HandOver(CostSearch):
    """The whole problem as one MIP."""

    title = "mip"

    least, floor = -math.inf, math.inf

    @property
    def bound(self) -> float:
        """A valid lower bound of the cost."""
        return min(max(self.least, -math.inf), self.floor, self.incumbent.cost)

    @property
    def open_boxes(self) -> int:
        """1 until the MIP is solved."""
        return int(self.floor == math.inf and self.least < self.cutoff)

    def run(self) -> None:
        """Search until the gap is closed or a limit is met."""
        p = self.problem
        try:
            if not p.columns:  # nothing to choose: reading it found no contradiction
                self.incumbent.offer(np.zeros(0))
                self.least = self.floor = 0.0
                return
            lows, highs = [], []
            if p.network is not None:
                if p.is_box:
                    self.incumbent.search_box()
                low, high = p.box
                found = compute_bounds(p.network, low, high)
                lows, highs = list(found.lower), list(found.upper)
                self.counts.boxes = 1
            mip = BoxMIP(p, p.lower, p.upper, lows, highs)
            self._tell("log")
            self.look_before_long()
            if self._out_of_limits():
                return
            answer = mip.solve(
                time_limit=self.remaining,
                relative=self.limits.rel_gap,
                gap=self.limits.abs_gap,
                start=self.incumbent.point,
                stop=self.poll,
                keep=True,
            )
            self.counts.mips += 1
            if answer.point is not None:
                self.incumbent.offer(answer.point)
            self.least = max(self.least, answer.bound)
            if answer.solved:
                self.floor = self.least
            elif self.stopped is None:
                self.stopped = answer.reason
        except KeyboardInterrupt:
            self.stopped = "interrupt"
