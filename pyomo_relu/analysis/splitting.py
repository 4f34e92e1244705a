"""Splitting a box of any dimension into linear regions, by linear programs.

A region is a polytope in the free inputs, scaled to [-1, 1]; whether a neuron divides it
is decided by the largest ball on each side of the line (the Chebyshev centre). The rows
of the path from the root stay in one persistent program; a step adds rows and takes them
away again.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.bounds import Bounds
from pyomo_relu.network import Affine, Input, Max, Network, PiecewiseLinear
from pyomo_relu.network.weights import absolute
from pyomo_relu.programs import HighsModel, LinearProgram

#: Rounding errors of a value, relative to the sum of its terms' magnitudes.
ROUNDING = 1e-13


class _Limit(Exception):
    """The count or the time has run out."""


class _Map(NamedTuple):
    """A node on a region: ``gradient @ t + offset``, and its terms' magnitudes."""

    gradient: np.ndarray
    offset: np.ndarray
    scale: np.ndarray


class CellTree:
    """Depth-first walk over all regions.

    Parameters
    ----------
    network : Network
    bounds : Bounds
        Over the box.
    radius : float
        A region must hold a larger ball than this.
    """

    def __init__(self, network: Network, bounds: Bounds, radius: float) -> None:
        self.network, self.bounds, self.radius = network, bounds, radius
        low, high = bounds.input_box
        self.low, self.high = low, high
        self.free = np.flatnonzero(low < high)
        self.solves = self.found = 0
        d = len(self.free)
        # The centre of a ball and, last, its radius.
        lower, upper = np.full(d + 1, -1.0), np.ones(d + 1)
        cost, lower[d] = np.zeros(d + 1), 0.0
        cost[d] = 1.0
        none = np.zeros(0)
        self.highs = HighsModel(
            LinearProgram(
                cost,
                lower,
                upper,
                sp.csr_array((0, d + 1), dtype=float),
                none,
                none,
                maximize=True,
            ),
            primal_feasibility_tolerance=1e-10,
            dual_feasibility_tolerance=1e-10,
        )
        for k in range(d):  # the ball stays inside of the box
            for sign in (1.0, -1.0):
                self._add(sign * np.eye(d)[k], 1.0)
        self.maps: list[_Map | None] = [None] * len(network.nodes)

    # ------------------------------------------------------------- the linear program
    def _add(self, gradient: np.ndarray, right: float) -> None:
        """Add ``gradient @ t + |gradient| radius <= right``."""
        norm = float(np.linalg.norm(gradient))
        d = len(self.free)
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
    def count(self, max_count: int, end: float | None) -> tuple[int, bool]:
        """Number of regions, and whether these are all."""
        self.max_count, self.end = max_count, end
        self.found = 0
        self.centres: list[np.ndarray] = []
        if not len(self.free):
            return 1, True
        try:
            self._node(0, np.zeros(len(self.free)))
        except _Limit:
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
        if i == len(self.network.nodes):
            self.found += 1
            self.centres.append(centre)
            if self.found >= self.max_count:
                raise _Limit
            return
        if self.end is not None and time.perf_counter() > self.end:
            raise _Limit
        node = self.network.nodes[i]
        if isinstance(node, Input):
            self.maps[i] = self._input(i)
        elif isinstance(node, Affine):
            self.maps[i] = self._affine(node)
        elif isinstance(node, PiecewiseLinear):
            self._units(i, node, 0, np.zeros(node.size, dtype=np.int64), centre)
            return
        else:
            assert isinstance(node, Max)
            self._groups(i, node, 0, np.zeros(node.size, dtype=np.int64), centre)
            return
        self._node(i + 1, centre)

    def _input(self, i: int) -> _Map:
        at = dict(self.network.input_slices())[i]
        index = np.arange(at.start, at.stop)
        middle, half = 0.5 * (self.low + self.high)[at], 0.5 * (self.high - self.low)[at]
        gradient = (index[:, None] == self.free) * half[:, None]
        return _Map(gradient, middle, abs(middle) + half)

    def _affine(self, node: Affine) -> _Map:
        gradient = np.zeros((node.size, len(self.free)))
        offset, scale = node.bias.copy(), abs(node.bias)
        for w, s in zip(node.weights, node.sources):
            source = self.maps[s]
            assert source is not None
            gradient += w @ source.gradient
            offset += w @ source.offset
            scale = scale + absolute(w) @ source.scale
        return _Map(gradient, offset, scale)

    def _branches(self, choices, centre):
        """Yield (choice, centre) for each choice whose rows leave a ball.

        ``choices`` are pairs (choice, rows); a row is (gradient, right-hand side).
        """
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

    def _units(self, i, node, unit, piece, centre) -> None:
        source = self.maps[node.source]
        for u in range(unit, node.size):
            g, c, scale = source.gradient[u], source.offset[u], source.scale[u]
            reach = np.abs(g).sum()
            t = node.breakpoints[u]
            noise = ROUNDING * (scale + abs(t).max(initial=0.0))
            low, high = c - reach, c + reach
            inside = (t > low + noise) & (t < high - noise)
            if not inside.any():
                piece[u] = int((t <= c).sum())
                continue
            edges = np.concatenate([[-np.inf], t, [np.inf]])
            choices = []
            for p in range(len(t) + 1):
                a, b = edges[p], edges[p + 1]
                if b <= low + noise or a >= high - noise:
                    continue
                rows = []
                if a > low:
                    rows.append((-g, c - a))
                if b < high:
                    rows.append((g, b - c))
                choices.append((p, rows))
            for p, ball in self._branches(choices, centre):
                piece[u] = p
                self._units(i, node, u + 1, piece.copy(), ball)
            return
        units = np.arange(node.size)
        a, c = node.slopes[units, piece], node.intercepts[units, piece]
        self.maps[i] = _Map(
            a[:, None] * source.gradient,
            a * source.offset + c,
            abs(a) * source.scale + abs(c),
        )
        # The deeper nodes overwrite their maps; those below stay as they are.
        self._node(i + 1, centre)

    def _groups(self, i, node, group, winner, centre) -> None:
        source = self.maps[node.source]
        for j in range(group, node.size):
            entries = node.group(j)
            g, c = source.gradient[entries], source.offset[entries]
            noise = ROUNDING * source.scale[entries].max()
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
            if len(choices) == 1:
                winner[j] = choices[0][0]
                continue
            for k, ball in self._branches(choices, centre):
                winner[j] = k
                self._groups(i, node, j + 1, winner.copy(), ball)
            return
        entry = node.indices[node.indptr[:-1] + winner]
        self.maps[i] = _Map(*(part[entry] for part in source))
        self._node(i + 1, centre)
