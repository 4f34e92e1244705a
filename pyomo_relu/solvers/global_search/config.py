"""Options of ``relu_global``."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from pyomo.common.config import (
    Bool,
    ConfigValue,
    NonNegativeInt,
    PositiveInt,
)
from pyomo.contrib.solver.common.config import BranchAndBoundConfig

from pyomo_relu.solvers.options import Progress


def _executor(given: Any) -> Executor | None:
    if given is None or hasattr(given, "submit"):
        return given
    raise ValueError(
        f"executor= takes a concurrent.futures.Executor, not {type(given).__name__}."
    )


def _callback(function: Any) -> Callable[[Progress], Any] | None:
    if function is None or callable(function):
        return function
    raise ValueError(f"progress= takes a function of one argument, not {function!r}.")


class ReluGlobalConfig(BranchAndBoundConfig):
    """Configuration of ``relu_global`` besides Pyomo's own.

    Attributes
    ----------
    rel_gap, abs_gap : float
        The search ends when the bound is within either of the incumbent; 1e-4 relative
        to the objective, and 1e-6.
    time_limit : float
        Seconds.
    node_limit : int
        Boxes bounded at most.
    batch_size : int
        Boxes split in a round; more suit many cheap boxes.
    leaf_neurons : int
        A box with at most so many undecided neurons goes to a small MIP.
    hand_over : bool
        Whether sides of neurons and a MIP of the whole may take part, by turns, and
        what has too many inputs for boxes goes to the MIP at once.
    seed : int
        Of the searches for incumbents.
    executor : Executor, optional
        Bounds the batches of boxes in parallel, with the same result as without. Serves
        one group of inputs; units and hand-overs run in one process and say so.
    threads : int, optional
        Without ``executor``, so many worker processes of the solver's own.
    warmstart : bool
        Offer the variables' present values as the first point.
    progress : callable, optional
        Called with a :class:`~pyomo_relu.solvers.options.Progress` after each round and
        each better point; a true return value ends the search with its best point.
    """

    def __init__(
        self,
        description=None,
        doc=None,
        implicit=False,
        implicit_domain=None,
        visibility=0,
    ):
        super().__init__(
            description=description,
            doc=doc,
            implicit=implicit,
            implicit_domain=implicit_domain,
            visibility=visibility,
        )
        self.rel_gap = 1e-4
        self.abs_gap = 1e-6
        for name, value in (
            ("node_limit", ConfigValue(None, NonNegativeInt, description="boxes at most")),
            ("batch_size", ConfigValue(128, PositiveInt, description="boxes in a round")),
            ("leaf_neurons", ConfigValue(12, NonNegativeInt, description="for the MIP")),
            ("hand_over", ConfigValue(True, Bool, description="many inputs to the MIP")),
            ("seed", ConfigValue(0, NonNegativeInt, description="of the incumbents")),
            ("executor", ConfigValue(None, _executor, description="parallel batches")),
            ("warmstart", ConfigValue(False, Bool, description="offer present values")),
            ("progress", ConfigValue(None, _callback, description="callback")),
        ):
            self.declare(name, value)


#: Keywords that the legacy call takes beside Pyomo's customary ones.
OWN_KEYWORDS = (
    "time_limit",
    "threads",
    "rel_gap",
    "abs_gap",
    "timer",
    "node_limit",
    "batch_size",
    "leaf_neurons",
    "hand_over",
    "seed",
    "executor",
    "warmstart",
    "progress",
)
