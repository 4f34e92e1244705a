"""A subsystem of one input: its exact curve, and the least cost at a breakpoint.

A network of one free input is linear between breakpoints that are few and found at once
(:func:`~pyomo_relu.bounds.plane_regions.linear_regions`). So the least cost for any prices
is at a breakpoint or at an end of the box, and all breakpoints are points of the master,
whose mixtures are then the hull of the curve.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyomo_relu.bounds.plane_regions import TooManyRegionsError, linear_regions
from pyomo_relu.network import Affine, Input, Max, Network, PiecewiseLinear
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
        low, high = self.low, self.high
        regions = linear_regions(self.network, low, high, max_regions=CELLS.most_pieces)
        cells = regions.cells
        ends = [cells.points(r)[:, 0] for r in range(len(cells))]
        inner = np.concatenate(ends) if low[0] < high[0] else low
        self.breakpoints = np.unique(
            np.clip(np.append(inner, [low[0], high[0]]), low, high)
        )
        self.add_points(self.breakpoints[:, None])
        self.boxes = len(cells)
        # Between neighbours a sliver may be missing, on which the slope is anything that
        # the weights allow; and each value has its rounding.
        size = np.maximum(np.abs(self.y).max(axis=0), CELLS.margin)
        off = CELLS.breakpoint_off * (high[0] - low[0] + np.abs([low, high]).max())
        self.margin = off * steepest(self.network) + CELLS.margin * size
        if (self.margin > CELLS.curve_off * size).any():
            raise TooManyRegionsError("rounding may move the curve too far.")

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
    if one and not any(_has_steps(link.block.network) for link in links):
        try:
            return CurveSubsystem(p, drivers, outputs, links)
        except TooManyRegionsError:
            pass
    return CellSubsystem(p, drivers, outputs, links, leaf_neurons)


def steepest(network: Network) -> np.ndarray:
    """A bound of the slopes of each output in each input, whatever the inputs, (q,)."""
    found: list[np.ndarray] = []
    for node in network.nodes:
        if isinstance(node, Input):
            found.append(np.ones(node.size))
        elif isinstance(node, Affine):
            parts = (abs(w) @ found[s] for s, w in zip(node.sources, node.weights))
            found.append(np.asarray(sum(parts, np.zeros(node.size))))
        elif isinstance(node, PiecewiseLinear):
            found.append(abs(node.slopes).max(axis=1) * found[node.source])
        else:
            assert isinstance(node, Max)
            own = found[node.source]
            found.append(np.array([own[node.group(j)].max() for j in range(node.size)]))
    return np.concatenate([found[i] for i in network.outputs])


def _has_steps(network: Network) -> bool:
    return any(
        isinstance(node, PiecewiseLinear) and not node.is_continuous
        for node in network.nodes
    )
