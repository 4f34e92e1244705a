"""All that a few integers can be, and the bounds of other columns for each of it.

A subsystem with an on/off, a routing or a grid of its own is a handful of continuous
problems. What follows from each combination for the other columns is propagated through
the rows, all combinations at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pyomo_relu.presolve.values import find_values
from pyomo_relu.programs import LinearProgram


@dataclass(frozen=True)
class ChoiceSettings:
    """What steers the enumeration; chosen by hand."""

    #: Integers with more combinations are not enumerated.
    most: int = 1000
    #: Rounds of propagation over all rows; each reaches one row further.
    rounds: int = 4
    #: A propagated bound is loosened by this share of the largest term of its row, for
    #: rounding.
    loose: float = 1e-12
    #: Bounds that cross by more than this, relative to them, leave a combination without a
    #: point; by less, they are equal.
    crossed: float = 1e-7
    #: A column is free in a combination if its bounds are farther apart than this,
    #: relative to them.
    free: float = 1e-9


CHOICES = ChoiceSettings()


class TooManyChoicesError(ValueError):
    """The integers of a program have more combinations than were allowed."""


def enumerate_choices(
    program: LinearProgram,
    most: int = CHOICES.most,
    values: Mapping[int, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of all columns for each combination of the integers.

    Parameters
    ----------
    program : LinearProgram
    most : int
        How many combinations there may be, with those that rows exclude.
    values : mapping, optional
        Of continuous columns that take few values, too, these in increasing order; what the
        integers determine is left to them.

    Returns
    -------
    lower, upper : (N, m) arrays
        Equal for integers and for columns of few values. Every feasible point of the
        program is in one of the boxes.

    Raises
    ------
    TooManyChoicesError
        For more combinations.
    """
    lower, upper = program.lower[None].copy(), program.upper[None].copy()
    for columns, some in _axes(program, values or {}):
        if len(lower) * len(some) > most:
            raise TooManyChoicesError(f"there are more than {most} combinations.")
        lower, upper = (np.repeat(a, len(some), axis=0) for a in (lower, upper))
        lower[:, columns] = np.tile(some, (len(lower) // len(some), 1))
        upper[:, columns] = lower[:, columns]
    possible = propagate(program, lower, upper)
    return lower[possible], upper[possible]


def _axes(
    program: LinearProgram, values: Mapping[int, np.ndarray]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Columns and all their values (V, columns), for each independent set of them."""
    assert program.integer is not None
    moving = program.lower < program.upper
    whole = program.integer & moving
    axes, seen = [], set(np.flatnonzero(~moving).tolist())
    if whole.any():
        found = find_values(program, program.lower, program.upper)
        seen |= found.values.keys()
        for choice in found.choices:
            some = np.eye(len(choice.columns))
            if not choice.exactly:
                some = np.concatenate([np.zeros((1, len(choice.columns))), some])
            axes.append((choice.columns, some))
        chosen = {j for columns, _ in axes for j in columns.tolist()}
        for j in np.flatnonzero(whole).tolist():
            if j not in found.values:
                raise TooManyChoicesError("an integer has too many values.")
            if j not in chosen:
                axes.append((np.array([j]), found.values[j][:, None]))
    return axes + [
        (np.array([j]), some[:, None]) for j, some in values.items() if j not in seen
    ]


def propagate(program: LinearProgram, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Tighten boxes (N, m) by the rows, in place; which of them may hold a point, (N,)."""
    possible = np.ones(len(lower), dtype=bool)
    matrix = program.matrix
    for _ in range(CHOICES.rounds):
        before = lower.copy(), upper.copy()
        for i in range(len(program.row_lower)):
            span = slice(matrix.indptr[i], matrix.indptr[i + 1])
            columns, a = matrix.indices[span], matrix.data[span]
            ends = program.row_lower[i], program.row_upper[i]
            if len(columns):
                _tighten(columns, a, ends, lower, upper)
        if program.integer is not None:
            _round(program.integer, lower, upper)
        size = np.maximum(1.0, np.minimum(abs(lower), abs(upper)))
        size = np.where(np.isfinite(size), size, 1.0)
        possible &= ~(lower > upper + CHOICES.crossed * size).any(axis=1)
        crossed = lower > upper
        middle = 0.5 * (lower[crossed] + upper[crossed])
        lower[crossed] = upper[crossed] = middle
        if all(map(np.array_equal, before, (lower, upper))):
            break
    return possible


def _round(integer: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
    lower[:, integer] = np.ceil(lower[:, integer] - CHOICES.crossed)
    upper[:, integer] = np.floor(upper[:, integer] + CHOICES.crossed)


def _tighten(
    columns: np.ndarray,
    a: np.ndarray,
    ends: tuple[float, float],
    lower: np.ndarray,
    upper: np.ndarray,
) -> None:
    """Bounds of a row's columns by what the others leave to them."""
    low, high = lower[:, columns], upper[:, columns]
    least, most = np.where(a > 0, a * low, a * high), np.where(a > 0, a * high, a * low)
    for terms, end, sign in ((least, ends[1], 1.0), (most, ends[0], -1.0)):
        if not np.isfinite(end):
            continue
        missing = ~np.isfinite(terms)
        known = np.where(missing, 0.0, terms)
        others = missing.sum(axis=1, keepdims=True) - missing
        rest = end - (known.sum(axis=1, keepdims=True) - known)
        loose = CHOICES.loose * (abs(known).max(axis=1, keepdims=True) + abs(end))
        rest = np.where(others > 0, sign * np.inf, rest + sign * loose)
        bound = rest / a
        up = sign * a > 0
        upper[:, columns[up]] = np.minimum(upper[:, columns[up]], bound[:, up])
        lower[:, columns[~up]] = np.maximum(lower[:, columns[~up]], bound[:, ~up])
