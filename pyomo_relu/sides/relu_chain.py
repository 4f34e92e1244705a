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
from dataclasses import dataclass, replace

import numpy as np

from pyomo_relu.network import Affine, Input, Network, PiecewiseLinear
from pyomo_relu.sides.ascent import Ascended, Sides, climb

EPS = np.finfo(float).eps

#: Candidates to split on, by each of two scores.
CANDIDATES = 3

#: A bound in single precision that needs no further ascent, relative to its target.
SURELY = 1e-4


@dataclass
class _Step:
    """An affine layer, and the columns of the ReLU that it reads (None: the inputs)."""

    weight: np.ndarray
    bias: np.ndarray
    noise: np.ndarray
    source: slice | None


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

    #: Steps of the first ascent and of later ones, and the factor of steps' lengths.
    ascent: tuple[int, int, float] = (60, 12, 0.93)

    #: How many further multipliers a subproblem has; other objectives have some.
    extras = 0

    def __init__(self, network: Network, lows, highs, row, linear=None) -> None:
        if not self.fits(network):
            raise ValueError("the network is no chain of affine layers and ReLU.")
        self.network = network
        self.row = np.asarray(row, dtype=float)
        given = np.zeros(network.n_inputs) if linear is None else linear
        self.linear = np.asarray(given, dtype=float)
        self.steps: list[_Step] = []
        columns: dict[int, slice] = {}
        low, high = [], []
        size, count = np.zeros(0), 0
        source: slice | None = None
        for i, node in enumerate(network.nodes):
            size_here = np.maximum(abs(lows[i]), abs(highs[i]))
            if isinstance(node, Input):
                self.low, self.high = lows[i], highs[i]
            elif isinstance(node, Affine):
                w = node.weights[0]
                w = np.asarray(w.todense() if hasattr(w, "todense") else w)
                noise = abs(w) @ size + abs(node.bias) + size_here
                self.steps.append(_Step(w, node.bias, noise, source))
            else:
                assert isinstance(node, PiecewiseLinear)
                columns[i] = slice(count, count + node.size)
                count += node.size
                low.append(lows[node.source])
                high.append(highs[node.source])
            source, size = columns.get(i), size_here
        self.count = count
        self.z_low, self.z_high = np.concatenate(low), np.concatenate(high)
        self.z_size = np.maximum(abs(self.z_low), abs(self.z_high))
        widest = max(max(s.weight.shape) for s in self.steps)
        self.gamma = 4.0 * (widest + 16.0) * EPS
        self.center = 0.5 * (self.low + self.high)
        self.radius = np.maximum(self.high - self.center, self.center - self.low)
        self.bias = np.zeros(count)
        for step, after in zip(self.steps, self.steps[1:]):
            if after.source is not None:
                self.bias[after.source] = step.bias
        self.dtype: np.dtype = np.dtype(float)
        self.fast = self._shorter()

    def _shorter(self) -> ReluChain:
        """A copy in single precision, in which slopes and multipliers are sought."""
        other = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                setattr(other, name, value.astype(np.float32))
        other.steps = [
            replace(s, weight=s.weight.astype(np.float32), bias=s.bias.astype(np.float32))
            for s in self.steps
        ]
        other.dtype = np.dtype(np.float32)
        return other

    @staticmethod
    def fits(network: Network) -> bool:
        """Whether a network is one input, then affine layers and ReLU in a row."""
        nodes = network.nodes
        return (
            isinstance(nodes[0], Input)
            and len(network.outputs) == 1
            and network.outputs[0] == len(nodes) - 1
            and isinstance(nodes[-1], Affine)
            and any(isinstance(n, PiecewiseLinear) for n in nodes)
            and all(
                tuple(n.sources) == (i,)
                and (
                    isinstance(n, Affine)
                    or (
                        isinstance(n, PiecewiseLinear)
                        and n.is_relu
                        and isinstance(nodes[i], Affine)
                    )
                )
                for i, n in enumerate(nodes[1:])
            )
        )

    @property
    def unstable(self) -> int:
        """How many neurons the bounds leave undecided."""
        return int(((self.z_low < 0) & (self.z_high > 0)).sum())

    def first_extra(self) -> np.ndarray:
        """Further multipliers to start from, (1, extras): here there are none."""
        return np.zeros((1, self.extras))

    def ranges(self, fixed: np.ndarray, low, high, target: float):
        """Ranges of pre-activations (N, count) with these sides, which ones are empty."""
        return low, high, np.zeros(len(fixed), dtype=bool)

    def first_slopes(self) -> np.ndarray:
        """The rule by area, (1, count): 1 where the larger part of a range is active."""
        return (self.z_high > -self.z_low).astype(float)[None]

    def sides(self, fixed: np.ndarray, ranges=None) -> Sides:
        """Subproblems with the sides (N, count) fixed, and ranges of their own."""
        low, high = (self.z_low, self.z_high) if ranges is None else ranges
        low, high = low.astype(self.dtype), high.astype(self.dtype)
        low = np.where(fixed > 0, np.maximum(low, 0.0), low)
        high = np.where(fixed < 0, np.minimum(high, 0.0), high)
        open_ = (low < 0) & (high > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            upper = np.where(open_, high / (high - low), (low >= 0).astype(self.dtype))
        const = np.where(open_, -low * upper, np.zeros((), self.dtype))
        return Sides(fixed.astype(self.dtype), open_, upper, const)

    def backward(
        self, sides: Sides, alpha, beta, extra=None, rigorous=True, share: float = 1.0
    ):
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
            Of the objective; with 0 a positive bound shows that no point has the sides.

        Returns
        -------
        value : (N,) array
        slopes : (N, n_inputs) array
            Of the linear function of the inputs.
        posts : (N, count) array
            Coefficients of the activations.
        """
        row, linear = share * self.row, share * self.linear
        a = np.broadcast_to(row, (len(sides.fixed), len(row)))
        a, value, error, posts = self.pull(sides, alpha, beta, a, rigorous)
        a = a + linear
        value = value + a @ self.center - abs(a) @ self.radius
        if rigorous:
            reach = abs(self.center) + self.radius
            error += abs(a) @ reach + abs(linear) @ reach
            value = value - self.gamma * (error + abs(value))
        return value, a, posts

    def pull(self, sides: Sides, alpha, beta, a, rigorous: bool):
        """Linear functions of the inputs below rows ``a`` of the outputs, (N, m).

        Returns
        -------
        a : (N, n_inputs) array
        value : (N,) array
            The constants.
        error : (N,) array
            Times ``gamma``, what rounding may be.
        posts : (N, count) array
        """
        lower = np.where(sides.open, alpha, sides.upper)
        push = sides.fixed * beta
        posts = np.zeros(sides.fixed.shape, self.dtype)
        value = np.zeros(len(sides.fixed), self.dtype)
        error = np.zeros(len(sides.fixed), self.dtype)
        for step in reversed(self.steps):
            value += a @ step.bias
            if rigorous:
                error += abs(a) @ step.noise
            a = a @ step.weight
            s = step.source
            if s is not None:
                posts[:, s] = a
                down = np.minimum(a, 0.0)
                value += np.einsum("ij,ij->i", down, sides.const[:, s])
                a = (a - down) * lower[:, s] + down * sides.upper[:, s] - push[:, s]
                if rigorous:  # the difference may cancel
                    error += abs(push[:, s]) @ self.z_size[s]
        return a, value, error, posts

    def corner(self, slopes: np.ndarray, extra: np.ndarray) -> np.ndarray:
        """Where linear functions of the inputs are least, (N, n_inputs)."""
        return np.where(slopes > 0, self.low, self.high)

    def forward(self, sides: Sides, here, posts, alpha):
        """Pre-activations (N, count) and outputs along the lines that a bound uses."""
        z = np.zeros(sides.fixed.shape, self.dtype)
        lower = np.where(sides.open, alpha, sides.upper)
        for step, after in zip(self.steps, [*self.steps[1:], None]):
            here = here @ step.weight.T + step.bias
            if after is not None and after.source is not None:
                s = after.source
                z[:, s] = here
                below = lower[:, s] * here
                above = sides.upper[:, s] * here + sides.const[:, s]
                here = np.where(posts[:, s] >= 0, below, above)
        return z, here

    def gradients(self, sides: Sides, slopes, posts, alpha, beta, extra):
        """Of the bounds, in slopes, multipliers and further multipliers."""
        z, _ = self.forward(sides, self.corner(slopes, extra), posts, alpha)
        return np.maximum(posts, 0.0) * z, -sides.fixed * z, np.zeros_like(extra)

    def valid_extra(self, extra: np.ndarray) -> np.ndarray:
        """Further multipliers, moved to where they are valid."""
        return extra

    def ascend(
        self,
        fixed,
        alpha,
        beta,
        steps: int,
        enough: float = np.inf,
        extra=None,
        ranges=None,
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
            Of the pre-activations; those that hold for all subproblems if left out.
        """
        self.aim(enough)
        sides, fast = self.sides(fixed, ranges), self.fast.sides(fixed, ranges)
        if extra is None:
            extra = self.extra_of(sides, alpha, beta)
        start, surely = (alpha, beta, extra), self.surely(enough)
        # Some matrix products raise the flag with finite numbers.
        with np.errstate(invalid="ignore", over="ignore"):
            found = climb(self.fast, fast, start, steps, surely, self.ascent[2])
            result = self.proved(sides, *found, enough)
        # Multipliers beyond all numbers prove nothing.
        result.value[np.isnan(result.value)] = -np.inf
        return result

    def aim(self, enough: float) -> None:
        """What an ascent is for, where a chain has to know it before."""

    def surely(self, enough: float) -> float:
        """The bound in single precision that needs no further ascent."""
        return enough + SURELY * max(1.0, abs(enough)) if np.isfinite(enough) else enough

    def extra_of(self, sides: Sides, alpha, beta) -> np.ndarray:
        """Further multipliers to start subproblems from, (N, extras)."""
        return np.tile(self.first_extra(), (len(sides.fixed), 1))

    def proved(self, sides: Sides, alpha, beta, extra, enough: float) -> Ascended:
        """The rigorous bounds of what was found."""
        value, slopes, posts = self.backward(sides, alpha, beta, extra)
        # Where the multipliers alone have a positive bound, more of them have any.
        low = np.flatnonzero(value < enough)
        alone = self.backward(sides.take(low), alpha[low], beta[low], share=0.0)[0]
        value[low[alone > 0]] = np.inf
        corners = self.corner(slopes, extra)
        return Ascended(value, alpha, beta, posts, corners, extra)

    def choose(
        self, fixed, alpha, beta, posts, enough: float = 0.0, extra=None, ranges=None
    ) -> np.ndarray:
        """The neuron to split for each subproblem, (N,); -1 where none is open.

        Of a few neurons with a large share in the relaxation, the one whose children
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
        k = min(CANDIDATES, self.count)
        ranked = np.hstack(
            [np.argpartition(-a, k - 1, axis=1)[:, :k] for a in (score, by_loss)]
        )
        n, m = ranked.shape
        at = np.repeat(np.arange(n), m)
        neuron = ranked.ravel()
        alpha, beta = alpha.astype(np.float32)[at], beta.astype(np.float32)[at]
        extra = None if extra is None else extra.astype(np.float32)[at]
        own = None if ranges is None else tuple(a[at] for a in ranges)
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

    def region(self, fixed: np.ndarray, ranges=None):
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
        own = None if ranges is None else tuple(a[None] for a in ranges)
        side = np.where(self.sides(fixed[None], own).upper[0] > 0, 1.0, -1.0)
        here, const = np.eye(len(self.low)), np.zeros(len(self.low))
        rows, limits = [], []
        for step, after in zip(self.steps, [*self.steps[1:], None]):
            here, const = step.weight @ here, step.weight @ const + step.bias
            if after is not None and after.source is not None:
                s = side[after.source]
                rows.append(-s[:, None] * here)
                limits.append(s * const)
                here, const = here * (s > 0)[:, None], const * (s > 0)
        return side, np.vstack(rows), np.concatenate(limits), here, const

    def decided(self, fixed: np.ndarray, ranges=None) -> tuple[float, np.ndarray]:
        """The bound of a subproblem (count,) without open neurons, and its point.

        A linear program's multipliers are the best ones, and as rigorous as any. It may
        violate the sides at a price, so that there are multipliers where no point has
        these sides.
        """
        from scipy.optimize import linprog

        side, rows, limits, here, _ = self.region(fixed, ranges)
        cost = self.row @ here + self.linear
        a = np.hstack([rows, -np.ones((self.count, 1))])
        price = 1e4 * (1.0 + abs(cost).sum())
        box = [*zip(self.low, self.high), (0, None)]
        found = linprog([*cost, price], A_ub=a, b_ub=limits, bounds=box)
        if found.status != 0:
            return -np.inf, self.center
        full = self.sides(side.astype(np.int8)[None])
        # Sides that the bounds know need no multiplier, but may have one.
        beta = np.maximum(-found.ineqlin.marginals, 0.0)[None]
        value, *_ = self.backward(full, np.zeros(beta.shape), beta)
        return float(value[0]), np.clip(found.x[:-1], self.low, self.high)
