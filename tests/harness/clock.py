"""Clocks and deadlines that count looks: a test with them is the same on every machine."""

from __future__ import annotations

import time

from pyomo_relu.base.deadline import Deadline


class Clock:
    """Stands for the module ``time``: goes on by one step at each look.

    ``monkeypatch.setattr(deadline, "time", Clock(1e-3))`` makes each limit of a second one
    of a thousand looks. Solvers that count for themselves are given what such a limit has
    left, in seconds of the real clock.

    Parameters
    ----------
    step : float
        Seconds that pass at each look.
    """

    def __init__(self, step: float = 1.0) -> None:
        self.now, self.step = 0.0, step

    def perf_counter(self) -> float:
        """Seconds; this look counts."""
        self.now += self.step
        return self.now

    process_time = perf_counter


class Crowd:
    """Stands for the module ``time`` on a machine with many others at work.

    The clock goes on by so many seconds at each look, CPU time by what it is.
    """

    process_time = staticmethod(time.process_time)

    def __init__(self, step: float = 1.0) -> None:
        self.now, self.step = 0.0, step

    def perf_counter(self) -> float:
        """Seconds; this look counts."""
        self.now += self.step
        return self.now


class Looks(Deadline):
    """A deadline that has passed once it has been asked so many times.

    Parameters
    ----------
    looks : int
        At the last of them, and at all after it, the time is up.
    """

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def left(self) -> float:
        """No end in seconds until the last look; 0 from then on."""
        self.looks -= 1
        return super().left() if self.looks > 0 else 0.0
