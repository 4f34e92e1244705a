"""A run of HiGHS under watch: its log, the user's callback, and an interrupt."""

from __future__ import annotations

import io
import math
from typing import Any

from pyomo_relu.programs import Answer, HighsModel
from pyomo_relu.programs.highs import Event
from pyomo_relu.solvers.options import Progress


class Watch:
    """Passes HiGHS's log on, and calls the user.

    Parameters
    ----------
    highs : HighsModel
    config : ReluHighsConfig
    log : StringIO
    maximize : bool
        Whether the model does.

    Attributes
    ----------
    bound : float
        A bound of the objective that is known already; NaN for none.
    """

    def __init__(self, highs: HighsModel, config: Any, log: io.StringIO, maximize: bool):
        self.highs, self.progress = highs, config.progress
        self.timer = config.timer
        self.streams = [*config.tee, log] if config.tee else []
        self.bound, self.maximize = math.nan, maximize
        self.stop = False
        self.error: BaseException | None = None
        if self.streams:
            highs.on_log(self._log)
        if self.progress is not None:
            highs.on_line(lambda event: self._report("log", event))
            highs.on_incumbent(lambda event: self._report("incumbent", event))
            highs.stop_when(lambda event: self.stop)

    def _log(self, text: str) -> None:
        for stream in self.streams:
            stream.write(text)

    def _report(self, kind: str, event: Event) -> None:
        bound, gap = self._best(event.bound), event.gap
        if bound != event.bound and math.isfinite(event.incumbent):
            gap = abs(bound - event.incumbent) / max(abs(event.incumbent), 1e-10)
        self.tell(Progress(kind, event.seconds, event.incumbent, bound, gap, event.nodes))

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

    def write(self, line: str) -> None:
        """Add a line of this package's own to the log."""
        self._log(line + "\n")

    def run(self, time_limit: float) -> Answer:
        """Solve; Ctrl-C ends the search and gives its best point."""
        answer = self.highs.run(time_limit, keep=True)
        self.close()
        return answer

    def close(self) -> None:
        """Flush the streams, and raise what the user's callback raised."""
        for stream in self.streams:
            stream.flush()
        if self.error is not None:
            raise self.error
