"""Options of ``relu_highs``: its configuration, its defaults, and HiGHS's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyomo.common.config import Bool, ConfigValue, NonNegativeFloat, NonNegativeInt
from pyomo.contrib.solver.common.config import BranchAndBoundConfig

from pyomo_relu.programs import NETWORK_DEFAULTS, HighsModel

#: Boxes before HiGHS and their CPU seconds, unless the options say otherwise.
BOXES, BOXES_TIME = 200_000, 10.0

#: HiGHS options that end a search before its proof; boxes would not heed them.
STOPS = ("mip_max_", "objective_target", "objective_bound", "simplex_iteration_limit")


@dataclass(frozen=True)
class Progress:
    """What a progress callback gets.

    Attributes
    ----------
    kind : {'boxes', 'log', 'incumbent'}
        A round of the boxes that go first, a line of HiGHS's MIP log, or a better
        solution.
    seconds : float
        Since the boxes, or HiGHS, began.
    incumbent, bound : float
        In the sense of the model's objective; infinite where there is none.
    gap : float
        Relative, as HiGHS defines it.
    nodes : int
        Of HiGHS's tree, or boxes.
    """

    kind: str
    seconds: float
    incumbent: float
    bound: float
    gap: float
    nodes: int


def _start(choice: Any) -> str | None:
    if choice is None or choice == "auto":
        return choice
    raise ValueError(f"start= takes 'auto' or None, not {choice!r}.")


def _callback(function: Any) -> Callable[[Progress], Any] | None:
    if function is None or callable(function):
        return function
    raise ValueError(f"progress= takes a function of one argument, not {function!r}.")


class ReluHighsConfig(BranchAndBoundConfig):
    """Configuration of ``relu_highs`` besides Pyomo's own.

    Attributes
    ----------
    warmstart : bool
        Start from the variables' present values, all or some of them.
    start : 'auto' or None
        With 'auto', a model with network blocks and no ``warmstart`` gets its start
        from :func:`pyomo_relu.find_start`.
    start_time : float
        What that may take, in seconds; never more than a tenth of the time limit.
    boxes : int
        How many boxes of the inputs are bounded before HiGHS, where networks with an
        exact formulation depend on at most 10 variables: as in ``relu_global``, whose
        proof in boxes then saves HiGHS's. The objective of one chain of ReLU layers
        over a box may have any number of variables; subproblems with fixed sides of
        neurons count as boxes. Only with ``start='auto'``; 0 for none.
    boxes_time : float
        What that may take, in CPU seconds; never more than a tenth of the time limit,
        and a fifth of it where there are boxes only.
    progress : callable, optional
        Called with a :class:`Progress`; a true return value stops the solver, which
        then gives its best point.
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
        self.warmstart: bool = self.declare(
            "warmstart",
            ConfigValue(False, Bool, description="start from the present values"),
        )
        self.start: str | None = self.declare(
            "start", ConfigValue("auto", _start, description="'auto' or None")
        )
        self.start_time: float = self.declare(
            "start_time",
            ConfigValue(1.0, NonNegativeFloat, description="seconds for start='auto'"),
        )
        self.boxes: int = self.declare(
            "boxes",
            ConfigValue(BOXES, NonNegativeInt, description="before HiGHS, at most"),
        )
        self.boxes_time: float = self.declare(
            "boxes_time",
            ConfigValue(BOXES_TIME, NonNegativeFloat, description="CPU seconds for them"),
        )
        self.progress: Callable[[Progress], Any] | None = self.declare(
            "progress", ConfigValue(None, _callback, description="callback")
        )


def apply_config(highs: HighsModel, config: Any, has_networks: bool) -> None:
    """Set the measured defaults, what the configuration says, then the user's options.

    Raises
    ------
    ValueError
        For an unknown option or a value it can't take, naming it.
    """
    if has_networks:
        highs.set(NETWORK_DEFAULTS)
    own = {
        "threads": config.threads,
        "mip_rel_gap": config.rel_gap,
        "mip_abs_gap": config.abs_gap,
    }
    highs.set({k: v for k, v in own.items() if v is not None})
    highs.set(config.solver_options)


def stops_early(config: Any) -> bool:
    """Whether the user's options end HiGHS before its proof."""
    return any(str(name).startswith(STOPS) for name in config.solver_options)


def gaps(config: Any) -> tuple[float, float]:
    """The relative and the absolute gap asked for, HiGHS's own by default."""
    options = config.solver_options.value()
    relative = options.get("mip_rel_gap", config.rel_gap)
    absolute = options.get("mip_abs_gap", config.abs_gap)
    return (
        1e-4 if relative is None else float(relative),
        1e-6 if absolute is None else float(absolute),
    )
