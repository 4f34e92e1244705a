"""The CPU seconds that a part of a search may take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class TimeShare:
    """Some CPU seconds at first, and a share of all that pass from now on.

    Parameters
    ----------
    first : float
    share : float

    Attributes
    ----------
    spent : float
        CPU seconds taken so far.
    """

    def __init__(self, first: float, share: float) -> None:
        self.first, self.share = first, share
        self.begin, self.spent = time.process_time(), 0.0

    @property
    def elapsed(self) -> float:
        """CPU seconds since the beginning."""
        return time.process_time() - self.begin

    @property
    def left(self) -> float:
        """CPU seconds that may be taken now; below 0 where too many were."""
        return self.first + self.share * self.elapsed - self.spent

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Inside, the time is taken."""
        begin = time.process_time()
        try:
            yield
        finally:
            self.spent += time.process_time() - begin
