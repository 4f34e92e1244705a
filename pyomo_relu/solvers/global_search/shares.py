"""What each subsystem of a problem owns, and what several read.

Subsystems are groups of drivers that no network connects, with the columns and rows that serve them
alone (:mod:`~pyomo_relu.presolve.ownership`). Where networks share inputs that take few
values, as the prices of rivals, each network is a subsystem with copies of these inputs; that
all copies take the same value is left to rows between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.presolve.compose import BlockLinks
from pyomo_relu.presolve.ownership import find_owners
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.presolve.values import find_values
from pyomo_relu.programs import LinearProgram
from pyomo_relu.solvers.global_search.subsystems import (
    connected,
    find_subsystems,
    links_of,
)


@dataclass(frozen=True, eq=False)
class Share:
    """A subsystem's share of a problem.

    Attributes
    ----------
    links : list of BlockLinks
        Its blocks, each after those it reads.
    drivers, outputs, rest : int arrays
        Its columns of the problem; outputs count from the first output column.
    rows : int array
        Its own rows of the problem.
    columns : (c,) int array
        All its columns: drivers, outputs, rest.
    program : LinearProgram
        Its columns and rows, without a cost; columns of one value are constants.
    shared : (c,) bool array
        Which of its columns are copies of what others read, too: some drivers.
    values : mapping
        The few values that each of these takes, by its number in the program.
    """

    links: list[BlockLinks]
    drivers: np.ndarray
    outputs: np.ndarray
    rest: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    program: LinearProgram
    shared: np.ndarray
    values: Mapping[int, np.ndarray]

    @property
    def n(self) -> int:
        """How many drivers there are."""
        return len(self.drivers)

    @property
    def q(self) -> int:
        """How many outputs there are."""
        return len(self.outputs)


def find_shares(p: Problem) -> list[Share]:
    """What each group of drivers owns that no network connects."""
    groups = find_subsystems(p)
    return _shares(p, groups, links_of(p, groups), np.zeros(0, dtype=int), {})


def split_shares(p: Problem) -> list[Share]:
    """What each network owns, where all inputs that several read take few values.

    Networks that read each other's outputs stay together. Empty where that isn't so, or
    where no input is shared.
    """
    if not p.integer.any():
        return []  # nothing takes few values
    groups, links = _networks(p)
    readers = np.zeros(p.n, dtype=int)
    for drivers, _ in groups:
        readers[drivers] += 1
    shared = np.flatnonzero((readers > 1) & (p.lower < p.upper)[: p.n])
    values = find_values(p, p.lower, p.upper).values
    if not len(shared) or not values.keys() >= set(shared.tolist()):
        return []
    return _shares(p, groups, links, shared, {j: values[j] for j in shared.tolist()})


def _networks(
    p: Problem,
) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[list[BlockLinks]]]:
    """Drivers, outputs and blocks of each set of blocks that read each other's outputs."""
    driver = {id(v): j for j, v in enumerate(p.columns[: p.n])}
    column = {id(v): j for j, v in enumerate(p.columns[p.n : p.n + p.q])}
    reads = [{key for one in link.inputs for key in one.terms} for link in p.links]
    part = _joined_by_outputs(p, reads, driver.keys())
    groups, links = [], []
    for name in dict.fromkeys(part.tolist()):
        mine = np.flatnonzero(part == name).tolist()
        keys: set[int] = set().union(*(reads[k] for k in mine))
        made = {id(v) for k in mine for v in p.links[k].outputs}
        outputs = sorted(column[key] for key in made & column.keys())
        drivers = sorted(driver[key] for key in keys & driver.keys())
        if drivers and outputs:
            groups.append((np.array(drivers), np.array(outputs)))
            links.append([p.links[k] for k in mine])
    return groups, links


def _joined_by_outputs(
    p: Problem, reads: Sequence[set[int]], drivers: Set[int]
) -> np.ndarray:
    """The number of the set of each block, of those that read each other's outputs."""
    maker: dict[int, int] = {}
    for k, link in enumerate(p.links):
        maker |= {id(v): k for v in link.outputs if id(v) not in drivers}
    pairs = [(k, maker[key]) for k, keys in enumerate(reads) for key in keys & maker.keys()]
    return connected(len(p.links), pairs)


def _shares(
    p: Problem,
    groups: Sequence[tuple[np.ndarray, np.ndarray]],
    links: Sequence[list[BlockLinks]],
    shared: np.ndarray,
    values: Mapping[int, np.ndarray],
) -> list[Share]:
    own = [np.concatenate([np.setdiff1d(d, shared), p.n + o]) for d, o in groups]
    owned = find_owners(p, own, coupling=shared)
    moving, by_column, shares = p.lower < p.upper, sp.csc_array(p.matrix), []
    fixed = np.where(moving, 0.0, p.lower)
    constant = p.matrix @ fixed
    for (drivers, outputs), mine, blocks in zip(groups, owned.columns(len(groups)), links):
        rest = mine[mine >= p.n + p.q]
        columns = np.concatenate([drivers, p.n + outputs, rest])
        local, own_rows = _rows_within(p, by_column, columns, mine[moving[mine]])
        copies = np.isin(columns, shared)
        few = {j: values[columns[j]] for j in np.flatnonzero(copies).tolist()}
        matrix = sp.csr_array(p.matrix[local][:, columns])
        elsewhere = constant[local] - matrix @ fixed[columns]
        program = LinearProgram(
            np.zeros(len(columns)),
            p.lower[columns],
            p.upper[columns],
            matrix,
            p.row_lower[local] - elsewhere,
            p.row_upper[local] - elsewhere,
            p.integer[columns],
        )
        shares.append(
            Share(blocks, drivers, outputs, rest, own_rows, columns, program, copies, few)
        )
    return shares


def _rows_within(
    p: Problem, by_column: sp.csc_array, columns: np.ndarray, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows all of whose columns are among these or have one value; those with own ones."""
    near = np.unique(by_column[:, columns].indices)
    rows = sp.csr_array(p.matrix[near])
    at = np.repeat(np.arange(len(near)), np.diff(rows.indptr))
    used = rows.data != 0
    at, of = at[used], rows.indices[used]
    outside = (p.lower < p.upper)[of] & ~np.isin(of, columns)
    within = np.ones(len(near), dtype=bool)
    within[at[outside]] = False
    mine = np.zeros(len(near), dtype=bool)
    mine[at[np.isin(of, own)]] = True
    return near[within], near[within & mine]
