"""What a search tells while it runs: lines for ``tee``, and calls of the user's callback."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

from pyomo_relu.solvers.global_search.cost_search import CostSearch
from pyomo_relu.solvers.watch import Log

#: Seconds between two lines of the log, and between two lines of better points.
LOG_EVERY = 1.0
POINT_EVERY = 0.1

#: Why a search ended, in words, by :attr:`CostSearch.stopped`.
ENDS = {
    "time": "the time limit was reached",
    "nodes": "the node limit was reached",
    "interrupt": "interrupted",
    "callback": "stopped by progress=",
    "unbounded": "the problem without its integers is unbounded",
}


class SearchLog(Log):
    """Lines for ``tee``, and the user's callback.

    Parameters
    ----------
    config : NetworkSolverConfig
    text : StringIO
    column : str
        The title of the column beside ``boxes``.
    number : callable
        What stands in it, from a search.
    """

    last = -math.inf

    def __init__(
        self,
        config: Any,
        text: io.StringIO,
        column: str,
        number: Callable[[CostSearch], int],
    ) -> None:
        super().__init__(config, text)
        self.solver, self.column, self.number = config.solver, column, number

    def say(self, sentence: str) -> None:
        """A line that begins with the solver's name."""
        self.write(f"{self.solver}: {sentence}")

    def titles(self) -> None:
        """The titles of the columns."""
        self.write(
            f"{'':2}{'seconds':>8} {'boxes':>9} {self.column:>7} {'bound':>14} "
            f"{'incumbent':>14} {'gap':>9}  search"
        )

    def report(self, search: CostSearch, kind: str) -> bool:
        """One event of the search; whether the user wants to stop."""
        now = search.progress(kind)
        pause = {"incumbent": POINT_EVERY, "end": 0.0}.get(kind, LOG_EVERY)
        if self.streams and now.seconds - self.last >= pause:
            self.last = now.seconds
            who = search.leader if kind == "end" else search.at_work
            self.write(
                f"{'* ' if kind == 'incumbent' else '  '}{now.seconds:8.2f} "
                f"{now.nodes:9d} {self.number(search):7d} {_number(now.bound):>14} "
                f"{_number(now.incumbent):>14} {_share(now.gap):>9}  {who}"
            )
        return kind != "end" and self.progress is not None and bool(self.progress(now))

    def end(self, search: CostSearch) -> None:
        """How the search ended."""
        self.report(search, "end")
        now, found = search.progress("end"), search.incumbent.point is not None
        if search.stopped is not None:
            point = "with the best point so far" if found else "without a point"
            text = f"{ENDS[search.stopped]}, {point}"
        elif not search.proved:
            text = "ended with what tolerances leave open"
        elif found:
            text = f"optimal to {_share(now.gap)}, by {search.leader}"
        else:
            text = f"no point is feasible, by {search.leader}"
        self.say(f"{text}, after {now.seconds:.2f} s")


def _number(value: float) -> str:
    return f"{value:.7g}" if math.isfinite(value) else "-"


def _share(gap: float) -> str:
    return f"{100 * gap:.4f}%" if math.isfinite(gap) else "-"
