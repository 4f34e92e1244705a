"""How much memory reading may take, asked for before it is taken.

A file of a few bytes can declare arrays of any size: a compressed archive of zeros, a
constant of shape ``(2000000000,)``, a padding of a thousand million cells. Whoever is
about to make an array while a file is read asks :func:`need` first. The account is that
of the innermost :func:`memory_limit`; outside of one nothing is limited, so a model that
is in memory already is read whatever its size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from math import prod

#: Bytes that reading one file may take beyond the file itself, where ``max_memory=`` is
#: left out. A network whose layers need more has some 70 million weights or connections;
#: the largest of the verification competition that this package was tried on needs 0.2e9.
MOST_MEMORY = 2**30

#: Bytes that an entry of a tensor takes while an operator that makes it is read: its
#: position in the flat vector in a few index arrays and a row of a sparse matrix.
#: Measured: 70 for ONNX Pad, 120 for Gather, 130 for Expand, 150 for Tile.
ENTRY = 140

#: Bytes that a non-zero weight takes in a sparse matrix, and besides while it is made.
#: Measured in all: 34 for a convolution of 30 million weights, 50 for average pooling.
WEIGHT, MAKING_A_WEIGHT = 12, 36


class TooLargeError(ValueError):
    """What is read declares more than the memory that it may take."""


@dataclass
class _Account:
    """What one reading may take and has taken, in bytes."""

    what: str
    limit: float
    kept: float = 0.0


_account: ContextVar[_Account | None] = ContextVar("memory of reading", default=None)


@contextmanager
def memory_limit(what: str, limit: float | None = None) -> Iterator[None]:
    """Limit the memory that reading takes; a limit around this one stays in force.

    Parameters
    ----------
    what : str
        How an error names what is read, ``"'net.onnx'"``.
    limit : float, optional
        Bytes; :data:`MOST_MEMORY` if left out, ``math.inf`` for no limit.

    Raises
    ------
    ValueError
        If the limit is not a positive number.
    """
    if limit is not None and (isinstance(limit, (bool, str)) or not float(limit) > 0):
        raise ValueError(f"max_memory={limit!r} must be a positive number of bytes.")
    if limit is None and _account.get() is not None:
        yield
        return
    token = _account.set(_Account(what, MOST_MEMORY if limit is None else float(limit)))
    try:
        yield
    finally:
        _account.reset(token)


def need(what: str, passing: float = 0.0, kept: float = 0.0) -> None:
    """Ask for memory before it is taken.

    Parameters
    ----------
    what : str
        What needs it, ``"layer 'pad_1'"``.
    passing : float
        Bytes that are free again afterwards.
    kept : float
        Bytes that stay taken to the end of the reading.

    Raises
    ------
    TooLargeError
        If that is more than what is left; it says how to raise the limit.
    """
    account = _account.get()
    if account is None:
        return
    total = account.kept + kept + passing
    if not total <= account.limit:
        raise TooLargeError(
            f"{account.what}: with {what}, reading takes about {_size(total)}, more than "
            f"the {_size(account.limit)} that it may take. If the file is what it should "
            f"be, read it with max_memory={1.2 * total:.1e} (bytes) or more."
        )
    account.kept += kept


def fits(passing: float) -> bool:
    """Whether so many bytes may be taken for a while; for what can be done without."""
    account = _account.get()
    return account is None or account.kept + passing <= account.limit


def need_entries(what: str, shape: Sequence[int]) -> None:
    """Ask for the memory that an operator takes to make a tensor of this shape."""
    need(what, passing=ENTRY * prod(map(int, shape)))


def need_weights(what: str, count: float) -> None:
    """Ask for the memory of a sparse matrix with ``count`` entries that are not zero."""
    need(what, passing=MAKING_A_WEIGHT * count, kept=WEIGHT * count)


def _size(count: float) -> str:
    if count < 1e6:
        return f"{count:.0f} bytes"
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"
