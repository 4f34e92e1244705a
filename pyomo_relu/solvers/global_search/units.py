"""Independent units: groups of drivers that no network connects, with their cells.

Plants are made of units that share a utility or a product, not inputs. Each unit then
keeps a partition of its own few inputs, and what is known of a cell serves every node
of the tree and every price of the shared resource.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network.gradient import backward
from pyomo_relu.solvers.global_search.branching import choose_input, input_scores
from pyomo_relu.solvers.global_search.compose import compose
from pyomo_relu.solvers.global_search.mip import BoxMIP
from pyomo_relu.solvers.global_search.node_bounds import NodeBounds
from pyomo_relu.solvers.global_search.problem import Problem

#: Cells that one step of the pricing splits.
SPLITS = 48
#: Rounds of cutting before what is left of a unit may go to a small MIP.
PATIENCE = 6


def find_units(p: Problem) -> list[tuple[np.ndarray, np.ndarray]]:
    """The driver and output columns of each unit, as (drivers, outputs) numbers."""
    place = {id(v): j for j, v in enumerate(p.columns[: p.n])}
    of_output = {id(v): j for j, v in enumerate(p.columns[p.n : p.n + p.q])}
    group = list(range(p.n))

    def root(j: int) -> int:
        while group[j] != j:
            j = group[j]
        return j

    touched: dict[int, int] = {}  # output variable -> a driver of its unit
    outputs: list[tuple[int, int]] = []
    for link in p.links:
        keys = [key for one in link.inputs for key in one.terms]
        if not keys:
            continue
        members = [place[k] if k in place else touched[k] for k in keys]
        first = root(members[0])
        for j in members[1:]:
            group[root(j)] = first
        for v in link.outputs:
            touched[id(v)] = first
            if id(v) in of_output:
                outputs.append((of_output[id(v)], first))
    found: dict[int, tuple[list[int], list[int]]] = {}
    for j in range(p.n):
        found.setdefault(root(j), ([], []))[0].append(j)
    for j, driver in outputs:
        found[root(driver)][1].append(j)
    return [(np.array(a), np.array(sorted(b))) for a, b in found.values() if b]


@dataclass
class Priced:
    """``min g x + v y`` over a unit: a valid lower bound, and the best point met."""

    bound: float
    value: float
    x: np.ndarray | None
    y: np.ndarray | None


class Unit:
    """One unit with its partition.

    Attributes
    ----------
    drivers, outputs : int arrays
        Its columns of the problem; outputs count from the first output column.
    count : int
        Number of cells.
    lower, upper : (C, n) arrays
        The cells.
    stored, steep : (C, 2 h), (C, 2 q, n) arrays
        As in :class:`~pyomo_relu.solvers.global_search.node_bounds.Planes`.
    slopes, consts : (C, S, n), (C, S) arrays
        For each output a plane below it, then one below its negative.
    x, y : (P, n), (P, q) arrays
        Points at which the networks were evaluated.
    """

    lower: np.ndarray
    upper: np.ndarray
    stored: np.ndarray
    steep: np.ndarray
    slopes: np.ndarray
    consts: np.ndarray

    def __init__(
        self,
        p: Problem,
        drivers: np.ndarray,
        outputs: np.ndarray,
        leaf_neurons: int = 12,
    ) -> None:
        self.drivers, self.outputs = drivers, outputs
        self.leaf_neurons, self.mips = leaf_neurons, 0
        columns = [p.columns[j] for j in drivers]
        wanted = [p.columns[p.n + j] for j in outputs]
        mine = {id(v) for v in columns}
        links = []
        for link in p.links:
            if any(key in mine for one in link.inputs for key in one.terms):
                links.append(link)
                mine |= {id(v) for v in link.outputs}
        self.network = compose(links, columns, wanted, np.eye(len(wanted)))
        q = len(wanted)
        sides = [(j, 1.0) for j in range(q)] + [(j, -1.0) for j in range(q)]
        self.bounder = NodeBounds(self.network, sides)
        self.integer = p.integer[drivers]
        self.low, self.high = p.lower[drivers], p.upper[drivers]
        planes = self.bounder(self.low[None], self.high[None], self.bounder.start())
        self._alone = _alone(p, links, self.network, drivers, outputs)
        self.count = 0
        self._room: dict[str, np.ndarray] = {}
        self._place(self.low[None], self.high[None], planes, np.zeros(0, dtype=int))
        self.x = np.zeros((0, len(drivers)))
        self.y = np.zeros((0, q))
        self.boxes = 1
        self.add_points(0.5 * (self.low + self.high)[None])

    # ----------------------------------------------------------------------- points
    def evaluate(self, x: np.ndarray) -> np.ndarray:
        """Outputs (N, q) at inputs (N, n)."""
        return self.network.evaluate(x)

    def add_points(self, x: np.ndarray) -> np.ndarray:
        """Keep points for the master; returns their numbers."""
        x = np.where(self.integer, np.round(x), x)
        self.x = np.concatenate([self.x, x])
        self.y = np.concatenate([self.y, self.evaluate(x)])
        return np.arange(len(self.x) - len(x), len(self.x))

    def inside(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Numbers of the points in a box."""
        return np.flatnonzero(((self.x >= low) & (self.x <= high)).all(axis=1))

    # ---------------------------------------------------------------------- pricing
    def price(
        self,
        g: np.ndarray,
        v: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
        tolerance: float,
        rounds: int = 40,
    ) -> Priced:
        """Bound ``min g x + v y`` over a box, cutting cells until it is tight.

        Parameters
        ----------
        g, v : (n,), (q,) arrays
        low, high : (n,) arrays
        tolerance : float
            How far the bound may stay below the best point.
        rounds : int
            Of cutting; the bound is valid whenever it ends.
        """
        weights = np.concatenate([np.maximum(v, 0.0), np.maximum(-v, 0.0)])
        best, x, y = np.inf, None, None

        def met(points: np.ndarray) -> None:
            nonlocal best, x, y
            points = np.where(self.integer, np.round(points), points)
            out = self.evaluate(points)
            costs = points @ g + out @ v
            k = int(np.argmin(costs))
            if costs[k] < best:
                best, x, y = float(costs[k]), points[k], out[k]

        known = self.inside(low, high)
        if len(known):
            costs = self.x[known] @ g + self.y[known] @ v
            k = known[int(np.argmin(costs))]
            best, x, y = float(costs.min()), self.x[k], self.y[k]
        else:
            met(0.5 * (low + high)[None])
        value, corner = self._values(g, v, weights, low, high, slice(0, self.count))
        for step in range(rounds):
            order = np.argpartition(value, min(SPLITS, len(value)) - 1)[:SPLITS]
            order = order[np.argsort(value[order], kind="stable")]
            worst = order[value[order] < best - tolerance]
            met(corner[worst] if len(worst) else corner[order[:1]])
            if step == 0 and len(worst):
                met(self._descend(corner[worst[:8]], g, v, low, high))
            worst = worst[value[worst] < best - tolerance]
            if step >= PATIENCE and step % 2 == 0 and len(worst):
                left = np.flatnonzero(value < best - tolerance)
                if step == PATIENCE or len(left) <= SPLITS:
                    answer = self._finish(left, g, v, low, high, best, tolerance)
                    if answer is not None:
                        if answer.point is not None:
                            met(answer.point[None, : len(self.drivers)])
                        value[left] = np.maximum(value[left], answer.bound)
                        break
            before = self.count
            changed = self._split(worst, weights, low, high)
            if not len(changed):
                break
            new = slice(before, self.count)
            value[changed], corner[changed] = self._values(
                g, v, weights, low, high, changed
            )
            more = self._values(g, v, weights, low, high, new)
            value = np.concatenate([value, more[0]])
            corner = np.concatenate([corner, more[1]])
        return Priced(float(value.min()), best, x, y)

    def _values(self, g, v, weights, low, high, cells) -> tuple[np.ndarray, np.ndarray]:
        """Lower bounds of some cells within a box, and the corners that attain them."""
        consts = self.consts[cells]
        a = g + np.tensordot(self.slopes[cells], weights, axes=(1, 0))
        left = np.maximum(self.lower[cells], low)
        right = np.minimum(self.upper[cells], high)
        corner = np.where(a > 0, left, right)
        terms = a * corner
        size = abs(terms).sum(axis=1) + abs(consts) @ weights + abs(corner) @ abs(g)
        value = terms.sum(axis=1) + consts @ weights - 1e-13 * size
        # A cell that only touches the box is not needed: its neighbour has that face.
        touching = (left == right) & (low < high) & ~self.integer
        here = (left <= right) & ~touching
        return np.where(here.all(axis=1), value, np.inf), corner

    def _finish(self, cells, g, v, low, high, best: float, tolerance: float):
        """A MIP over the hull of some cells, where few neurons are undecided there.

        Where the least cost is taken on a whole face of the function, cells along its
        edges would have to be as narrow as the tolerance.
        """
        left = np.maximum(self.lower[cells].min(axis=0), low)
        right = np.minimum(self.upper[cells].max(axis=0), high)
        # What is known of neurons over the hull: of every cell that meets it.
        meets = ((self.lower <= right) & (self.upper >= left)).all(axis=1)
        stored, h = self.stored[meets], self.bounder.width
        stored = np.concatenate([stored[:, :h].min(axis=0), stored[:, h:].max(axis=0)])
        lows, highs = self.bounder.arrays(left[None], right[None], stored[None])
        if self.bounder.unstable(lows, highs, 1)[0] > self.leaf_neurons:
            return None
        self._alone.cost = np.concatenate([g, v])
        q = len(v)
        lower = np.concatenate([left, np.full(q, -np.inf)])
        upper = np.concatenate([right, np.full(q, np.inf)])
        mip = BoxMIP(self._alone, lower, upper, [a[0] for a in lows], [a[0] for a in highs])
        self.mips += 1
        answer = mip.solve(gap=0.5 * tolerance)
        return answer if answer.solved and math.isfinite(answer.bound) else None

    def _split(self, cells: np.ndarray, weights, low, high) -> np.ndarray:
        """Cut cells in two, new halves last; those that were wide enough."""
        if not len(cells):
            return cells
        lower, upper = self.lower[cells], self.upper[cells]
        scores = input_scores(lower, upper, self.steep[cells], weights)
        dim, point = choose_input(lower, upper, scores, self.integer)
        # A cell that sticks out of the box is cut at its side: what lies outside would
        # keep the planes loose.
        at = (np.arange(len(cells)), dim)
        whole = self.integer[dim].astype(float)
        above = (lower[at] < low[dim]) & (low[dim] < upper[at] + whole)
        below = (lower[at] - whole < high[dim]) & (high[dim] < upper[at])
        point = np.where(below, high[dim], point)
        point = np.where(above, low[dim] - whole, point)
        cells, point, dim = cells[dim >= 0], point[dim >= 0], dim[dim >= 0]
        if not len(cells):
            return cells
        each, n = np.arange(len(cells)), len(cells)
        first, second = self.upper[cells].copy(), self.lower[cells].copy()
        first[each, dim] = point
        second[each, dim] = np.where(self.integer[dim], point + 1.0, point)
        lower = np.concatenate([self.lower[cells], second])
        upper = np.concatenate([first, self.upper[cells]])
        planes = self.bounder(lower, upper, np.concatenate([self.stored[cells]] * 2))
        self.boxes += 2 * n
        self._place(lower, upper, planes, cells)
        return cells

    def _place(self, lower, upper, planes, cells: np.ndarray) -> None:
        """Write the first boxes over the cells given, the others behind the last."""
        fields = {
            "lower": lower,
            "upper": upper,
            "stored": planes.stored,
            "steep": planes.steep,
            "slopes": planes.slopes[:, 0],
            "consts": planes.consts[:, 0],
        }
        n, total = len(cells), self.count + len(lower) - len(cells)
        for name, new in fields.items():
            old = self._room.get(name, np.empty((0, *new.shape[1:])))
            if total > len(old):
                grown = np.empty((max(2 * len(old), total, 64), *new.shape[1:]))
                grown[: self.count] = old[: self.count]
                old = self._room[name] = grown
            old[cells] = new[:n]
            old[self.count : total] = new[n:]
            setattr(self, name, old[:total])
        self.count = total

    def _descend(self, x, g, v, low, high, steps: int = 12) -> np.ndarray:
        """Projected gradient descent from a few points."""
        width = high - low
        for k in range(steps):
            values = self.network.activations(x)
            slope = (backward(self.network, values, v) + g) * width
            norm = np.maximum(abs(slope).max(axis=1, keepdims=True), 1e-300)
            x = np.clip(x - 0.3 * 0.75**k * width * slope / norm, low, high)
        return x


def _alone(p: Problem, links, network, drivers, outputs) -> Problem:
    """A unit as a problem of its own: its columns, no rows, no cost yet."""
    n, q = len(drivers), len(outputs)
    columns = np.concatenate([drivers, p.n + outputs])
    return Problem(
        links, network, n, q, [p.columns[j] for j in columns], p.lower[columns],
        p.upper[columns], np.zeros(n + q), p.integer[columns], 0.0, 1.0, None,
        sp.csr_array((0, n + q)), np.zeros(0), np.zeros(0), np.eye(q),
        np.zeros(0, dtype=int), np.zeros(0), -1, 0.0, np.zeros(q, dtype=bool),
    )  # fmt: skip
