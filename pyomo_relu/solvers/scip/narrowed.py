"""Inputs and pre-activations over rows, networks and the best point's cost, for all nodes.

The whole problem as a linear program, every neuron with the triangle of its graph, and the
row of the best point's cost bound what any better point has
(:mod:`~pyomo_relu.solvers.global_search.narrowing`). SCIP's global bounds and the bounds from
which the planes of every box begin take it over. A better point makes the program smaller,
so it is asked again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.bounds.planes.sides import chain_of
from pyomo_relu.network import PiecewiseLinear
from pyomo_relu.programs import LinearProgram
from pyomo_relu.solvers.global_search.narrowing import Narrowing, Ranges
from pyomo_relu.solvers.scip.settings import NARROWED
from pyomo_relu.solvers.scip.time_share import TimeShare
from pyomo_relu.solvers.scip.together import Together


class Narrowed:
    """What is known of inputs and neurons once there is a point.

    Parameters
    ----------
    program : LinearProgram
        Without networks.
    networks : Together
    """

    def __init__(self, program: LinearProgram, networks: Together) -> None:
        sign = -1.0 if program.maximize else 1.0
        #: To be minimized; what SCIP's costs are more than its.
        self.program = replace(program, cost=sign * program.cost, maximize=False)
        self.offset = sign * program.offset
        self.networks = networks
        self.time = TimeShare(NARROWED.first, NARROWED.share)
        self._cutoff = math.inf
        #: How often in a row nothing was gained.
        self._in_vain = 0
        #: What is known of nodes and columns.
        self._known: list[Ranges] | None = None
        self._low, self._high = program.lower, program.upper

    def due(self, cutoff: float, bound: float, nodes: int) -> bool:
        """Whether it is worth to look now.

        Parameters
        ----------
        cutoff, bound : float
            The cost of the best point and the bound, both to be minimized.
        nodes : int
            How many the search has seen.
        """
        if not self.is_behind(cutoff):
            return False
        if self._in_vain >= NARROWED.tries:
            return False
        if math.isfinite(self._cutoff) and math.isfinite(bound):
            if self._cutoff - cutoff <= NARROWED.better * (self._cutoff - bound):
                return False
        return self.time.left > 0.0

    def is_behind(self, cutoff: float) -> bool:
        """Whether there is a better point than when it was asked last."""
        program = self.program
        some = self.networks.functions and len(program.row_lower) and program.cost.any()
        return bool(some) and cutoff < self._cutoff

    def look(
        self, low: np.ndarray, high: np.ndarray, cutoff: float
    ) -> Iterator[tuple[int, float, float]]:
        """Bound neurons for all nodes; better bounds of inputs and outputs.

        Parameters
        ----------
        low, high : (n_columns,) arrays
            Bounds of the program's columns in the whole tree.
        cutoff : float
            The cost of the best point, to be minimized.

        Yields
        ------
        column, low, high
            Of all columns of networks, where neurons have become narrower by enough.
        """
        with self.time.spending():
            found = self._found(low, high, cutoff)
        if found is None:
            return
        for j in self.networks.columns.tolist():
            yield j, float(found.lower[j]), float(found.upper[j])

    def _found(self, low: np.ndarray, high: np.ndarray, cutoff: float) -> Narrowing | None:
        """What narrowing finds; None where that is not worth a change."""
        self._cutoff = cutoff
        # SCIP takes over what counts only, while what is known of neurons holds for all.
        low, high = np.maximum(low, self._low), np.minimum(high, self._high)
        base = replace(self.program, lower=low, upper=np.maximum(low, high))
        left = max(self.time.left, NARROWED.probe)
        turn = Deadline(cpu_seconds=min(left, NARROWED.probe))
        cost = cutoff - self.offset
        found = Narrowing(base, self.networks.functions, cost, turn, self._known)
        before = found.width
        found.run()
        worth = bool(self._known) or found.width <= NARROWED.smaller * before
        self._in_vain = 0 if worth else self._in_vain + 1
        if not worth:
            return None
        if left > NARROWED.probe:
            found.deadline = Deadline(cpu_seconds=left - NARROWED.probe)
            found.run()
        self._known, self._low, self._high = found.ranges, found.lower, found.upper
        for k, ranges in enumerate(found.ranges):
            self._take(k, ranges)
        self.networks.forget()
        return found

    def _take(self, k: int, ranges: Ranges) -> None:
        """What planes of a chain begin with over the whole box."""
        chain = chain_of(self.networks.planes[k])
        if chain is None or not chain.stack.spans:
            return
        nodes = ranges.network.nodes
        sources = [node.source for node in nodes if isinstance(node, PiecewiseLinear)]
        known = chain.stack.stored[chain.position]
        low = np.concatenate([ranges.lows[s] for s in sources])
        high = np.concatenate([ranges.highs[s] for s in sources])
        low, high = np.maximum(known[0], low), np.minimum(known[1], high)
        if (low <= high).all():
            chain.stack.stored[chain.position] = np.stack([low, high])
