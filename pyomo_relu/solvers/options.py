"""Options of the solvers: what both have, and those of ``relu_highs``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyomo.common.config import Bool, ConfigValue, NonNegativeFloat, NonNegativeInt
from pyomo.contrib.solver.common.config import BranchAndBoundConfig

from pyomo_relu.base.suggest import did_you_mean
from pyomo_relu.solvers.highs_settings import SETTINGS
from pyomo_relu.solvers.watch import Progress


def start_choice(choice: Any) -> str | None:
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
        Called with a :class:`~pyomo_relu.solvers.watch.Progress`; a true return value ends
        the search with its best point.
    """

    #: The name of the solver.
    solver = ""

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

    def refuse_solver_options(self, hint: str = "") -> None:
        """Refuse ``solver_options``, for a solver all of whose options are keywords.

        Parameters
        ----------
        hint : str
            A sentence on where such options can go.

        Raises
        ------
        ValueError
            If there is one.
        """
        for name in self.solver_options:
            raise ValueError(
                f"{self.solver} has no solver option '{name}'; its options are keywords "
                f"of solve(): {', '.join(self.keywords)}. {hint}".rstrip()
            )

    def unknown(self, name: str) -> str:
        """What an error says of an option that the solver hasn't."""
        keywords = self.keywords
        others = [c for c in _configurations() if c is not type(self)]
        having = sorted(c.solver for c in others if name in c().keywords)
        elsewhere = f", which {' and '.join(having)} would take" if having else ""
        return (
            f"{self.solver} has no option '{name}'{elsewhere}; it takes "
            f"{', '.join(keywords)}.{'' if having else did_you_mean(name, keywords)}"
        )


def _configurations() -> list[type[NetworkSolverConfig]]:
    """Those of all solvers."""
    found = list(NetworkSolverConfig.__subclasses__())
    for one in found:
        found += one.__subclasses__()
    return [one for one in found if one.solver]


class ReluHighsConfig(NetworkSolverConfig):
    """Configuration of ``relu_highs`` besides Pyomo's own.

    What is said of shares and defaults stands in
    :class:`~pyomo_relu.solvers.highs_settings.HighsSettings`.

    Attributes
    ----------
    warmstart : bool
        Start from the variables' present values, all or some of them.
    start : 'auto' or None
        With 'auto', a model with network blocks and no ``warmstart`` gets its start
        from :func:`pyomo_relu.find_start`.
    start_time : float
        How many seconds that may take; never more than a ``share`` of the time limit.
    boxes : int
        How many boxes of the inputs are bounded before HiGHS, where networks with an
        exact formulation depend on at most ``most_inputs`` variables: as in
        ``relu_global``, whose proof in boxes then saves HiGHS's. The objective of one
        chain of ReLU layers over a box may have any number of variables; subproblems with
        fixed sides of neurons count as boxes. Boxes need ``start='auto'``; 0 for none.
    boxes_time : float
        How many CPU seconds that may take; never more than a ``share`` of the time limit,
        and where sides of neurons can't be split ``boxes_only`` of that.
    progress : callable, optional
        Called with a :class:`~pyomo_relu.solvers.watch.Progress`; a true return value stops
        the solver, which then gives its best point.
    """

    solver = "relu_highs"

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.add("start", "auto", start_choice, "'auto' or None")
        self.add("start_time", SETTINGS.start_time, NonNegativeFloat, "for start='auto'")
        self.add("boxes", SETTINGS.boxes, NonNegativeInt, "before HiGHS, at most")
        self.add("boxes_time", SETTINGS.boxes_time, NonNegativeFloat, "CPU seconds")
