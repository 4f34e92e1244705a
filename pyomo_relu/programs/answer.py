"""What a run of HiGHS says, and how much of it may be used."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np


class Status(enum.Enum):
    """How a run ended.

    ``TIME_LIMIT``, ``LIMIT`` (of nodes, iterations, solutions, the objective, memory)
    and ``INTERRUPTED`` leave a valid bound, and perhaps a point. ``FAILED`` is every
    ending that proves nothing; HiGHS's numbers are not to be read then.
    """

    OPTIMAL = "optimal"
    INFEASIBLE = "infeasible"
    UNBOUNDED = "unbounded"
    INFEASIBLE_OR_UNBOUNDED = "infeasible or unbounded"
    TIME_LIMIT = "time limit"
    LIMIT = "limit"
    INTERRUPTED = "interrupted"
    FAILED = "failed"

    @property
    def stopped_early(self) -> bool:
        """Whether a limit or an interrupt ended the run before its proof."""
        return self in (Status.TIME_LIMIT, Status.LIMIT, Status.INTERRUPTED)


#: HiGHS's names of its endings; any other one counts as failed.
STATUS = {
    "kOptimal": Status.OPTIMAL,
    "kInfeasible": Status.INFEASIBLE,
    "kUnbounded": Status.UNBOUNDED,
    "kUnboundedOrInfeasible": Status.INFEASIBLE_OR_UNBOUNDED,
    "kTimeLimit": Status.TIME_LIMIT,
    "kIterationLimit": Status.LIMIT,
    "kSolutionLimit": Status.LIMIT,
    "kObjectiveBound": Status.LIMIT,
    "kObjectiveTarget": Status.LIMIT,
    "kMemoryLimit": Status.LIMIT,
    "kInterrupt": Status.INTERRUPTED,
    "kHighsInterrupt": Status.INTERRUPTED,
}

#: Endings that leave no point behind.
UNUSABLE = (Status.FAILED, Status.INFEASIBLE, Status.INFEASIBLE_OR_UNBOUNDED)

#: HiGHS's default feasibility tolerance.
TOLERANCE = 1e-7

#: HiGHS's mark of a point that satisfies the program within its tolerances.
FEASIBLE = 2


@dataclass(frozen=True)
class Answer:
    """One run's end: a point and a bound where they may be used, else neither.

    Attributes
    ----------
    status : Status
    reason : str
        HiGHS's own name of the ending, for messages.
    objective : float or None
        The value of the point; None where there is none.
    bound : float
        No feasible point is better than this, within the solver's tolerances. Infinite
        on the side of no use where nothing is proved; infinite on the other side where
        no point exists.
    gap : float
        Relative, as HiGHS defines it.
    nodes, iterations : int
        How large the search tree is, and how many steps the simplex method made.
    keyboard : bool
        Whether Ctrl-C ended the run.
    """

    status: Status
    reason: str
    objective: float | None
    bound: float
    gap: float
    nodes: int
    iterations: int
    keyboard: bool
    _solution: Any
    _basis: Any

    @property
    def optimal(self) -> bool:
        """Whether the point is proved to be optimal within the gaps asked for."""
        return self.status is Status.OPTIMAL

    @property
    def infeasible(self) -> bool:
        """Whether the program is proved to have no point."""
        return self.status is Status.INFEASIBLE

    @cached_property
    def point(self) -> np.ndarray | None:
        """A feasible point, (n_columns,), or None."""
        if self.objective is None:
            return None
        return np.array(self._solution.col_value, dtype=float)

    @cached_property
    def row_duals(self) -> np.ndarray | None:
        """Row duals of an optimal linear program, (n_rows,), or None."""
        if not self.optimal or not self._solution.dual_valid:
            return None
        return np.array(self._solution.row_dual, dtype=float)

    @cached_property
    def reduced_costs(self) -> np.ndarray | None:
        """Reduced costs of an optimal linear program, (n_columns,), or None."""
        if not self.optimal or not self._solution.dual_valid:
            return None
        return np.array(self._solution.col_dual, dtype=float)

    @property
    def basis(self) -> Any:
        """The basis of an optimal linear program, for ``HighsModel.start_basis``; or None."""
        return self._basis


def read_answer(
    highs: Any, ran: bool, is_mip: bool, maximize: bool, keyboard: bool
) -> Answer:
    """Read what a run left behind.

    Parameters
    ----------
    highs : highspy.Highs
    ran : bool
        Whether ``run`` itself reported no error. Where it did, HiGHS's status and
        numbers are those of nothing: an optimum of 0 and a bound of 0 are among them.
    is_mip, maximize : bool
    keyboard : bool
    """
    reason = highs.getModelStatus().name
    empty = reason == "kModelEmpty"
    status = Status.FAILED
    if ran:
        status = _empty(highs) if empty else STATUS.get(reason, Status.FAILED)
    info = highs.getInfo()
    usable = status not in UNUSABLE
    objective = None
    if usable and (info.primal_solution_status == FEASIBLE or empty):
        objective = float(info.objective_function_value)
    return Answer(
        status,
        reason,
        objective,
        _bound(info, status, objective, is_mip, maximize),
        float(info.mip_gap) if is_mip and usable else math.nan,
        max(int(info.mip_node_count), 0) if is_mip else 0,
        max(int(info.simplex_iteration_count), 0),
        keyboard,
        highs.getSolution(),
        highs.getBasis() if status is Status.OPTIMAL and not is_mip else None,
    )


def _bound(
    info: Any, status: Status, objective: float | None, is_mip: bool, maximize: bool
) -> float:
    """What no feasible point is better than."""
    sign = -1.0 if maximize else 1.0
    bound = -sign * math.inf
    if status is Status.INFEASIBLE:
        bound = sign * math.inf
    elif is_mip and (status is Status.OPTIMAL or status.stopped_early):
        bound = float(info.mip_dual_bound)
    elif status is Status.OPTIMAL and objective is not None:
        bound = objective
    return -sign * math.inf if math.isnan(bound) else bound


def _empty(highs: Any) -> Status:
    """HiGHS calls a program without columns empty and doesn't look at its rows."""
    lp = highs.getLp()
    low = np.array(lp.row_lower_, dtype=float)
    high = np.array(lp.row_upper_, dtype=float)
    if lp.num_col_ == 0 and ((low > TOLERANCE) | (high < -TOLERANCE)).any():
        return Status.INFEASIBLE
    return Status.OPTIMAL
