r"""The search for slopes in a plain chain of dense ReLU layers, where it is short work.

What :mod:`pyomo_relu.bounds.alpha_crown` does for any graph, with fewer and smaller
array operations: inactive neurons have no column, the slopes of all layers lie side by
side in one array, error terms are left out, and a query leaves the batch once its bound
has decided its neuron. The slopes found are only a proposal: the
bound they give is computed anew with its rounding error.

Source: Xu et al., arXiv 2011.13824 (alpha-CROWN).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.bounds.progress import Clock
from pyomo_relu.network import Affine, Input, Network, PiecewiseLinear

# Adam: first and second moment.
BETA1, BETA2 = 0.7, 0.9

#: To which share of the first the last step has shrunk.
LAST = 0.04

#: Steps between two looks at which queries are decided.
PATIENCE = 5

#: Where all queries together gain less than this share in that time, a search ends.
STALL = 1e-5


@dataclass
class _Layer:
    """One ReLU layer: live units, the affine map into them, and their relaxation."""

    node: int
    live: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    slope: np.ndarray
    const: np.ndarray
    free: np.ndarray
    part: slice


def is_chain(network: Network, target: int, above: list[int]) -> bool:
    """Whether the ancestors of an affine node are input, dense, ReLU, dense, ReLU ..."""
    order = [*above, target]
    for k, i in enumerate(order):
        node = network.nodes[i]
        if k == 0:
            if not isinstance(node, Input):
                return False
        elif tuple(node.sources) != (order[k - 1],):
            return False
        elif k % 2:
            if not isinstance(node, Affine) or sp.issparse(node.weights[0]):
                return False
        elif not (isinstance(node, PiecewiseLinear) and node.is_relu):
            return False
    return len(order) >= 4


class ChainSearch:
    """Good slopes for queries on one node of a chain, over one box.

    Parameters
    ----------
    network : Network
    target : int
        The affine node that is asked about.
    above : list of int
        Its ancestors, in order.
    center, radius : (n_inputs,) arrays
    lows, highs : sequence of (1, size) arrays
    """

    def __init__(self, network, target, above, center, radius, lows, highs) -> None:
        self.center, self.radius = center, radius
        self.layers: list[_Layer] = []
        start, below = 0, None
        for affine, relu in zip(above[1::2], above[2::2]):
            node = network.nodes[affine]
            low, high = lows[affine][0], highs[affine][0]
            live = np.flatnonzero(high > 0)
            w = node.weights[0][live]
            w = np.ascontiguousarray(w if below is None else w[:, below])
            low, high = low[live], high[live]
            free = low < 0
            slope = np.where(free, high / np.where(free, high - low, 1.0), 1.0)
            const = np.where(free, -slope * low, 0.0)
            part = slice(start, start + len(live))
            self.layers.append(
                _Layer(relu, live, w, node.bias[live], slope, const, free, part)
            )
            start, below = part.stop, live
        last = network.nodes[target]
        self.weights = np.ascontiguousarray(last.weights[0][:, below])
        self.bias = last.bias
        self.size = start
        self.free = np.concatenate([layer.free for layer in self.layers])

    def maximize(
        self,
        rows: np.ndarray,
        start: dict[int, np.ndarray],
        goal: np.ndarray,
        iterations: int,
        rate: float,
        clock: Clock,
    ) -> dict[int, np.ndarray]:
        """The slopes of the best bound found for each query, by ReLU node, (q, size).

        Parameters
        ----------
        rows : (q, size of target) array
        start : dict
            Slopes to begin with by ReLU node, (q, size) arrays, overwritten.
        goal : (q,) array
            A bound from which on the query is decided; infinite where there is none.
        """
        first, const = rows @ self.weights, rows @ self.bias
        q = len(rows)
        kept = np.concatenate([start[v.node][:, v.live] for v in self.layers], axis=1)
        best, alive = np.full(q, -np.inf), np.arange(q)
        slopes = kept
        m, v = np.zeros(slopes.shape), np.zeros(slopes.shape)
        total = -np.inf
        for k in range(1, iterations + 1):
            if not len(alive) or clock.expired():
                break
            value, signs, corner = self._pass(first, const, slopes)
            better = value > best[alive]
            which = alive[better]
            best[which], kept[which] = value[better], slopes[better]
            if k == iterations:
                break
            if k % PATIENCE == 0:
                total, before = float(best.sum()), total
                if k > 8 and total - before < STALL * (abs(total) + 1e-12):
                    break
                # One query gains in leaps while steps are long: its pause says nothing.
                going = best[alive] < goal[alive]
                if not going.all():
                    alive, slopes, m, v = alive[going], slopes[going], m[going], v[going]
                    first, const, corner = first[going], const[going], corner[going]
                    signs = [(a[going], b[going]) for a, b in signs]
            g = self._gradient(signs, corner, slopes)
            m *= BETA1
            m += (1 - BETA1) * g
            g *= g
            v *= BETA2
            v += (1 - BETA2) * g
            step = np.sqrt(v)
            step += 1e-30
            np.divide(m, step, out=step)
            step *= rate * LAST ** (k / iterations) * np.sqrt(1 - BETA2**k) / (1 - BETA1**k)
            slopes = slopes + step
            np.clip(slopes, 0.0, 1.0, out=slopes)
        for layer in self.layers:
            start[layer.node][:, layer.live] = kept[:, layer.part]
        return start

    def _pass(self, a: np.ndarray, c: np.ndarray, slopes: np.ndarray):
        """Bounds, the signs of the coefficients on each layer, the attaining corner."""
        signs = []
        for layer in reversed(self.layers):
            positive = np.maximum(a, 0.0)
            negative = a - positive
            signs.append((positive, a > 0))
            c = c + negative @ layer.const
            positive = positive * slopes[:, layer.part]
            negative *= layer.slope
            positive += negative
            c += positive @ layer.bias
            a = positive @ layer.weights
        value = a @ self.center - abs(a) @ self.radius + c
        return value, signs[::-1], self.center - np.copysign(self.radius, a)

    def _gradient(self, signs, corner: np.ndarray, slopes: np.ndarray) -> np.ndarray:
        g = np.empty(slopes.shape)
        x = corner
        for layer, (positive, above) in zip(self.layers, signs):
            z = x @ layer.weights.T
            z += layer.bias
            np.multiply(positive, z, out=g[:, layer.part])
            if layer is not self.layers[-1]:
                x = np.where(
                    above, slopes[:, layer.part] * z, layer.slope * z + layer.const
                )
        g *= self.free
        return g
