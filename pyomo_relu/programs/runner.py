"""Threads in which HiGHS runs, so that no other solver of the process is touched.

HiGHS keeps its scheduler, with the number of threads of its first solve, for each thread
that calls it. A solve with another number is refused (``kError``), and a reset takes the
scheduler away from whoever came first. So this package never calls HiGHS from a thread
of its user's: each run is handed to a thread from here, which only ever serves one number
of threads. The user's thread waits, and so stays open to Ctrl-C, for which HiGHS itself
has no ear.
"""

from __future__ import annotations

import atexit
import os
import queue
import threading
from collections.abc import Callable
from typing import Any

#: How often Ctrl-C may be pressed until a run that doesn't end is abandoned.
PATIENCE = 3


class Job:
    """A function that runs elsewhere: its result, or what it raised."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.done = threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None

    def work(self) -> None:
        """Run the function here."""
        try:
            self.result = self.function()
        except BaseException as error:  # handed to who waits
            self.error = error


class _Runner(threading.Thread):
    """A thread that runs one job after another, all with one number of threads."""

    def __init__(self, idle: list[_Runner]) -> None:
        super().__init__(name="pyomo_relu-highs", daemon=True)
        self.jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.idle = idle

    def run(self) -> None:
        while (job := self.jobs.get()) is not None:
            job.work()
            self.idle.append(self)  # before the news, so that the next call finds it
            job.done.set()


#: Runners that wait, by number of threads. A list's append and pop are atomic.
_idle: dict[int, list[_Runner]] = {}


def run(function: Callable[[], Any], threads: int, cancel: Callable[[], None]) -> Any:
    """Run a function in a thread that serves this number of HiGHS threads only.

    Parameters
    ----------
    function : callable
    threads : int
        The setting of HiGHS's option; 0 for its default.
    cancel : callable
        Asks the function to end soon; called for each Ctrl-C.

    Returns
    -------
    (result, bool)
        What the function returned, and whether Ctrl-C was pressed meanwhile.

    Raises
    ------
    KeyboardInterrupt
        If Ctrl-C was pressed :data:`PATIENCE` times and the function goes on.
    """
    idle = _idle.setdefault(threads, [])
    try:
        runner = idle.pop()
    except IndexError:
        runner = _Runner(idle)
        runner.start()
    job = Job(function)
    runner.jobs.put(job)
    presses = 0
    while True:
        try:
            job.done.wait()
            break
        except KeyboardInterrupt:
            presses += 1
            cancel()
            if presses >= PATIENCE:
                raise
    if job.error is not None:
        raise job.error
    return job.result, presses > 0


def _dismiss() -> None:
    """End the threads that wait, with their schedulers, before Python does."""
    for idle in _idle.values():
        while idle:
            runner = idle.pop()
            runner.jobs.put(None)
            runner.join(1.0)


def _forget() -> None:
    """A forked process has none of its parent's threads."""
    _idle.clear()


atexit.register(_dismiss)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
