"""Chunks of work on this process or on any ``concurrent.futures.Executor``.

A chunk's result depends on the chunk alone, and chunks are cut the same way wherever
they run, so results are the same bit by bit with and without an executor. The network
travels to a worker once: a task carries its fingerprint, and a worker that lacks it
says so and gets the chunk again with the network. A chunk whose worker died is given
out again, and is computed here when the executor itself is broken.
"""

from __future__ import annotations

import logging
import pickle
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from typing import Any, Protocol

from pyomo_relu.base.deadline import waiting
from pyomo_relu.base.progress import Interruptible, progress

logger = logging.getLogger(__name__)

MISSING = "the worker lacks the network"

#: How often a chunk is given out before it is computed here.
ATTEMPTS = 3

#: So many networks or parts of searches a worker keeps: those of one search, whose parts may
#: take turns, so that none travels twice.
KEPT = 4

#: While workers are busy, a search asks once in so many seconds whether it has to end.
ASK_EVERY = 0.1

#: What computes a chunk: it gets the network, a token, what all share, and the chunk.
Work = Callable[[Any, str, Any, Any], Any]


class Kept(Protocol):
    """What a worker keeps between chunks: a network, or anything with a name of its own."""

    @property
    def fingerprint(self) -> str:
        """The same for the same content only."""


_networks: dict[str, Any] = {}
_built: dict[str, tuple[str, Any]] = {}


def built(token: str, make: Callable[[], Any]) -> Any:
    """What ``make`` returns, made once for a token by each worker; the last is kept."""
    if _built.get("last", ("", None))[0] != token:
        _built["last"] = (token, make())
    return _built["last"][1]


def _task(
    function: Work,
    fingerprint: str,
    blob: bytes | None,
    token: str,
    common: Any,
    chunk: Any,
) -> Any:
    """Run on a worker."""
    if blob is not None:
        # Threads are workers, too, and share what is kept.
        while fingerprint not in _networks and len(_networks) >= KEPT:
            _networks.pop(next(iter(_networks)), None)
        _networks[fingerprint] = pickle.loads(blob)
    kept = _networks.get(fingerprint)
    return MISSING if kept is None else function(kept, token, common, chunk)


def run_chunks(
    function: Work,
    network: Kept,
    common: Any,
    chunks: Sequence[Any],
    executor: Executor | None,
    clock: Interruptible,
    title: str,
) -> Iterator[tuple[int, Any]]:
    """Yield (position of the chunk, its result) as they come.

    Parameters
    ----------
    function : callable
        ``function(network, token, common, chunk)``, importable by a worker. ``token``
        is the same for all chunks of this call, see :func:`built`.
    common : object
        What all chunks share besides the network; small.
    chunks : sequence
    executor : concurrent.futures.Executor or None
        None computes here.
    clock : Interruptible
        Chunks not begun when it expires are left out. Ctrl-C ends the work and is
        remembered there.
    title : str
        The title of the progress bar.
    """
    token = uuid.uuid4().hex
    left: Iterator[int] = iter(range(len(chunks)))
    with progress(len(chunks), title, "chunk") as bar:
        if executor is not None and len(chunks):
            shared = _Shared(function, network, common, chunks, executor, clock, token)
            for k, result in shared.results():
                bar.update()
                yield k, result
            left = iter(shared.here)
        for k in left:
            if clock.expired():
                return
            result = None
            with clock.guard():
                result = function(network, token, common, chunks[k])
            if result is not None:
                yield k, result
            bar.update()
        if executor is None:
            _built.clear()


class _Polled(Interruptible):
    """A clock that asks, several times a second, whether the work has to end."""

    def __init__(self, poll: Callable[[], bool]) -> None:
        super().__init__()
        self.poll = poll

    def expired(self) -> bool:
        """Whether it has to."""
        self.out_of_time = self.out_of_time or self.poll()
        return super().expired()

    @property
    def limit(self) -> float:
        """Seconds to wait before it is asked again."""
        return ASK_EVERY


class Crew:
    """Who computes the chunks of a search: this process, or an executor.

    Parameters
    ----------
    executor : concurrent.futures.Executor, optional
        None computes here.
    poll : callable, optional
        Asked several times a second while workers are busy; true ends the wait.
    """

    def __init__(
        self, executor: Executor | None = None, poll: Callable[[], bool] | None = None
    ) -> None:
        self.executor, self.poll = executor, poll

    def results(
        self, function: Work, kept: Kept, common: Any, chunks: Sequence[Any], title: str
    ) -> list[Any]:
        """The results of all chunks, in order; None for what the end of the search cut off.

        Parameters
        ----------
        function, kept, common, chunks, title
            See :func:`run_chunks`. A single chunk is computed here: nothing else could be done
            meanwhile.

        Raises
        ------
        KeyboardInterrupt
            Once workers have been told to stop.
        """
        if self.executor is None or len(chunks) < 2:
            return [function(kept, "", common, chunk) for chunk in chunks]
        clock = Interruptible() if self.poll is None else _Polled(self.poll)
        found = dict(
            run_chunks(function, kept, common, chunks, self.executor, clock, title)
        )
        if clock.keyboard:
            raise KeyboardInterrupt
        return [found.get(k) for k in range(len(chunks))]


class _Shared:
    """Chunks on an executor.

    Attributes
    ----------
    here : list of int
        Chunks that no worker could compute.
    """

    def __init__(
        self,
        function: Work,
        network: Kept,
        common: Any,
        chunks: Sequence[Any],
        executor: Executor,
        clock: Interruptible,
        token: str,
    ) -> None:
        self.function, self.network, self.common = function, network, common
        self.chunks, self.executor = chunks, executor
        self.clock, self.token = clock, token
        self.blob: bytes | None = None
        self.attempts = [0] * len(chunks)
        self.pending: dict[Future, int] = {}
        self.here: list[int] = []

    def _submit(self, k: int, payload: bytes | None) -> None:
        # A broken executor refuses new work; what is left is computed here.
        fingerprint, chunk = self.network.fingerprint, self.chunks[k]
        task = (self.function, fingerprint, payload, self.token, self.common, chunk)
        try:
            future = self.executor.submit(_task, *task)
        except RuntimeError as e:
            if k not in self.here:
                logger.warning("the executor takes no more work (%s); computing here.", e)
                self.here.append(k)
            return
        self.pending[future] = k

    def results(self) -> Iterator[tuple[int, Any]]:
        """Yield (position of the chunk, its result) as they come from the workers."""
        try:
            for k in range(len(self.chunks)):
                self._submit(k, None)
            while self.pending and not self.clock.expired():
                with waiting():
                    done, _ = wait(self.pending, self.clock.limit, FIRST_COMPLETED)
                for future in done:
                    k = self.pending.pop(future)
                    if self._arrived(k, future):
                        yield k, future.result()
        except KeyboardInterrupt:
            self.clock.keyboard = True
        finally:
            for future in self.pending:
                future.cancel()

    def _arrived(self, k: int, future: Future) -> bool:
        """Whether a future has the result of its chunk; else the chunk is given out anew."""
        error = None if future.cancelled() else future.exception()
        if not future.cancelled() and error is None:
            if not (isinstance(future.result(), str) and future.result() == MISSING):
                return True
            self.blob = self.blob or pickle.dumps(self.network, protocol=5)
            self._submit(k, self.blob)
            return False
        self.attempts[k] += 1
        if self.attempts[k] < ATTEMPTS:
            logger.warning("a worker was lost (%r); its chunk is repeated.", error)
            self._submit(k, self.blob)
        else:
            self.here.append(k)
        return False
