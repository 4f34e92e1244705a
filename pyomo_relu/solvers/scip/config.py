"""Options of ``relu_scip``."""

from __future__ import annotations

from typing import Any

from pyomo.common.config import NonNegativeFloat, NonNegativeInt

from pyomo_relu.solvers.options import NetworkSolverConfig, start_choice
from pyomo_relu.solvers.scip.settings import POINTS, SCIP


class ReluScipConfig(NetworkSolverConfig):
    """Configuration of ``relu_scip`` besides Pyomo's own.

    Attributes
    ----------
    rel_gap, abs_gap : float
        The search ends when the bound is within either of the best point, the first one
        relative to the objective.
    time_limit : float
        Seconds.
    node_limit : int
        Nodes of SCIP's tree at most.
    start : 'auto' or None
        With 'auto', programs with the networks made linear look for points, before SCIP
        begins and within its tree.
    start_time : float
        CPU seconds that may take before SCIP begins; never more than a tenth of the time
        limit.
    seed : int
        Of that search.
    warmstart : bool
        Offer the variables' present values as the first point.
    progress : callable, optional
        Called with a :class:`~pyomo_relu.solvers.watch.Progress` at each better point and
        every now and then; a true return value ends the search with its best point.
    solver_options : dict
        SCIP's own parameters, by their names (``{"limits/memory": 4000}``).
    """

    solver = "relu_scip"

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.rel_gap, self.abs_gap = SCIP.rel_gap, SCIP.abs_gap
        self.add("node_limit", None, NonNegativeInt, "nodes at most")
        self.add("start", "auto", start_choice, "'auto' or None")
        self.add("start_time", POINTS.start_time, NonNegativeFloat, "CPU seconds")
        self.add("seed", 0, NonNegativeInt, "of the search for points")
