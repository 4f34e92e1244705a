"""Errors that name the layer they are about, whatever library they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pyomo_relu.network.limits import TooLargeError


def first_line(error: BaseException) -> str:
    """The first line of an error of another library, which may have very many."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300].rstrip(".") if lines else "no message"


def reason(error: BaseException) -> str:
    """The first line of an error, after its type where that says something."""
    line = first_line(error)
    return line if isinstance(error, ValueError) else f"{type(error).__name__}: {line}"


@contextmanager
def naming(
    make: Callable[[Exception], Exception],
    *labels: str,
    known: type[Exception] = TooLargeError,
) -> Iterator[None]:
    """Errors of any kind inside become those that ``make`` words.

    Those that contain one of ``labels`` name the layer already and stay, as do those of
    the ``known`` type, and those about memory, which name the file.
    """
    try:
        yield
    except (TooLargeError, known):
        raise
    except Exception as error:
        if isinstance(error, ValueError) and any(label in str(error) for label in labels):
            raise
        raise make(error) from error
