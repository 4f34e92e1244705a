r"""Lower bounds of the distance to a set behind a chain of ReLU layers.

The set is :math:`A y \le b` at the outputs, the distance is the sum of changes or the
largest one. For any weights :math:`\mu \ge 0` of its rows, slopes and multipliers of
sides, the backward pass gives a linear function that is below
:math:`\mu^\top (A y - b)`. Where that function is positive there is no point of the set,
and the distance to where it isn't is found by moving the steepest inputs first.

What is ascended is the least value of that function within the distance that is still of
interest: it is as well scaled as the bounds of a box, and positive exactly if nothing in
the set is nearer. The weights sum to one. For the sum of changes the steepness from which
an input moves is one more multiplier.

Source: Wang et al., NeurIPS 2021, arXiv 2103.06624 (beta-CROWN); the distance in place
of an output is this package's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pyomo_relu.network import Network
from pyomo_relu.sides.distance_lp import least_change
from pyomo_relu.sides.ranges import SideRanges
from pyomo_relu.sides.relu_chain import Ranges, ReluChain
from pyomo_relu.sides.subproblems import Ascended, Below, Settings, Sides

#: As for other chains, but that rows of a rule pull in different directions: their
#: weights take more steps. ``surely`` is relative to the rows' size and ``price`` in units
#: of the distance.
SETTINGS = replace(
    Settings(),
    pace=replace(Settings.pace, shrink=0.97),
    first=120,
    later=40,
    surely=1e-6,
    price=1e3,
)

#: The norms that there are bounds for.
NORMS = ("l1", "linf")


class DistanceChain(ReluChain):
    """The distance from a point to where a chain's outputs obey rows, over a box.

    Parameters
    ----------
    network : Network
        See :meth:`ReluChain.fits`.
    lows, highs : sequences of (size,) arrays
        Bounds of every node, valid for all points that are still of interest.
    center : (n_inputs,) array
        Inside the box.
    rows, limits : (m, n_outputs) and (m,) arrays
        ``rows @ y <= limits``.
    norm : {'l1', 'linf'}
    """

    has_ranges = True
    settings = SETTINGS

    def __init__(
        self,
        network: Network,
        lows: Sequence[np.ndarray],
        highs: Sequence[np.ndarray],
        center: np.ndarray,
        rows: np.ndarray,
        limits: np.ndarray,
        norm: str = "l1",
    ) -> None:
        if norm not in NORMS:
            raise ValueError(f"there is no bound for the norm '{norm}'; use a program.")
        self.norm = norm
        self.rows, self.limits = np.array(rows, float), np.array(limits, float)
        self.extras = len(self.limits) + 1
        self.origin = np.array(center, float)
        size = np.maximum(abs(lows[-1]), abs(highs[-1]))
        self.row_noise = abs(self.rows) @ size + abs(self.limits)
        self.sure_margin = self.settings.surely * float(self.row_noise.max(initial=0.0))
        low, high = lows[0], highs[0]
        # Rounded outwards, so that a change within the box is within these.
        self.up, self.down = (
            np.maximum(np.nextafter(a, np.inf), 0.0)
            for a in (high - self.origin, self.origin - low)
        )
        reach = np.maximum(self.up, self.down)
        self.farthest = float(reach.sum() if norm == "l1" else reach.max(initial=0.0))
        self.cutoff = self.farthest
        super().__init__(network, lows, highs, np.zeros(network.n_outputs))
        self._ranges = SideRanges(self, self.origin, self.up, self.down, norm)

    def ranges(
        self, fixed: np.ndarray, low: np.ndarray, high: np.ndarray, target: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ranges of pre-activations within the target; see :class:`SideRanges`."""
        return self._ranges(fixed, low, high, min(target, self.farthest))

    def first_extra(self) -> np.ndarray:
        """Equal weights, and a steepness of one."""
        m = self.extras - 1
        return np.append(np.full(m, 1.0 / max(m, 1)), 0.0)[None]

    def valid_extra(self, extra: np.ndarray) -> np.ndarray:
        """Weights that are not negative and sum to one."""
        weights = np.maximum(extra[:, :-1], 0.0)
        total = weights.sum(axis=1, keepdims=True)
        weights = np.where(total > 0, weights / np.maximum(total, 1e-30), 1.0)
        return np.hstack([weights, np.clip(extra[:, -1:], -60.0, 60.0)])

    # -------------------------------------------------------------------------- bounds
    def backward(
        self,
        sides: Sides,
        alpha: np.ndarray,
        beta: np.ndarray,
        extra: np.ndarray | None = None,
        rigorous: bool = True,
        share: float = 1.0,
    ) -> tuple[np.ndarray, Below]:
        """Lower bounds (N,), and what the ascent needs; see :meth:`ReluChain.backward`.

        Rigorous ones are distances; the others are the least values of
        ``weights @ (rows @ y - limits)`` within the cut-off. ``extra`` holds the weights
        and the logarithm of a steepness, (N, m + 1).
        """
        if extra is None:
            extra = self.first_extra().astype(self.engine.dtype)
        below = self._linear(sides, alpha, beta, extra, rigorous, share)
        a = below.slopes
        if rigorous:
            return self.nearest(a, below.const, below.error)[0], below
        return below.const + a @ self.origin - self._fall(a, extra), below

    def _linear(
        self,
        sides: Sides,
        alpha: np.ndarray,
        beta: np.ndarray,
        extra: np.ndarray,
        rigorous: bool = True,
        share: float = 1.0,
    ) -> Below:
        """A linear function of the inputs below the weighted rows."""
        shape = len(sides.fixed), self.extras - 1
        weights = np.broadcast_to(share * extra[:, :-1], shape)
        below = self.pull(sides, alpha, beta, weights @ self.rows, rigorous)
        below.const = below.const - weights @ self.limits
        if rigorous:
            below.error = below.error + 2.0 * self.gamma * (weights @ self.row_noise)
        return below

    def _room(self, a: np.ndarray) -> np.ndarray:
        """How far each input can move against its coefficient."""
        return np.where(a > 0, self.down, self.up)

    def _fall(self, a: np.ndarray, extra: np.ndarray) -> np.ndarray:
        """By how much linear functions may fall within the cut-off; at least that."""
        steep, room = abs(a), self._room(a)
        if self.norm == "linf":
            return np.einsum("ij,ij->i", steep, np.minimum(room, self.cutoff))
        price = np.exp(extra[:, -1:])
        steeper = np.maximum(steep - price, 0.0)
        return self.cutoff * price[:, 0] + np.einsum("ij,ij->i", room, steeper)

    def corner(self, slopes: np.ndarray, extra: np.ndarray) -> np.ndarray:
        """Where linear functions are least, at their price of a change, (N, n_inputs)."""
        room = self._room(slopes)
        if self.norm == "linf":
            move = np.minimum(room, self.cutoff)
        else:
            move = np.where(abs(slopes) > np.exp(extra[:, -1:]), room, 0.0)
        return self.origin - np.sign(slopes) * move

    def gradients(self, sides: Sides, below: Below, extra: np.ndarray) -> list[np.ndarray]:
        """Of the values within the cut-off, in all multipliers."""
        values, x = self.along(below, extra, len(self.network.nodes))
        rows = values[len(self.network.nodes) - 1] @ self.rows.T - self.limits
        weights, price = extra[:, :-1], np.exp(extra[:, -1:])
        along = rows - np.einsum("ij,ij->i", weights, rows)[:, None]
        spent = abs(x - self.origin).sum(axis=1, keepdims=True)
        price = price * (spent - self.cutoff) if self.norm == "l1" else 0.0 * price
        more = np.hstack([along, price]).astype(extra.dtype)
        return [*self.side_gradients(sides, below, values), more]

    def nearest(
        self, a: np.ndarray, const: np.ndarray, error: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The distance to where linear functions may be negative.

        Parameters
        ----------
        a : (N, n_inputs) array
        const : (N,) array
            The functions are ``a @ x + const``.
        error : (N,) array
            What rounding may have added to a constant.

        Returns
        -------
        distance : (N,) array
            A lower bound; infinite where the functions are positive in the whole box.
        points : (N, n_inputs) array
            About where they reach zero.
        prices : (N,) array
            The steepness from which inputs move within the cut-off.
        """
        steep, room = abs(a), self._room(a)
        reach = abs(self.origin) + np.maximum(self.up, self.down)
        need = const + a @ self.origin
        size = steep @ reach + abs(const) + abs(need)
        need = need - 1.01 * error - 2.0 * self.gamma * size
        ratio = self._ratio if self.norm == "l1" else self._common
        distance, move, prices = ratio(steep, room, need)
        whole = np.einsum("ij,ij->i", steep, room)
        distance = np.where(need > whole * (1.0 + self.gamma), np.inf, distance)
        return np.maximum(distance, 0.0), self.origin - np.sign(a) * move, prices

    def _ratio(
        self, steep: np.ndarray, room: np.ndarray, need: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The sum of changes: the steepest inputs first, and their price from duality."""
        order = np.argsort(-steep, axis=1)
        s, e = (np.take_along_axis(v, order, axis=1) for v in (steep, room))
        gain, spent = np.cumsum(s * e, axis=1), np.cumsum(e, axis=1)
        n, last = np.arange(len(s)), s.shape[1] - 1
        k = np.minimum((gain < need[:, None]).sum(axis=1), last)
        # For any price t: |d|_1 >= t (need + a d) + |d|_1 - t (...), at its least.
        t = 1.0 / np.maximum(s[n, k], 1e-100)
        scaled = t[:, None] * s
        fall = np.einsum("ij,ij->i", e, np.maximum(scaled - 1.0, 0.0))
        size = t * abs(need) + np.einsum("ij,ij->i", e, scaled + 1.0)
        distance = np.where(
            (need > 0) & np.isfinite(size), t * need - fall - self.gamma * size, 0.0
        )
        before = np.where(k > 0, gain[n, np.maximum(k - 1, 0)], 0.0)
        part = np.clip((need - before) * t, 0.0, e[n, k])
        moved = np.where(np.arange(last + 1) < k[:, None], e, 0.0)
        moved[n, k] = part
        moved[need <= 0] = 0.0
        move = np.empty_like(moved)
        np.put_along_axis(move, order, moved, axis=1)
        k = np.minimum((spent < self.cutoff).sum(axis=1), last)
        return distance, move, s[n, k]

    def _common(
        self, steep: np.ndarray, room: np.ndarray, need: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The largest change: all inputs move by the same, as far as they can."""
        order = np.argsort(room, axis=1)
        s, e = (np.take_along_axis(v, order, axis=1) for v in (steep, room))
        # All inputs move by e[k], those before k as far as they can.
        before = np.cumsum(s * e, axis=1) - s * e
        after = np.cumsum(s[:, ::-1], axis=1)[:, ::-1]
        n = np.arange(len(s))
        k = np.minimum((before + after * e < need[:, None]).sum(axis=1), s.shape[1] - 1)
        step = (need - before[n, k]) / np.maximum(after[n, k], 1e-100)
        step = np.clip(step * (1.0 - 1e-12), 0.0, e[n, k])
        moved = np.minimum(room, step[:, None])
        fall = np.einsum("ij,ij->i", steep, moved)
        # So far the functions stay positive.
        sure = need > fall * (1.0 + self.gamma)
        return np.where(sure, step, 0.0), moved, np.ones(len(s))

    # -------------------------------------------------------------------- subproblems
    def aim(self, enough: float) -> None:
        """The distance from which on images don't matter."""
        assert isinstance(self.fast, DistanceChain)
        self.cutoff = self.fast.cutoff = min(enough, self.farthest)

    def surely(self, enough: float) -> float:
        """The margin in single precision that proves a subproblem."""
        return self.sure_margin

    def extra_of(self, sides: Sides, alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
        """The first weights, and the price at which each bound is best."""
        extra = super().extra_of(sides, alpha, beta)
        below = self._linear(sides, alpha, beta, extra)
        return self._priced(extra, self.nearest(below.slopes, below.const, below.error)[2])

    @staticmethod
    def _priced(extra: np.ndarray, prices: np.ndarray) -> np.ndarray:
        return np.hstack([extra[:, :-1], np.log(np.maximum(prices, 1e-20))[:, None]])

    def proved(
        self,
        sides: Sides,
        alpha: np.ndarray,
        beta: np.ndarray,
        extra: np.ndarray,
        enough: float,
    ) -> Ascended:
        """The rigorous bounds of what was found, at its best price of a change."""
        below = self._linear(sides, alpha, beta, extra)
        value, points, prices = self.nearest(below.slopes, below.const, below.error)
        extra = self._priced(extra, prices)
        # Sides may exclude each other, whatever the rows are.
        low = np.flatnonzero(value < enough)
        alone = self.backward(
            sides.take(low), alpha[low], beta[low], extra[low], share=0.0
        )[0]
        value[low] = np.maximum(value[low], alone)
        return Ascended(value, alpha, beta, below.posts, points, extra)

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
        """The neuron to split for each subproblem; see :meth:`ReluChain.choose`."""
        self.aim(enough)
        return super().choose(fixed, alpha, beta, posts, 0.0, extra, ranges)

    def decided(
        self, fixed: np.ndarray, ranges: Ranges | None = None
    ) -> tuple[float, np.ndarray]:
        """The bound of a subproblem (count,) without open neurons, and its point.

        See :meth:`ReluChain.decided`: here the rows may be violated at a price, too.
        """
        side, rows, limits, here, const = self.region(fixed, ranges)
        rows = np.vstack([rows, self.rows @ here])
        limits = np.concatenate([limits, self.limits - self.rows @ const])
        limits = limits - rows @ self.origin
        # A row may be violated in units of its own.
        size = np.maximum(abs(rows).max(axis=1, initial=0.0), 1e-9)
        price = self.settings.price * (1.0 + self.cutoff)
        found = least_change(
            rows / size[:, None], limits / size, self.up, self.down, self.norm, price
        )
        if found is None:
            return 0.0, self.origin
        prices = (found[1] / size)[None]
        beta, weights = prices[:, : self.count], prices[:, self.count :]
        full = self.sides(side.astype(np.int8)[None])
        extra = np.hstack([weights, np.zeros((1, 1))])
        value, _ = self.backward(full, np.zeros(beta.shape), beta, extra)
        return float(value[0]), np.clip(self.origin + found[0], self.low, self.high)
