r"""Slopes of ReLU lines chosen for one query, box by box.

Any slope between 0 and 1 gives a line below an undecided ReLU. The rule by area does
well for all queries at once; the query that decides over a box deserves slopes of its
own. Its bound is piecewise smooth in them, with the closed-form gradient of
:mod:`pyomo_relu.bounds.alpha_crown`, here for many boxes and one query each. A few
steps are enough: they cost about as much as the bounds of one layer, and in ten
dimensions a third fewer boxes are left to bound.

Source: Xu et al., arXiv 2011.13824 (alpha-CROWN).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pyomo_relu.bounds.backward import Backward, Relaxed, times
from pyomo_relu.bounds.linear import Lines, MaxPlanes
from pyomo_relu.network import Affine, Input, Max, Network, PiecewiseLinear

# Adam: first and second moment, length of a step and how it shrinks.
BETA1, BETA2, RATE, DECAY = 0.7, 0.9, 0.3, 0.93


class SlopeSearch:
    """Ascends the slopes below the undecided ReLUs of a batch of boxes.

    Parameters
    ----------
    engine : Backward
        With bounds of every node over the boxes.
    last : int
        The node of the queries.
    rule : str
        Gives the first slopes, and the lines of all other units.
    """

    def __init__(self, engine: Backward, last: int, rule: str) -> None:
        self.engine, self.last, self.rule = engine, last, rule
        network: Network = engine.network
        self.lines: dict[int, Relaxed] = {}
        self.open: dict[int, np.ndarray] = {}
        for i, node in enumerate(network.nodes):
            if not isinstance(node, PiecewiseLinear | Max):
                continue
            self.lines[i] = engine.lines(i, rule)
            if isinstance(node, PiecewiseLinear) and node.is_relu:
                low, high = engine.lows[node.source], engine.highs[node.source]
                undecided = (low < 0) & (high > 0)
                if undecided.any():
                    self.open[i] = undecided

    def climb(self, row: np.ndarray, steps: int) -> dict[int, Relaxed]:
        """Relaxations with the best slopes that were met for each box.

        Parameters
        ----------
        row : (size,) array
            Coefficients of the query on the last node.
        steps : int
        """
        engine, count = self.engine, self.engine.batch
        shape = {i: (count, *open_.shape[1:]) for i, open_ in self.open.items()}
        slopes = {i: np.broadcast_to(self._relu(i).lower_slope, shape[i]) for i in shape}
        kept = {i: np.array(s) for i, s in slopes.items()}
        first = {i: np.zeros(shape[i]) for i in shape}
        second = {i: np.zeros(shape[i]) for i in shape}
        best = np.full(count, -np.inf)
        rows = np.broadcast_to(row, (count, 1, len(row)))
        for k in range(1, steps + 2):
            relaxed = self._with(slopes)
            trace: dict[int, np.ndarray] = {}
            a, c, _ = engine.run(self.last, rows, relaxed, trace, rigorous=False)
            a, c = a[:, 0], c[:, 0]
            value = (a * engine.center).sum(axis=1) - (abs(a) * engine.radius).sum(axis=1)
            better = value + c > best
            best = np.where(better, value + c, best)
            for i in slopes:
                kept[i][better] = slopes[i][better]
            if k > steps:
                break
            corner = engine.center - np.copysign(engine.radius, a)
            size = RATE * DECAY ** (k - 1) * np.sqrt(1 - BETA2**k) / (1 - BETA1**k)
            for i, gradient in self._gradients(corner, trace, relaxed).items():
                first[i] = BETA1 * first[i] + (1 - BETA1) * gradient
                second[i] = BETA2 * second[i] + (1 - BETA2) * gradient**2
                move = size * first[i] / (np.sqrt(second[i]) + 1e-30)
                # Decided units have no gradient, so they stay where they are.
                slopes[i] = np.clip(slopes[i] + move, 0.0, 1.0)
        return self._with(kept)

    def _with(self, slopes: dict[int, np.ndarray]) -> dict[int, Relaxed]:
        found = dict(self.lines)
        for i, slope in slopes.items():
            found[i] = replace(self._relu(i), lower_slope=slope)
        return found

    def _relu(self, i: int) -> Lines:
        """The lines of a node of ReLUs."""
        lines = self.lines[i]
        assert isinstance(lines, Lines)
        return lines

    def _gradients(self, corner, trace, relaxed) -> dict[int, np.ndarray]:
        """The derivative of each box's bound by each slope, from a forward pass."""
        engine, nodes = self.engine, self.engine.network.nodes
        values: dict[int, np.ndarray] = {}
        found: dict[int, np.ndarray] = {}
        last = max(self.open, default=-1)
        for i, node in enumerate(nodes[: last + 1]):
            if isinstance(node, Input):
                values[i] = corner[:, engine.slices[i]]
            elif isinstance(node, Affine):
                parts = [times(values[s], w.T) for s, w in zip(node.sources, node.weights)]
                values[i] = sum(parts[1:], parts[0]) + node.bias
            else:
                z = values[node.sources[0]]
                # A node that no query reads has no coefficients.
                a = trace[i][:, 0] if i in trace else np.zeros((1, node.size))
                if i in self.open:
                    found[i] = np.maximum(a, 0.0) * z * self.open[i]
                if i < last:
                    values[i] = forward(node, relaxed[i], a, z)
        return found


def forward(node, relaxed: Relaxed, a: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Values of a relaxed node, (N, size): the line that each coefficient uses."""
    if isinstance(relaxed, Lines):
        below = relaxed.lower_slope * z + relaxed.lower_const
        above = relaxed.upper_slope * z + relaxed.upper_const
    else:
        assert isinstance(relaxed, MaxPlanes)
        x, at = z[:, node.indices], node.indptr[:-1]
        below = np.add.reduceat(relaxed.lower * x, at, axis=1) + relaxed.lower_const
        above = np.add.reduceat(relaxed.upper * x, at, axis=1) + relaxed.upper_const
    return np.where(a > 0, below, above)
