"""HiGHS with sharp tolerances: linear programs in sequence, mixed-integer ones to proofs.

HiGHS 1.15 now and then ends a small program with "Solve error" (about one in a
hundred training programs); each solve here tries again without presolve and from
scratch before it gives up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import TimeUp
from pyomo_relu.programs.answer import Answer, Status
from pyomo_relu.programs.highs import HighsModel, ProgramError
from pyomo_relu.programs.program import Program

#: The tolerance of feasibility and optimality, absolute; gradients need a sharper one than
#: a MIP does. It was chosen by hand.
TOLERANCE = 1e-9

_OPTIONS = {
    "primal_feasibility_tolerance": TOLERANCE,
    "dual_feasibility_tolerance": TOLERANCE,
    "mip_feasibility_tolerance": TOLERANCE,
    "mip_rel_gap": 0.0,
    "mip_abs_gap": TOLERANCE,
    "small_matrix_value": 1e-12,
}

#: What is changed before each new attempt at a linear program. Presolve is off first,
#: which also tells infeasible from unbounded; strategy 4 is the primal simplex method.
_RETRIES: tuple[dict[str, Any], ...] = (
    {"presolve": "off", "simplex_strategy": 1},
    {"presolve": "on", "simplex_strategy": 1},
    {"presolve": "off", "simplex_strategy": 4},
)


class Infeasible(ValueError):
    """No point satisfies the constraints."""


class Unbounded(ValueError):
    """The objective has no finite optimum."""


class SolverError(RuntimeError):
    """HiGHS ended without an answer, whatever was tried."""


@dataclass(frozen=True)
class Solution:
    """An optimal point.

    Attributes
    ----------
    value : float
    x : (n,) array
    y : (m,) array
        Row duals of the linear program, at least 0 at lower bounds of rows.
    reduced : (n,) array
        ``cost - matrix.T @ y``.
    basic, row_basic : (n,), (m,) bool arrays
        The basis: basic variables, and rows whose slack is basic.
    """

    value: float
    x: np.ndarray
    y: np.ndarray
    reduced: np.ndarray
    basic: np.ndarray
    row_basic: np.ndarray


def _load(program: Program, relaxed: bool, **options: Any) -> HighsModel:
    try:
        return HighsModel(program, relaxed=relaxed, **{**_OPTIONS, **options})
    except ProgramError as error:
        raise SolverError(
            "HiGHS refuses the program; its numbers may be beyond 1e15."
        ) from error


class Relaxed:
    """The relaxation of a program, solved for one box of the variables after another."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.highs = _load(program, relaxed=True)

    def solve(
        self, lower: np.ndarray | None = None, upper: np.ndarray | None = None
    ) -> Solution | None:
        """Solve over a box, by default the program's; None if there is no point.

        Raises
        ------
        Unbounded, SolverError
        """
        if lower is not None and upper is not None:
            self.highs.set_bounds(lower, upper)
        return self._run()

    def minimize(self, cost: np.ndarray) -> Solution | None:
        """Solve with another cost; None if there is no point."""
        self.highs.set_costs(cost)
        return self._run()

    def _run(self) -> Solution | None:
        for change in (*_RETRIES, None):
            answer = self.highs.run()
            if answer.optimal:
                return self._read(answer)
            if answer.infeasible:
                return None
            if answer.status is Status.UNBOUNDED:
                raise Unbounded("the linear program is unbounded; give finite bounds.")
            if change is not None:
                self.highs.forget()
                self.highs.set(change)
        raise SolverError(f"HiGHS ended a linear program with {answer.reason}.")

    def _read(self, answer: Answer) -> Solution:
        basic, row_basic = self.highs.basic(answer.basis)
        x, y, reduced = answer.point, answer.row_duals, answer.reduced_costs
        if x is None or y is None or reduced is None or answer.objective is None:
            raise SolverError("HiGHS calls a linear program optimal, but gives no duals.")
        row_basic = row_basic.reshape(self.program.shape[0])
        return Solution(answer.objective, x, y, reduced, basic, row_basic)


def solve_lp(program: Program) -> Solution:
    """Solve a linear program once.

    Raises
    ------
    Infeasible, Unbounded, SolverError
    """
    found = Relaxed(program).solve()
    if found is None:
        raise Infeasible("no point satisfies the constraints.")
    return found


def solve_mip(
    program: Program, start: np.ndarray | None = None, time_limit: float | None = None
) -> np.ndarray:
    """An optimal point of a mixed-integer program, integers rounded.

    HiGHS as it is, then without presolve, each within the seconds of ``time_limit``. What
    both fail at is left to the caller.

    Raises
    ------
    Infeasible, Unbounded, SolverError, TimeUp
    """
    names = []
    for presolve in ("choose", "off"):
        highs = _load(program, relaxed=False, presolve=presolve)
        if start is not None:
            highs.start_at(start)
        answer = highs.run(time_limit)
        if answer.optimal and answer.point is not None:
            x = answer.point
            x[program.integer] = np.round(x[program.integer])
            return x
        if answer.infeasible:
            raise Infeasible("no point satisfies the constraints.")
        if answer.status is Status.UNBOUNDED:
            raise Unbounded("the program is unbounded; give finite bounds.")
        if answer.status is Status.TIME_LIMIT:
            raise TimeUp
        names.append(answer.reason)
    raise SolverError(f"HiGHS ended the program with {', '.join(names)}.")
