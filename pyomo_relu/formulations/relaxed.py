"""The LP relaxation of a network block or of its model, solved again and again.

The components stay where they are: while the context is open the integer variables are
continuous, and afterwards everything is as it was, values included.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any

import pyomo.environ as pyo
from pyomo.common.modeling import unique_component_name
from pyomo.core.expr.visitor import identify_variables

from pyomo_relu.base.deadline import Deadline

logger = logging.getLogger(__name__)


class RelaxedSolver:
    """Context in which a block, or its model, is relaxed.

    Parameters
    ----------
    block : ReLUNetBlockData
    scope : {'network', 'model'}
        What is solved. A model needs one active objective; without one the network
        alone is taken, and a warning says so.
    solver : str
        Pyomo solver; a persistent one is used as such.
    time_limit : float, optional
        Seconds from when the context is opened; no limit if left out.
    """

    def __init__(
        self, block: Any, scope: str, solver: str, time_limit: float | None = None
    ) -> None:
        self.block, self.scope, self.solver = block, scope, pyo.SolverFactory(solver)
        self.deadline = Deadline(time_limit)
        self.target = block
        self.goal: Any = None
        if scope == "model":
            model = block.model()
            active = list(model.component_data_objects(pyo.Objective, active=True))
            if not _is_solved(block):
                logger.warning(
                    "%s: scope='model', but no solver of the model sees the block, which "
                    "is inactive or in a Disjunct; the network alone was relaxed.",
                    block.name,
                )
            elif len(active) == 1:
                self.target, self.goal = model, active[0]
            else:
                logger.warning(
                    "%s: scope='model' needs one active objective, there are %d; the "
                    "network alone was relaxed. Declare it, then call reformulate().",
                    block.name,
                    len(active),
                )

    def __enter__(self) -> RelaxedSolver:
        seen: dict[int, Any] = {}
        for c in self.target.component_data_objects(
            (pyo.Constraint, pyo.Objective), active=True
        ):
            # A constraint's body would turn a lazy row into expressions for good.
            found = c.expr if c.ctype is pyo.Objective else c.to_bounded_expression()[1]
            for v in identify_variables(found):
                seen[id(v)] = v
        self.saved = [(v, v.value, v.stale) for v in seen.values()]
        self.integers = [
            (v, v.domain, v.lower, v.upper) for v in seen.values() if not v.is_continuous()
        ]
        for v, _, _, _ in self.integers:
            low, high = v.bounds
            v.domain = pyo.Reals
            v.setlb(low)
            v.setub(high)
        self.own = None
        if self.goal is None:
            self.others = list(
                self.block.component_data_objects(pyo.Objective, active=True)
            )
            for o in self.others:
                o.deactivate()
            name = unique_component_name(self.block, "relaxed_objective")
            self.block.add_component(name, pyo.Objective(expr=0.0))
            self.own = self.block.component(name)
        return self

    def __exit__(self, *error: Any) -> None:
        if self.own is not None:
            self.block.del_component(self.own)
            for o in self.others:
                o.activate()
        for v, domain, low, high in self.integers:
            v.domain = domain
            v.setlb(low)
            v.setub(high)
        for v, number, stale in self.saved:
            v.set_value(number, skip_validation=True)
            v.stale = stale

    @property
    def out_of_time(self) -> bool:
        """Whether the time limit is reached."""
        return self.deadline.expired()

    def _limit(self) -> dict[str, Any]:
        """What is left of the time, as a keyword of ``solve``."""
        if self.deadline.limit is None:
            return {}
        left = max(1, math.ceil(self.deadline.left()))  # glpsol takes integers
        # HiGHS compares its limit with the time of all runs of one instance.
        runs = getattr(getattr(self.solver, "_solver_model", None), "getRunTime", None)
        return {"timelimit": left if runs is None else left + runs()}

    def objectives(self) -> Iterator[Any]:
        """The model's own (None), or each output with either sense."""
        if self.goal is not None:
            yield None
            return
        for y in self.block.component("outputs").values():
            yield y, pyo.minimize
            yield y, pyo.maximize

    def solve(self, objective: Any) -> bool:
        """Solve for one of :meth:`objectives`; False, and a warning, if it fails.

        False without one when time is up.
        """
        if self.out_of_time:
            return False
        if objective is not None:
            assert self.own is not None  # the model has no goal of its own
            self.own.set_value(objective[0])
            self.own.sense = objective[1]
        try:
            results = self.solver.solve(self.target, **self._limit())
            good = pyo.check_optimal_termination(results)
            why = str(results.solver.termination_condition)
            if self.deadline.limit is not None and why == "maxTimeLimit":
                self.deadline = Deadline(0.0)
        except Exception as e:  # whatever a solver makes of the user's model
            good, why = False, f"{type(e).__name__}: {e}"
        if not good and not self.out_of_time:
            logger.warning(
                "%s: the relaxation was not solved (%s); no more cuts are added.",
                self.block.name,
                why,
            )
        return good


def _is_solved(block: Any) -> bool:
    """Whether a solver of the model reads the rows of a block."""
    while block is not None:
        if not block.active or block.ctype is not pyo.Block:
            return False
        block = block.parent_block()
    return True
