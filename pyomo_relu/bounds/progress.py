"""Progress bars, time limits and Ctrl-C, for every rung that takes its time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm


def progress(total: int | None, title: str, unit: str) -> tqdm:
    """A tqdm bar that shows after one second, and only where stderr is a terminal."""
    from tqdm import tqdm

    return tqdm(total=total, desc=title, unit=unit, delay=1.0, disable=None, leave=False)


class Clock:
    """A budget of seconds, and whether something ended the work early.

    Parameters
    ----------
    limit : float or None
        Seconds from now; None for no limit.
    """

    def __init__(self, limit: float | None) -> None:
        if limit is not None and limit < 0:
            raise ValueError(f"time_limit must not be negative, but is {limit}.")
        # The wall clock, because workers on other machines share it.
        self.end = None if limit is None else time.time() + limit
        self.out_of_time = False
        self.keyboard = False

    def expired(self) -> bool:
        """Whether to stop; remembered for :meth:`details`."""
        if self.end is not None and time.time() >= self.end:
            self.out_of_time = True
        return self.out_of_time or self.keyboard

    def left(self) -> float | None:
        """Seconds left, at least 0; None for no limit."""
        return None if self.end is None else max(0.0, self.end - time.time())

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Swallow Ctrl-C inside, and remember it: what was stored before is kept."""
        try:
            yield
        except KeyboardInterrupt:
            self.keyboard = True

    def details(self) -> dict:
        """What :attr:`Bounds.details` says about an early end."""
        found: dict = {}
        if self.out_of_time or self.keyboard:
            found["interrupted"] = True
        if self.keyboard:
            found["keyboard"] = True
        return found
