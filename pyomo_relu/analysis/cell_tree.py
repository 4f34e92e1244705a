"""Splitting a box of any dimension into linear regions, by linear programs.

A region is a polytope in the free inputs, scaled to [-1, 1]; whether a neuron divides it
is decided by the largest ball on each side of the line (the Chebyshev centre). The rows
of the path from the root stay in one persistent program; a step adds rows and takes them
away again.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pyomo_relu.base.deadline import NEVER, Deadline, TimeUp
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.bounds import Bounds
from pyomo_relu.bounds.affine_maps import ROUNDING, AffineMap, affine_map, chosen_map
from pyomo_relu.network import Affine, Input, Max, Network, PiecewiseLinear
from pyomo_relu.programs import HighsModel, LinearProgram

#: Half-spaces ``gradient @ t <= right``, and the piece or winner that they choose.
Choice = tuple[int, list[tuple[np.ndarray, float]]]


class _Enough(Exception):
    """As many regions were found as were asked for."""


class CellTree:
    """Depth-first walk over all regions that hold a larger ball than ``radius``."""

    def __init__(self, network: Network, bounds: Bounds, radius: float) -> None:
        self.network, self.bounds, self.radius = network, bounds, radius
        self.low, self.high = bounds.input_box
        self.free = np.flatnonzero(self.low < self.high)
        self.solves = self.found = 0
        self.centres: list[np.ndarray] = []
        d = len(self.free)
        # The centre of a ball and, last, its radius.
        cost, lower, none = np.eye(d + 1)[d], np.eye(d + 1)[d] - 1.0, np.zeros(0)
        rows = sp.csr_array((0, d + 1), dtype=float)
        self.highs = HighsModel(
            LinearProgram(cost, lower, np.ones(d + 1), rows, none, none, maximize=True),
            primal_feasibility_tolerance=1e-10,
            dual_feasibility_tolerance=1e-10,
        )
        for k in range(d):  # the ball stays inside of the box
            for sign in (1.0, -1.0):
                self._add(sign * np.eye(d)[k], 1.0)
        self.maps: list[AffineMap] = [AffineMap(none, none, none)] * len(network.nodes)

    # ------------------------------------------------------------- the linear program
    def _add(self, gradient: np.ndarray, right: float) -> None:
        """Add ``gradient @ t + |gradient| radius <= right``."""
        norm, d = float(np.linalg.norm(gradient)), len(self.free)
        self.highs.add_row(
            np.arange(d + 1), np.append(gradient / norm, 1.0), -np.inf, right / norm
        )

    def _largest_ball(self) -> np.ndarray | None:
        """Its centre if it is large enough."""
        answer = self.highs.run()
        self.solves += 1
        if not answer.optimal or answer.point is None:
            return None
        x = answer.point
        return x[:-1] if x[-1] > self.radius else None

    # ----------------------------------------------------------------------- the walk
    def count(self, max_count: int, deadline: Deadline = NEVER) -> tuple[int, bool]:
        """Number of regions, and whether these are all."""
        self.max_count, self.deadline = max_count, deadline
        self.found, self.centres = 0, []
        if not len(self.free):
            return 1, True
        try:
            self._node(0, np.zeros(len(self.free)))
        except (_Enough, TimeUp):
            return self.found, False
        return self.found, True

    def points(self) -> np.ndarray:
        """(count, n_inputs) points, one inside of each region that was counted."""
        x = np.tile(0.5 * self.low + 0.5 * self.high, (len(self.centres), 1))
        if self.centres:
            half = 0.5 * (self.high - self.low)[self.free]
            x[:, self.free] += np.array(self.centres) * half
        return x

    def _node(self, i: int, centre: np.ndarray) -> None:
        """Split the region of the nodes before ``i``, around a point of it, by the rest."""
        if i == len(self.network.nodes):
            self.found += 1
            self.centres.append(centre)
            if self.found >= self.max_count:
                raise _Enough
            return
        self.deadline.check()
        node = self.network.nodes[i]
        if isinstance(node, (PiecewiseLinear, Max)):
            self._entries(i, 0, np.zeros(node.size, dtype=np.int64), centre)
            return
        if isinstance(node, Input):
            self.maps[i] = self._input(i)
        else:
            assert isinstance(node, Affine)
            sources = [self.maps[s] for s in node.sources]
            self.maps[i] = affine_map(node, sources, len(self.free))
        self._node(i + 1, centre)

    def _input(self, i: int) -> AffineMap:
        at = dict(self.network.input_slices())[i]
        index = np.arange(at.start, at.stop)
        middle, half = 0.5 * (self.low + self.high)[at], 0.5 * (self.high - self.low)[at]
        gradient = (index[:, None] == self.free) * half[:, None]
        return AffineMap(gradient, middle, abs(middle) + half)

    def _entries(self, i: int, first: int, chosen: np.ndarray, centre: np.ndarray) -> None:
        """Split by the entries of a node from ``first`` on; the others are ``chosen``."""
        node = self.network.nodes[i]
        assert isinstance(node, (PiecewiseLinear, Max))
        for j in range(first, node.size):
            choices = (
                self._winners(node, j) if isinstance(node, Max) else self._pieces(node, j)
            )
            if len(choices) == 1:
                chosen[j] = choices[0][0]
                continue
            for choice, ball in self._branches(choices, centre):
                chosen[j] = choice
                self._entries(i, j + 1, chosen.copy(), ball)
            return
        # The deeper nodes overwrite their maps; those below stay as they are.
        self.maps[i] = chosen_map(node, self.maps[node.source], chosen)
        self._node(i + 1, centre)

    def _branches(
        self, choices: list[Choice], centre: np.ndarray
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (choice, centre of a ball) for each choice whose rows leave a ball."""
        for choice, rows in choices:
            for gradient, right in rows:
                self._add(gradient, right)
            # A ball of more than the radius around the centre is in the region. Where it
            # is in one of the parts, there is nothing to solve.
            inside = all(
                right - gradient @ centre > 1.01 * self.radius * np.linalg.norm(gradient)
                for gradient, right in rows
            )
            ball = centre if inside else self._largest_ball()
            if ball is not None:
                yield choice, ball
            self.highs.drop_rows(len(rows))

    def _pieces(self, node: PiecewiseLinear, u: int) -> list[Choice]:
        """The pieces that unit ``u`` may be on."""
        gradients, offsets, scales, _ = self.maps[node.source]
        g, c, t = gradients[u], offsets[u], node.breakpoints[u]
        reach = np.abs(g).sum()
        noise = ROUNDING * (scales[u] + abs(t).max(initial=0.0))
        low, high = c - reach, c + reach
        if not ((t > low + noise) & (t < high - noise)).any():
            return [(int((t <= c).sum()), [])]
        edges = np.concatenate([[-np.inf], t, [np.inf]])
        choices = []
        for p, (a, b) in enumerate(zip(edges, edges[1:])):
            if b > low + noise and a < high - noise:
                below = [(-g, c - a)] if a > low else []
                choices.append((p, below + ([(g, b - c)] if b < high else [])))
        return choices

    def _winners(self, node: Max, j: int) -> list[Choice]:
        """The entries of group ``j`` that may be the largest, by their places in it."""
        gradients, offsets, scales, _ = self.maps[node.source]
        entries = node.group(j)
        g, c = gradients[entries], offsets[entries]
        noise = ROUNDING * scales[entries].max()
        choices = []
        for k in range(len(entries)):
            rows = []
            for q in range(len(entries)):
                difference, right = g[q] - g[k], c[k] - c[q]
                reach = abs(difference).sum()
                if q == k or right >= reach - noise and (right > noise or k < q):
                    continue  # never above this one; of equals, the first
                if right <= noise - reach:
                    break
                rows.append((difference, right))
            else:
                choices.append((k, rows))
        return choices
