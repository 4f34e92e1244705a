"""What is left to a MIP, by any solver of Pyomo's in place of HiGHS."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pyomo.environ import SolverFactory, value
from pyomo.opt import SolverStatus, TerminationCondition

from pyomo_relu.solvers.relu.mip_form import MipForm

if TYPE_CHECKING:
    from pyomo_relu.solvers.relu.search import TogetherSearch

#: How Pyomo's interfaces call the time limit and the relative gap of a solver, by its name.
_WORDS = {
    "gurobi": ("TimeLimit", "MIPGap"),
    "cplex": ("timelimit", "mip_tolerances_mipgap"),
    "scip": ("limits/time", "limits/gap"),
    "cbc": ("sec", "ratioGap"),
    "glpk": ("tmlim", "mipgap"),
    "xpress": ("maxtime", "miprelstop"),
    "highs": ("time_limit", "mip_rel_gap"),
}


class OtherMIP:
    """A run of a solver of Pyomo's on a problem as a mixed-integer program.

    Parameters
    ----------
    solver : str or solver
        A name for ``SolverFactory``, or what it gave.
    tee : bool
        Whether the solver's log is shown.

    Raises
    ------
    ValueError
        For a solver that Pyomo doesn't know or that isn't there.
    """

    def __init__(self, solver: Any, tee: bool) -> None:
        self.name = solver if isinstance(solver, str) else str(getattr(solver, "name", ""))
        self.solver = SolverFactory(solver) if isinstance(solver, str) else solver
        self.tee = tee
        if not self.solver.available(exception_flag=False):
            raise ValueError(
                f"mip_solver='{self.name}' isn't available; install it, or leave "
                "mip_solver= out to use HiGHS."
            )

    def __call__(self, form: MipForm, search: TogetherSearch) -> None:
        """Solve the program; its point and its bound go to the search.

        Where the form asks for points as good as the search's best one, there may be none:
        then nothing is better than that one.
        """
        start = search.incumbent.point
        if start is None:
            search.look_for_points(1)
            start = search.incumbent.point
        given = None if start is None else form.point_of(start)
        keywords: dict[str, Any] = {"tee": self.tee, "load_solutions": False}
        if given is not None:
            form.set_values(given)
            if getattr(self.solver, "warm_start_capable", lambda: False)():
                keywords["warmstart"] = True
        words = next((w for name, w in _WORDS.items() if name in self.name), None)
        if words is not None:
            seconds = search.remaining
            if math.isfinite(seconds):
                self.solver.options[words[0]] = math.ceil(seconds)
            self.solver.options[words[1]] = search.mip_rel_gap
        results = self.solver.solve(form.model, **keywords)
        condition = results.solver.termination_condition
        if condition == TerminationCondition.infeasible:
            search.mip_bound = math.inf
            return
        problem = results.problem[0] if len(results.problem) else results.problem
        sides = (problem.lower_bound, problem.upper_bound)
        bound = sides[1] if form.program.maximize else sides[0]
        if len(results.solution):
            # A point at a limit is welcome here; Pyomo would warn of the solver's status.
            results.solver.status = SolverStatus.ok
            form.model.solutions.load_from(results)
            z = form.present()
            if z is not None:
                search.meet(z)
        if bound is not None and math.isfinite(value(bound)):
            search.note(float(value(bound)))
