"""Linear bounds of the queries over many boxes at once: pure NumPy, no solver.

For each box the hidden pre-activations get bounds, those of the parent intersected;
then each side of a query that matters gets one plane for every slope rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds.ascent import Pace
from pyomo_relu.bounds.backward import Backward
from pyomo_relu.bounds.crown import absolute_gradient, crown_arrays
from pyomo_relu.bounds.linear import undecided
from pyomo_relu.bounds.pool import Inherited
from pyomo_relu.bounds.slopes import SlopeProblems
from pyomo_relu.network import Max, Network, PiecewiseLinear, Smooth

#: The ascent of the slopes of a query that decides over a box; the first step is 0.3. A
#: few steps are enough: they cost about as much as the bounds of one layer, and in ten
#: dimensions a third fewer boxes are left to bound.
PACE = Pace(rates=(0.3 / 0.93,), shrink=0.93)


@dataclass
class SidePlanes:
    """``sign * query >= A x + c`` in each box, for S sides and R rules.

    Attributes
    ----------
    stored : (N, 2 h) array
        Lower, then upper bounds of the hidden pre-activations.
    slopes : (N, R, S, n) array
    consts : (N, R, S) array
        Rounding is included.
    low : (N, S) array
        The least value of ``sign * query`` over the box, by the best rule.
    steep : (N, S, n) array
        Absolute-weight gradient: a bound on how fast the query changes.
    unstable : (N,) int array
        Neurons and maxima that are not decided over the box.
    """

    stored: np.ndarray
    slopes: np.ndarray
    consts: np.ndarray
    low: np.ndarray
    steep: np.ndarray
    unstable: np.ndarray

    def take(self, keep: np.ndarray) -> SidePlanes:
        """The boxes ``keep``."""
        return SidePlanes(*(getattr(self, f)[keep] for f in self.__dataclass_fields__))


def stack(parts: Sequence[SidePlanes]) -> SidePlanes:
    """One after the other."""
    if len(parts) == 1:
        return parts[0]
    fields = SidePlanes.__dataclass_fields__
    return SidePlanes(*(np.concatenate([getattr(p, f) for p in parts]) for f in fields))


class BoxBounds:
    """Bounds of boxes for one network; what a worker process needs.

    Parameters
    ----------
    network : Network
        One input node; the last node holds the queries.
    sides : list of (query, sign)
    rules : sequence of str
        The slope rules for hidden neurons.
    plane_rules : sequence of str
        The slope rules for the queries' planes.
    steps : int
        How many steps improve the slopes of each plane, see
        :class:`~pyomo_relu.bounds.slopes.SlopeProblems`.
    """

    def __init__(
        self,
        network: Network,
        sides: Sequence[tuple[int, float]],
        rules: Sequence[str] = ("adaptive",),
        plane_rules: Sequence[str] = ("adaptive",),
        steps: int = 0,
    ) -> None:
        self.recipe = (tuple(sides), tuple(rules), tuple(plane_rules), steps)
        self.steps = steps
        self.network, self.last = network, network.outputs[0]
        self.rules, self.plane_rules = tuple(rules), tuple(plane_rules)
        self.sides = list(sides)
        self.rows = np.zeros((len(sides), network.nodes[self.last].size))
        for row, (k, sign) in zip(self.rows, sides):
            row[k] = sign
        self.inherited = Inherited(network)
        asked = [
            i
            for i in self.inherited.hidden
            if not set(network.nodes[i].sources) <= set(network.inputs)
        ]
        self._asked = dict.fromkeys(asked)

    def arrays(
        self, lower: np.ndarray, upper: np.ndarray, stored: np.ndarray
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Bounds of every node over each box, lists of (N, size) arrays."""
        start = self.inherited.by_node(stored)
        return crown_arrays(self.network, lower, upper, start, self._asked, self.rules)

    def __call__(
        self, lower: np.ndarray, upper: np.ndarray, stored: np.ndarray
    ) -> SidePlanes:
        """Bound N boxes (N, n), given the bounds (N, 2 h) of their parents."""
        lows, highs = self.arrays(lower, upper, stored)
        engine = Backward(self.network, lower, upper, lows, highs)
        reach = abs(engine.center) + engine.radius
        n = lower.shape[1]
        shape = (len(lower), len(self.rows), n)
        slopes, consts = [], []
        low: np.ndarray | None = None
        for rule in self.plane_rules:
            a, c, e = self._planes(engine, rule)
            value = engine.lower_bound(a, c, e)
            low = value if low is None else np.maximum(low, value)
            size = np.matmul(abs(a), reach[:, :, None])[:, :, 0] + abs(c)
            slopes.append(np.broadcast_to(a, shape))
            consts.append(
                np.broadcast_to(c - 1.01 * e - 4.0 * (n + 4.0) * EPS * size, shape[:2])
            )
        queries = np.unique([k for k, _ in self.sides])
        where = np.searchsorted(queries, [k for k, _ in self.sides])
        steep = absolute_gradient(self.network, lows, highs, self.last, queries)
        steep = np.broadcast_to(steep, (len(lower), *steep.shape[1:]))[:, where]
        assert low is not None  # there is at least one rule
        return SidePlanes(
            self.inherited.stored(lows, highs, len(lower)),
            np.stack(slopes, axis=1),
            np.stack(consts, axis=1),
            low,
            steep,
            self.unstable(lows, highs, len(lower)),
        )

    def _planes(
        self, engine: Backward, rule: str
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What :meth:`Backward.run` gives for the sides."""
        if not self.steps:
            return engine.run(self.last, self.rows, rule)
        problems = SlopeProblems(engine, self.last, rule, general=False)
        if not problems.parts:
            return engine.run(self.last, self.rows, rule)
        parts = []
        for row in self.rows:
            rows = np.broadcast_to(row, (engine.batch, len(row)))
            rules = np.full(engine.batch, rule)
            relaxed = problems.best(rows, rules, self.steps + 1, PACE)
            parts.append(engine.run(self.last, rows[:, None, :], relaxed))
        a, c, e = (np.concatenate(part, axis=1) for part in zip(*parts))
        return a, c, e

    def unstable(
        self, lows: Sequence[np.ndarray], highs: Sequence[np.ndarray], n: int
    ) -> np.ndarray:
        """How many neurons and maxima are undecided in each of ``n`` boxes.

        Smooth units count wherever their argument varies.
        """
        total = np.zeros(n, dtype=int)
        for node in self.network.nodes:
            if isinstance(node, PiecewiseLinear):
                total += undecided(node, lows[node.source], highs[node.source]).sum(axis=1)
            elif isinstance(node, Smooth):
                total += (lows[node.source] < highs[node.source]).sum(axis=1)
            elif isinstance(node, Max):
                total += undecided_max(node, lows[node.source], highs[node.source]).sum(
                    axis=1
                )
        return total


def bound_chunk(network: Network, token: str, recipe: tuple, boxes: tuple) -> SidePlanes:
    """What a worker process does: bound boxes by :class:`BoxBounds`."""
    return BoxBounds(network, *recipe)(*boxes)


def undecided_max(node: Max, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Which maxima have more than one argument that may be the largest."""
    l, u = low[..., node.indices], high[..., node.indices]  # noqa: E741
    best = np.maximum.reduceat(l, node.indptr[:-1], axis=-1)
    groups = np.repeat(np.arange(node.size), np.diff(node.indptr))
    alive = (u > best[..., groups]) | (l >= best[..., groups])
    return np.add.reduceat(alive, node.indptr[:-1], axis=-1) > 1
