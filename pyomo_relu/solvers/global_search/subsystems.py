"""Independent subsystems: groups of drivers that no network connects, with their cells.

Plants are made of subsystems that share a utility or a product, not inputs. Each then
keeps a partition of its own few inputs, and what is known of a cell serves every box
of the search and every price of the shared resource.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.bounds.box_bounds import BoxBounds
from pyomo_relu.bounds.pool import Pool, halves
from pyomo_relu.network import Network
from pyomo_relu.presolve.compose import BlockLinks, compose
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.solvers.global_search.branching import choose_input, input_scores
from pyomo_relu.solvers.global_search.incumbent import descend
from pyomo_relu.solvers.global_search.mip import BoxMIP
from pyomo_relu.solvers.global_search.settings import CELLS, PRICES


def connected(count: int, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """The number of the group of each of ``count`` things, given which are connected."""
    from scipy.sparse.csgraph import connected_components

    ends = np.array(list(pairs), dtype=int).reshape(-1, 2)
    graph = sp.coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), (count, count))
    return connected_components(graph, directed=False)[1]


def find_subsystems(p: Problem) -> list[tuple[np.ndarray, np.ndarray]]:
    """The driver and output columns of each subsystem, as (drivers, outputs) numbers."""
    owner = {id(v): j for j, v in enumerate(p.columns[: p.n])}
    of_output = {id(v): j for j, v in enumerate(p.columns[p.n : p.n + p.q])}
    pairs, outputs = [], {}
    # Drivers come first, then the links; a variable belongs to what determines it.
    for k, link in enumerate(p.links, start=p.n):
        keys = [key for one in link.inputs for key in one.terms]
        pairs += [(owner[key], k) for key in keys]
        for v in link.outputs if keys else ():
            owner.setdefault(id(v), k)
            if id(v) in of_output:
                outputs[of_output[id(v)]] = k
    group = connected(p.n + len(p.links), pairs)
    found: dict[int, tuple[list[int], list[int]]] = {}
    for j in range(p.n):
        found.setdefault(group[j], ([], []))[0].append(j)
    for j in sorted(outputs):
        found[group[outputs[j]]][1].append(j)
    return [(np.array(a), np.array(b)) for a, b in found.values() if b]


def links_of(
    p: Problem, groups: Sequence[tuple[np.ndarray, np.ndarray]]
) -> list[list[BlockLinks]]:
    """The blocks of each of :func:`find_subsystems`."""
    owner = {id(p.columns[j]): k for k, (own, _) in enumerate(groups) for j in own.tolist()}
    found: list[list[BlockLinks]] = [[] for _ in groups]
    for link in p.links:
        keys = (key for one in link.inputs for key in one.terms)
        k = next((owner[key] for key in keys if key in owner), None)
        if k is not None:
            found[k].append(link)
            for v in link.outputs:
                owner.setdefault(id(v), k)
    return found


@dataclass(frozen=True)
class Prices:
    """What a subsystem minimizes, ``g x + v y`` over the box ``[low, high]``.

    Attributes
    ----------
    g, v : (n,), (q,) arrays
    low, high : (n,) arrays
    """

    g: np.ndarray
    v: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        """How much each plane counts: those below the outputs, then their negatives'."""
        return np.concatenate([np.maximum(self.v, 0.0), np.maximum(-self.v, 0.0)])


@dataclass
class Priced:
    """A valid lower bound of the minimum, and the best point met."""

    bound: float = -math.inf
    value: float = math.inf
    x: np.ndarray | None = None
    y: np.ndarray | None = None


@dataclass
class OpenCells:
    """Cells that a pricing may cut.

    Attributes
    ----------
    which : int array
        Their numbers among all cells.
    cells : Pool
        Copies of them.
    best : Priced
        The best point known, without a bound.
    others : float
        The least bound of all other cells.
    """

    which: np.ndarray
    cells: Pool
    best: Priced
    others: float


class Subsystem(ABC):
    """One subsystem: its points, and the least cost for prices.

    Parameters
    ----------
    p : Problem
    drivers, outputs : int arrays
        Its columns of the problem; outputs count from the first output column.
    links : sequence of BlockLinks
        Its blocks, each after those it reads.

    Attributes
    ----------
    network : Network
        From the drivers to the outputs.
    x, y : (P, n), (P, q) arrays
        Points at which the networks were evaluated.
    boxes, mips : int
        Cells that were bounded, and small MIPs.
    """

    boxes, mips = 0, 0

    #: Asked within a pricing; true ends it.
    stop: Callable[[], bool] = bool

    def __init__(
        self,
        p: Problem,
        drivers: np.ndarray,
        outputs: np.ndarray,
        links: Sequence[BlockLinks],
    ) -> None:
        self.drivers, self.outputs = drivers, outputs
        columns = [p.columns[j] for j in drivers]
        wanted = [p.columns[p.n + j] for j in outputs]
        n, q = len(columns), len(wanted)
        self.network = compose(links, columns, wanted, sp.eye_array(q, format="csr"))
        self.integer = p.integer[drivers]
        self.low, self.high = p.lower[drivers], p.upper[drivers]
        self.x, self.y = np.zeros((0, n)), np.zeros((0, q))

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

    def add_random_points(self, rng: np.random.Generator) -> None:
        """Keep points to begin with, where others are of use."""
        more = rng.random((PRICES.points, len(self.low)))
        self.add_points(self.low + more * (self.high - self.low))

    def inside(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Numbers of the points in a box."""
        return np.flatnonzero(((self.x >= low) & (self.x <= high)).all(axis=1))

    # ---------------------------------------------------------------------- pricing
    @abstractmethod
    def price(self, prices: Prices, tolerance: float) -> Priced:
        """Bound the minimum, and find a point.

        Parameters
        ----------
        prices : Prices
        tolerance : float
            How far the bound may stay below the best point.
        """

    def _meet(self, best: Priced, prices: Prices, points: np.ndarray) -> None:
        """Evaluate the networks at points; changes ``best`` where one is better."""
        points = np.where(self.integer, np.round(points), points)
        out = self.evaluate(points)
        costs = points @ prices.g + out @ prices.v
        k = int(np.argmin(costs))
        if costs[k] < best.value:
            best.value, best.x, best.y = float(costs[k]), points[k], out[k]


class CellSubsystem(Subsystem):
    """A subsystem with a partition of its inputs.

    Attributes
    ----------
    leaf_neurons : int
        What is left of a pricing goes to a small MIP where it has at most so many undecided
        neurons.
    cells : Pool
        The partition. ``lower``, ``upper``, and ``stored``, ``steep`` as in
        :class:`~pyomo_relu.bounds.box_bounds.SidePlanes`; ``slopes`` (2 q, n)
        and ``consts`` (2 q) of a plane below each output, then one below its negative;
        ``bound`` and ``corner`` are of the last prices.
    """

    def __init__(
        self,
        p: Problem,
        drivers: np.ndarray,
        outputs: np.ndarray,
        links: Sequence[BlockLinks],
        leaf_neurons: int,
    ) -> None:
        super().__init__(p, drivers, outputs, links)
        self.leaf_neurons = leaf_neurons
        n, q = len(drivers), len(outputs)
        self._alone = _alone(p, self.network, drivers, outputs)
        sides = [(j, sign) for sign in (1.0, -1.0) for j in range(q)]
        self.bounder = BoxBounds(self.network, sides)
        planes, h = (2 * q, n), self.bounder.inherited.width
        self.cells = Pool(
            lower=n, upper=n, stored=2 * h, steep=planes, slopes=planes, consts=2 * q,
            corner=n,
        )  # fmt: skip
        anything = Prices(np.zeros(n), np.zeros(q), self.low, self.high)
        none = np.zeros(0, dtype=int)
        start = self.bounder.inherited.start()
        self._place(none, self.low[None], self.high[None], start, anything)
        #: What is known of neurons over all cells.
        self._everywhere = self.cells["stored"].copy()
        self.add_points(0.5 * (self.low + self.high)[None])

    # ---------------------------------------------------------------------- pricing
    def price(self, prices: Prices, tolerance: float) -> Priced:
        """Cut cells until the bound is tight, or so often; it is valid whenever that ends."""
        work = self.open_cells(prices, tolerance)
        whole, self.cells = self.cells, work.cells
        try:
            priced = self.price_open(work.best, prices, tolerance)
        finally:
            self.cells = whole
            self.put_back(work, work.cells)
        priced.bound = min(priced.bound, work.others)
        return priced

    def open_cells(self, prices: Prices, tolerance: float) -> OpenCells:
        """The cells that a pricing may cut, with what is known of the others."""
        cells, best = self.cells, self.known(prices)
        bound, corner = self._values(cells, prices)
        cells["bound"][:], cells["corner"][:] = bound, corner
        is_open = bound < best.value - tolerance
        if not is_open.any():
            is_open[cells.least(1)] = True
        which = np.flatnonzero(is_open)
        others = float(bound[~is_open].min(initial=math.inf))
        return OpenCells(which, cells.part(which), best, others)

    def put_back(self, work: OpenCells, cells: Pool) -> None:
        """Let what became of open cells stand in for them."""
        self.cells.replace(work.which, **cells.arrays())

    def price_open(self, best: Priced, prices: Prices, tolerance: float) -> Priced:
        """A pricing with open cells only, and with the best point known."""
        cells = self.cells
        for step in range(CELLS.rounds):
            order = cells.least(CELLS.cells)
            worst = order[cells["bound"][order] < best.value - tolerance]
            corner = cells["corner"]
            self._meet(best, prices, corner[worst if len(worst) else order[:1]])
            if step == 0 and len(worst):
                first = corner[worst[: CELLS.starts]]
                self._meet(best, prices, self._descend(first, prices))
            worst = worst[cells["bound"][worst] < best.value - tolerance]
            if self.stop():
                break
            if not len(worst) or self._finished(step, best, prices, tolerance):
                break
            if not self._split(worst, prices):
                break
        best.bound = float(cells["bound"].min())
        return best

    def known(self, prices: Prices) -> Priced:
        """The best point of those there are in the box; its middle if there is none."""
        best, known = Priced(), self.inside(prices.low, prices.high)
        if len(known):
            costs = self.x[known] @ prices.g + self.y[known] @ prices.v
            k = known[int(np.argmin(costs))]
            best.value, best.x, best.y = float(costs.min()), self.x[k], self.y[k]
        else:
            self._meet(best, prices, 0.5 * (prices.low + prices.high)[None])
        return best

    def _values(
        self, cells: Mapping[str, np.ndarray] | Pool, prices: Prices
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lower bounds of cells within the box, and the corners that attain them."""
        g, weights, low, high = prices.g, prices.weights, prices.low, prices.high
        consts = cells["consts"]
        a = g + np.tensordot(cells["slopes"], weights, axes=(1, 0))
        left = np.maximum(cells["lower"], low)
        right = np.minimum(cells["upper"], high)
        corner = np.where(a > 0, left, right)
        terms = a * corner
        size = abs(terms).sum(axis=1) + abs(consts) @ weights + abs(corner) @ abs(g)
        value = terms.sum(axis=1) + consts @ weights - CELLS.margin * size
        # A cell that only touches the box is not needed: its neighbour has that face.
        touching = (left == right) & (low < high) & ~self.integer
        here = (left <= right) & ~touching
        return np.where(here.all(axis=1), value, np.inf), corner

    def _finished(self, step: int, best: Priced, prices: Prices, tolerance: float) -> bool:
        """Whether a MIP over the hull of the open cells ended the pricing.

        Where the least cost is taken on a whole face of the function, cells along its
        edges would have to be as narrow as the tolerance. The MIP is for few cells, or
        asked once; and for few undecided neurons.
        """
        late = step - CELLS.patience
        if late < 0 or late % 2:
            return False
        cells = self.cells
        open_ = np.flatnonzero(cells["bound"] < best.value - tolerance)
        if late and len(open_) > CELLS.cells:
            return False
        left = np.maximum(cells["lower"][open_].min(axis=0), prices.low)
        right = np.minimum(cells["upper"][open_].max(axis=0), prices.high)
        lows, highs = self.bounder.arrays(left[None], right[None], self._everywhere)
        if self.bounder.unstable(lows, highs, 1)[0] > self.leaf_neurons:
            return False
        self._alone.cost = np.concatenate([prices.g, prices.v])
        free = np.full(len(prices.v), np.inf)
        lower, upper = np.append(left, -free), np.append(right, free)
        mip = BoxMIP(self._alone, lower, upper, [a[0] for a in lows], [a[0] for a in highs])
        self.mips += 1
        answer = mip.solve(gap=CELLS.mip_gap * tolerance, stop=self.stop)
        if not (answer.solved and math.isfinite(answer.bound)):
            return False
        if answer.point is not None:
            self._meet(best, prices, answer.point[None, : len(self.drivers)])
        cells["bound"][open_] = np.maximum(cells["bound"][open_], answer.bound)
        return True

    def _split(self, which: np.ndarray, prices: Prices) -> bool:
        """Cut cells in two; whether any was wide enough."""
        cells, low, high = self.cells, prices.low, prices.high
        lower, upper = cells["lower"][which], cells["upper"][which]
        scores = input_scores(lower, upper, cells["steep"][which], prices.weights)
        dim, point = choose_input(lower, upper, scores, self.integer)
        # A cell that sticks out of the box is cut at its side: what lies outside would
        # keep the planes loose.
        at = (np.arange(len(which)), dim)
        step = self.integer[dim].astype(float)
        above = (lower[at] < low[dim]) & (low[dim] < upper[at] + step)
        below = (lower[at] - step < high[dim]) & (high[dim] < upper[at])
        point = np.where(below, high[dim], point)
        point = np.where(above, low[dim] - step, point)
        wide = dim >= 0
        which, dim, point = which[wide], dim[wide], point[wide]
        new = halves(lower[wide], upper[wide], dim, point, self.integer[dim])
        stored = np.concatenate([cells["stored"][which]] * 2)
        if len(which):
            self._place(which, *new, stored, prices)
        return len(which) > 0

    def _place(
        self,
        which: np.ndarray,
        lower: np.ndarray,
        upper: np.ndarray,
        stored: np.ndarray,
        prices: Prices,
    ) -> None:
        """Bound cells, and write them in place of their parents."""
        planes = self.bounder(lower, upper, stored)
        self.boxes += len(lower)
        new = {
            "lower": lower,
            "upper": upper,
            "stored": planes.stored,
            "steep": planes.steep,
            "slopes": planes.slopes[:, 0],
            "consts": planes.consts[:, 0],
        }
        bound, corner = self._values(new, prices)
        self.cells.replace(which, bound=bound, corner=corner, **new)

    def _descend(self, x: np.ndarray, prices: Prices) -> np.ndarray:
        """Projected gradient descent from a few points."""
        for k in range(CELLS.steps):
            length = CELLS.first_step * CELLS.shrink**k
            x = descend(
                self.network, x, prices.v, prices.g, prices.low, prices.high, length
            )
        return x


def _alone(
    p: Problem, network: Network, drivers: np.ndarray, outputs: np.ndarray
) -> Problem:
    """A subsystem as a problem of its own: its columns, no rows, no cost yet.

    Nothing of it belongs to the user's model, so that it can go to another process.
    """
    n, q = len(drivers), len(outputs)
    columns = np.concatenate([drivers, p.n + outputs])
    return Problem(
        cost=np.zeros(n + q), lower=p.lower[columns], upper=p.upper[columns],
        matrix=sp.csr_array((0, n + q)), row_lower=np.zeros(0), row_upper=np.zeros(0),
        integer=p.integer[columns], links=[], n=n, q=q,
        columns=list(range(n + q)), bounded=np.zeros(q, dtype=bool),
        network=network, queries=sp.eye_array(q, format="csr"),
    )  # fmt: skip
