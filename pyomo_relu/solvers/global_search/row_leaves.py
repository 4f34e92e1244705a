"""Programs of subproblems with few undecided neurons, solved here or on a worker."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.programs import LinearProgram
from pyomo_relu.sides.region_program import region_program
from pyomo_relu.sides.row_bounds import RowBounds, Subproblems
from pyomo_relu.solvers.global_search.mip import BoxAnswer, BoxMIP


class RowLeaves:
    """What the programs of all subproblems have in common.

    Parameters
    ----------
    problem : Problem
        Its columns, rows and network; the user's model stays where it is.
    bounds : RowBounds

    Attributes
    ----------
    fingerprint : str
        The name under which a worker keeps it.
    """

    def __init__(self, problem: Problem, bounds: RowBounds) -> None:
        p, self.bounds = problem, bounds
        self.outputs = slice(p.n, p.n + p.q)
        self.program = LinearProgram(
            p.cost, p.lower, p.upper, p.matrix, p.row_lower, p.row_upper, p.integer
        )
        self.fingerprint = uuid.uuid4().hex

    def solve(self, one: Subproblems, target: float, gap: float, time: float) -> BoxAnswer:
        """The least cost in one subproblem.

        Parameters
        ----------
        one : Subproblems
            Arrays of one row.
        target : float
            Points that cost more are of no interest.
        gap : float
            The absolute gap at which HiGHS may stop.
        time : float
            Seconds.
        """
        p, network = self.program, self.bounds.network
        low, high = p.lower.copy(), p.upper.copy()
        columns = self.bounds.terms.columns
        low[columns], high[columns] = one.low[0], one.high[0]
        ranges = self.bounds.nodes(one, one.stored)
        sides = [a[0] for a in ranges[0]], [a[0] for a in ranges[1]]
        fixed = {i: one.fixed[0, s].astype(float) for i, s in self.bounds.spans.items()}
        program = LinearProgram(
            p.cost, low, high, p.matrix, p.row_lower, p.row_upper, p.integer
        )
        whole = region_program(network, program, self.outputs, sides, fixed)
        return _RegionMIP(len(p.cost), whole).solve(target, time, gap)


class _RegionMIP(BoxMIP):
    """A subproblem's program, in HiGHS, without a start."""

    def __init__(self, columns: int, program: LinearProgram) -> None:
        self.m, self.program = columns, program


def solve_chunk(
    leaves: RowLeaves,
    token: str,
    how: tuple[float, float, Deadline],
    chunk: Sequence[Subproblems],
) -> list[BoxAnswer | None]:
    """What a worker runs; ``how`` is the target, the gap and the end of the search.

    None for what the end cut off.
    """
    target, gap, deadline = how
    found: list[BoxAnswer | None] = []
    for one in chunk:
        left = deadline.left()
        found.append(leaves.solve(one, target, gap, left) if left > 0 else None)
    return found
