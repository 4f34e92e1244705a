r"""`alpha_crown`: linear bounds with slopes optimized for every neuron's bound.

Any slope of a unit's lower hull is valid, so each query may have slopes of its own.
The bound ``g`` of a query is piecewise smooth in them, and its gradient needs no
automatic differentiation: keep the coefficients :math:`A^j` on each relaxed node from
the backward pass, take the corner of the box that attains ``g``, and run it forward
through the lines that the query uses. With :math:`z` the relaxed pre-activation and
:math:`v` the point where a line of slope ``s`` touches the graph,

.. math:: \partial g / \partial s_i = \max(A_i^j, 0)\,(z_i - v_i)

and likewise with :math:`\min(A_i^j, 0)` for the slope of an upper line. For ReLU
``v = 0``. Projected Adam ascends it and keeps the best slopes, whose bound is then
computed anew with its rounding error. With the same bounds of the layers below, the
optimum is the triangle LP's (Salman et al., arXiv 1902.08722).

Source: Xu et al., arXiv 2011.13824 (alpha-CROWN).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from pyomo_relu.bounds.backward import Backward, Relaxed, times
from pyomo_relu.bounds.bounds import Bounds
from pyomo_relu.bounds.chain import BETA1, BETA2, LAST, STALL, ChainSearch, is_chain
from pyomo_relu.bounds.crown import (
    CHUNK,
    as_bounds,
    meet,
    needed_rows,
    query,
    signed_rows,
)
from pyomo_relu.bounds.interval import node_range
from pyomo_relu.bounds.linear import (
    RULES,
    STEEPEST,
    Lines,
    MaxPlanes,
    relu_chord_const,
    segments,
    slope_range,
    support,
)
from pyomo_relu.bounds.progress import Clock, progress
from pyomo_relu.network import Affine, Input, Max, Network, PiecewiseLinear

#: Steps of a search: so many, and so many more for each layer of units below. Deep
#: queries take longer to settle (docs/benchmarks/bounds.md).
STEPS = (10, 20)


class ReluFamily:
    """Lower lines ``s x`` with ``0 <= s <= 1``; the chord above."""

    def __init__(self, node: PiecewiseLinear, low: np.ndarray, high: np.ndarray) -> None:
        free = (low < 0) & (high > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            self.chord = np.where(free, high / (high - low), (low >= 0).astype(float))
        self.const = relu_chord_const(low, high, self.chord, free)
        self.zero = np.zeros(low.shape)
        self.start = {"lower": (low >= 0).astype(float), "upper": None}
        self.span = {"lower": free.astype(float), "upper": None}

    def lines(self, slopes: dict[str, np.ndarray | None]) -> Lines:
        lower = slopes["lower"]
        assert lower is not None
        return Lines(lower, self.zero, self.chord, self.const)

    def touch(self, side: str, slope: np.ndarray):
        return 0.0


class GeneralFamily:
    """Lower and upper lines of any piecewise-linear function, tangent to its hulls."""

    def __init__(self, node: PiecewiseLinear, low: np.ndarray, high: np.ndarray) -> None:
        self.ends = segments(node, low, high)
        own = np.take_along_axis(node.slopes.T, self.ends.first, axis=0)
        self.start: dict[str, np.ndarray | None] = {}
        self.span: dict[str, np.ndarray | None] = {}
        for side, sign in (("lower", 1.0), ("upper", -1.0)):
            left, right = slope_range(self.ends, low, high, sign)
            bad = ~(np.isfinite(left) & np.isfinite(right))
            bad |= (abs(left) > STEEPEST) | (abs(right) > STEEPEST)
            with np.errstate(invalid="ignore"):
                span = np.where(bad | self.ends.single, 0.0, np.maximum(right - left, 0.0))
            left = np.where(bad, 0.0, left)
            self.start[side] = np.where(self.ends.single, sign * own, left)
            self.span[side] = span if span.any() else None

    def lines(self, slopes: dict[str, np.ndarray | None]) -> Lines:
        found = []
        for side, sign in (("lower", 1.0), ("upper", -1.0)):
            slope = slopes[side]
            slope = self.start[side] if slope is None else slope
            assert slope is not None
            found += [sign * slope, sign * support(self.ends, slope, sign)]
        return Lines(*found)

    def touch(self, side: str, slope: np.ndarray) -> np.ndarray:
        """Where the line of the given slope touches the graph."""
        sign = 1.0 if side == "lower" else -1.0
        best, where = np.full(slope.shape, np.inf), np.zeros(slope.shape)
        for x, y, inside in zip(self.ends.x, self.ends.y, self.ends.inside):
            value = np.where(inside, sign * y - slope * x, np.inf)
            where = np.where(value < best, x, where)
            best = np.minimum(best, value)
        return where


Family = ReluFamily | GeneralFamily


@dataclass
class _Adam:
    """Moments of one array of slopes, all scaled to [0, 1]."""

    value: np.ndarray
    m: np.ndarray
    v: np.ndarray

    @classmethod
    def at(cls, value: np.ndarray) -> _Adam:
        return cls(value, np.zeros(value.shape), np.zeros(value.shape))

    def climb(self, gradient: np.ndarray, k: int, rate: float) -> None:
        self.m = BETA1 * self.m + (1 - BETA1) * gradient
        self.v = BETA2 * self.v + (1 - BETA2) * gradient**2
        m, v = self.m / (1 - BETA1**k), self.v / (1 - BETA2**k)
        self.value = np.clip(self.value + rate * m / (np.sqrt(v) + 1e-30), 0.0, 1.0)


class Optimizer:
    """Optimizes the slopes of queries on one node after the other, over one box."""

    def __init__(self, engine: Backward, lower: np.ndarray, upper: np.ndarray) -> None:
        self.engine = engine
        self.network = engine.network
        self.lower, self.upper = lower, upper
        self.families: dict[int, Family] = {}
        self._chain: tuple[int, ChainSearch] | None = None

    def family(self, i: int) -> Family:
        """The lines of a piecewise-linear node over its source's bounds."""
        if i not in self.families:
            node = self.network.nodes[i]
            assert isinstance(node, PiecewiseLinear)
            low, high = self.engine.lows[node.source], self.engine.highs[node.source]
            make = ReluFamily if node.is_relu else GeneralFamily
            self.families[i] = make(node, low, high)
        return self.families[i]

    def ancestors(self, i: int) -> list[int]:
        """Nodes that node ``i`` depends on, in order, itself left out."""
        found = {i}
        for k in range(i, -1, -1):
            if k in found:
                found.update(self.network.nodes[k].sources)
        return sorted(found - {i})

    def maximize(
        self,
        i: int,
        rows: np.ndarray,
        initial: np.ndarray,
        iterations: int | None,
        rate: float,
        clock: Clock,
        goal: np.ndarray,
    ) -> np.ndarray:
        """Best lower bounds of queries on node ``i`` found in some steps.

        Parameters
        ----------
        rows : (q, size) array
            Coefficients of each query.
        initial : (q,) array of str
            The rule whose slopes each query starts from.
        goal : (q,) array
            A bound from which on the query is decided; infinite where there is none.
        """
        above = self.ancestors(i)
        if iterations is None:
            units = sum(isinstance(self.network.nodes[j], PiecewiseLinear) for j in above)
            iterations = STEPS[0] + STEPS[1] * units
        if is_chain(self.network, i, above):
            return self._along_chain(i, rows, initial, iterations, rate, clock, above, goal)
        free: dict[tuple[int, str], _Adam] = {}
        for j in above:
            if isinstance(self.network.nodes[j], PiecewiseLinear):
                for side, span in self.family(j).span.items():
                    if span is not None and span.any():
                        free[j, side] = _Adam.at(self._initial(j, side, initial))
        a0 = rows[:, None, :]
        if not free:
            return self._rigorous(i, a0, above, free)
        best = np.full(len(rows), -np.inf)
        kept = {key: adam.value for key, adam in free.items()}
        seen: list[float] = []
        for k in range(1, iterations + 1):
            relaxed = self._relaxed(above, {key: a.value for key, a in free.items()})
            trace: dict[int, np.ndarray] = {}
            a, c, _ = self.engine.run(i, a0, relaxed, trace, rigorous=False)
            corner = np.where(a[:, 0] > 0, self.lower, self.upper)
            value = (a[:, 0] * corner).sum(axis=1) + c[:, 0]
            better = value > best
            best = np.where(better, value, best)
            for key, adam in free.items():
                kept[key] = np.where(better[:, None], adam.value, kept[key])
            seen.append(float(best.sum()))
            # Five steps that gain next to nothing: more would not either.
            if k > 8 and seen[-1] - seen[-6] < STALL * (abs(seen[-1]) + 1e-12):
                break
            if k == iterations or clock.expired():
                break
            self._climb(
                above, corner, trace, relaxed, free, k, rate * LAST ** (k / iterations)
            )
        return self._rigorous(i, a0, above, kept)

    def _along_chain(
        self, i, rows, initial, iterations, rate, clock, above, goal
    ) -> np.ndarray:
        engine = self.engine
        if self._chain is None or self._chain[0] != i:
            box = engine.center[0], engine.radius[0]
            search = ChainSearch(self.network, i, above, *box, engine.lows, engine.highs)
            self._chain = i, search
        start = {}
        for j in above[2::2]:
            of: dict[str, np.ndarray] = {}
            for rule in RULES:
                lines = engine.lines(j, rule)
                assert isinstance(lines, Lines)  # a chain has no maxima
                of[rule] = lines.lower_slope[0]
            start[j] = np.stack([of[rule] for rule in initial.tolist()])
        slopes = self._chain[1].maximize(rows, start, goal, iterations, rate, clock)
        relaxed = {}
        for j, slope in slopes.items():
            family = self.family(j)
            relaxed[j] = family.lines({"lower": slope, "upper": None})
        return engine.lower_bound(*engine.run(i, rows[:, None, :], relaxed))[:, 0]

    def _initial(self, j: int, side: str, rules: np.ndarray) -> np.ndarray:
        family = self.family(j)
        start, span = family.start[side], family.span[side]
        assert start is not None and span is not None
        scaled = {}
        for rule in set(rules.tolist()):
            lines = self.engine.lines(j, rule)
            assert isinstance(lines, Lines)
            slope = lines.lower_slope if side == "lower" else -lines.upper_slope
            share = (slope - start) / np.where(span > 0, span, 1.0)
            scaled[rule] = np.clip(np.where(span > 0, share, 0.0), 0.0, 1.0)[0]
        return np.stack([scaled[r] for r in rules.tolist()])

    def _relaxed(self, above: list[int], shares: dict) -> dict[int, Relaxed]:
        """The relaxation of every ancestor, slopes from the shares of their spans."""
        found: dict[int, Relaxed] = {}
        for j in above:
            node = self.network.nodes[j]
            if isinstance(node, Max):
                found[j] = self.engine.lines(j, "adaptive")
            elif isinstance(node, PiecewiseLinear):
                found[j] = self.family(j).lines(self._slopes(j, shares))
        return found

    def _slopes(self, j: int, shares: dict) -> dict[str, np.ndarray | None]:
        family = self.family(j)
        slopes: dict[str, np.ndarray | None] = {}
        for side in ("lower", "upper"):
            start, span, share = (
                family.start[side],
                family.span[side],
                shares.get((j, side)),
            )
            slopes[side] = start if share is None else start + share * span
        return slopes

    def _rigorous(self, i: int, a0: np.ndarray, above: list[int], shares) -> np.ndarray:
        shares = {k: (v.value if isinstance(v, _Adam) else v) for k, v in shares.items()}
        relaxed = self._relaxed(above, shares)
        found = self.engine.run(i, a0, relaxed)
        return self.engine.lower_bound(*found)[:, 0]

    def _climb(self, above, corner, trace, relaxed, free, k: int, rate: float) -> None:
        """One step of every free slope along the closed-form gradient."""
        values: dict[int, np.ndarray] = {}
        for j in above:
            node = self.network.nodes[j]
            if isinstance(node, Input):
                values[j] = corner[:, self.engine.slices[j]]
            elif isinstance(node, Affine):
                parts = [times(values[s], w.T) for s, w in zip(node.sources, node.weights)]
                values[j] = sum(parts[1:], parts[0]) + node.bias
            else:
                # A node that no query reads has no coefficients.
                a = trace.get(j)
                a = np.zeros((1, node.size)) if a is None else a[:, 0]
                z = values[node.sources[0]]
                values[j] = self._forward(node, relaxed[j], a, z)
                if isinstance(node, PiecewiseLinear):
                    self._step(j, relaxed[j], a, z, free, k, rate)

    def _step(self, j: int, lines: Lines, a, z, free, k: int, rate: float) -> None:
        family = self.family(j)
        for side, sign in (("lower", 1.0), ("upper", -1.0)):
            adam = free.get((j, side))
            if adam is None:
                continue
            slope = lines.lower_slope if side == "lower" else -lines.upper_slope
            part = np.maximum(a, 0.0) if side == "lower" else np.minimum(a, 0.0)
            gradient = sign * part * (z - family.touch(side, slope))
            adam.climb(gradient * family.span[side], k, rate)

    @staticmethod
    def _forward(node, relaxed: Relaxed, a: np.ndarray, z: np.ndarray) -> np.ndarray:
        if isinstance(relaxed, Lines):
            below = relaxed.lower_slope * z + relaxed.lower_const
            above = relaxed.upper_slope * z + relaxed.upper_const
        else:
            assert isinstance(relaxed, MaxPlanes)
            x, at = z[:, node.indices], node.indptr[:-1]
            below = np.add.reduceat(relaxed.lower * x, at, axis=1) + relaxed.lower_const
            above = np.add.reduceat(relaxed.upper * x, at, axis=1) + relaxed.upper_const
        return np.where(a > 0, below, above)


def _undecided(network: Network, i: int, readers: list[int]) -> np.ndarray | None:
    """The one breakpoint of each neuron of node ``i``; None where there are others."""
    if i in network.outputs or len(readers) != 1:
        return None
    node = network.nodes[readers[0]]
    if not isinstance(node, PiecewiseLinear) or node.breakpoints.shape[1] != 1:
        return None
    return node.breakpoints[:, 0]


def alpha_crown(
    network: Network,
    lower: np.ndarray,
    upper: np.ndarray,
    start: Bounds | None = None,
    *,
    iterations: int | None = None,
    rate: float = 0.7,
    time_limit: float | None = None,
    first: int = 0,
) -> Bounds:
    """Bounds by backward linear propagation with optimized slopes.

    Parameters
    ----------
    network : Network
    lower, upper : (n_inputs,) arrays
    start : Bounds, optional
        Valid bounds to start from.
    iterations : int, optional
        Steps for each neuron's bound, at most; 10 and 20 more for each layer of units
        below it if left out.
    rate : float
        Length of the first steps, as a share of the range of a slope.
    time_limit : float, optional
        Seconds; the layers that are left get the bounds of ``crown``.
    first : int
        The first node to ask about; those before keep the bounds of ``start``, where
        interval arithmetic isn't tighter.
    """
    begin = time.perf_counter()
    clock = Clock(time_limit)
    lower, upper = lower[None], upper[None]
    lows: list[np.ndarray] = []
    highs: list[np.ndarray] = []
    engine = Backward(network, lower, upper, lows, highs)
    optimizer = Optimizer(engine, lower, upper)
    readers = network.readers()
    with progress(len(network.nodes), "alpha_crown", "layer") as bar:
        for i, node in enumerate(network.nodes):
            if isinstance(node, Input):
                low, high = lower[:, engine.slices[i]], upper[:, engine.slices[i]]
            else:
                low, high = node_range(
                    node, [lows[s] for s in node.sources], [highs[s] for s in node.sources]
                )
            if start is not None:
                low, high = meet(low, high, start.lower[i], start.upper[i])
            low, high = np.array(low), np.array(high)
            if (
                isinstance(node, Affine)
                and i >= first
                and not all(s in engine.slices for s in node.sources)
            ):
                rows = needed_rows(network, i, readers[i], low, high)
                with clock.guard():
                    _tighten(
                        optimizer, i, rows, readers[i], low, high, iterations, rate, clock
                    )
            lows.append(low)
            highs.append(high)
            bar.update()
    seconds = time.perf_counter() - begin + (0.0 if start is None else start.seconds)
    found = as_bounds(network, lows, highs, "alpha_crown", seconds, **clock.details())
    return found if start is None or start.scope == "box" else found.scoped(start.scope)


def _tighten(
    optimizer: Optimizer,
    i: int,
    rows: np.ndarray,
    readers: list[int],
    low: np.ndarray,
    high: np.ndarray,
    iterations: int | None,
    rate: float,
    clock: Clock,
) -> None:
    """Tighten the given rows of node ``i`` in ``low`` and ``high``, in place."""
    engine = optimizer.engine
    if not len(rows):
        return
    sides = []
    for rule in RULES:
        a, b = query(engine, i, rows, rule)
        low[:, rows], high[:, rows] = meet(low[:, rows], high[:, rows], a, b)
        sides.append(np.concatenate([a[0], -b[0]]))
    best = np.asarray(RULES)[np.argmax(sides, axis=0)]
    t = _undecided(optimizer.network, i, readers)
    if t is None:
        left = np.ones(len(rows), dtype=bool)
    else:
        left = (low[0, rows] < t[rows]) & (t[rows] <= high[0, rows])
    queries = np.flatnonzero(np.concatenate([left, left]))
    every = np.concatenate([rows, rows])
    signed = signed_rows(rows, engine, i)
    widest = max(n.size for n in optimizer.network.nodes[: i + 1])
    step = max(1, CHUNK // (4 * widest))
    goal = np.full(len(every), np.inf) if t is None else np.concatenate([t[rows], -t[rows]])
    for k in range(0, len(queries), step):
        if clock.expired():
            return
        some = queries[k : k + step]
        found = optimizer.maximize(
            i,
            signed[some],
            best[some],
            iterations,
            rate,
            clock,
            goal[some],
        )
        for side, row, value in zip(some >= len(rows), every[some], found):
            if side:
                high[0, row] = max(low[0, row], min(high[0, row], -value))
            else:
                low[0, row] = min(high[0, row], max(low[0, row], value))
