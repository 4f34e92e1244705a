"""Options of ``relu_global``."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

from pyomo.common.config import Bool, NonNegativeInt, PositiveInt

from pyomo_relu.solvers.global_search.limits import DEFAULTS
from pyomo_relu.solvers.options import NetworkSolverConfig


def executor_of(given: Any) -> Executor | None:
    if given is None or hasattr(given, "submit"):
        return given
    raise ValueError(
        f"executor= takes a concurrent.futures.Executor, not {type(given).__name__}."
    )


class SearchConfig(NetworkSolverConfig):
    """What all solvers take whose searches are those of :mod:`.global_search`."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.rel_gap, self.abs_gap = DEFAULTS.rel_gap, DEFAULTS.abs_gap
        self.add("seed", DEFAULTS.seed, NonNegativeInt, "of the searches for points")
        self.add("executor", None, executor_of, "parallel work")


class ReluGlobalConfig(SearchConfig):
    """Configuration of ``relu_global`` besides Pyomo's own.

    Attributes
    ----------
    rel_gap, abs_gap : float
        The search ends when the bound is within either of the incumbent, the first one
        relative to the objective.
    time_limit : float
        Seconds.
    node_limit : int
        Boxes bounded at most.
    batch_size : int
        Boxes split in a round; more suit many cheap boxes, and many workers. Rounds of
        sides of neurons widen with it.
    leaf_neurons : int
        A box with at most so many undecided neurons goes to a small MIP.
    hand_over : bool
        Whether sides of neurons and a MIP of the whole may take part, by turns, and
        what has too many inputs for boxes goes to the MIP at once.
    seed : int
        The seed of the searches for incumbents.
    executor : Executor, optional
        Bounds batches of boxes, splits batches of sides of neurons, prices subsystems and
        enumerates their polytopes in parallel, with the same result as without. Hand-overs
        run in one process and say so.
    threads : int, optional
        Without ``executor``, so many worker processes of the solver's own.
    warmstart : bool
        Offer the variables' present values as the first point.
    progress : callable, optional
        Called with a :class:`~pyomo_relu.solvers.watch.Progress` after each round and
        each better point; a true return value ends the search with its best point.
    """

    solver = "relu_global"

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.add("node_limit", None, NonNegativeInt, "boxes at most")
        self.add("batch_size", DEFAULTS.batch_size, PositiveInt, "boxes in a round")
        self.add("leaf_neurons", DEFAULTS.leaf_neurons, NonNegativeInt, "for the small MIP")
        self.add("hand_over", DEFAULTS.hand_over, Bool, "many inputs to the MIP")
