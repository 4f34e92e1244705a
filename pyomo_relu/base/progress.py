"""Progress bars, time limits and Ctrl-C, for every rung that takes its time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pyomo_relu.base.deadline import Deadline

if TYPE_CHECKING:
    from tqdm import tqdm


def progress(total: int | None, title: str, unit: str) -> tqdm:
    """A tqdm bar that shows after one second, and only where stderr is a terminal."""
    from tqdm import tqdm

    return tqdm(total=total, desc=title, unit=unit, delay=1.0, disable=None, leave=False)


class Interruptible(Deadline):
    """A deadline that Ctrl-C brings forward, and whether either ended the work early.

    Parameters
    ----------
    seconds : float or None
        On the clock from now; None for no limit.
    cpu_seconds : float or None
        In CPU time of this process.
    """

    def __init__(
        self, seconds: float | None = None, cpu_seconds: float | None = None
    ) -> None:
        super().__init__(seconds, cpu_seconds)
        self.out_of_time = self.keyboard = False

    def expired(self) -> bool:
        """Whether to stop; remembered for :meth:`details`."""
        self.out_of_time = self.out_of_time or super().expired()
        return self.out_of_time or self.keyboard

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Swallow Ctrl-C inside, and remember it: what was stored before is kept."""
        try:
            yield
        except KeyboardInterrupt:
            self.keyboard = True

    def details(self) -> dict[str, Any]:
        """What :attr:`Bounds.details` says about an early end."""
        found = {
            "interrupted": self.out_of_time or self.keyboard,
            "keyboard": self.keyboard,
        }
        return {name: True for name, true in found.items() if true}
