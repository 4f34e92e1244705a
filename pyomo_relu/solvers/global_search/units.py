"""Independent units: groups of drivers that no network connects, with their cells.

Plants are made of units that share a utility or a product, not inputs. Each unit then
keeps a partition of its own few inputs, and what is known of a cell serves every node
of the tree and every price of the shared resource.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyomo_relu.network.gradient import backward
from pyomo_relu.solvers.global_search.branching import choose_input, input_scores
from pyomo_relu.solvers.global_search.compose import compose
from pyomo_relu.solvers.global_search.node_bounds import NodeBounds
from pyomo_relu.solvers.global_search.problem import Problem

#: Cells that one step of the pricing splits.
SPLITS = 48
#: Points kept for each unit.
POINTS = 400


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
    x: np.ndarray
    y: np.ndarray


class Unit:
    """One unit with its partition.

    Attributes
    ----------
    drivers, outputs : int arrays
        Its columns of the problem; outputs count from the first output column.
    lower, upper : (C, n) arrays
        The cells.
    slopes, consts : (C, S, n), (C, S) arrays
        For each output a plane below it, then one below its negative.
    x, y : (P, n), (P, q) arrays
        Points at which the networks were evaluated.
    """

    def __init__(self, p: Problem, drivers: np.ndarray, outputs: np.ndarray) -> None:
        self.drivers, self.outputs = drivers, outputs
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
        self.lower, self.upper = self.low[None].copy(), self.high[None].copy()
        self._keep(planes)
        self.x = np.zeros((0, len(drivers)))
        self.y = np.zeros((0, q))
        self.boxes = 1
        self.add_points(0.5 * (self.low + self.high)[None])

    def _keep(self, planes) -> None:
        self.stored, self.steep = planes.stored, planes.steep
        self.slopes, self.consts = planes.slopes[:, 0], planes.consts[:, 0]

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
        for step in range(rounds):
            a = g + np.tensordot(self.slopes, weights, axes=(1, 0))
            c = self.consts @ weights
            left, right = np.maximum(self.lower, low), np.minimum(self.upper, high)
            here = (left <= right).all(axis=1)
            corner = np.where(a > 0, left, right)
            terms = a * corner
            size = (
                abs(terms).sum(axis=1) + abs(self.consts) @ weights + abs(corner) @ abs(g)
            )
            value = terms.sum(axis=1) + c - 1e-13 * size
            value[~here] = np.inf
            order = np.argsort(value, kind="stable")[:SPLITS]
            order = order[value[order] < best - tolerance]
            met(corner[order] if len(order) else corner[[int(np.argmin(value))]])
            if step == 0 and len(order):
                met(self._descend(corner[order[:8]], g, v, low, high))
            order = order[value[order] < best - tolerance]
            if not len(order) or not self._split(order, weights, low, high):
                break
        else:
            value = self._values(g, weights, low, high)
        return Priced(float(value.min()), best, x, y)

    def _values(self, g, weights, low, high) -> np.ndarray:
        a = g + np.tensordot(self.slopes, weights, axes=(1, 0))
        left, right = np.maximum(self.lower, low), np.minimum(self.upper, high)
        corner = np.where(a > 0, left, right)
        size = abs(a * corner).sum(axis=1) + abs(self.consts) @ weights
        size = size + abs(corner) @ abs(g)
        value = (a * corner).sum(axis=1) + self.consts @ weights - 1e-13 * size
        return np.where((left <= right).all(axis=1), value, np.inf)

    def _split(self, cells: np.ndarray, weights, low, high) -> bool:
        """Cut cells in two; whether one was wide enough."""
        # Cut where the cell meets the box that is asked about.
        left = np.maximum(self.lower[cells], low)
        right = np.minimum(self.upper[cells], high)
        scores = input_scores(left, right, self.steep[cells], weights)
        dim, point = choose_input(left, right, scores, self.integer)
        cells, point, dim = cells[dim >= 0], point[dim >= 0], dim[dim >= 0]
        if not len(cells):
            return False
        each = np.arange(len(cells))
        first, second = self.upper[cells].copy(), self.lower[cells].copy()
        first[each, dim] = point
        second[each, dim] = np.where(self.integer[dim], point + 1.0, point)
        lower = np.concatenate([self.lower[cells], second])
        upper = np.concatenate([first, self.upper[cells]])
        stored = np.concatenate([self.stored[cells]] * 2)
        planes = self.bounder(lower, upper, stored)
        self.boxes += len(lower)
        n = len(cells)
        for name, new in (
            ("lower", lower),
            ("upper", upper),
            ("stored", planes.stored),
            ("steep", planes.steep),
            ("slopes", planes.slopes[:, 0]),
            ("consts", planes.consts[:, 0]),
        ):
            old = getattr(self, name)
            old[cells] = new[:n]
            setattr(self, name, np.concatenate([old, new[n:]]))
        return True

    def _descend(self, x, g, v, low, high, steps: int = 12) -> np.ndarray:
        """Projected gradient descent from a few points."""
        width = high - low
        for k in range(steps):
            values = self.network.activations(x)
            slope = (backward(self.network, values, v) + g) * width
            norm = np.maximum(abs(slope).max(axis=1, keepdims=True), 1e-300)
            x = np.clip(x - 0.3 * 0.75**k * width * slope / norm, low, high)
        return x
