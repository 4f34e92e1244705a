"""Exact linear regions of a network over a box with one or two free inputs.

A piecewise-linear network is affine on each of finitely many convex regions, one for
each activation pattern (Montufar et al., NeurIPS 2014; Serra, Tjandraatmadja and
Ramalingam, ICML 2018, who count them by MIP). In the plane they are found directly:
start from the box; for each neuron, split every polygon along the line where its
pre-activation meets a breakpoint, and carry the affine map of each polygon along.

By-products, all exact up to rounding: the number of regions, the range of each
pre-activation, and the minimum and maximum of any linear function of the outputs, at a
vertex. These need no solver, so they are an independent check of every MIP.

At a step the regions are closed: its border belongs to both sides, as in the closed
graph that a MIP describes. A minimum or maximum is then an infimum or supremum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pyomo_relu.bounds.affine_maps import ROUNDING, AffineMap, affine_map, chosen_map
from pyomo_relu.bounds.cells import Cells, NewCells, box_cell, cut, halves
from pyomo_relu.bounds.ladder import check_box
from pyomo_relu.network import Affine, Input, Max, Network, PiecewiseLinear

#: Distances up to this share of the box's size are no distance: thinner slivers than
#: this are left to a neighbour.
SLIVER = 1e-10


class TooManyRegionsError(ValueError):
    """A network has more linear regions over a box than were allowed."""


@dataclass(frozen=True, eq=False)
class Optimum:
    """The best value of a linear objective and where it is attained.

    Attributes
    ----------
    value : float
    point : (n_inputs,) array
        A vertex of the region.
    outputs : (n_outputs,) array
        The outputs by the region's affine map. On the border of a step they may be
        those of its other side than ``network.evaluate(point)`` takes.
    region : int
    """

    value: float
    point: np.ndarray
    outputs: np.ndarray
    region: int


@dataclass(frozen=True, eq=False)
class LinearRegions:
    """The regions that :func:`linear_regions` found.

    Attributes
    ----------
    network : Network
    lower, upper : (n_inputs,) arrays
        The box.
    free : (d,) int array
        The inputs with ``lower < upper``; gradients are with respect to these.
    cells : Cells
        The R regions: vertices in the free inputs. Where a network has steps, some
        are not proper: repeated borders with the other value of the step.
    gradients : tuple of (R, size, d) arrays
        One for each node of the network.
    offsets : tuple of (R, size) arrays
        ``gradients[i][r] @ x[free] + offsets[i][r]`` is node ``i`` on region ``r``.
    patterns : tuple of (R, size) int arrays or None
        For each piecewise-linear node the piece of each neuron, for each max node the
        position in its group of the winner, None for the others.
    counts : dict from str to int
        Number of (proper) regions after each node that splits, by its name.
    """

    network: Network
    lower: np.ndarray
    upper: np.ndarray
    free: np.ndarray
    cells: Cells
    gradients: tuple[np.ndarray, ...]
    offsets: tuple[np.ndarray, ...]
    patterns: tuple[np.ndarray | None, ...]
    counts: dict[str, int]

    @property
    def n_regions(self) -> int:
        """Number of regions that partition the box."""
        return int(self.cells.proper.sum())

    def full(self, points: np.ndarray) -> np.ndarray:
        """Points of all inputs, from points of the free ones."""
        x = np.tile(self.lower, (len(points), 1))
        x[:, self.free] = points
        return x

    def vertices(self, r: int) -> np.ndarray:
        """(m, n_inputs) vertices of region ``r``, in cyclic order."""
        return self.full(self.cells.points(r))

    def output_map(self, r: int) -> tuple[np.ndarray, np.ndarray]:
        """Gradient (n_outputs, d) and offset (n_outputs,) of the outputs on region r."""
        outputs = self.network.outputs
        return (
            np.concatenate([self.gradients[i][r] for i in outputs]),
            np.concatenate([self.offsets[i][r] for i in outputs]),
        )

    def values(self, node: int) -> np.ndarray:
        """(V, size) values of a node at all vertices, region after region."""
        return self.cells.at_vertices(self.gradients[node], self.offsets[node])

    def output_values(self) -> np.ndarray:
        """(V, n_outputs) outputs at all vertices, region after region."""
        return np.hstack([self.values(i) for i in self.network.outputs])

    def range(self, node: int) -> tuple[np.ndarray, np.ndarray]:
        """Exact smallest and largest value of each entry of a node, up to rounding."""
        values = self.values(node)
        return values.min(axis=0), values.max(axis=0)

    def stable(self, node: int) -> np.ndarray:
        """Which entries of a splitting node keep one piece over the box, (size,) bool."""
        pattern = self.patterns[node]
        if pattern is None:
            raise ValueError(
                f"'{self.network.nodes[node].name}' is an "
                f"{self.network.nodes[node].kind} node; only activations and maxima "
                "have a pattern."
            )
        return (pattern == pattern[0]).all(axis=0)

    def optimum(
        self,
        objective: int | ArrayLike,
        sense: str = "min",
        *,
        inputs: ArrayLike | None = None,
        subject_to: Sequence[tuple[ArrayLike, float]] = (),
        closed: bool = True,
    ) -> Optimum:
        """Minimize or maximize a linear function of the outputs over the box.

        Parameters
        ----------
        objective : int or (n_outputs,) array_like
            An output, or a coefficient for each.
        sense : {'min', 'max'}
        inputs : (n_inputs,) array_like, optional
            Coefficients of the inputs in the objective.
        subject_to : sequence of (coefficients, right-hand side)
            Constraints ``coefficients @ outputs <= right-hand side``.
        closed : bool
            At a step, count the value of its other side also where the box merely
            touches it; matters only on the border of a box or of another step.

        Returns
        -------
        Optimum

        Raises
        ------
        ValueError
            For an unknown sense, a wrong number of coefficients, or when no point of
            the box satisfies the constraints.
        """
        if sense not in ("min", "max"):
            raise ValueError(f"sense is 'min' or 'max', not {sense!r}.")
        if isinstance(objective, (int, np.integer)):
            if not 0 <= objective < self.network.n_outputs:
                raise ValueError(
                    f"there is no output {objective}; the network has "
                    f"{self.network.n_outputs}."
                )
            objective = np.eye(self.network.n_outputs)[objective]
        cells, gradients, offsets = self.cells, *self._combined(objective)
        if inputs is not None:
            c = _coefficients(inputs, self.network.n_inputs, "input")
            fixed = np.setdiff1d(np.arange(len(c)), self.free)
            gradients = gradients + c[self.free]
            offsets = offsets + c[fixed] @ self.lower[fixed]
        origin = np.arange(len(cells))
        if not closed:
            cells, origin = cells.replace(~cells.proper)
        for coefficients, limit in subject_to:
            slope, offset = self._combined(coefficients)
            slope, offset = -slope[origin], float(limit) - offset[origin]
            h = cells.at_vertices(slope, offset)
            size = (self.upper - self.lower)[self.free]
            tolerance = SLIVER * (abs(slope) @ size) + ROUNDING * np.abs(offset)
            every = np.ones(len(cells), dtype=bool)
            cells, parent, above = cut(cells, h, tolerance, every, both=True)
            cells, kept = cells.replace(~above)
            origin = origin[parent][kept]
            if not len(cells):
                raise ValueError("no point of the box satisfies the constraints.")
        value = cells.at_vertices(gradients[origin], offsets[origin])
        best = int(value.argmin() if sense == "min" else value.argmax())
        r = int(origin[np.searchsorted(cells.start, best, side="right") - 1])
        x = cells.vertices[best]
        slope, offset = self.output_map(r)
        return Optimum(float(value[best]), self.full(x[None])[0], slope @ x + offset, r)

    def _combined(self, coefficients: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Gradient (R, d) and offset (R,) of a linear function of the outputs."""
        c = _coefficients(coefficients, self.network.n_outputs, "output")
        outputs = self.network.outputs
        gradients = np.concatenate([self.gradients[i] for i in outputs], axis=1)
        offsets = np.concatenate([self.offsets[i] for i in outputs], axis=1)
        return np.einsum("o,rod->rd", c, gradients), offsets @ c

    def __repr__(self) -> str:
        return f"<LinearRegions: {self.n_regions} of {self.network!r}>"


def _coefficients(values: ArrayLike, n: int, what: str) -> np.ndarray:
    c = np.asarray(values, dtype=float).reshape(-1)
    if len(c) != n:
        raise ValueError(f"{len(c)} coefficients were given for {n} {what}s.")
    return c


def linear_regions(
    network: Network, lower: ArrayLike, upper: ArrayLike, *, max_regions: int = 200_000
) -> LinearRegions:
    """Split a box into the regions on which a network is affine.

    Parameters
    ----------
    network : Network
        With any number of inputs.
    lower, upper : float or (n_inputs,) array_like
        The box; at most two inputs may have ``lower < upper``.
    max_regions : int
        Give up beyond this number.

    Returns
    -------
    LinearRegions

    Raises
    ------
    ValueError
        For smooth units, more than two free inputs, more than ``max_regions`` regions, or
        a bad box.
    """
    network.refuse_smooth("only piecewise-linear networks have linear regions")
    low, high = check_box(network, lower, upper)
    free = np.flatnonzero(low < high)
    if len(free) > 2:
        raise ValueError(
            f"{len(free)} inputs are free, but regions are split for one or two; fix "
            "the others by equal bounds."
        )
    return _Splitter(network, low, high, free, max_regions).run()


class _Splitter:
    """Walks the nodes in order and splits the cells at each neuron."""

    def __init__(
        self,
        network: Network,
        low: np.ndarray,
        high: np.ndarray,
        free: np.ndarray,
        max_regions: int,
    ) -> None:
        self.network, self.low, self.high, self.free = network, low, high, free
        self.max_regions = max_regions
        self.cells = box_cell(low[free], high[free])
        self.sizes = (high - low)[free]
        self.maps: list[AffineMap] = []
        self.counts: dict[str, int] = {}

    def run(self) -> LinearRegions:
        start = dict(self.network.input_slices())
        for i, node in enumerate(self.network.nodes):
            if isinstance(node, Input):
                found = self._input(start[i])
            elif isinstance(node, Affine):
                sources = [self.maps[s] for s in node.sources]
                found = affine_map(node, sources, len(self.free), (len(self.cells),))
            elif isinstance(node, PiecewiseLinear):
                found = self._piecewise(node)
            else:
                assert isinstance(node, Max)
                found = self._max(node)
            self.maps.append(found)  # the splits have replaced the list
            if found.pattern is not None:
                self.counts[node.name] = int(self.cells.proper.sum())
        gradients, offsets, _, patterns = zip(*self.maps)
        box = self.low, self.high, self.free
        return LinearRegions(
            self.network, *box, self.cells, gradients, offsets, patterns, self.counts
        )

    def _gather(self, origin: np.ndarray) -> None:
        """Carry what is known of the old cells over to the new ones."""
        self.maps = [
            AffineMap(g[origin], c[origin], scale, p if p is None else p[origin])
            for g, c, scale, p in self.maps
        ]
        if len(self.cells) > self.max_regions:
            raise TooManyRegionsError(
                f"the network has more than {self.max_regions} linear regions on this "
                "box; take a smaller box, or raise max_regions."
            )

    def _input(self, at: slice) -> AffineMap:
        index, r = np.arange(at.start, at.stop), len(self.cells)
        slope = (index[:, None] == self.free).astype(float)
        fixed = np.where(np.isin(index, self.free), 0.0, self.low[at])
        scale = np.maximum(abs(self.low[at]), abs(self.high[at]))
        return AffineMap(np.tile(slope, (r, 1, 1)), np.tile(fixed, (r, 1)), scale)

    def _piecewise(self, node: PiecewiseLinear) -> AffineMap:
        slope, offset, scale, _ = self.maps[node.source]
        piece = np.zeros((len(self.cells), node.size), dtype=np.int32)
        origin = np.arange(len(self.cells))  # of the cells that the sources know
        steps = node.jumps != 0.0
        for i in range(node.size):
            for p, t in enumerate(node.breakpoints[i]):
                a, c = slope[origin, i], offset[origin, i] - t
                tolerance = SLIVER * (abs(a) @ self.sizes)
                tolerance = tolerance + ROUNDING * (scale[i] + abs(t))
                self.cells, parent, above = cut(
                    self.cells,
                    self.cells.at_vertices(a, c),
                    tolerance,
                    piece[:, i] == p,
                    bool(steps[i, p]),
                )
                if len(parent) > len(piece):
                    piece, origin = piece[parent], origin[parent]
                piece[above, i] = p + 1
        self._gather(origin)
        found = chosen_map(node, self.maps[node.source], piece)
        # Not the product of all magnitudes so far: that grows with depth, far beyond
        # the errors themselves.
        values = self.cells.at_vertices(found.gradient, found.offset)
        return found._replace(scale=np.abs(values).max(axis=0))

    def _max(self, node: Max) -> AffineMap:
        slopes, offsets, scales, _ = self.maps[node.source]
        winner = np.zeros((len(self.cells), node.size), dtype=np.int32)
        origin = np.arange(len(self.cells))
        for j in range(node.size):
            group = node.group(j)
            slope, offset = slopes[:, group][origin], offsets[:, group][origin]
            scale = ROUNDING * 2.0 * scales[group].max()
            spread = slope.max(axis=1) - slope.min(axis=1)
            tolerance = SLIVER * (spread @ self.sizes) + scale
            values = self.cells.at_vertices(slope, offset)
            gap = self.cells.lowest(values - values.max(axis=1, keepdims=True))
            winner[:, j] = gap.argmax(axis=1)
            split = gap.max(axis=1) < -tolerance
            new, winners = NewCells(), list[int]()
            for r in np.flatnonzero(split).tolist():
                vertices = self.cells.points(r)
                found = _upper_parts(vertices, slope[r], offset[r], tolerance[r])
                if len(found) < 2:
                    split[r] = False  # but for slivers, one entry is the largest
                    winner[r, j] = found[0][0] if found else winner[r, j]
                    continue
                for k, part in found:
                    winners.append(k)
                    new.add(part, r, self.cells.proper[r])
            if winners:
                self.cells, parent = self.cells.replace(split, new)
                winner, origin = winner[parent], origin[parent]
                winner[len(winner) - len(winners) :, j] = winners
        self._gather(origin)
        return chosen_map(node, self.maps[node.source], winner)


def _upper_parts(
    points: np.ndarray, slope: np.ndarray, offset: np.ndarray, tolerance: float
) -> list[tuple[int, np.ndarray]]:
    """For each affine function the part of a cell where it is the largest, if any."""
    found = []
    for j in range(len(offset)):
        part = points
        for k in range(len(offset)):
            if k == j:
                continue
            h = part @ (slope[j] - slope[k]) + (offset[j] - offset[k])
            if h.max() <= tolerance and (h.min() < -tolerance or k < j):
                break  # nowhere larger, or the same as an earlier one
            if h.min() < -tolerance:
                part = halves(part, h, tolerance)[1]
        else:
            found.append((j, part))
    return found
