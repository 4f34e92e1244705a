"""Ranges of neurons once the sides of others are fixed, within a distance of a point.

Bounds that hold for all subproblems say little about one with many fixed sides. Where
layers are narrow, a backward pass for each open neuron costs no more than the ascent of
the subproblem's own bound. Distances count: an input moves only where a neuron is steeper
in it than some price, whatever that price is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyomo_relu.bounds.backward import Backward
from pyomo_relu.bounds.crown import CHUNK, signed_rows
from pyomo_relu.bounds.interval import meet, propagate, reads_inputs_only

if TYPE_CHECKING:
    from pyomo_relu.sides.relu_chain import ReluChain


class SideRanges:
    """Ranges of the pre-activations of a chain within a distance.

    Parameters
    ----------
    chain : ReluChain
        The bounds that it was made with are where ranges start.
    origin, up, down : (n_inputs,) arrays
        Where the distance is zero, and how far inputs can move.
    norm : {'l1', 'linf'}
    """

    def __init__(
        self,
        chain: ReluChain,
        origin: np.ndarray,
        up: np.ndarray,
        down: np.ndarray,
        norm: str,
    ) -> None:
        self.chain, self.origin, self.up, self.down = chain, origin, up, down
        self.norm = norm
        self.reach = abs(origin) + np.maximum(up, down)
        self.prices: dict[int, np.ndarray] = {}

    def __call__(
        self, fixed: np.ndarray, low: np.ndarray, high: np.ndarray, cutoff: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ranges (N, count) with sides (N, count), and which subproblems are empty."""
        low = np.where(fixed > 0, np.maximum(low, 0.0), low)
        high = np.where(fixed < 0, np.minimum(high, 0.0), high)
        empty = np.asarray((low > high).any(axis=1))
        widest = max(node.size for node in self.chain.network.nodes[1:])
        n = max(1, CHUNK // (2 * widest * len(self.origin)))
        for k in range(0, len(fixed), n):
            part = slice(k, k + n)
            self._tighten(low[part], high[part], empty[part], cutoff)
        return low, high, empty

    def _tighten(
        self, low: np.ndarray, high: np.ndarray, empty: np.ndarray, cutoff: float
    ) -> None:
        """In place, layer by layer."""
        network, box = self.chain.network, (self.chain.low[None], self.chain.high[None])
        start_low, start_high = (list(side) for side in self.chain.known)
        parts = {i - 1: s for i, s in self.chain.parts.items()}
        for i, s in parts.items():
            start_low[i], start_high[i] = low[:, s], high[:, s]
        lows: list[np.ndarray] = []
        highs: list[np.ndarray] = []
        engine = Backward(network, *box, lows, highs)

        def ask(i: int, a: np.ndarray, b: np.ndarray) -> None:
            if i not in parts:
                return
            if not reads_inputs_only(network, i):
                _note_empty(a, b, start_low[i], start_high[i], empty)
                rows = np.flatnonzero(((a < 0) & (b > 0)).any(axis=0))
                if len(rows):
                    both = self._least(engine, i, rows, cutoff)
                    q = len(rows)
                    new = both[:, :q], -both[:, q:]
                    _note_empty(a[:, rows], b[:, rows], *new, empty)
                    a[:, rows], b[:, rows] = meet(a[:, rows], b[:, rows], *new)
            low[:, parts[i]], high[:, parts[i]] = a, b

        propagate(network, *box, ask, start=(start_low, start_high), lows=lows, highs=highs)

    def _least(
        self, engine: Backward, i: int, rows: np.ndarray, cutoff: float
    ) -> np.ndarray:
        """Least values (N, 2 q) of entries of a node, and of their opposites."""
        a, c, e = engine.run(i, signed_rows(rows, engine, i), "adaptive")
        steep, room = abs(a), np.where(a > 0, self.down, self.up)
        value = c + a @ self.origin
        if self.norm == "linf":
            fall = np.einsum("nqi,nqi->nq", steep, np.minimum(room, cutoff))
        else:
            fall = self._fall(i, rows, steep, room, cutoff)
        size = steep @ self.reach + abs(value) + fall
        return value - fall - 1.01 * e - self.chain.gamma * size

    def _fall(
        self, i: int, rows: np.ndarray, steep: np.ndarray, room: np.ndarray, cutoff: float
    ) -> np.ndarray:
        """How much neurons may fall within the cut-off, from a price of any size."""
        size = self.chain.network.nodes[i].size
        prices = self.prices.setdefault(i, np.full(2 * size, -1.0))
        at = np.concatenate([rows, size + rows])
        for k in np.flatnonzero(prices[at] < 0):  # exact for one subproblem
            order = np.argsort(-steep[0, k])
            spent = np.cumsum(room[0, k, order])
            j = min(int((spent < cutoff).sum()), len(order) - 1)
            prices[at[k]] = steep[0, k, order[j]]
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


def _note_empty(
    low: np.ndarray,
    high: np.ndarray,
    other_low: np.ndarray,
    other_high: np.ndarray,
    empty: np.ndarray,
) -> None:
    """Mark subproblems with ranges that don't meet, in place."""
    empty |= ((low > other_high) | (other_low > high)).any(axis=1)
