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

from pyomo_relu.base.progress import Interruptible, progress

logger = logging.getLogger(__name__)

MISSING = "the worker lacks the network"

#: How often a chunk is given out before it is computed here.
ATTEMPTS = 3

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
        _networks.clear()
        _networks[fingerprint] = pickle.loads(blob)
    if fingerprint not in _networks:
        return MISSING
    return function(_networks[fingerprint], token, common, chunk)


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
        for k in range(len(self.chunks)):
            self._submit(k, None)
        try:
            while self.pending and not self.clock.expired():
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
