r"""Bounds of a chain of ReLU layers with the sides of some neurons fixed: beta-CROWN.

The bound is a backward pass with a slope :math:`\alpha` for each undecided neuron and a
multiplier :math:`\beta \ge 0` for each fixed one: with :math:`z \ge 0` known, :math:`f`
is at least the minimum of :math:`f - \beta z` for any such multiplier. Both are ascended
with closed gradients, for many subproblems at once. Whatever their values are, the bound
holds; its rounding is taken off.

What is bounded is ``row @ y + linear @ x`` over a box, for outputs ``y`` and inputs ``x``.

Source: Wang et al., NeurIPS 2021, arXiv 2103.06624 (beta-CROWN); De Palma et al.,
arXiv 2104.06718 (filtered smart branching); Bunel et al., JMLR 21, 2020.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np

from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds.ascent import ascend
from pyomo_relu.bounds.backward import Backward
from pyomo_relu.bounds.chain import is_relu_chain
from pyomo_relu.bounds.linear import Lines, relu_chord_const
from pyomo_relu.network import Affine, Network, PiecewiseLinear
from pyomo_relu.network.weights import dense
from pyomo_relu.sides.subproblems import Ascended, Below, Settings, SideAscent, Sides

#: Lower and upper ends of pre-activations, (N, count) arrays.
Ranges = tuple[np.ndarray, np.ndarray]


class ReluChain:
    """A chain of affine layers and ReLU over a box, as arrays.

    Parameters
    ----------
    network : Network
    lows, highs : sequences of (size,) arrays
        Valid bounds of every node.
    row : (n_outputs,) array
        The combination of outputs that is bounded.
    linear : (n_inputs,) array, optional
        Added to it.

    Raises
    ------
    ValueError
        If the network is something else; see :meth:`fits`.
    """

    #: Whether subproblems have ranges of their own, from :meth:`ranges`.
    has_ranges = False

    #: What steers the search.
    settings = Settings()

    #: How many further multipliers a subproblem has; other objectives have some.
    extras = 0

    def __init__(
        self,
        network: Network,
        lows: Sequence[np.ndarray],
        highs: Sequence[np.ndarray],
        row: np.ndarray | Sequence[float],
        linear: np.ndarray | None = None,
    ) -> None:
        if not self.fits(network):
            raise ValueError("the network is no chain of affine layers and ReLU.")
        self.network = network
        self.row = np.asarray(row, dtype=float)
        given = np.zeros(network.n_inputs) if linear is None else linear
        self.linear = np.asarray(given, dtype=float)
        self.low, self.high = lows[0], highs[0]
        #: The columns of each ReLU node.
        self.parts: dict[int, slice] = {}
        self.count = 0
        bias = []
        for i, node in enumerate(network.nodes):
            if isinstance(node, PiecewiseLinear):
                self.parts[i] = slice(self.count, self.count + node.size)
                self.count += node.size
                source = network.nodes[node.source]
                assert isinstance(source, Affine)
                bias.append(source.bias)
        self.bias = np.concatenate(bias)
        self.z_low, self.z_high = (
            np.concatenate([side[i - 1] for i in self.parts]) for side in (lows, highs)
        )
        widest = max(n.size for n in network.nodes)
        self.gamma = 4.0 * (widest + 16.0) * EPS
        box = self.low[None], self.high[None]
        self.known = [a[None] for a in lows], [a[None] for a in highs]
        self.engine = Backward(network, *box, *self.known)
        self.zero = np.zeros((1, self.count))
        self.rigorous = True
        self.fast = self._in_single_precision()

    def _in_single_precision(self) -> ReluChain:
        """A copy of it in which slopes and multipliers are sought."""
        other = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                setattr(other, name, value.astype(np.float32))
        box = self.low[None], self.high[None]
        other.engine = Backward(self.network, *box, *self.known, dtype=np.float32)
        other.rigorous = False
        return other

    @staticmethod
    def fits(network: Network) -> bool:
        """Whether a network is one input, then affine layers and ReLU in a row."""
        last = len(network.nodes) - 1
        chain = network.outputs == (last,) and is_relu_chain(network, last)
        return chain and len(network.inputs) == 1

    @property
    def unstable(self) -> int:
        """How many neurons the bounds leave undecided."""
        return int(((self.z_low < 0) & (self.z_high > 0)).sum())

    def first_extra(self) -> np.ndarray:
        """Further multipliers to start from, (1, extras): here there are none."""
        return np.zeros((1, self.extras))

    def ranges(
        self, fixed: np.ndarray, low: np.ndarray, high: np.ndarray, target: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ranges of pre-activations (N, count) with these sides, which ones are empty."""
        return low, high, np.zeros(len(fixed), dtype=bool)

    def first_slopes(self) -> np.ndarray:
        """The rule by area, (1, count): 1 where the larger part of a range is active."""
        return (self.z_high > -self.z_low).astype(float)[None]

    def sides(self, fixed: np.ndarray, ranges: Ranges | None = None) -> Sides:
        """Subproblems with the sides (N, count) fixed, and ranges of their own."""
        dtype = self.engine.dtype
        low, high = (self.z_low, self.z_high) if ranges is None else ranges
        low, high = low.astype(dtype), high.astype(dtype)
        low = np.where(fixed > 0, np.maximum(low, 0.0), low)
        high = np.where(fixed < 0, np.minimum(high, 0.0), high)
        open_ = (low < 0) & (high > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            upper = np.where(open_, high / (high - low), (low >= 0).astype(dtype))
        if self.rigorous:
            const = relu_chord_const(low, high, upper, open_)
        else:
            const = np.where(open_, -low * upper, np.zeros((), dtype))
        return Sides(fixed.astype(dtype), open_, upper, const)

    def backward(
        self,
        sides: Sides,
        alpha: np.ndarray,
        beta: np.ndarray,
        extra: np.ndarray | None = None,
        rigorous: bool = True,
        share: float = 1.0,
    ) -> tuple[np.ndarray, Below]:
        """Lower bounds (N,), and what the ascent needs.

        Parameters
        ----------
        sides : Sides
            In the precision of this chain.
        alpha, beta : (N, count) arrays
            ``beta`` is zero where no side is fixed.
        extra : (N, extras) array, optional
            Further multipliers; here there are none.
        rigorous : bool
            Whether rounding is taken off.
        share : float
            What the objective counts; with 0 a positive bound shows that no point has the
            sides.
        """
        rows = (share * self.row)[None].repeat(len(sides.fixed), axis=0)
        below = self.pull(sides, alpha, beta, rows, rigorous)
        below.slopes = a = below.slopes + share * self.linear
        if rigorous:
            parts = a[:, None], below.const[:, None], below.error[:, None]
            return self.engine.lower_bound(*parts)[:, 0], below
        center, radius = self.engine.center[0], self.engine.radius[0]
        return below.const + a @ center - abs(a) @ radius, below

    def pull(
        self,
        sides: Sides,
        alpha: np.ndarray,
        beta: np.ndarray,
        rows: np.ndarray,
        rigorous: bool,
    ) -> Below:
        """Linear functions of the inputs below rows of the outputs, (N, n_outputs)."""
        lower = np.where(sides.open, alpha, sides.upper)
        push = sides.fixed * beta
        lines = {
            i: Lines(
                lower[:, s], self.zero[:, s], sides.upper[:, s], sides.const[:, s], False
            )
            for i, s in self.parts.items()
        }
        signs = {i - 1: push[:, s] for i, s in self.parts.items()}
        trace: dict[int, np.ndarray] = {}
        last = len(self.network.nodes) - 1
        found = self.engine.run(last, rows[:, None], lines, trace, rigorous, signs)
        posts = np.concatenate([trace[i][:, 0] for i in self.parts], axis=1)
        n = len(rows)
        a, const, error = (
            # Most of an ascent's calls are here, where broadcasting costs a fifth.
            v[:, 0] if len(v) == n else np.broadcast_to(v[:, 0], (n, *v.shape[2:]))
            for v in found
        )
        return Below(a, const, error, posts, lines, trace)

    def corner(self, slopes: np.ndarray, extra: np.ndarray) -> np.ndarray:
        """Where linear functions of the inputs are least, (N, n_inputs)."""
        return np.where(slopes > 0, self.low, self.high)

    def along(
        self, below: Below, extra: np.ndarray, end: int
    ) -> tuple[dict[int, np.ndarray], np.ndarray]:
        """Values of the nodes before ``end`` where bounds are attained, and inputs there."""
        x = self.corner(below.slopes, extra)
        return self.engine.along(x, below.lines, below.trace, range(end)), x

    def gradients(self, sides: Sides, below: Below, extra: np.ndarray) -> list[np.ndarray]:
        """Of the bounds, in slopes, multipliers and further multipliers."""
        values, _ = self.along(below, extra, max(self.parts))
        return [*self.side_gradients(sides, below, values), np.zeros_like(extra)]

    def side_gradients(
        self, sides: Sides, below: Below, values: dict[int, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of linear functions, in slopes and multipliers of sides, (N, count) each."""
        z = np.concatenate([values[i - 1] for i in self.parts], axis=1)
        return np.maximum(below.posts, 0.0) * z, -sides.fixed * z

    def valid_extra(self, extra: np.ndarray) -> np.ndarray:
        """Further multipliers, moved to where they are valid."""
        return extra

    def ascend(
        self,
        fixed: np.ndarray,
        alpha: np.ndarray,
        beta: np.ndarray,
        steps: int,
        enough: float = np.inf,
        extra: np.ndarray | None = None,
        ranges: Ranges | None = None,
    ) -> Ascended:
        """Raise the bounds of subproblems.

        The search is in single precision, the bounds of what it found are not.

        Parameters
        ----------
        fixed : (N, count) int8 array
        alpha, beta : (N, count) arrays
            To start from.
        steps : int
        enough : float
            Subproblems whose bound surely reaches this are left alone.
        extra : (N, extras) array, optional
            Further multipliers to start from.
        ranges : pair of (N, count) arrays, optional
            Ranges of the pre-activations; those that hold for all subproblems if left out.
        """
        self.aim(enough)
        sides = self.sides(fixed, ranges)
        if extra is None:
            extra = self.extra_of(sides, alpha, beta)
        problems = SideAscent(self.fast, self.fast.sides(fixed, ranges))
        # Some matrix products raise the flag with finite numbers.
        with np.errstate(invalid="ignore", over="ignore"):
            start = [v.astype(np.float32) for v in (alpha, beta, extra)]
            found = ascend(problems, start, steps, self.settings.pace, self.surely(enough))
            alpha, beta, extra = (v.astype(float) for v in found)
            result = self.proved(sides, alpha, beta, extra, enough)
        # Multipliers beyond all numbers prove nothing.
        result.value[np.isnan(result.value)] = -np.inf
        return result

    def aim(self, enough: float) -> None:
        """What an ascent is for, where a chain has to know it before."""

    def surely(self, enough: float) -> float:
        """The bound in single precision that needs no further ascent."""
        more = self.settings.surely * max(1.0, abs(enough))
        return enough + more if np.isfinite(enough) else enough

    def extra_of(self, sides: Sides, alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
        """Further multipliers to start subproblems from, (N, extras)."""
        return np.tile(self.first_extra(), (len(sides.fixed), 1))

    def proved(
        self,
        sides: Sides,
        alpha: np.ndarray,
        beta: np.ndarray,
        extra: np.ndarray,
        enough: float,
    ) -> Ascended:
        """The rigorous bounds of what was found."""
        value, below = self.backward(sides, alpha, beta, extra)
        # Where the multipliers alone have a positive bound, more of them have any.
        low = np.flatnonzero(value < enough)
        alone = self.backward(sides.take(low), alpha[low], beta[low], share=0.0)[0]
        value = np.array(value)
        value[low[alone > 0]] = np.inf
        corners = self.corner(below.slopes, extra)
        return Ascended(value, alpha, beta, below.posts, corners, extra)

    def choose(
        self,
        fixed: np.ndarray,
        alpha: np.ndarray,
        beta: np.ndarray,
        posts: np.ndarray,
        enough: float = 0.0,
        extra: np.ndarray | None = None,
        ranges: Ranges | None = None,
    ) -> np.ndarray:
        """The neuron to split for each subproblem, (N,); -1 where none is open.

        It is the one of a few neurons with a large share in the relaxation whose children
        have the best bounds.

        Parameters
        ----------
        fixed, alpha, beta, posts, extra, ranges
            Of N subproblems.
        enough : float
            More than this is of no use to a child.
        """
        sides = self.sides(fixed, ranges)
        ratio = np.where(sides.open, sides.upper, 0.0)
        loss = np.minimum(posts, 0.0) * sides.const
        first = self.bias * posts
        score = abs(np.maximum(first * (ratio - 1.0), first * ratio) + loss)
        score, by_loss = (np.where(sides.open, a, -1.0) for a in (score, -loss))
        k = min(self.settings.candidates, self.count)
        ranked = np.hstack(
            [np.argpartition(-a, k - 1, axis=1)[:, :k] for a in (score, by_loss)]
        )
        n, m = ranked.shape
        at = np.repeat(np.arange(n), m)
        neuron = ranked.ravel()
        alpha, beta = alpha.astype(np.float32)[at], beta.astype(np.float32)[at]
        extra = None if extra is None else extra.astype(np.float32)[at]
        own = None if ranges is None else (ranges[0][at], ranges[1][at])
        worst, total = np.full(n * m, np.inf), np.zeros(n * m)
        for side in (1, -1):
            trial = fixed[at]
            trial[np.arange(len(at)), neuron] = side
            some = self.fast.sides(trial, own)
            value = self.fast.backward(some, alpha, beta, extra, rigorous=False)[0]
            value = value - enough
            worst = np.minimum(worst, value)
            total += np.minimum(value, 0.0)
        gain = worst + 0.5 * total
        gain[~sides.open[at, neuron]] = -np.inf
        best = ranked[np.arange(n), gain.reshape(n, m).argmax(axis=1)]
        return np.where(sides.open.any(axis=1), best, -1)

    def region(
        self, fixed: np.ndarray, ranges: Ranges | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The linear region of sides (count,): its sides, and rows of the inputs.

        Returns
        -------
        side : (count,) array
            1 or -1; neurons without a side that the bounds don't decide are active.
        rows, limits : (count, n_inputs) and (count,) arrays
            ``rows @ x <= limits`` within the region.
        here, const : (n_outputs, n_inputs) and (n_outputs,) arrays
            The network there.
        """
        own = None if ranges is None else (ranges[0][None], ranges[1][None])
        side = np.where(self.sides(fixed[None], own).upper[0] > 0, 1.0, -1.0)
        here, const = np.eye(len(self.low)), np.zeros(len(self.low))
        rows, limits = [], []
        for i, node in enumerate(self.network.nodes):
            if isinstance(node, Affine):
                w = dense(node.weights[0])
                here, const = w @ here, w @ const + node.bias
            elif isinstance(node, PiecewiseLinear):
                s = side[self.parts[i]]
                rows.append(-s[:, None] * here)
                limits.append(s * const)
                here, const = here * (s > 0)[:, None], const * (s > 0)
        return side, np.vstack(rows), np.concatenate(limits), here, const

    def decided(
        self, fixed: np.ndarray, ranges: Ranges | None = None
    ) -> tuple[float, np.ndarray]:
        """The bound of a subproblem (count,) without open neurons, and its point.

        A linear program's multipliers are the best ones, and as rigorous as any. It may
        violate the sides at a price, so that there are multipliers where no point has
        these sides.
        """
        from scipy.optimize import linprog

        side, rows, limits, here, _ = self.region(fixed, ranges)
        cost = self.row @ here + self.linear
        a = np.hstack([rows, -np.ones((self.count, 1))])
        price = self.settings.price * (1.0 + abs(cost).sum())
        box = [*zip(self.low, self.high), (0, None)]
        found = linprog([*cost, price], A_ub=a, b_ub=limits, bounds=box)
        if found.status != 0:
            return -np.inf, 0.5 * (self.low + self.high)
        full = self.sides(side.astype(np.int8)[None])
        # Sides that the bounds know need no multiplier, but may have one.
        beta = np.maximum(-found.ineqlin.marginals, 0.0)[None]
        value, _ = self.backward(full, np.zeros(beta.shape), beta)
        return float(value[0]), np.clip(found.x[:-1], self.low, self.high)
