"""A subsystem of one input: its exact curve, and the least cost at a breakpoint.

A network of one free input is linear between breakpoints that are few and found at once
(:func:`~pyomo_relu.bounds.curves.proved_curves`). So the least cost for any prices
is at a breakpoint or at an end of the box, and all breakpoints are points of the master,
whose mixtures are then the hull of the curve.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyomo_relu.bounds.curves import is_continuous_and_piecewise_linear, proved_curves
from pyomo_relu.bounds.plane_regions import TooManyRegionsError
from pyomo_relu.presolve.compose import BlockLinks
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.solvers.global_search.settings import CELLS
from pyomo_relu.solvers.global_search.subsystems import (
    CellSubsystem,
    Priced,
    Prices,
    Subsystem,
)


class CurveSubsystem(Subsystem):
    """A subsystem of one continuous input, without steps.

    Attributes
    ----------
    breakpoints : (k,) array
        In increasing order, with both ends of the box.
    margin : (q,) array
        So far an output may be from the line between two neighbours.

    Raises
    ------
    TooManyRegionsError
        For more than ``CELLS.most_pieces`` pieces, or where rounding may move them too far.
    """

    def __init__(
        self,
        p: Problem,
        drivers: np.ndarray,
        outputs: np.ndarray,
        links: Sequence[BlockLinks],
    ) -> None:
        super().__init__(p, drivers, outputs, links)
        curves = proved_curves(
            self.network,
            self.low,
            self.high,
            most=CELLS.most_pieces,
            most_off=CELLS.curve_off,
        )
        self.breakpoints = curves.at
        self.add_points(self.breakpoints[:, None])
        self.boxes = len(curves.at) - 1
        # A part of a piece, between two computed values, is off by as much at each of them.
        self.margin = 2.0 * curves.margin

    def add_random_points(self, rng: np.random.Generator) -> None:
        """None: the breakpoints are all that a mixture needs."""

    def price(self, prices: Prices, tolerance: float) -> Priced:
        """The least cost at a breakpoint in the box, or at an end of it."""
        low, high = prices.low[0], prices.high[0]
        own = self.breakpoints
        own = np.concatenate([[low], own[(own > low) & (own < high)], [high]])
        best = Priced()
        self._meet(best, prices, own[:, None])
        size = abs(own).max() * abs(prices.g) + np.abs(self.y).max(axis=0) @ abs(prices.v)
        best.bound = best.value - float(
            abs(prices.v) @ self.margin + CELLS.margin * size[0]
        )
        return best


def make_subsystem(
    p: Problem,
    drivers: np.ndarray,
    outputs: np.ndarray,
    links: Sequence[BlockLinks],
    leaf_neurons: int,
) -> Subsystem:
    """A curve where the subsystem has one free input and few pieces, else cells."""
    one = len(drivers) == 1 and not p.integer[drivers[0]]
    if one and all(
        is_continuous_and_piecewise_linear(link.block.network) for link in links
    ):
        try:
            return CurveSubsystem(p, drivers, outputs, links)
        except TooManyRegionsError:
            pass
    return CellSubsystem(p, drivers, outputs, links, leaf_neurons)
