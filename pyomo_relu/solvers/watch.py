"""The log of a call and the user's callback; a run of HiGHS under watch."""

from __future__ import annotations

import io
import math
import time
from dataclasses import dataclass, replace
from typing import Any

from pyomo_relu.programs import Answer, HighsModel
from pyomo_relu.programs.highs import Event
from pyomo_relu.solvers.highs_settings import SETTINGS
from pyomo_relu.solvers.results import relative_gap


@dataclass(frozen=True)
class Progress:
    """What a progress callback gets.

    Attributes
    ----------
    kind : {'boxes', 'log', 'within', 'incumbent'}
        A round of the boxes that go first; a line of HiGHS's MIP log or a round of a
        search; within what takes longer, ten times a second at most; a better
        solution.
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


class Log:
    """What goes to ``tee`` and into the results.

    Parameters
    ----------
    config : NetworkSolverConfig
    text : StringIO
    """

    def __init__(self, config: Any, text: io.StringIO) -> None:
        self.progress = config.progress
        self.streams = [*config.tee, text] if config.tee else []

    def put(self, text: str) -> None:
        """Add text as it is."""
        for stream in self.streams:
            stream.write(text)

    def write(self, line: str) -> None:
        """Add a line of this package's own."""
        self.put(line + "\n")
        self.flush()

    def flush(self) -> None:
        """Let everything be seen."""
        for stream in self.streams:
            stream.flush()


class Watch(Log):
    """Passes HiGHS's log on, and calls the user.

    Parameters
    ----------
    highs : HighsModel
    config : ReluHighsConfig
    text : StringIO
    maximize : bool
        Whether the model does.

    Attributes
    ----------
    bound : float
        A bound of the objective that is known already; NaN for none.
    """

    def __init__(
        self, highs: HighsModel, config: Any, text: io.StringIO, maximize: bool
    ) -> None:
        super().__init__(config, text)
        self.highs, self.timer = highs, config.timer
        self.bound, self.maximize = math.nan, maximize
        self.stop, self.asked = False, -math.inf
        nothing = -math.inf if maximize else math.inf
        self.last = Progress("within", 0.0, nothing, -nothing, math.inf, 0)
        self.error: BaseException | None = None
        if self.streams:
            highs.on_log(self.put)
        if self.progress is not None:
            highs.on_line(lambda event: self._report("log", event))
            highs.on_incumbent(lambda event: self._report("incumbent", event))
            highs.stop_when(self._within)

    def _report(self, kind: str, event: Event) -> None:
        bound, gap = self._best(event.bound), event.gap
        if bound != event.bound and math.isfinite(event.incumbent):
            gap = relative_gap(event.incumbent, bound)
        self.last = Progress(kind, event.seconds, event.incumbent, bound, gap, event.nodes)
        self.tell(self.last)

    def _within(self, event: Event) -> bool:
        """Call the user between lines of the log, which may be seconds apart.

        What is told is what the last line had: HiGHS also asks within programs of its
        heuristics, whose bounds say nothing about the model's.
        """
        now = time.perf_counter()
        if now - self.asked >= SETTINGS.ask_every:
            self.asked = now
            self.tell(replace(self.last, kind="within", seconds=event.seconds))
        return self.stop

    def _best(self, bound: float) -> float:
        if math.isnan(self.bound):
            return bound
        return min(bound, self.bound) if self.maximize else max(bound, self.bound)

    def tell(self, report: Progress) -> bool:
        """Call the user; whether to stop. What the user raises is kept for the end."""
        if self.stop or self.progress is None:
            return self.stop
        try:
            self.stop = bool(self.progress(report))
        except BaseException as error:  # the boxes that go first end in good order
            self.error, self.stop = error, True
        return self.stop

    def run(self, time_limit: float) -> Answer:
        """Solve; Ctrl-C ends the search and gives its best point."""
        answer = self.highs.run(time_limit, keep=True)
        self.close()
        return answer

    def close(self) -> None:
        """Flush the streams, and raise what the user's callback raised."""
        self.flush()
        if self.error is not None:
            raise self.error
