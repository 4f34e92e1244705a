"""Ctrl-C for this very process, heard at moments that a test knows."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class CtrlC:
    """Presses Ctrl-C some time after the work has begun; it is heard within the work only.

    A timer alone is early on a busy machine: the key is then pressed before what it shall
    interrupt, and ends the whole run of the tests. Here the time counts from the first
    :meth:`within`, and a key that is pressed outside of one is heard in the next.

    Parameters
    ----------
    seconds : float
        From the beginning of the work; it has to go on for longer than that on the fastest
        machine. On a slow one less of it is done by then, and that is all.
    """

    def __init__(self, seconds: float = 0.3) -> None:
        self._timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
        self._within = self._pressed = self._begun = False

    def _press(self, *_: object) -> None:
        self._pressed = True
        if self._within:
            self._hear()

    def _hear(self) -> None:
        self._pressed = False
        raise KeyboardInterrupt

    @contextmanager
    def within(self) -> Iterator[None]:
        """Where Ctrl-C is heard; the timer starts in the first one."""
        if not self._begun:
            self._begun = True
            self._timer.start()
        self._within = True
        try:
            if self._pressed:
                self._hear()
            yield
        finally:
            self._within = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """For the whole test: sets the handler, and puts the one before back."""
        before = signal.signal(signal.SIGINT, self._press)
        try:
            yield
        finally:
            if self._begun:
                self._timer.cancel()
                self._timer.join()
            signal.signal(signal.SIGINT, before)
