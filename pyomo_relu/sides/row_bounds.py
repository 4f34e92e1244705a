r"""Bounds of a network among rows, with sides of neurons and a box for each subproblem.

A subproblem has a box of all columns but the outputs, ranges of the pre-activations, and
fixed sides of some neurons. For any slopes :math:`\alpha` of undecided neurons, multipliers
:math:`\beta \ge 0` of fixed sides and :math:`\lambda` of the rows,

.. math:: \min_z \; c z + \lambda (s - A z) - \beta (\sigma \odot \hat x)

over the box, with outputs below which a backward pass has put a linear function, is at most
the least cost of the subproblem. All three are ascended at once, for many subproblems.

Source: Wang et al., NeurIPS 2021, arXiv 2103.06624 (beta-CROWN); the rows' multipliers are
those of any Lagrangian (Geoffrion, 1974).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds.ascent import Pace, ascend
from pyomo_relu.bounds.backward import TINY, Backward
from pyomo_relu.bounds.crown import crown_arrays
from pyomo_relu.bounds.linear import Lines, relu_chord_const
from pyomo_relu.bounds.pool import Inherited
from pyomo_relu.network import Affine, Input, Network, PiecewiseLinear
from pyomo_relu.sides.row_terms import RowTerms


@dataclass(frozen=True)
class RowSettings:
    """What steers the search over sides among rows.

    Attributes
    ----------
    pace : Pace
        What steers the ascent; its rates are those of slopes, of multipliers of sides and of
        rows, and of shares of the cost.
    later_pace : Pace
        Likewise for children, which begin with their parents' multipliers.
    first, later : int
        Points tried for the whole, and for a child that begins with its parent's multipliers.
    unit : float
        The unit of multipliers of rows and sides, as a share of the cost's range over that
        of the row or pre-activation.
    candidates : int
        Neurons that each of two scores proposes for a split.
    columns : int
        Columns that their score proposes for a split.
    narrow : float
        A continuous column with this share of its first range isn't split while there are
        undecided neurons. (A random model of 9 neurons, leaves of 4: 0.8 CPU seconds with 1/4,
        open after 8 with 1/16; counterfactual of ``benchmarks/wired.py``: 3 with 1/4 and with
        0, open after 9 where no continuous column is split at all.)
    batch, dive : int
        Subproblems that are split in a round, and in one that dives.
    chunk : int
        So many of them are split in one NumPy batch, which is one task of an executor; fixed,
        so that results don't depend on the workers. (On neur2sp of the wired models each
        costs 160 microseconds of CPU time so, 178 with half of it.)
    wide, rare : int
        A round has ``wide`` times as many where fewer than one program for ``rare``
        subproblems was solved. (neur2sp has five in 150,000 and takes 14.2 CPU seconds with
        wide rounds, 17.8 without; counterfactual has 731 in 6,179 and takes 3.9, 3.3 without.)
    leaf : int
        A subproblem with at most so many undecided neurons goes to a mixed-integer program.
    rise, near : float
        The level that is proved next is this share of the way from the bound to the target;
        the target itself where this share of it is missing.
    most_bytes : float
        From so many bytes on the last subproblems are split first, which frees memory.
    surely : float
        A bound in single precision that exceeds its target by this share of the cost's
        range needs no further ascent.
    """

    pace: Pace = Pace((0.15, 0.05, 0.05, 0.05), 0.97, mean=0.9, square=0.99, crowd=0.75)
    later_pace: Pace = Pace(
        (0.15, 0.05, 0.05, 0.05), 0.9, mean=0.8, square=0.95, crowd=0.75
    )
    first: int = 300
    later: int = 20
    unit: float = 0.1
    candidates: int = 3
    columns: int = 4
    narrow: float = 0.25
    batch: int = 128
    dive: int = 16
    chunk: int = 128
    wide: int = 2
    rare: int = 50
    leaf: int = 12
    rise: float = 0.3
    near: float = 0.02
    most_bytes: float = 4e8
    surely: float = 1e-6


SETTINGS = RowSettings()


@dataclass
class Subproblems:
    """N subproblems.

    Attributes
    ----------
    low, high : (N, f) arrays
        The boxes of all columns but the outputs; the network's inputs are the first ones.
    fixed : (N, count) int8 array
        1 active, -1 inactive, 0 open.
    stored : (N, 2 count) array
        Ranges of the pre-activations: lower ends, then upper ones.
    """

    low: np.ndarray
    high: np.ndarray
    fixed: np.ndarray
    stored: np.ndarray

    def __len__(self) -> int:
        return len(self.low)

    def take(self, at: np.ndarray) -> Subproblems:
        """The subproblems at numbers or where ``at`` is true."""
        return Subproblems(self.low[at], self.high[at], self.fixed[at], self.stored[at])


@dataclass
class Multipliers:
    """What the bounds of N subproblems depend on.

    Attributes
    ----------
    alpha, beta : (N, count) arrays
        Slopes of undecided neurons and, in their units, multipliers of fixed sides.
    prices : (N, rows) array
        Multipliers of the rows, in their units.
    share : (N, 1) array
        What the cost counts beside the rows, from 0 to 1.
    """

    alpha: np.ndarray
    beta: np.ndarray
    prices: np.ndarray
    share: np.ndarray

    def take(self, at: np.ndarray) -> Multipliers:
        """Those of the subproblems at numbers or where ``at`` is true."""
        parts = self.alpha, self.beta, self.prices, self.share
        return Multipliers(*(a[at] for a in parts))


@dataclass
class Lower:
    """Linear functions of the columns below the cost of subproblems.

    Attributes
    ----------
    slopes, const : (N, f) and (N,) arrays
    error : (N,) array
        What rounding may have added to a constant.
    posts : (N, count) array
        What each activation is multiplied by, where that is negative: by its chord.
    rises : (N, count) array
        Likewise where it is positive.
    """

    slopes: np.ndarray
    const: np.ndarray
    error: np.ndarray
    posts: np.ndarray
    rises: np.ndarray


class RowBounds:
    """Bounds of one network among rows.

    Parameters
    ----------
    network : Network
        One that :meth:`fits`; its first outputs are the program's.
    terms : RowTerms
    """

    def __init__(
        self, network: Network, terms: RowTerms, settings: RowSettings = SETTINGS
    ) -> None:
        self.network, self.terms, self.settings = network, terms, settings
        self.n = network.n_inputs
        self.q = len(terms.cost_of_outputs)
        self.inherited = Inherited(network)
        self.count = self.inherited.width
        spans = self.inherited.spans.tolist()
        #: The neurons of each pre-activation, and of each ReLU that reads it.
        self.spans = {
            i: slice(a, b) for i, a, b in zip(self.inherited.hidden, spans, spans[1:])
        }
        self.parts = {
            i: self.spans[node.source]
            for i, node in enumerate(network.nodes)
            if isinstance(node, PiecewiseLinear)
        }
        self.end = network.outputs[0]
        self.fast = terms.in_single_precision()
        self._affine: dict = {}
        self.unit = np.ones(self.count)

    def __getstate__(self) -> dict[str, Any]:
        """All but weights in other precisions, which a worker makes anew."""
        return {**self.__dict__, "_affine": {}}

    @staticmethod
    def fits(network: Network) -> bool:
        """Whether a network is one input, affine layers and ReLU of affine layers."""

        def fine(node: object) -> bool:
            if isinstance(node, PiecewiseLinear):
                return node.is_relu and isinstance(network.nodes[node.source], Affine)
            return isinstance(node, (Input, Affine))

        one = len(network.inputs) == 1 and len(network.outputs) == 1
        relu = any(isinstance(node, PiecewiseLinear) for node in network.nodes)
        return one and relu and all(fine(node) for node in network.nodes)

    # ------------------------------------------------------------------------- ranges
    def whole(self) -> Subproblems:
        """The one subproblem that is all of it."""
        t = self.terms
        none = np.zeros((1, self.count), dtype=np.int8)
        some = Subproblems(t.low[None], t.high[None], none, self.inherited.start())
        self.tighten(some)
        width = some.stored[0, self.count :] - some.stored[0, : self.count]
        self.unit = self.settings.unit * t.range / np.maximum(width, 1e-9)
        return some

    def tighten(self, some: Subproblems) -> np.ndarray:
        """Tighten ranges of pre-activations in place; which subproblems are empty."""
        k = self.count
        low, high = some.stored[:, :k], some.stored[:, k:]
        start_low = np.where(some.fixed > 0, np.maximum(low, 0.0), low)
        start_high = np.where(some.fixed < 0, np.minimum(high, 0.0), high)
        empty = np.asarray((start_low > start_high).any(axis=1))
        start_high = np.maximum(start_low, start_high)
        found = self.nodes(some, np.hstack([start_low, start_high]), rules=None)
        some.stored[...] = self.inherited.stored(*found, len(some))
        np.maximum(low, start_low, out=low)
        np.minimum(high, start_high, out=high)
        return empty | (low > high).any(axis=1)

    def nodes(
        self, some: Subproblems, stored: np.ndarray, rules: tuple[()] | None = ()
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Ranges of every node, by interval arithmetic, or by linear bounds for None."""
        start = self.inherited.by_node(stored)
        box = some.low[:, : self.n], some.high[:, : self.n]
        return crown_arrays(self.network, *box, start, nodes=rules)

    # ------------------------------------------------------------------------- bounds
    def engine(
        self, some: Subproblems, dtype: type, ranges: tuple[list, list] | None = None
    ) -> Backward:
        """Backward passes over the subproblems' boxes; rigorous ones need ranges."""
        lows, highs = ranges if ranges is not None else ([], [])
        box = some.low[:, : self.n], some.high[:, : self.n]
        engine = Backward(self.network, *box, lows, highs, dtype)
        engine._affine = self._affine.setdefault(np.dtype(dtype), engine._affine)
        return engine

    def lower(
        self, some: Subproblems, multipliers: Multipliers
    ) -> tuple[np.ndarray, Lower]:
        """Valid lower bounds (N,) of the cost, and functions below shares of it.

        Infinite where rows, sides and box exclude each other.
        """
        passes = Pass(self, some, np.float64, self.nodes(some, some.stored))
        parts = (multipliers.alpha, multipliers.beta, multipliers.prices, multipliers.share)
        m = Multipliers(*(a.astype(float) for a in parts))
        value, found = passes(m)
        share = m.share[:, 0]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            bound = np.nextafter(value / share, -np.inf)
        bound = np.where(share > 0, bound, np.where(value > 0, np.inf, -np.inf))
        alone, _ = passes(replace(m, share=0.0 * m.share))
        bound = np.where(alone > 0, np.inf, bound)
        return np.where(np.isnan(bound), -np.inf, bound), found

    def ascend(
        self,
        some: Subproblems,
        start: Multipliers,
        steps: int,
        enough: float = np.inf,
        pace: Pace | None = None,
    ) -> Multipliers:
        """Better multipliers, sought in single precision.

        Where ``enough`` is finite, what is ascended is by how much shares of the cost exceed
        it: rows with outputs have their multipliers even where the cost alone gains nothing.
        """
        problems = _RowAscent(self, some, enough)
        parts = start.alpha, start.beta, start.prices, start.share
        point = [np.array(a, dtype=np.float32) for a in parts]
        problems.project(point)
        finite = np.isfinite(enough)
        goal = self.settings.surely * self.terms.range if finite else np.inf
        with np.errstate(invalid="ignore", over="ignore"):
            found = ascend(problems, point, steps, pace or self.settings.later_pace, goal)
        return Multipliers(*found)

    def first(self, some: Subproblems) -> Multipliers:
        """Slopes by area, and multipliers of zero."""
        k = self.count
        low, high = some.stored[:, :k], some.stored[:, k:]
        none = np.zeros_like(low)
        prices = np.zeros((len(some), self.terms.count))
        share = np.ones((len(some), 1))
        return Multipliers((high > -low).astype(float), none, prices, share)


class Pass:
    """One backward pass after another over the same subproblems.

    Parameters
    ----------
    bounds : RowBounds
    some : Subproblems
    dtype : float type
    ranges : pair of lists, optional
        Of every node; a pass is rigorous where they are given.
    """

    def __init__(
        self,
        bounds: RowBounds,
        some: Subproblems,
        dtype: type,
        ranges: tuple[list, list] | None = None,
    ) -> None:
        low: np.ndarray
        high: np.ndarray
        self.bounds, self.rigorous = bounds, ranges is not None
        self.ranges: tuple[list, list] = ([], []) if ranges is None else ranges
        self.terms = bounds.terms if self.rigorous else bounds.fast
        self.engine = bounds.engine(some, dtype, ranges)
        self.unit: np.ndarray = bounds.unit.astype(dtype)
        self.fixed: np.ndarray = some.fixed.astype(dtype)
        self.low: np.ndarray = some.low.astype(dtype)
        self.high: np.ndarray = some.high.astype(dtype)
        k = bounds.count
        low, high = some.stored[:, :k].astype(dtype), some.stored[:, k:].astype(dtype)
        self.open = (low < 0) & (high > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.where(self.open, high / (high - low), (low >= 0).astype(dtype))
        self.slope = slope
        self.const = (
            relu_chord_const(low, high, slope, self.open)
            if self.rigorous
            else np.where(self.open, -low * slope, np.zeros((), dtype))
        )
        self.zero: np.ndarray = np.zeros((1, k), dtype)
        self._middle()

    def _middle(self) -> None:
        self.center = 0.5 * (self.low + self.high)
        self.radius = np.maximum(self.high - self.center, self.center - self.low)

    def keep(self, left: np.ndarray) -> None:
        """Go on with these subproblems."""
        for name in ("fixed", "low", "high", "open", "slope", "const"):
            setattr(self, name, getattr(self, name)[left])
        self._middle()
        self.engine.center = self.engine.center[left]
        self.engine.radius = self.engine.radius[left]
        self.engine.batch = int(left.sum())

    def __call__(self, m: Multipliers) -> tuple[np.ndarray, Lower]:
        """Lower bounds (N,) of shares of the cost, and the functions behind them."""
        b, n = self.bounds, self.bounds.n
        priced = self.terms.priced(m.prices, m.share)
        rows = np.zeros((len(priced.const), b.network.nodes[b.end].size), self.engine.dtype)
        rows[:, : b.q] = priced.outputs
        lower = np.where(self.open, m.alpha, self.slope)
        push = self.fixed * (m.beta * self.unit)
        self.lines = {
            i: Lines(
                lower[:, s], self.zero[:, s], self.slope[:, s], self.const[:, s], False
            )
            for i, s in b.parts.items()
        }
        signs = {i: push[:, s] for i, s in b.spans.items()}
        self.trace: dict[int, np.ndarray] = {}
        a, c, e = self.engine.run(
            b.end, rows[:, None], self.lines, self.trace, self.rigorous, signs
        )
        slopes = priced.columns.copy()
        slopes[:, :n] += a[:, 0]
        const = priced.const + c[:, 0]
        terms = slopes * self.center
        value = const + terms.sum(axis=1) - np.einsum("ij,ij->i", abs(slopes), self.radius)
        error = np.zeros(len(const))
        if self.rigorous:
            sizes = np.maximum(abs(self.low), abs(self.high))
            lows, highs = self.ranges
            of_outputs = np.maximum(abs(lows[b.end]), abs(highs[b.end]))[:, : b.q]
            of_outputs = np.broadcast_to(of_outputs, priced.outputs.shape)
            error = 1.01 * e[:, 0] + 2.0 * self.terms.rounding(
                m.prices, m.share, sizes, of_outputs
            )
            size = np.einsum("ij,ij->i", abs(slopes), sizes) + abs(const)
            error = error + 8.0 * (slopes.shape[1] + 8.0) * EPS * size + TINY
            value = value - error
        posts = np.zeros((len(const), b.count), self.engine.dtype)
        rises = np.zeros_like(posts)
        for i, s in b.parts.items():
            if i in self.trace:
                post = self.trace[i][:, 0]
                posts[:, s] += np.minimum(post, 0.0)
                rises[:, s] += np.maximum(post, 0.0)
        return value, Lower(slopes, const, error, posts, rises)

    def corner(self, slopes: np.ndarray) -> np.ndarray:
        """Where linear functions are least, (N, f)."""
        return np.where(slopes > 0, self.low, self.high)

    def gradients(self, m: Multipliers, found: Lower) -> list[np.ndarray]:
        """Of the bounds that were asked last, by slopes and multipliers."""
        b = self.bounds
        corner = self.corner(found.slopes)
        values = self.engine.along(
            corner[:, : b.n], self.lines, self.trace, range(b.end + 1)
        )
        z = np.concatenate([values[i] for i in b.spans], axis=1)
        y = values[b.end][:, : b.q]
        prices = self.terms.missed(m.prices, corner, y)
        cost = self.terms.cost_at(corner, y)[:, None]
        return [found.rises * z, -self.fixed * (z * self.unit), prices, cost]


class _RowAscent:
    """The ascent of subproblems, as :func:`~pyomo_relu.bounds.ascent.ascend` sees it."""

    def __init__(self, bounds: RowBounds, some: Subproblems, enough: float) -> None:
        self.passes = Pass(bounds, some, np.float32)
        #: None where the cost is ascended as it is.
        self.enough = np.float32(enough) if np.isfinite(enough) else None

    def bounds(self, point: Sequence[np.ndarray]) -> np.ndarray:
        """Not rigorous."""
        m = Multipliers(*point)
        value, self.found = self.passes(m)
        return value if self.enough is None else value - m.share[:, 0] * self.enough

    def gradients(self, point: Sequence[np.ndarray]) -> list[np.ndarray]:
        """By slopes, multipliers and shares."""
        *others, cost = self.passes.gradients(Multipliers(*point), self.found)
        return [*others, cost if self.enough is None else cost - self.enough]

    def keep(self, left: np.ndarray) -> None:
        """Go on with these subproblems."""
        self.passes.keep(left)
        p = self.passes
        p.lines = {
            i: Lines(
                x.lower_slope[left],
                x.lower_const,
                x.upper_slope[left],
                x.upper_const[left],
                False,
            )
            for i, x in p.lines.items()
        }
        p.trace = {i: a[left] if len(a) == len(left) else a for i, a in p.trace.items()}
        f = self.found
        self.found = Lower(
            *(a[left] for a in (f.slopes, f.const, f.error, f.posts, f.rises))
        )

    def project(self, point: Sequence[np.ndarray]) -> None:
        """Slopes are between 0 and 1, multipliers of sides not negative."""
        alpha, beta, prices, share = point
        np.clip(alpha, 0.0, 1.0, out=alpha)
        np.maximum(beta, 0.0, out=beta)
        terms = self.passes.terms
        if self.enough is None:
            prices[...], share[...] = terms.valid(prices), 1.0
        else:
            prices[...], share[...] = terms.normalized(prices, share)
