"""A machine that seems slower than it is: tests that depend on time show themselves.

``pytest --slower 8`` lets every second that the package, HiGHS and SCIP count last an eighth of a
real one, so that each limit in seconds ends after an eighth of the work. A test that needs an
optimum within such a limit then fails, as it would on a machine with many others at work. The real
duration of the run is hardly longer, and no load is needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable


def _faster(clock: Callable[[], float], factor: float) -> Callable[[], float]:
    """The clock, running ``factor`` times as fast from now on."""
    begin = clock()
    return lambda: begin + factor * (clock() - begin)


def pretend(factor: float) -> None:
    """Speed the clocks up and cut the limits of the solvers, for the rest of this process.

    Parameters
    ----------
    factor : float
        How many times slower the machine shall seem, at least 1.

    Raises
    ------
    ValueError
        For a factor below 1.
    """
    if not factor >= 1:
        raise ValueError(f"--slower must be at least 1, but is {factor}.")
    time.perf_counter = _faster(time.perf_counter, factor)
    time.process_time = _faster(time.process_time, factor)
    _cut_limits_of_highs(factor)
    try:
        import pyscipopt  # noqa: F401
    except ImportError:
        return
    _cut_limits_of_scip(factor)


def _cut_limits_of_highs(factor: float) -> None:
    from pyomo_relu.programs.highs import HighsModel

    run = HighsModel.run

    def shorter(self, time_limit=None, *, keep=False):
        kept, self._limit = self._limit, self._limit / factor
        try:
            left = None if time_limit is None else time_limit / factor
            return run(self, left, keep=keep)
        finally:
            self._limit = kept

    HighsModel.run = shorter


def _cut_limits_of_scip(factor: float) -> None:
    from pyomo_relu.programs.scip import ScipModel

    run = ScipModel.run

    def shorter(self, seconds, write=None):
        self.scip.setParam("limits/time", self.scip.getParam("limits/time") / factor)
        return run(self, seconds / factor, write)

    ScipModel.run = shorter
