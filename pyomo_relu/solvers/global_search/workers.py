"""The executor of a call: the user's own, or processes that end with the call."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any


@contextmanager
def workers(config: Any) -> Iterator[Executor | None]:
    """What ``executor=`` or else ``threads=`` asks for.

    Parameters
    ----------
    config : SearchConfig

    Yields
    ------
    Executor or None
        None for one process. Processes of this call's own end with it.
    """
    if config.executor is not None or (config.threads or 1) <= 1:
        yield config.executor
        return
    with ProcessPoolExecutor(config.threads) as own:
        yield own
