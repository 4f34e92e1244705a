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
from typing import Any

from pyomo_relu.base.progress import Interruptible, progress
from pyomo_relu.network import Network

logger = logging.getLogger(__name__)

MISSING = "the worker lacks the network"

#: How often a chunk is given out before it is computed here.
ATTEMPTS = 3

#: What computes a chunk: it gets the network, a token, what all share, and the chunk.
Work = Callable[[Network, str, Any, Any], Any]

_networks: dict[str, Network] = {}
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
    network: Network,
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
        Of the progress bar.
    """
    token = uuid.uuid4().hex
    with progress(len(chunks), title, "chunk") as bar:
        if executor is None or len(chunks) == 0:
            for k, chunk in enumerate(chunks):
                if clock.expired():
                    return
                result = None
                with clock.guard():
                    result = function(network, token, common, chunk)
                if result is not None:
                    yield k, result
                bar.update()
            _built.clear()
            return
        for k, result in _distribute(
            function, network, common, chunks, executor, clock, token
        ):
            bar.update()
            yield k, result


def _distribute(
    function: Work,
    network: Network,
    common: Any,
    chunks: Sequence[Any],
    executor: Executor,
    clock: Interruptible,
    token: str,
) -> Iterator[tuple[int, Any]]:
    blob: bytes | None = None
    attempts = [0] * len(chunks)
    pending: dict[Future, int] = {}
    here: list[int] = []

    def submit(k: int, payload: bytes | None) -> None:
        # A broken executor refuses new work; what is left is computed here.
        try:
            future = executor.submit(
                _task, function, network.fingerprint, payload, token, common, chunks[k]
            )
        except RuntimeError as e:
            if k not in here:
                logger.warning("the executor takes no more work (%s); computing here.", e)
                here.append(k)
            return
        pending[future] = k

    for k in range(len(chunks)):
        submit(k, None)
    try:
        while pending and not clock.expired():
            done, _ = wait(pending, timeout=clock.limit, return_when=FIRST_COMPLETED)
            for future in done:
                k = pending.pop(future)
                error = None if future.cancelled() else future.exception()
                if not future.cancelled() and error is None:
                    result = future.result()
                    if isinstance(result, str) and result == MISSING:
                        blob = blob or pickle.dumps(network, protocol=5)
                        submit(k, blob)
                    else:
                        yield k, result
                    continue
                attempts[k] += 1
                if attempts[k] < ATTEMPTS:
                    logger.warning("a worker was lost (%r); its chunk is repeated.", error)
                    submit(k, blob)
                else:
                    here.append(k)
        for k in here:
            if clock.expired():
                break
            result = None
            with clock.guard():
                result = function(network, token, common, chunks[k])
            if result is not None:
                yield k, result
    except KeyboardInterrupt:
        clock.keyboard = True
    finally:
        for future in pending:
            future.cancel()
