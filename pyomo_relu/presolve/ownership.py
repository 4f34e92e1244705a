"""Which columns and rows belong to one subsystem alone.

A subsystem has its inputs and outputs from the networks. Around them are columns and rows
that serve it alone: on and off, a routing, the binaries of a grid, private limits. They
are found by going through the rows, short ones before long ones:

1. A row that touches one subsystem *claims* its free columns for it. Rows of one length
   are looked at together, again and again until nothing changes, before longer ones are.
2. A column that is claimed becomes the subsystem's own, unless another row of it *objects*:
   one that touches another subsystem and is at most half as long again. Then it is *coupling*
   from then on, and so is one that a subsystem has no room for.
3. In the end a row all of whose columns are of one subsystem is its own; the others couple.

Short rows say what a column is, long ones what is shared: ``cooling[t] <= 5 * on[t]`` makes
``on[t]`` a part of hour ``t`` before ``start[t] >= on[t] - on[t-1]`` ties hours. A store
between two hours is in the balances of both, which are about as long, so it couples. A
subsystem never takes what another one has, and columns of one value belong to nobody.

The rule decides how good a bound is, never whether it is one: whatever columns a subsystem
owns, the rows that are left couple.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyomo_relu.programs import LinearProgram

#: A subsystem takes so many columns at most besides those of its networks: it has to be
#: solved as a whole for each price. Chosen by hand.
MOST_OWN = 1000
#: A row objects to a claim if it is at most so many times as long: the first balance of a
#: chain, where the store is a number, is shorter than the others. Chosen by hand.
OBJECTS = 1.5
#: The owner of a column that nobody has claimed, and of one that couples.
FREE, COUPLING = -1, -2


@dataclass(frozen=True, eq=False)
class Ownership:
    """Who owns what.

    Attributes
    ----------
    owner : (m,) int array
        The subsystem of each column; ``FREE`` or ``COUPLING`` where there is none.
    row_owner : (rows,) int array
        The subsystem of each row; ``COUPLING`` where there is none.
    """

    owner: np.ndarray
    row_owner: np.ndarray

    def columns(self, count: int) -> list[np.ndarray]:
        """The columns of each of so many subsystems, in increasing order."""
        order = np.argsort(self.owner, kind="stable")
        ends = np.searchsorted(self.owner[order], np.arange(count + 1))
        return [order[a:b] for a, b in zip(ends, ends[1:])]


def find_owners(
    program: LinearProgram,
    groups: Sequence[np.ndarray],
    most: int = MOST_OWN,
    coupling: np.ndarray | None = None,
) -> Ownership:
    """The subsystem of each column and row.

    Parameters
    ----------
    program : LinearProgram
    groups : sequence of int arrays
        Columns that each subsystem has to begin with, disjoint.
    most : int
        How many more columns a subsystem takes.
    coupling : int array, optional
        Columns that couple from the beginning.
    """
    owner = np.full(len(program.lower), FREE)
    if coupling is not None:
        owner[coupling] = COUPLING
    for k, columns in enumerate(groups):
        owner[columns] = k
    matrix, room = program.matrix, np.full(len(groups), most)
    lengths = np.diff(matrix.indptr)
    rows, columns = np.repeat(np.arange(len(lengths)), lengths), matrix.indices
    moving = (matrix.data != 0) & (program.lower < program.upper)[columns]
    entries = _Entries(rows[moving], columns[moving], lengths)
    for length in np.unique(lengths).tolist():
        while _claim(entries, owner, length, room):
            pass
    least, largest = _ends(entries.rows, owner[entries.columns], len(lengths))
    own = (least == largest) & (least >= 0)
    return Ownership(owner, np.where(own, least, COUPLING))


@dataclass(frozen=True)
class _Entries:
    """Rows and columns of the places of a matrix that are not 0, and the rows' lengths."""

    rows: np.ndarray
    columns: np.ndarray
    lengths: np.ndarray


def _ends(at: np.ndarray, numbers: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest of the numbers at each place; crossed where there is none."""
    least, largest = np.full(size, np.iinfo(int).max), np.full(size, FREE)
    np.minimum.at(least, at, numbers)
    np.maximum.at(largest, at, numbers)
    return least, largest


def _claim(entries: _Entries, owner: np.ndarray, length: int, room: np.ndarray) -> bool:
    """Let rows up to a length claim columns once, in place; whether there was a claim."""
    rows, columns, lengths = entries.rows, entries.columns, entries.lengths
    taken = owner[columns] >= 0
    least, largest = _ends(rows[taken], owner[columns[taken]], len(lengths))
    asking = (least == largest) & (lengths <= length)
    claimed = np.unique(columns[asking[rows] & (owner[columns] == FREE)])
    heard = (largest >= 0) & (lengths <= OBJECTS * length)
    at = heard[rows]
    first, _ = _ends(columns[at], least[rows[at]], len(owner))
    _, last = _ends(columns[at], largest[rows[at]], len(owner))
    for j in claimed.tolist():
        k = int(first[j])
        if k != last[j] or not room[k]:
            owner[j] = COUPLING
        else:
            owner[j] = k
            room[k] -= 1
    return bool(len(claimed))
