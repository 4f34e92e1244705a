"""What the user hears of a run of SCIP."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from pyscipopt import SCIP_EVENTTYPE, Eventhdlr

from pyomo_relu.programs.scip import INFINITY, ScipModel
from pyomo_relu.solvers.results import relative_gap
from pyomo_relu.solvers.watch import Log, Progress


class Watching(Eventhdlr):
    """Calls the user's callback at better points and between nodes, and ends the search.

    Parameters
    ----------
    model : ScipModel
    log : Log
    """

    #: Seconds between two calls that bring no better point.
    every = 0.2

    def __init__(self, model: ScipModel, log: Log) -> None:
        self.program, self.log = model, log
        self.begin = self.last = time.perf_counter()
        self.first: float | None = None
        #: What is known of the bound, from SCIP's.
        self.beside: Callable[[float], float] = float
        self.stopped = False
        self._guarded = model.guarded(None)(self._happened)

    def include(self) -> None:
        """Put the handler of events into the program."""
        self.program.scip.includeEventhdlr(self, "networks", "tells the user")

    def eventinit(self) -> None:
        """What SCIP calls when it begins."""
        catch = self.program.scip.catchEvent
        for event in (SCIP_EVENTTYPE.BESTSOLFOUND, SCIP_EVENTTYPE.NODESOLVED):
            catch(event, self)

    def eventexec(self, event: Any) -> None:
        """What SCIP calls at an event."""
        self._guarded(event)

    def _happened(self, event: Any) -> None:
        better = event.getType() == SCIP_EVENTTYPE.BESTSOLFOUND
        now = time.perf_counter()
        if better and self.first is None:
            self.first = now - self.begin
        if better or now - self.last >= self.every:
            self.last = now
            self.tell("incumbent" if better else "log", now - self.begin)

    def poll(self) -> bool:
        """Call the user where it is time to; whether the search is to end."""
        now = time.perf_counter()
        if now - self.last >= self.every:
            self.last = now
            self.tell("log", now - self.begin)
        return self.stopped

    def tell(self, kind: str, seconds: float) -> None:
        """Call the user, who may end the search."""
        if self.log.progress is None:
            return
        scip = self.program.scip
        value, bound = (
            _finite(scip.getPrimalbound()),
            self.beside(_finite(scip.getDualbound())),
        )
        report = Progress(
            kind, seconds, value, bound, relative_gap(value, bound), scip.getNTotalNodes()
        )
        if self.log.progress(report) and not self.stopped:
            self.stopped = True
            scip.interruptSolve()


def _finite(number: float) -> float:
    return math.copysign(math.inf, number) if abs(number) >= INFINITY else float(number)
