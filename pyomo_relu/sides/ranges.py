"""Ranges of neurons once the sides of others are fixed, within a distance of a point.

Bounds that hold for all subproblems say little about one with many fixed sides. Where
layers are narrow, a backward pass for each open neuron costs no more than the ascent of
the subproblem's own bound. Distances count: an input moves only where a neuron is steeper
in it than some price, whatever that price is.
"""

from __future__ import annotations

import numpy as np

from pyomo_relu.sides.relu_chain import ReluChain

#: Numbers in the largest array of a pass.
CHUNK = 2**21


class SideRanges:
    """Ranges of the pre-activations of a chain within a distance.

    Parameters
    ----------
    chain : ReluChain
        Its ``z_low`` and ``z_high`` are where ranges start.
    origin, up, down : (n_inputs,) arrays
        Where the distance is zero, and how far inputs can move.
    norm : {'l1', 'linf'}
    """

    def __init__(self, chain: ReluChain, origin, up, down, norm: str) -> None:
        self.chain, self.origin, self.up, self.down = chain, origin, up, down
        self.norm = norm
        self.prices: dict[int, np.ndarray] = {}

    def __call__(self, fixed: np.ndarray, low: np.ndarray, high: np.ndarray, cutoff: float):
        """Ranges (N, count) with sides (N, count), and which subproblems are empty."""
        low = np.where(fixed > 0, np.maximum(low, 0.0), low)
        high = np.where(fixed < 0, np.minimum(high, 0.0), high)
        empty = np.asarray((low > high).any(axis=1))
        n = max(1, CHUNK // (2 * max(s.weight.shape[0] for s in self.chain.steps[:-1])
                             * len(self.origin)))  # fmt: skip
        for k in range(0, len(fixed), n):
            part = slice(k, k + n)
            self._tighten(low[part], high[part], empty[part], cutoff)
        return low, high, empty

    def _tighten(self, low, high, empty, cutoff: float) -> None:
        """In place, layer by layer."""
        chain, gamma = self.chain, self.chain.gamma
        lower, upper, const = (np.zeros_like(low) for _ in range(3))
        for k, step in enumerate(chain.steps[:-1]):
            s = chain.steps[k + 1].source
            assert s is not None
            if k:
                p = step.source
                a_low, a_high = np.maximum(low[:, p], 0.0), np.maximum(high[:, p], 0.0)
                plus, minus = np.maximum(step.weight, 0.0), np.minimum(step.weight, 0.0)
                noise = gamma * step.noise
                _meet(
                    low[:, s], high[:, s],
                    a_low @ plus.T + a_high @ minus.T + step.bias - noise,
                    a_high @ plus.T + a_low @ minus.T + step.bias + noise,
                    empty,
                )  # fmt: skip
                open_ = (low[:, s] < 0) & (high[:, s] > 0)
                asked = np.flatnonzero(open_.any(axis=0))
                if len(asked):
                    both = self._query(k, asked, lower, upper, const, cutoff)
                    q = len(asked)
                    own = s.start + asked
                    a, b = low[:, own], high[:, own]
                    _meet(a, b, both[:, :q], -both[:, q:], empty)
                    low[:, own], high[:, own] = a, b
            l, h = low[:, s], high[:, s]  # noqa: E741
            open_ = (l < 0) & (h > 0)
            with np.errstate(divide="ignore", invalid="ignore"):
                upper[:, s] = np.where(open_, h / (h - l), l >= 0)
            const[:, s] = np.where(open_, -l * upper[:, s], 0.0)
            lower[:, s] = np.where(open_, h > -l, upper[:, s])

    def _query(self, k: int, asked, lower, upper, const, cutoff: float) -> np.ndarray:
        """Least values (N, 2 q) of neurons ``asked`` of a layer, and of their opposites."""
        chain = self.chain
        step = chain.steps[k]
        a = np.concatenate([step.weight[asked], -step.weight[asked]])[None]
        value = np.concatenate([step.bias[asked], -step.bias[asked]])[None]
        error = np.tile(step.noise[asked], 2)[None]
        for j in range(k - 1, -1, -1):
            s, step = chain.steps[j + 1].source, chain.steps[j]
            down = np.minimum(a, 0.0)
            value = value + np.matmul(down, const[:, s, None])[:, :, 0]
            a = (a - down) * lower[:, None, s] + down * upper[:, None, s]
            value = value + a @ step.bias
            error = error + abs(a) @ step.noise
            a = a @ step.weight
        steep = abs(a)
        room = np.where(a > 0, self.down, self.up)
        reach = abs(self.origin) + np.maximum(self.up, self.down)
        value = value + a @ self.origin
        error = error + steep @ reach + abs(value)
        if self.norm == "linf":
            fall = np.einsum("nqi,nqi->nq", steep, np.minimum(room, cutoff))
        else:
            fall = self._fall(k, asked, steep, room, cutoff)
        return value - fall - chain.gamma * (error + fall)

    def _fall(self, k: int, asked, steep, room, cutoff: float) -> np.ndarray:
        """How much neurons may fall within the cut-off, from a price of any size."""
        size = len(self.chain.steps[k].bias)
        if k not in self.prices:
            self.prices[k] = np.full(2 * size, -1.0)
        prices = self.prices[k]
        at = np.concatenate([asked, size + asked])
        new = np.flatnonzero(prices[at] < 0)
        for i in new:  # exact for one subproblem
            order = np.argsort(-steep[0, i])
            spent = np.cumsum(room[0, i, order])
            j = min(int((spent < cutoff).sum()), len(order) - 1)
            prices[at[i]] = steep[0, i, order[j]]
        price = np.broadcast_to(prices[at], steep.shape[:2])
        best = np.full(steep.shape[:2], np.inf)
        for _ in range(2):
            over = steep - price[:, :, None]
            moves = over > 0
            spent = np.einsum("nqi,nqi->nq", moves, room)
            over *= moves
            best = np.minimum(best, cutoff * price + np.einsum("nqi,nqi->nq", over, room))
            price = price * np.clip(np.sqrt(spent / cutoff), 0.5, 2.0)
        return best


def _meet(low, high, other_low, other_high, empty) -> None:
    """Intersect in place; what is empty keeps its range and is marked."""
    a, b = np.maximum(low, other_low), np.minimum(high, other_high)
    crossed = a > b
    empty |= crossed.any(axis=1)
    low[...] = np.where(crossed, low, a)
    high[...] = np.where(crossed, high, b)
