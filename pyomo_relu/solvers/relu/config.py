"""Options of ``relu``."""

from __future__ import annotations

from typing import Any

from pyomo_relu.solvers.global_search.config import SearchConfig


def _mip_solver(given: Any) -> Any:
    if given is None or isinstance(given, str) or hasattr(given, "solve"):
        return given
    raise ValueError(
        f"mip_solver= takes the name of a Pyomo solver or a solver, not {given!r}."
    )


class ReluConfig(SearchConfig):
    """Configuration of ``relu`` besides Pyomo's own.

    Attributes
    ----------
    rel_gap, abs_gap : float
        The search ends when the bound is within either of the incumbent, the first one
        relative to the objective.
    time_limit : float
        Seconds.
    mip_solver : str or solver, optional
        A solver of Pyomo's that takes what is left to a MIP in place of HiGHS, for example
        ``"gurobi"``: after the searches of the networks had their turn, with their best
        point as its start. Its own options are set on the solver that is given.
    seed : int
        The seed of the searches for points.
    threads : int
        How many threads HiGHS may use (1 if not given), and how many worker processes do
        what ``executor`` does.
    executor : Executor, optional
        Bounds boxes, splits sides of neurons, alone and among rows, prices subsystems and
        enumerates their polytopes in parallel, each with the same result as without.
    warmstart : bool
        Offer the variables' present values as the first point.
    progress : callable, optional
        Called with a :class:`~pyomo_relu.solvers.watch.Progress` after each round and
        each better point; a true return value ends the search with its best point.
    """

    solver = "relu"

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.add("mip_solver", None, _mip_solver, "in place of HiGHS")
