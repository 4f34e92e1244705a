"""What joins subsystems that are unions of polytopes, and the programs over their vertices.

The columns that nobody owns, the rows that couple, and for each input that several read and
that takes few values a column for each value: the weights of a subsystem's vertices at a value
sum to that column, in every subsystem. So mixtures agree value by value, not only on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.presolve.values import find_values
from pyomo_relu.programs import LinearProgram, Rows, matrix_of
from pyomo_relu.programs.linear_program import Part, stacked
from pyomo_relu.solvers.global_search.divided import DividedSubsystem
from pyomo_relu.solvers.global_search.pieces import Pieces
from pyomo_relu.solvers.global_search.shares import Share


@dataclass
class Columns:
    """A program over groups, and where its columns are.

    Attributes
    ----------
    program : LinearProgram
    subsystem, group, point : (L,) int arrays
        What each of the first columns is a share of.
    """

    program: LinearProgram
    subsystem: np.ndarray
    group: np.ndarray
    point: np.ndarray

    def rest(self, z: np.ndarray, count: int) -> np.ndarray:
        """The values of so many columns after the shares."""
        return z[len(self.point) :][:count]


class Coupling:
    """Coupling rows and the columns that nobody owns.

    Parameters
    ----------
    p : Problem
    shares : sequence of Share
    pieces : sequence of Pieces
        Of each; none of them is empty.
    deadline : Deadline

    Attributes
    ----------
    others : (r,) int array
        The problem's columns that nobody owns.
    rest : LinearProgram
        These columns, then those of values, in the coupling rows.
    subsystems : list of DividedSubsystem
    margin : float
        What the margins of outputs may take off the cost.

    Raises
    ------
    TimeUp
        When the deadline has passed.
    """

    def __init__(
        self,
        p: Problem,
        shares: Sequence[Share],
        pieces: Sequence[Pieces],
        deadline: Deadline = NEVER,
    ) -> None:
        owned = np.zeros(len(p.columns), dtype=bool)
        private = np.zeros(len(p.row_lower), dtype=bool)
        # Outputs may be off by a margin, so rows are wider and the bound is lower by it.
        off = np.zeros(len(p.columns))
        for share, own in zip(shares, pieces):
            owned[share.columns[~share.shared]] = True
            private[share.rows] = True
            off[p.n + share.outputs] = own.margin
        self.others = np.flatnonzero(~owned)
        coupling = sp.csc_array(p.matrix[~private])
        wider = abs(coupling) @ off
        self.margin = float(abs(p.cost) @ off)
        self.rest = LinearProgram(
            p.cost[self.others],
            p.lower[self.others],
            p.upper[self.others],
            sp.csr_array(coupling[:, self.others]),
            p.row_lower[~private] - wider,
            p.row_upper[~private] + wider,
            p.integer[self.others],
        )
        copies = self._copies(p, shares)
        self.subsystems = []
        for k, (share, own) in enumerate(zip(shares, pieces)):
            deadline.check()
            mine = ~share.shared
            in_rows = sp.csr_array(coupling[:, share.columns[mine]])
            rows = np.flatnonzero(np.diff(in_rows.indptr))
            activity = (in_rows[rows] @ own.points[:, mine].T).T
            cost = own.points[:, mine] @ p.cost[share.columns[mine]]
            for first, values, d in copies[k]:
                # Which of the values each vertex has; a row for each.
                at = np.argmin(abs(own.points[:, [d]] - values), axis=1)
                has = (at[:, None] == np.arange(len(values))).astype(float)
                rows = np.append(rows, first + np.arange(len(values)))
                activity = np.column_stack([activity, has])
            self.subsystems.append(DividedSubsystem(share, own, rows, activity, cost))

    def _copies(
        self, p: Problem, shares: Sequence[Share]
    ) -> list[list[tuple[int, np.ndarray, int]]]:
        """Rows for copies of inputs: first row, values and column of each subsystem's."""
        place = {j: i for i, j in enumerate(self.others.tolist())}
        known = find_values(p, p.lower, p.upper) if any(s.values for s in shares) else None
        columns: dict[int, np.ndarray] = {}
        found: list[list[tuple[int, np.ndarray, int]]] = []
        for share in shares:
            found.append([])
            for d, values in share.values.items():
                j = int(share.columns[d])
                if j not in columns:
                    assert known is not None
                    members = (known.members(j) or {}).values()
                    if len(members) == len(values) and all(m in place for m in members):
                        by_value = sorted((known.members(j) or {}).items())
                        columns[j] = np.array([place[m] for _, m in by_value])
                    else:
                        columns[j] = self._new_columns(place[j], values)
                n = len(values)
                found[-1].append((len(self.rest.row_lower), values, d))
                zero = np.zeros(n)
                self._add_rows([(np.arange(n), columns[j], -1.0)], zero, zero)
        return found

    def _new_columns(self, at: int, values: np.ndarray) -> np.ndarray:
        """A binary for each value of a column, of which one is 1."""
        rest, n = self.rest, len(values)
        matrix = rest.matrix.copy()
        matrix.resize((matrix.shape[0], matrix.shape[1] + n))
        new = np.arange(len(rest.cost), len(rest.cost) + n)
        zero, one = np.zeros(n), np.ones(n)
        assert rest.integer is not None
        self.rest = LinearProgram(
            np.append(rest.cost, zero),
            np.append(rest.lower, zero),
            np.append(rest.upper, one),
            sp.csr_array(matrix),
            rest.row_lower,
            rest.row_upper,
            np.append(rest.integer, one > 0),
        )
        none = np.zeros(n, dtype=int)
        parts: list[Part] = [(none, new, 1.0), (none + 1, new, -values), ([1], [at], 1.0)]
        ends = np.array([1.0, 0.0])
        self._add_rows(parts, ends, ends)
        return new

    def _add_rows(
        self, parts: Sequence[Part], lower: np.ndarray, upper: np.ndarray
    ) -> None:
        rows = matrix_of(len(lower), len(self.rest.cost), parts)
        self.rest = self.rest.with_rows(Rows(rows, lower, upper))

    # ------------------------------------------------------------------------- programs
    def columns(self, groups: Sequence[Sequence[np.ndarray]]) -> Columns:
        """The program over groups, each given by the vertices that count.

        Parameters
        ----------
        groups : sequence of sequences of int arrays
            For each subsystem.
        """
        rest = self.rest
        sizes = np.array([len(c) for own in groups for c in own])
        of_group = np.repeat(np.arange(len(groups)), [len(own) for own in groups])
        place = np.concatenate([np.arange(len(own)) for own in groups])
        number = np.repeat(np.arange(len(sizes)), sizes)
        several = np.array([len(groups[u]) > 1 for u in of_group.tolist()])
        binary = np.cumsum(several) - 1
        total, r, b = int(sizes.sum()), len(rest.cost), int(several.sum())
        width = total + r + b
        parts, costs, at = [], [], 0
        for u, own in zip(self.subsystems, groups):
            mine = np.concatenate(own)
            i, j = np.nonzero(u.activity[mine])
            parts.append((u.rows[j], at + i, u.activity[mine[i], j]))
            costs.append(u.cost[mine])
            at += len(mine)
        rows = np.repeat(np.arange(len(rest.row_lower)), np.diff(rest.matrix.indptr))
        parts.append((rows, total + rest.matrix.indices, rest.matrix.data))
        matrix = matrix_of(len(rest.row_lower), width, parts)
        # The shares of a subsystem sum to 1, those of a group to its binary.
        subsystem, share = of_group[number], np.arange(total)
        whole = matrix_of(len(groups), width, [(subsystem, share, 1.0)])
        mine = several[number]
        by_group: list[Part] = [
            (binary[number[mine]], share[mine], 1.0),
            (np.arange(b), total + r + np.arange(b), -1.0),
        ]
        one, zero = np.ones(len(groups)), np.zeros(b)
        program = LinearProgram(
            np.concatenate([*costs, rest.cost, zero]),
            np.concatenate([np.zeros(total), rest.lower, zero]),
            np.concatenate([np.ones(total), rest.upper, zero + 1.0]),
            stacked(stacked(matrix, whole), matrix_of(b, width, by_group)),
            np.concatenate([rest.row_lower, one, zero]),
            np.concatenate([rest.row_upper, one, zero]),
            np.repeat([False, False, True], [total, r, b]),
        )
        assert program.integer is not None
        program.integer[total : total + r] = rest.integer
        point = np.concatenate([c for own in groups for c in own])
        return Columns(program, subsystem, place[number], point)
