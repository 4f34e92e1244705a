r"""`lp`: the triangle relaxation of all layers below a neuron, solved for each of them.

One linear program for each layer stays in HiGHS; only its objective changes. What
HiGHS returns is not believed but certified (:mod:`pyomo_relu.programs.certificate`). A
solve that doesn't end optimal keeps the old bound. With ``cuts=``, rows that the optimum
violates are added in rounds; with ``parts=``, the rows of partitions are there from the
start.

Source: Ehlers, ATVA 2017 (the relaxation); Salman et al., arXiv 1902.08722.
"""

from __future__ import annotations

from concurrent.futures import Executor

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.base.progress import Interruptible
from pyomo_relu.bounds.array_model import ArrayModel
from pyomo_relu.bounds.bounds import Bounds
from pyomo_relu.bounds.crown import crown
from pyomo_relu.bounds.layers import (
    LayerTask,
    by_layers,
    solve_rows,
    usable,
)
from pyomo_relu.bounds.lp_cuts import Separator
from pyomo_relu.bounds.lp_parts import add_partitions
from pyomo_relu.bounds.parallel import built
from pyomo_relu.network import Network
from pyomo_relu.programs import Certifier, Rows

#: Relative gain of a bound below which a round of cuts was the last (chosen by hand).
LEAST_GAIN = 1e-6


class LayerLP:
    """The persistent linear program of one layer.

    Parameters
    ----------
    model : ArrayModel
    cuts : int
        The most rounds of cuts for each objective.
    """

    def __init__(self, model: ArrayModel, cuts: int = 0) -> None:
        self.model = model
        self.cuts = cuts
        self.separator = Separator(model) if cuts else None
        self.restart()

    def restart(self) -> None:
        """Forget basis and cuts: what follows doesn't depend on what came before.

        A new object: ``clearSolver`` leaves states behind that move last digits.
        """
        self.certify = Certifier(self.model.program)
        self.highs = self.model.in_highs(relaxed=True)
        self.highs.set(solver="simplex")
        self.point: np.ndarray | None = None

    def minimum(self, c: np.ndarray, seconds: float | None) -> float | None:
        """A certified lower bound of the minimum of ``c x``; None if there is none."""
        if not len(c):
            return 0.0
        if not self.model.n_rows:
            return self.certify.lower_bound(c, np.zeros(0))
        self.highs.set_costs(c)
        answer = self.highs.run(seconds)
        if not answer.optimal:
            self.highs.forget()
            return None
        self.point = answer.point
        assert answer.row_duals is not None  # an optimal linear program has some
        return self.certify.lower_bound(c, answer.row_duals)

    def tightest(self, c: np.ndarray, goal: float, deadline: Deadline) -> float | None:
        """As :meth:`minimum`, then with cuts at each optimum, which stay.

        Parameters
        ----------
        goal : float
            A bound beyond which to stop; NaN where there is none.
        deadline : Deadline
            When to stop.
        """
        best = self.minimum(c, deadline.limit)
        for _ in range(self.cuts if self.separator and self.separator.nodes else 0):
            if best is None or best > goal or deadline.expired():
                break
            # Without a separator there are no rounds, and each has an optimum behind it.
            assert self.separator is not None and self.point is not None
            rows = self.separator.separate(self.point)
            if rows is None:
                break
            self._add(rows)
            found = self.minimum(c, deadline.limit)
            if found is None:
                break
            gain, best = found - best, max(best, found)
            if gain <= LEAST_GAIN * (1.0 + abs(best)):
                break
        return best

    def _add(self, rows: Rows) -> None:
        self.highs.add_rows(rows.matrix, rows.lower, rows.upper)
        self.certify = Certifier(self.certify.program.with_rows(rows))


def lp_chunk(
    network: Network, token: str, task: LayerTask, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Bounds of some rows of a node, and the number of solves."""

    def build() -> LayerLP:
        model = ArrayModel(network, task.lows, task.highs, task.node, task.rows)
        if task.options.get("parts", 0) > 1:
            add_partitions(model, task.options["parts"])
        return LayerLP(model, task.options.get("cuts", 0))

    lp = built(token, build)
    lp.restart()

    def minimum(c: np.ndarray, goal: float) -> float | None:
        return lp.tightest(c, goal, task.deadline)

    return solve_rows(task, rows, lp.model.objective, minimum)


#: Rungs that already hold what ``crown`` would give.
AT_LEAST_CROWN = ("crown", "alpha_crown", "boxes", "lp", "rolling", "mip", "model")


def from_crown(
    network: Network, lower: np.ndarray, upper: np.ndarray, start: Bounds | None
) -> Bounds:
    """``start``, or what ``crown`` makes of it where it is weaker, on this box."""
    if usable(start, AT_LEAST_CROWN, lower, upper):
        assert start is not None
        return start
    return crown(network, lower, upper, start)


def lp(
    network: Network,
    lower: np.ndarray,
    upper: np.ndarray,
    start: Bounds | None = None,
    *,
    time_limit: float | None = None,
    executor: Executor | None = None,
    only_stability: bool = False,
    cuts: int = 0,
    parts: int = 1,
) -> Bounds:
    """Bounds by the triangle relaxation, certified by its duals.

    Parameters
    ----------
    network : Network
    lower, upper : (n_inputs,) arrays
    start : Bounds, optional
        Valid bounds to start from; ``crown`` otherwise.
    time_limit : float, optional
        Seconds for all solves; what isn't reached keeps its bounds.
    executor : concurrent.futures.Executor, optional
        Where to solve; here if left out.
    only_stability : bool
        Spend no solve on a neuron that samples show on both sides of its breakpoint.
    cuts : int
        The most rounds of cuts for each solve (:mod:`pyomo_relu.bounds.lp_cuts`): each
        unit's convex hull over the box of its inputs, where the triangle is larger.
    parts : int
        Over how many parts of its inputs each unit is relaxed
        (:mod:`pyomo_relu.bounds.lp_parts`): 1 is the triangle, more are tighter and
        cost more columns and rows.
    """
    for name, number, least in (("cuts", cuts, 0), ("parts", parts, 1)):
        if int(number) != number or number < least:
            raise ValueError(
                f"{name} must be a whole number of at least {least}, not {number}."
            )
    clock = Interruptible(time_limit)
    start = from_crown(network, lower, upper, start)
    options = {"only_stability": only_stability, "cuts": int(cuts), "parts": int(parts)}
    return by_layers(network, lower, upper, start, "lp", lp_chunk, clock, executor, options)
