"""Options of the solvers: what both have, those of ``relu_highs``, and HiGHS's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyomo.common.config import Bool, ConfigValue, NonNegativeFloat, NonNegativeInt
from pyomo.contrib.solver.common.config import BranchAndBoundConfig

from pyomo_relu.programs import NETWORK_DEFAULTS, HighsModel


@dataclass(frozen=True)
class HighsSettings:
    """What steers the searches before HiGHS; chosen by hand but for what is said."""

    #: The boxes before HiGHS and their CPU seconds, unless the options say otherwise.
    boxes: int = 200_000
    boxes_time: float = 10.0
    #: Boxes may take so many seconds on the clock for each of their CPU seconds.
    wall_per_cpu: float = 5.0
    #: With more inputs that can move a MIP is the better search than boxes, unless sides
    #: of neurons can be split too. Where they can't, boxes get this share of their time.
    most_inputs: int = 10
    boxes_only: float = 0.2
    #: Boxes close these shares of the relative and of the absolute gap, so that margins of
    #: bounds can't open the gap again.
    rel_gap: float = 0.95
    abs_gap: float = 0.8
    #: So far boxes and model may differ in the objective at a point, relative to it.
    differ: float = 1e-6
    #: A start with 'auto' may take so many seconds, unless the options say otherwise,
    #: and like the boxes never more than this share of the time limit.
    start_time: float = 1.0
    share: float = 0.1
    #: What a start of the user's leaves open may take so many seconds.
    partial_start: float = 5.0


SETTINGS = HighsSettings()

#: HiGHS options that end a search before its proof; boxes would not heed them.
STOPS = ("mip_max_", "objective_target", "objective_bound", "simplex_iteration_limit")


@dataclass(frozen=True)
class Progress:
    """What a progress callback gets.

    Attributes
    ----------
    kind : {'boxes', 'log', 'incumbent'}
        A round of the boxes that go first, a line of HiGHS's MIP log or a round of
        ``relu_global``, or a better solution.
    seconds : float
        Since the boxes, HiGHS, or the search of ``relu_global`` began.
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


class NetworkSolverConfig(BranchAndBoundConfig):
    """Pyomo's own options, and those that all of the package's solvers have.

    Attributes
    ----------
    warmstart : bool
        Use the variables' present values.
    progress : callable, optional
        Called with a :class:`Progress`; a true return value ends the search with its
        best point.
    """

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.add("warmstart", False, Bool, "use the present values")
        self.add("progress", None, _callback, "callback")

    def add(self, name: str, default: Any, domain: Any, description: str) -> None:
        """Declare an option."""
        self.declare(name, ConfigValue(default, domain, description=description))

    @property
    def keywords(self) -> tuple[str, ...]:
        """What the legacy call takes beside Pyomo's customary keywords."""
        own = [name for name in type(self)() if name not in BranchAndBoundConfig()]
        return (*own, "time_limit", "threads", "rel_gap", "abs_gap", "timer")


class ReluHighsConfig(NetworkSolverConfig):
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

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.add("start", "auto", _start, "'auto' or None")
        self.add("start_time", SETTINGS.start_time, NonNegativeFloat, "for start='auto'")
        self.add("boxes", SETTINGS.boxes, NonNegativeInt, "before HiGHS, at most")
        self.add("boxes_time", SETTINGS.boxes_time, NonNegativeFloat, "CPU seconds")


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
