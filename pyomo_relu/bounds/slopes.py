r"""Slopes of lines as the problems of an ascent, for queries on any graph.

Any slope of a unit's lower hull is valid, so each query may have slopes of its own. The
ascent (:mod:`pyomo_relu.bounds.ascent`) moves each slope as a *share*, from 0 to 1, of the
range of slopes that the hull has. A ReLU's range is from 0 to 1, so that its share is the
slope itself.

The bound ``g`` of a query is piecewise smooth in the slopes, and its gradient needs no
automatic differentiation: keep the coefficients :math:`A^j` on each relaxed node from the
backward pass, take the corner of the box that attains ``g``, and run it forward through the
lines that the query uses. With :math:`z` the relaxed pre-activation and :math:`v` the point
where a line of slope ``s`` touches the graph,

.. math:: \partial g / \partial s_i = \max(A_i^j, 0)\,(z_i - v_i)

and likewise with :math:`\min(A_i^j, 0)` for the slope of an upper line. For ReLU
``v = 0``.

Source: Xu et al., arXiv 2011.13824 (alpha-CROWN).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.bounds.ascent import Pace, ascend
from pyomo_relu.bounds.backward import Backward, Relaxed, contract
from pyomo_relu.bounds.chain import ancestors
from pyomo_relu.bounds.linear import (
    STEEPEST,
    Lines,
    relu_chord_const,
    segments,
    slope_range,
    support,
)
from pyomo_relu.bounds.many_pieces import PiecesHull, has_many_pieces
from pyomo_relu.bounds.smooth_lines import smooth_slope_range, smooth_support
from pyomo_relu.network import PiecewiseLinear, Smooth

#: The two sides of a graph that a line may lie on, and the sign of what is below it.
SIDES = {"lower": 1.0, "upper": -1.0}


class ReluFamily:
    """Lower lines ``s x`` with ``0 <= s <= 1``, where ``s`` is the share; the chord above.

    Attributes
    ----------
    free : dict
        By side, which units have a slope to choose, (N, size) arrays of 0 and 1.
    """

    def __init__(self, node: PiecewiseLinear, low: np.ndarray, high: np.ndarray) -> None:
        open_ = (low < 0) & (high > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            self.chord = np.where(open_, high / (high - low), (low >= 0).astype(float))
        self.const = relu_chord_const(low, high, self.chord, open_)
        self.zero = np.zeros((1, node.size))
        self.free = {"lower": open_.astype(float)} if open_.any() else {}

    def shares_of(self, side: str, lines: Lines) -> np.ndarray:
        """The shares that give these lines; those of decided units count, and never move."""
        return lines.lower_slope

    def lines(self, shares: dict[str, np.ndarray]) -> Lines:
        """The lines with these shares; a decided unit has its chord on both sides."""
        lower = shares.get("lower", self.chord)
        return Lines(lower, self.zero, self.chord, self.const, False)

    def gradient(
        self, side: str, shares: np.ndarray, a: np.ndarray, z: np.ndarray, out: np.ndarray
    ) -> None:
        """The gradient by the shares, at coefficients ``a`` of values ``z``."""
        np.maximum(a, 0.0, out=out)
        out *= z
        out *= self.free[side]


class HullFamily(ABC):
    """Lower and upper lines that are tangent to the hulls of a function's graph.

    A slope is ``start + share * span``. On the upper side it is that of a line below the
    negative of the function.

    Attributes
    ----------
    start : dict
        By side, the slope at a share of 0, (N, size) arrays.
    free : dict
        By side, the span of the slopes, (N, size) arrays, 0 where there is no choice; a
        side on which no unit has a choice is left out.
    """

    def __init__(self, single: np.ndarray, own: np.ndarray) -> None:
        self.start: dict[str, np.ndarray] = {}
        self.free: dict[str, np.ndarray] = {}
        for side, sign in SIDES.items():
            left, right = self.slope_range(sign)
            bad = ~(np.isfinite(left) & np.isfinite(right))
            bad |= (abs(left) > STEEPEST) | (abs(right) > STEEPEST)
            with np.errstate(invalid="ignore"):
                span = np.where(bad | single, 0.0, np.maximum(right - left, 0.0))
            left = np.where(bad, 0.0, left)
            self.start[side] = np.where(single, sign * own, left)
            if span.any():
                self.free[side] = span

    @abstractmethod
    def slope_range(self, sign: float) -> tuple[np.ndarray, np.ndarray]:
        """Slopes of the lower hull (that of the negative for sign -1) at its two ends."""

    @abstractmethod
    def support(self, slope: np.ndarray, sign: float) -> tuple[np.ndarray, np.ndarray]:
        """Constants of the lines of given slopes, and where they touch the graph."""

    def shares_of(self, side: str, lines: Lines) -> np.ndarray:
        """The shares whose lines come nearest to these."""
        slope = lines.lower_slope if side == "lower" else -lines.upper_slope
        span = self.free[side]
        share = (slope - self.start[side]) / np.where(span > 0, span, 1.0)
        return np.clip(np.where(span > 0, share, 0.0), 0.0, 1.0)

    def slope(self, side: str, share: np.ndarray | None) -> np.ndarray:
        """The slopes below the graph, or below its negative for the upper side."""
        start = self.start[side]
        return start if share is None else start + share * self.free[side]

    def lines(self, shares: dict[str, np.ndarray]) -> Lines:
        """The lines with these shares."""
        below, above = (
            (sign * slope, sign * self.support(slope, sign)[0])
            for side, sign in SIDES.items()
            for slope in [self.slope(side, shares.get(side))]
        )
        return Lines(*below, *above)

    def gradient(
        self, side: str, shares: np.ndarray, a: np.ndarray, z: np.ndarray, out: np.ndarray
    ) -> None:
        """The gradient by the shares, at coefficients ``a`` of values ``z``."""
        sign = SIDES[side]
        _, touch = self.support(self.slope(side, shares), sign)
        part = np.maximum(a, 0.0) if side == "lower" else np.minimum(a, 0.0)
        out[...] = sign * part * (z - touch) * self.free[side]


class GeneralFamily(HullFamily):
    """The lines of any piecewise-linear function."""

    def __init__(self, node: PiecewiseLinear, low: np.ndarray, high: np.ndarray) -> None:
        self.low, self.high = low, high
        self.ends = segments(node, low, high)
        own = np.take_along_axis(node.slopes.T, self.ends.first, axis=0)
        super().__init__(self.ends.single, own)

    def slope_range(self, sign: float) -> tuple[np.ndarray, np.ndarray]:
        """Slopes of the lower hull at its two ends."""
        return slope_range(self.ends, self.low, self.high, sign)

    def support(self, slope: np.ndarray, sign: float) -> tuple[np.ndarray, np.ndarray]:
        """Constants of the lines, and where they touch the graph."""
        best, touch = np.full(slope.shape, np.inf), np.zeros(slope.shape)
        for x, y, inside in zip(self.ends.x, self.ends.y, self.ends.inside):
            value = np.where(inside, sign * y - slope * x, np.inf)
            touch = np.where(value < best, x, touch)
            best = np.minimum(best, value)
        return support(self.ends, slope, sign), touch


class ManyPiecesFamily(HullFamily):
    """The lines of continuous functions of many pieces."""

    def __init__(self, node: PiecewiseLinear, low: np.ndarray, high: np.ndarray) -> None:
        self.hull = PiecesHull(node, low, high)
        super().__init__(self.hull.single, self.hull.own)

    def slope_range(self, sign: float) -> tuple[np.ndarray, np.ndarray]:
        """Slopes of the lower hull at its two ends."""
        return self.hull.slope_range(sign)

    def support(self, slope: np.ndarray, sign: float) -> tuple[np.ndarray, np.ndarray]:
        """Constants of the lines, and where they touch the graph."""
        return self.hull.support(slope, sign)


class SmoothFamily(HullFamily):
    """The lines of a smooth function."""

    def __init__(self, node: Smooth, low: np.ndarray, high: np.ndarray) -> None:
        self.node, self.low, self.high = node, low, high
        super().__init__(np.zeros(low.shape, dtype=bool), np.zeros(low.shape))

    def slope_range(self, sign: float) -> tuple[np.ndarray, np.ndarray]:
        """Slopes of the lower hull at its two ends."""
        return smooth_slope_range(self.node, self.low, self.high, sign)

    def support(self, slope: np.ndarray, sign: float) -> tuple[np.ndarray, np.ndarray]:
        """Constants of the lines, and where they touch the graph."""
        return smooth_support(self.node, self.low, self.high, slope, sign)


Family = ReluFamily | HullFamily


def family_of(
    node: PiecewiseLinear | Smooth, low: np.ndarray, high: np.ndarray
) -> ReluFamily | HullFamily:
    """The lines that units have to choose from over their ranges (N, size)."""
    if isinstance(node, Smooth):
        return SmoothFamily(node, low, high)
    if has_many_pieces(node):
        return ManyPiecesFamily(node, low, high)
    return ReluFamily(node, low, high) if node.is_relu else GeneralFamily(node, low, high)


class SlopeProblems:
    """The problems of an ascent: the best slopes of each query.

    There is one query in each of many boxes, or there are many queries in one box.

    Parameters
    ----------
    engine : Backward
        With bounds of every node that the queries depend on.
    target : int
        The node of the queries.
    rule : str
        Gives the lines of maxima, and of all units without a choice.
    general : bool
        Whether units other than ReLU have a choice, too.

    Attributes
    ----------
    parts : dict
        The columns of a point that belong to a node and a side; empty where no slope is
        to be chosen.
    """

    def __init__(
        self, engine: Backward, target: int, rule: str = "adaptive", general: bool = True
    ) -> None:
        self.engine, self.target = engine, target
        self.above = ancestors(engine.network, target)
        self.families: dict[int, Family] = {}
        self.fixed: dict[int, Relaxed] = {}
        self.parts: dict[tuple[int, str], slice] = {}
        self.size = 0
        for j in self.above:
            node = engine.network.nodes[j]
            chooses = general or isinstance(node, PiecewiseLinear) and node.is_relu
            if isinstance(node, (PiecewiseLinear, Smooth)) and chooses:
                ranges = engine.lows[node.source], engine.highs[node.source]
                self.families[j] = family_of(node, *ranges)
                for side in self.families[j].free:
                    self.parts[j, side] = slice(self.size, self.size + node.size)
                    self.size += node.size
            elif node.kind in ("piecewise", "smooth", "max"):
                self.fixed[j] = engine.lines(j, rule)
        # The gradients need the values of nodes below the last unit with a choice only.
        last = max((j for j, _ in self.parts), default=0)
        self.below = [i for i in self.above if i < last]

    def best(
        self,
        rows: np.ndarray,
        rules: np.ndarray,
        steps: int,
        pace: Pace,
        goal: np.ndarray | float = np.inf,
        deadline: Deadline = NEVER,
    ) -> dict[int, Relaxed]:
        """Relaxations with the best slopes that the ascent met.

        Parameters
        ----------
        rows : (N, size) array
            Coefficients of each query.
        rules : (N,) array of str
            The rule whose slopes each query starts from.
        steps, pace, goal, deadline
            See :func:`~pyomo_relu.bounds.ascent.ascend`.
        """
        start = np.empty((len(rows), self.size))
        for (j, side), part in self.parts.items():
            for rule in set(rules.tolist()):
                lines = self.engine.lines(j, rule)
                assert isinstance(lines, Lines)
                share, own = self.families[j].shares_of(side, lines), rules == rule
                start[own, part] = share if len(share) == 1 else share[own]
        if self.parts:
            self.rows = rows[:, None, :]
            (start,) = ascend(self, [start], steps, pace, goal, deadline)
        return self.relaxed(start)

    def relaxed(self, shares: np.ndarray) -> dict[int, Relaxed]:
        """The relaxation of every ancestor with given shares, (N, total)."""
        found = dict(self.fixed)
        for j, family in self.families.items():
            own = {side: self.parts[j, side] for side in family.free}
            found[j] = family.lines({side: shares[:, part] for side, part in own.items()})
        return found

    # ---------------------------------------------------------- what the ascent asks for
    def bounds(self, point: Sequence[np.ndarray]) -> np.ndarray:
        """The bounds of the queries, without their rounding errors."""
        engine = self.engine
        self.lines, self.trace = self.relaxed(point[0]), dict[int, np.ndarray]()
        a, c, _ = engine.run(self.target, self.rows, self.lines, self.trace, rigorous=False)
        self.corner = engine.center - np.copysign(engine.radius, a[:, 0])
        value = contract(a, engine.center) - contract(abs(a), engine.radius) + c
        return value[:, 0]

    def gradients(self, point: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The gradients by the shares, from a forward pass."""
        nodes = self.engine.network.nodes
        lines = self.lines or self.relaxed(point[0])
        z = self.engine.along(self.corner, lines, self.trace, self.below)
        found = np.zeros(point[0].shape)
        for (j, side), part in self.parts.items():
            if j in self.trace:  # no query reads the other nodes
                a, own = self.trace[j][:, 0], z[nodes[j].sources[0]]
                out = found[:, part]
                self.families[j].gradient(side, point[0][:, part], a, own, out)
        return [found]

    def keep(self, left: np.ndarray) -> None:
        """Go on with these queries of one box."""
        assert self.engine.batch == 1
        self.rows, self.corner = self.rows[left], self.corner[left]
        self.trace = {j: a[left] for j, a in self.trace.items()}
        self.lines = {}

    def project(self, point: Sequence[np.ndarray]) -> None:
        """Slopes are shares from 0 to 1."""
        np.clip(point[0], 0.0, 1.0, out=point[0])
