"""HiGHS on a `Program`: linear programs in sequence, mixed-integer ones to proven optima.

HiGHS 1.15 now and then ends a small program with "Solve error" (about one in a
hundred training programs); each solve here tries again without presolve and from
scratch before it gives up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pyomo_relu.differentiable.program import Program
from pyomo_relu.lazy import highspy

#: Feasibility and optimality tolerances; gradients need sharper ones than a MIP.
TOLERANCE = 1e-9

_OPTIONS = {
    "output_flag": False,
    "primal_feasibility_tolerance": TOLERANCE,
    "dual_feasibility_tolerance": TOLERANCE,
    "mip_feasibility_tolerance": TOLERANCE,
    "mip_rel_gap": 0.0,
    "mip_abs_gap": TOLERANCE,
    "small_matrix_value": 1e-12,
    "threads": 1,
}


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


def new_highs(**options: Any):
    """A silent ``Highs`` object with sharp tolerances."""
    highs = highspy.Highs()
    for name, setting in {**_OPTIONS, **options}.items():
        highs.setOptionValue(name, setting)
    return highs


def pass_program(highs, program: Program, relaxed: bool) -> None:
    """Hand a program to HiGHS, with or without its integrality."""
    m, n = program.shape
    infinity = highspy.kHighsInf
    kinds = np.zeros(n, dtype=np.int32)
    if not relaxed:
        kinds[program.integer] = 1
    status = highs.passModel(
        n,
        m,
        program.matrix.nnz,
        int(highspy.MatrixFormat.kRowwise),
        1,
        program.offset,
        program.cost,
        np.clip(program.lower, -infinity, infinity),
        np.clip(program.upper, -infinity, infinity),
        np.clip(program.row_lower, -infinity, infinity),
        np.clip(program.row_upper, -infinity, infinity),
        program.matrix.indptr.astype(np.int32),
        program.matrix.indices.astype(np.int32),
        program.matrix.data.astype(float),
        kinds,
    )
    if status == highspy.HighsStatus.kError:
        raise SolverError("HiGHS refuses the program; its numbers may be beyond 1e15.")


class LinearProgram:
    """The relaxation of a program, solved for one box of the variables after another."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.highs = new_highs()
        pass_program(self.highs, program, relaxed=True)
        self._columns = np.arange(program.shape[1], dtype=np.int32)

    def solve(
        self, lower: np.ndarray | None = None, upper: np.ndarray | None = None
    ) -> Solution | None:
        """Solve over a box, by default the program's; None if there is no point.

        Raises
        ------
        Unbounded, SolverError
        """
        if lower is not None and upper is not None:
            infinity = highspy.kHighsInf
            self.highs.changeColsBounds(
                len(self._columns),
                self._columns,
                np.clip(lower, -infinity, infinity),
                np.clip(upper, -infinity, infinity),
            )
        return self._run()

    def minimize(self, cost: np.ndarray) -> Solution | None:
        """Solve with another cost; None if there is no point."""
        self.highs.changeColsCost(len(self._columns), self._columns, cost)
        return self._run()

    def _run(self) -> Solution | None:
        kinds = highspy.HighsModelStatus
        for attempt in range(4):
            self.highs.run()
            status = self.highs.getModelStatus()
            if status in (kinds.kOptimal, kinds.kModelEmpty):
                return self._read()
            if status == kinds.kInfeasible:
                return None
            if status == kinds.kUnbounded:
                raise Unbounded("the linear program is unbounded; give finite bounds.")
            self.highs.clearSolver()
            # Also tells infeasible from unbounded, which presolve may leave open.
            self.highs.setOptionValue("presolve", "off" if attempt % 2 == 0 else "on")
            self.highs.setOptionValue("simplex_strategy", 1 if attempt < 2 else 4)
        raise SolverError(f"HiGHS ended a linear program with {status.name}.")

    def _read(self) -> Solution:
        found, basis = self.highs.getSolution(), self.highs.getBasis()
        kind = highspy.HighsBasisStatus.kBasic
        y = np.array(found.row_dual, dtype=float)
        x = np.array(found.col_value, dtype=float)
        lp = self.program
        return Solution(
            self.highs.getInfo().objective_function_value,
            x,
            y,
            np.array(found.col_dual, dtype=float),
            np.array([s == kind for s in basis.col_status], dtype=bool),
            np.array([s == kind for s in basis.row_status], dtype=bool).reshape(
                lp.shape[0]
            ),
        )


def solve_lp(program: Program) -> Solution:
    """Solve a linear program once.

    Raises
    ------
    Infeasible, Unbounded, SolverError
    """
    found = LinearProgram(program).solve()
    if found is None:
        raise Infeasible("no point satisfies the constraints.")
    return found


def solve_mip(
    program: Program, start: np.ndarray | None = None, time_limit: float | None = None
) -> np.ndarray:
    """An optimal point of a mixed-integer program, integers rounded.

    HiGHS as it is, then without presolve. What both fail at is left to the caller.

    Raises
    ------
    Infeasible, Unbounded, SolverError
    """
    kinds = highspy.HighsModelStatus
    names = []
    for presolve in ("choose", "off"):
        highs = new_highs(presolve=presolve)
        if time_limit is not None:
            highs.setOptionValue("time_limit", float(time_limit))
        pass_program(highs, program, relaxed=False)
        if start is not None:
            guess = highspy.HighsSolution()
            guess.col_value, guess.value_valid = start.tolist(), True
            highs.setSolution(guess)
        highs.run()
        status = highs.getModelStatus()
        if status in (kinds.kOptimal, kinds.kModelEmpty):
            x = np.array(highs.getSolution().col_value, dtype=float)
            x[program.integer] = np.round(x[program.integer])
            return x
        if status == kinds.kInfeasible:
            raise Infeasible("no point satisfies the constraints.")
        if status == kinds.kUnbounded:
            raise Unbounded("the program is unbounded; give finite bounds.")
        names.append(status.name)
        if status == kinds.kTimeLimit:
            break
    raise SolverError(f"HiGHS ended the program with {', '.join(names)}.")
