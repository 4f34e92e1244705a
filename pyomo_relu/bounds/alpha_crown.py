"""`alpha_crown`: linear bounds with slopes optimized for every neuron's bound.

The slopes of :mod:`pyomo_relu.bounds.slopes` are ascended by
:mod:`pyomo_relu.bounds.ascent`; the bound of the best ones is then computed anew with its
rounding error. With the same bounds of the layers below, the optimum is the triangle LP's
(Salman et al., arXiv 1902.08722). In a chain of ReLU layers the neurons that are never
active are left out of all passes.

Source: Xu et al., arXiv 2011.13824 (alpha-CROWN).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pyomo_relu.base.progress import Interruptible, progress
from pyomo_relu.bounds.ascent import Pace
from pyomo_relu.bounds.backward import Backward
from pyomo_relu.bounds.bounds import Bounds, as_bounds
from pyomo_relu.bounds.chain import ancestors, is_relu_chain, without_inactive
from pyomo_relu.bounds.crown import CHUNK, needed_rows, query, signed_rows
from pyomo_relu.bounds.interval import meet, propagate, reads_inputs_only
from pyomo_relu.bounds.linear import RULES
from pyomo_relu.bounds.slopes import SlopeProblems
from pyomo_relu.network import Network, PiecewiseLinear, Smooth


@dataclass(frozen=True)
class Settings:
    """What steers the search for slopes of every neuron's bound.

    Attributes
    ----------
    pace : Pace
        What steers the ascent; its rate is a share of the range of a slope. Chosen by hand.
    last : float
        The last step of an ascent has shrunk to this share of the first, however many
        steps there are. Chosen by hand.
    steps, steps_per_layer : int
        An ascent has so many steps, and so many more for each layer of units below: deep
        queries take longer to settle (docs/benchmarks/bounds.md).
    """

    pace: Pace = Pace(rates=(0.7,), shrink=1.0, look=5, stall=1e-5)
    last: float = 0.04
    steps: int = 10
    steps_per_layer: int = 20


SETTINGS = Settings()


class Optimizer:
    """Optimizes the slopes of queries on one node after the other, over one box.

    Parameters
    ----------
    engine : Backward
        Over the box, with bounds of the nodes so far.
    lower, upper : (1, n_inputs) arrays
    steps : int or None
        How many steps each ascent has; None for what :class:`Settings` says.
    rate : float
        The length of the first steps, as a share of the range of a slope.
    clock : Interruptible
    """

    def __init__(
        self,
        engine: Backward,
        lower: np.ndarray,
        upper: np.ndarray,
        steps: int | None,
        rate: float,
        clock: Interruptible,
    ) -> None:
        self.engine, self.network = engine, engine.network
        self.lower, self.upper = lower, upper
        self.steps, self.rate, self.clock = steps, rate, clock
        self._problems: tuple[int, SlopeProblems] | None = None

    def problems(self, i: int) -> SlopeProblems:
        """The slopes of queries on node ``i``; a chain is cut to its active part first."""
        if self._problems is None or self._problems[0] != i:
            engine, target = self.engine, i
            if is_relu_chain(self.network, i):
                low, high = ([a[0] for a in v] for v in (engine.lows, engine.highs))
                part, *ranges = without_inactive(self.network, low, high, i)
                own = engine.slices[ancestors(self.network, i)[0]]
                engine = Backward(
                    part,
                    self.lower[:, own],
                    self.upper[:, own],
                    *([a[None] for a in side] for side in ranges),
                )
                target = len(part.nodes) - 1
            self._problems = i, SlopeProblems(engine, target)
        return self._problems[1]

    def maximize(
        self, i: int, rows: np.ndarray, rules: np.ndarray, goal: np.ndarray
    ) -> np.ndarray:
        """The best lower bounds of queries on node ``i`` that some steps find.

        Parameters
        ----------
        rows : (q, size) array
            Coefficients of each query.
        rules : (q,) array of str
            The rule whose slopes each query starts from.
        goal : (q,) array
            A bound from which on the query is decided; infinite where there is none.
        """
        problems = self.problems(i)
        steps = self.steps
        if steps is None:
            units = sum(
                isinstance(problems.engine.network.nodes[j], (PiecewiseLinear, Smooth))
                for j in problems.above
            )
            steps = SETTINGS.steps + SETTINGS.steps_per_layer * units
        pace = replace(
            SETTINGS.pace, rates=(self.rate,), shrink=SETTINGS.last ** (1.0 / max(steps, 1))
        )
        relaxed = problems.best(rows, rules, steps, pace, goal, self.clock)
        found = problems.engine.run(problems.target, rows[:, None, :], relaxed)
        return problems.engine.lower_bound(*found)[:, 0]

    def tighten(self, i: int, low: np.ndarray, high: np.ndarray) -> None:
        """Tighten the ranges (1, size) of an affine node, in place."""
        readers = self.network.readers()[i]
        rows = needed_rows(self.network, i, readers, low, high)
        if not len(rows):
            return
        sides = []
        for rule in RULES:
            a, b = query(self.engine, i, rows, rule)
            low[:, rows], high[:, rows] = meet(low[:, rows], high[:, rows], a, b)
            sides.append(np.concatenate([a[0], -b[0]]))
        best = np.asarray(RULES)[np.argmax(sides, axis=0)]
        t = threshold(self.network, i, readers)[rows]
        # An entry without a threshold (NaN) is never decided: no bound is tight enough.
        left = np.isnan(t) | ((low[0, rows] < t) & (t <= high[0, rows]))
        goal = np.concatenate([t, -t])
        goal[np.isnan(goal)] = np.inf
        every, signed = np.concatenate([rows, rows]), signed_rows(rows, self.engine, i)
        queries = np.flatnonzero(np.concatenate([left, left]))
        widest = max(n.size for n in self.network.nodes[: i + 1])
        step = max(1, CHUNK // (4 * widest))
        for k in range(0, len(queries), step):
            if self.clock.expired():
                return
            some = queries[k : k + step]
            found = self.maximize(i, signed[some], best[some], goal[some])
            for upper, row, value in zip(some >= len(rows), every[some], found):
                if upper:
                    high[0, row] = max(low[0, row], min(high[0, row], -value))
                else:
                    low[0, row] = min(high[0, row], max(low[0, row], value))


def threshold(network: Network, i: int, readers: list[int]) -> np.ndarray:
    """The one breakpoint of each entry's only reader; NaN where there is no such.

    An entry that is known to lie on one side of it is decided: no tighter range matters.
    """
    none = np.full(network.nodes[i].size, np.nan)
    if i in network.outputs or len(readers) != 1:
        return none
    node = network.nodes[readers[0]]
    if not isinstance(node, PiecewiseLinear) or node.breakpoints.shape[1] != 1:
        return none
    return np.array(node.breakpoints[:, 0])


def alpha_crown(
    network: Network,
    lower: np.ndarray,
    upper: np.ndarray,
    start: Bounds | None = None,
    *,
    iterations: int | None = None,
    rate: float = SETTINGS.pace.rates[0],
    time_limit: float | None = None,
    first: int = 0,
) -> Bounds:
    """Bounds by backward linear propagation with optimized slopes.

    Parameters
    ----------
    network : Network
    lower, upper : (n_inputs,) arrays
    start : Bounds, optional
        Valid bounds to start from.
    iterations : int, optional
        How many steps each neuron's bound has at most; what :class:`Settings` says for the
        layers below it if left out.
    rate : float
        The length of the first steps, as a share of the range of a slope.
    time_limit : float, optional
        Seconds; the layers that are left get the bounds of ``crown``.
    first : int
        The first node to ask about; those before keep the bounds of ``start``, where
        interval arithmetic isn't tighter.
    """
    clock = Interruptible(time_limit)
    lower, upper = lower[None], upper[None]
    lows: list[np.ndarray] = []
    highs: list[np.ndarray] = []
    engine = Backward(network, lower, upper, lows, highs)
    optimizer = Optimizer(engine, lower, upper, iterations, rate, clock)
    with progress(len(network.nodes), "alpha_crown", "layer") as bar:

        def ask(i: int, low: np.ndarray, high: np.ndarray) -> None:
            if i >= first and not reads_inputs_only(network, i):
                with clock.guard():
                    optimizer.tighten(i, low, high)
            bar.update(i - bar.n)

        given = None if start is None else (start.lower, start.upper)
        propagate(network, lower, upper, ask, start=given, lows=lows, highs=highs)
    return as_bounds(network, lows, highs, "alpha_crown", clock, start, **clock.details())
