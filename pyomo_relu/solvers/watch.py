"""A run of HiGHS under watch: its log, the user's callback, interrupts."""

from __future__ import annotations

import io
import math
import threading
from typing import Any

from pyomo_relu.solvers.options import Progress


class Watch:
    """Runs HiGHS: passes its log on, calls the user, and minds interrupts.

    Parameters
    ----------
    highs : highspy.Highs
    config : ReluHighsConfig
    log : StringIO
    maximize : bool
        Whether the model does.

    Attributes
    ----------
    bound : float
        A bound of the objective that is known already; NaN for none.
    """

    def __init__(self, highs, config, log: io.StringIO, maximize: bool) -> None:
        self.highs, self.progress = highs, config.progress
        self.streams = [*config.tee, log] if config.tee else []
        self.bound, self.maximize = math.nan, maximize
        self.stop = False
        self.error: BaseException | None = None
        if self.streams:
            highs.cbLogging += self._log
        if self.progress is not None:
            highs.cbMipLogging += self._line
            highs.cbMipImprovingSolution += self._better
            for name in ("cbMipInterrupt", "cbSimplexInterrupt", "cbIpmInterrupt"):
                callback = getattr(highs, name)
                callback += self._interrupt

    def _log(self, event) -> None:
        for stream in self.streams:
            stream.write(event.message)

    def _line(self, event) -> None:
        self._report("log", event.data_out, event.data_out.mip_primal_bound)

    def _better(self, event) -> None:
        self._report("incumbent", event.data_out, event.data_out.objective_function_value)

    def _report(self, kind: str, data: Any, incumbent: float) -> None:
        bound, gap = self._best(data.mip_dual_bound), data.mip_gap
        if bound != data.mip_dual_bound and math.isfinite(incumbent):
            gap = abs(bound - incumbent) / max(abs(incumbent), 1e-10)
        self.tell(
            Progress(kind, data.running_time, incumbent, bound, gap, data.mip_node_count)
        )

    def _best(self, bound: float) -> float:
        if math.isnan(self.bound):
            return bound
        return min(bound, self.bound) if self.maximize else max(bound, self.bound)

    def tell(self, report: Progress) -> bool:
        """Call the user; whether to stop."""
        if self.stop or self.progress is None:
            return self.stop
        try:
            self.stop = bool(self.progress(report))
        except BaseException as error:  # must not travel through HiGHS
            self.error, self.stop = error, True
        return self.stop

    def _interrupt(self, event) -> None:
        if self.stop:
            event.data_in.user_interrupt = True

    def write(self, line: str) -> None:
        """Add a line of this package's own to the log."""
        for stream in self.streams:
            stream.write(line + "\n")

    def run(self) -> None:
        """Solve, and raise what the user's callback raised."""
        if threading.current_thread() is threading.main_thread():
            # Runs HiGHS in a thread, so that Ctrl-C arrives and ends it in good order.
            self.highs.HandleKeyboardInterrupt = True
            self.highs.solve()
        else:
            self.highs.run()
        self.close()

    def close(self) -> None:
        """Flush the streams, and raise what the user's callback raised."""
        for stream in self.streams:
            stream.flush()
        if self.error is not None:
            raise self.error
