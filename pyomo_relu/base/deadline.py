"""One clock for everything that has a time limit."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: Seconds that this process has waited for workers so far.
_waited = 0.0


def work_time() -> float:
    """CPU seconds of this process, and those on the clock that it waited for its workers.

    A search whose work is done elsewhere has its turn as long as it waits for that: counted in
    CPU time of this process alone, turns would last many times as long as those of others.
    """
    return time.process_time() + _waited


@contextmanager
def waiting() -> Iterator[None]:
    """Inside, this process waits for workers."""
    global _waited
    begin = time.perf_counter()
    try:
        yield
    finally:
        _waited += time.perf_counter() - begin


class TimeUp(Exception):
    """A deadline has passed; raised by :meth:`Deadline.check`."""


class Deadline:
    """An end on the clock, and perhaps one in CPU time of this process.

    Parameters
    ----------
    seconds : float or None
        On the clock from now; None for no end.
    cpu_seconds : float or None
        How much this process may compute, and wait for its workers, from now on; None for
        no end.

    Raises
    ------
    ValueError
        For a negative limit.
    """

    def __init__(
        self, seconds: float | None = None, cpu_seconds: float | None = None
    ) -> None:
        for name, limit in (("time_limit", seconds), ("cpu_time_limit", cpu_seconds)):
            if limit is not None and not limit >= 0:
                raise ValueError(f"{name} must not be negative, but is {limit}.")
        self.begin, self.cpu_begin = time.perf_counter(), work_time()
        self.end = math.inf if seconds is None else self.begin + seconds
        self.cpu_end = math.inf if cpu_seconds is None else self.cpu_begin + cpu_seconds

    # Processes and machines share the time of day only, and no CPU time.
    def __getstate__(self) -> dict[str, Any]:
        away = time.time() - time.perf_counter()
        state = {"begin": self.begin + away, "end": self.end + away, "cpu_end": math.inf}
        return {**self.__dict__, **state}

    def __setstate__(self, state: dict[str, Any]) -> None:
        away = time.time() - time.perf_counter()
        self.__dict__ |= state
        self.begin, self.end = self.begin - away, self.end - away
        self.cpu_begin = work_time()

    @property
    def elapsed(self) -> float:
        """Seconds on the clock since the beginning."""
        return time.perf_counter() - self.begin

    def left(self) -> float:
        """Seconds left, at least 0; what is less of clock and CPU time."""
        left = self.end - time.perf_counter()
        if self.counts_cpu:
            left = min(left, self.cpu_end - work_time())
        return max(left, 0.0)

    @property
    def limit(self) -> float | None:
        """Seconds left as a ``time_limit=``: None where there is no end."""
        left = self.left()
        return None if left == math.inf else left

    @property
    def clock_limit(self) -> float | None:
        """Seconds left on the clock, CPU time aside; None where there is no end."""
        return None if self.end == math.inf else max(self.end - time.perf_counter(), 0.0)

    @property
    def cpu_limit(self) -> float | None:
        """CPU seconds left, the clock aside; None where there is no end."""
        return max(self.cpu_end - work_time(), 0.0) if self.counts_cpu else None

    @property
    def counts_cpu(self) -> bool:
        """Whether there is an end in CPU time."""
        return self.cpu_end < math.inf

    def part(self, share: float) -> Deadline:
        """An end of its own after this share, above 0, of each time left."""
        wall = self.end - time.perf_counter()
        cpu = self.cpu_end - work_time()
        found = Deadline(None if wall == math.inf else share * max(wall, 0.0))
        if cpu < math.inf:
            found.cpu_end = found.cpu_begin + share * max(cpu, 0.0)
        return found

    def expired(self) -> bool:
        """Whether the time is up."""
        return self.left() <= 0.0

    def check(self) -> None:
        """Raise :class:`TimeUp` if the time is up."""
        if self.left() <= 0.0:
            raise TimeUp


#: A deadline that never comes.
NEVER = Deadline()
