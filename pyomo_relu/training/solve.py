"""One call of a MIP solver: start, time limit, progress, and what it found."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyomo.environ as pyo
from pyomo.opt import TerminationCondition

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.base.progress import progress
from pyomo_relu.programs.cp_sat import check_cp_sat, solve_cp_sat
from pyomo_relu.programs.standard_form import compile_standard_form
from pyomo_relu.steps.step_network import StepNetwork
from pyomo_relu.training.encode import TrainingMIP

logger = logging.getLogger(__name__)

ENGINES = ("mip", "cp_sat")

#: Losses whose variables are integers wherever the pre-activations are.
INTEGER_LOSSES = (
    "zero_one",
    "l1",
    "max_correct",
    "sat_margin",
    "min_weight",
    "min_nonzero",
    "max_margin",
)

#: The least time limit that a solver gets, in seconds; some refuse 0.
LEAST_LIMIT = 0.01


#: What solvers call the largest number of nodes.
NODE_OPTIONS = {
    "relu_highs": "mip_max_nodes",
    "highs": "mip_max_nodes",
    "appsi_highs": "mip_max_nodes",
    "gurobi": "NodeLimit",
    "gurobi_direct": "NodeLimit",
    "scip": "limits/totalnodes",
    "cbc": "maxNodes",
}


@dataclass(frozen=True)
class Engine:
    """Which solver, and how.

    Attributes
    ----------
    solver : str
        Name for ``pyo.SolverFactory``.
    engine : {'mip', 'cp_sat'}
    options : dict
        The solver's own options.
    node_limit : int, optional
        Branch-and-bound nodes of each program: a limit that a clock doesn't steer.
    tee : bool
        Print the solver's log.
    """

    solver: str = "relu_highs"
    engine: str = "mip"
    options: Mapping[str, Any] | None = None
    tee: bool = False
    node_limit: int | None = None

    def all_options(self) -> dict[str, Any]:
        """The solver's own options, with the limit of nodes by its name there.

        Raises
        ------
        ValueError
            If the name isn't known.
        """
        found = dict(self.options or {})
        if self.node_limit is not None:
            name = None if self.engine == "cp_sat" else NODE_OPTIONS.get(self.solver)
            if name is None:
                asked = "engine='cp_sat'" if self.engine == "cp_sat" else self.solver
                raise ValueError(
                    f"node_limit is known for {sorted(NODE_OPTIONS)}, not for {asked}; give "
                    "its own limit of work as solver_options={...} instead."
                )
            found[name] = self.node_limit
        return found


@dataclass(frozen=True)
class Solve:
    """What a solver found.

    Attributes
    ----------
    network : StepNetwork or None
        The best network, if there is one.
    status : str
        'optimal', 'time_limit', 'feasible' (stopped for another reason), 'infeasible'
        or 'nothing' (stopped without a network).
    objective, bound : float
        The value and the bound of the program; infinite where there is none.
    seconds : float
    compared : int
        Activations that the network was found to have as the program says.
    """

    network: StepNetwork | None
    status: str
    objective: float
    bound: float
    seconds: float
    compared: int = 0


def solve(
    mip: TrainingMIP,
    engine: Engine,
    *,
    time_limit: float | None = None,
    start: StepNetwork | None = None,
    title: str = "training",
) -> Solve:
    """Solve a training program and check the network that it gives.

    Parameters
    ----------
    mip : TrainingMIP
        With an objective.
    engine : Engine
    time_limit : float or None
        Seconds; None or infinity for no limit. Without any, nothing is solved.
    start : StepNetwork, optional
        A network to begin with.
    title : str
        The title of the progress bar.

    Raises
    ------
    RuntimeError
        If the network's activations are not those of the program.
    ImportError
        If OR-Tools is asked for and missing.
    ValueError
        If the solver is unknown or not installed.
    """
    begun = Deadline()
    if time_limit == math.inf:
        time_limit = None
    if time_limit is not None and time_limit <= 0:
        return Solve(None, "nothing", math.inf, -math.inf, 0.0)
    if start is not None:
        mip.start(start)
    run = _cp_sat if engine.engine == "cp_sat" else _pyomo
    status, objective, bound = run(mip, engine, time_limit, start is not None, title)
    seconds = begun.elapsed
    if not math.isfinite(objective):
        return Solve(None, status, math.inf, bound, seconds)
    network = mip.network()
    wrong, compared = mip.mismatches(network)
    if wrong:
        raise RuntimeError(
            f"{wrong} of {compared} activations of the trained network differ from those "
            "of the program: the solver's tolerance is larger than the separation. Give a "
            "larger eps, or scale the features to [0, 1]."
        )
    return Solve(network, status, objective, bound, seconds, compared)


def check_solver(engine: Engine) -> Any:
    """The solver of an engine; ValueError where it can't be asked."""
    engine.all_options()
    if engine.engine != "mip":
        return None
    solver = pyo.SolverFactory(engine.solver)
    try:
        there = solver.available(exception_flag=False)
    except Exception:  # Pyomo has no one answer for an unknown name
        there = False
    if not there:
        raise ValueError(
            f"solver '{engine.solver}' is unknown to Pyomo or not installed; the default "
            "is solver='relu_highs'."
        )
    return solver


#: The status, the objective and the bound of a solver's run.
Ending = tuple[str, float, float]


def _cp_sat(
    mip: TrainingMIP, engine: Engine, time_limit: float | None, warm: bool, title: str
) -> Ending:
    check_cp_sat()
    if mip.loss_name not in INTEGER_LOSSES or not all(mip.exact_sums.values()) or mip.fixed:
        raise ValueError(
            "engine='cp_sat' solves programs in integers alone: features and weights must "
            f"be integers, without robust=, and the loss a count (not '{mip.loss_name}'). "
            "Round or scale the features, or use engine='mip'."
        )
    deadline = Deadline(time_limit)
    form = compile_standard_form(mip.model)
    return solve_cp_sat(form, time_limit=deadline.limit, warm=warm, options=engine.options)


def _pyomo(
    mip: TrainingMIP, engine: Engine, time_limit: float | None, warm: bool, title: str
) -> Ending:
    solver = check_solver(engine)
    options: dict[str, Any] = {"tee": engine.tee}
    if own := engine.all_options():
        options["options"] = own
    if time_limit is not None:
        options["timelimit"] = max(float(time_limit), LEAST_LIMIT)
    if warm and solver.warm_start_capable():
        options["warmstart"] = True
    # relu_highs loads arrays; the others' way of loading raises without a solution.
    loads = engine.solver == "relu_highs"
    with progress(None, title, "node") as bar:
        if loads:
            options["progress"] = lambda event: _report(bar, event)
        try:
            results = solver.solve(mip.model, load_solutions=loads, **options)
        except (ValueError, TypeError):
            raise
        except RuntimeError as error:
            logger.warning("%s stopped: %s", engine.solver, error)
            return "nothing", math.inf, -math.inf
    return _read(solver, mip.model, results, loads)


def _report(bar: Any, event: Any) -> None:
    bar.n = int(event.nodes)
    bar.set_postfix(best=f"{event.incumbent:.6g}", bound=f"{event.bound:.6g}")


def _read(solver: Any, model: Any, results: Any, own: bool) -> Ending:
    condition = results.solver.termination_condition
    problem = results.problem[0] if len(results.problem) else None
    bound = _number(getattr(problem, "lower_bound", None), -math.inf)
    upper = _number(getattr(problem, "upper_bound", None), math.inf)
    loaded = own and math.isfinite(upper)
    if not own and condition != TerminationCondition.infeasible:
        try:
            if len(results.solution):
                model.solutions.load_from(results)
                loaded = True
        except Exception as error:  # a solver without a point, whatever it raises
            logger.info("%s has no solution to load: %s", type(solver).__name__, error)
    if condition == TerminationCondition.infeasible:
        return "infeasible", math.inf, math.inf
    if not loaded:
        return "nothing", math.inf, bound
    objective = pyo.value(model.loss)
    if condition == TerminationCondition.optimal:
        status = "optimal"
        bound = bound if math.isfinite(bound) else objective
    elif condition == TerminationCondition.maxTimeLimit:
        status = "time_limit"
    else:
        status = "feasible"
    return status, objective, min(bound, objective)


def _number(value: Any, default: float) -> float:
    try:
        x = float(value)
    except (TypeError, ValueError):
        return default
    return x if math.isfinite(x) and abs(x) < 1e20 else default
