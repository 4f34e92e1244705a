"""One solver on one wired model, in a process of its own.

``python wired_worker.py MODEL SEED TOOL LIMIT [WEIGHTS]`` prints one line of JSON. Times are
CPU seconds; each search ends when its CPU seconds pass the limit. A point counts only
after its inputs went through the networks themselves and every row was evaluated there.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import pkgutil
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nonlinear_models
import pyomo.environ as pyo
import wired_models
from pyomo.core.expr.visitor import polynomial_degree
from wired_models.investment import investment

from pyomo_relu.formulations import network_blocks

#: The gap at which every solver may stop, relative to the objective.
GAP = 1e-4
MODELS = wired_models.MODELS | nonlinear_models.MODELS
#: A row, bound, integrality or network may be off by this, relative to the larger of 1
#: and the row's bound: solvers promise 1e-6, and big-M rows pass on what they get.
FEASIBLE = 1e-5


@dataclass
class Run:
    """What is known of one run; times are CPU seconds, ``None`` where there is nothing."""

    build: float
    solve: float = 0.0
    first: float | None = None
    value: float | None = None
    bound: float | None = None
    status: str = ""
    nodes: int = 0
    off: float | None = None
    megabytes: float = 0.0
    error: str = ""


def make(name: str, seed: int, weights: str | None, **options: Any) -> pyo.ConcreteModel:
    """A model by its name; ``investment_E_21`` has 21 x 21 scenarios."""
    if name.startswith("investment"):
        if weights is None:
            raise ValueError("the investment problem needs the file of its networks.")
        _, matrix, k = name.split("_")
        return investment(Path(weights), matrix, int(k), **options)
    return MODELS[name](seed, **options)


def off(m: pyo.ConcreteModel) -> float:
    """How far the present point is from feasible: rows, bounds, integers, networks."""
    worst = 0.0
    blocks = list(network_blocks(m))
    inner = {id(v) for b in blocks for v in b.layer_variables}
    for b in blocks:
        worst = max(worst, b.error())
    for v in m.component_data_objects(pyo.Var):
        if id(v) in inner or v.value is None:
            continue
        low, high = v.bounds
        worst = max(worst, (low or 0.0) - v.value if low is not None else 0.0)
        worst = max(worst, v.value - high if high is not None else 0.0)
        if v.is_integer():
            worst = max(worst, abs(v.value - round(v.value)))
    for b in blocks:
        for layer in b.layer.values() if b.component("layer") is not None else ():
            layer.deactivate()
    for row in m.component_data_objects(pyo.Constraint, active=True):
        scale = max(
            1.0, *(abs(pyo.value(s)) for s in (row.lower, row.upper) if s is not None)
        )
        worst = max(worst, max(-row.lslack(), -row.uslack()) / scale)
    return worst


class Clock:
    """CPU seconds of a search, and when its first point came."""

    def __init__(self, limit: float) -> None:
        self.begin, self.limit = time.process_time(), limit
        self.first: float | None = None

    def seconds(self) -> float:
        """CPU seconds since the search began."""
        return time.process_time() - self.begin

    def point(self) -> None:
        """Note that there is a point."""
        if self.first is None:
            self.first = self.seconds()

    def over(self) -> bool:
        """Whether the limit is reached."""
        return self.seconds() > self.limit


def ours(tool: str, m: pyo.ConcreteModel, clock: Clock, run: Run) -> None:
    """A solver of this package by its name."""
    from pyomo.contrib.solver.common.factory import SolverFactory

    def progress(p: Any) -> bool:
        if math.isfinite(p.incumbent):
            clock.point()
        return clock.over()

    own: dict[str, Any] = {"progress": progress, "threads": 1}
    if tool in ("relu_global", "relu_scip"):
        own.pop("threads")
    results = SolverFactory(tool).solve(
        m,
        time_limit=5.0 * clock.limit,
        rel_gap=GAP,
        raise_exception_on_nonoptimal_result=False,
        load_solutions=False,
        **own,
    )
    run.bound, run.status = results.objective_bound, results.termination_condition.name
    run.nodes = int(getattr(results.extra_info, "mip_node_count", None) or 0)
    if results.incumbent_objective is not None:
        clock.point()
        results.solution_loader.load_vars()


def start(tool: str, m: pyo.ConcreteModel, clock: Clock, run: Run) -> None:
    """The search for a start alone."""
    from pyomo_relu import find_start

    found = find_start(m, clock.limit)
    run.status = repr(found)
    clock.first = found.first if found.feasible else None


def written(m: pyo.ConcreteModel, most: int = 1) -> tuple[str, dict[str, Any]]:
    """The model as a file, and its variables by the names there.

    As LP where its rows have the degree ``most`` at most, else as NL, with the names beside
    it: SCIP 10 refuses quadratic rows of Pyomo's LP files.
    """
    rows = [c.body for c in m.component_data_objects(pyo.Constraint, active=True)]
    costs = [o.expr for o in m.component_data_objects(pyo.Objective, active=True)]
    degrees = {polynomial_degree(e) for e in rows}
    linear = degrees <= set(range(most + 1))
    linear &= all(polynomial_degree(e) in (0, 1, 2) for e in costs)
    path = Path(tempfile.mkdtemp()) / ("model.lp" if linear else "model.nl")
    labels = {} if linear else {"symbolic_solver_labels": True}
    _, number = m.write(str(path), io_options=labels)
    by_symbol = m.solutions.symbol_map[number].bySymbol
    if linear:
        return str(path), dict(by_symbol)
    names = path.with_suffix(".col").read_text().split("\n")[:-1]
    return str(path), {name: by_symbol[f"v{k}"] for k, name in enumerate(names)}


def load(variables: dict[str, Any], values: dict[str, float]) -> None:
    """Set the variables of a point."""
    for name, x in values.items():
        if name in variables:
            variables[name].set_value(x, skip_validation=True)


def highs(tool: str, m: pyo.ConcreteModel, clock: Clock, run: Run) -> None:
    """HiGHS on the rows of the blocks, one thread, its own heuristics."""
    import highspy

    path, variables = written(m)
    h = highspy.Highs()
    h.setOptionValue("output_flag", False)
    h.readModel(path)
    h.setOptionValue("threads", 1)
    h.setOptionValue("mip_rel_gap", GAP)

    def watch(event: Any) -> None:
        if math.isfinite(event.data_out.mip_primal_bound):
            clock.point()
        if clock.over():
            event.data_in.user_interrupt = True

    h.cbMipInterrupt += watch
    h.run()
    info = h.getInfo()
    run.status = h.getModelStatus().name
    run.bound, run.nodes = info.mip_dual_bound, int(info.mip_node_count)
    if info.primal_solution_status == 2:  # feasible
        clock.point()
        names = [h.getColName(j)[1] for j in range(h.getNumCol())]
        load(variables, dict(zip(names, h.getSolution().col_value)))


def scip(tool: str, m: pyo.ConcreteModel, clock: Clock, run: Run) -> None:
    """SCIP on the rows of the blocks, nonlinear terms as they are."""
    import pyscipopt

    path, variables = written(m)
    s = pyscipopt.Model()
    s.hideOutput()
    s.readProblem(path)
    s.setParam("timing/clocktype", 1)
    s.setParam("limits/time", clock.limit)
    s.setParam("limits/gap", GAP)

    class First(pyscipopt.Eventhdlr):
        def eventinit(self) -> None:
            self.model.catchEvent(pyscipopt.SCIP_EVENTTYPE.BESTSOLFOUND, self)

        def eventexec(self, event: Any) -> None:
            clock.point()

    s.includeEventhdlr(First(), "first", "notes the first point")
    s.optimize()
    run.status, run.bound, run.nodes = s.getStatus(), s.getDualbound(), s.getNTotalNodes()
    if s.getNSols():
        best = s.getBestSol()
        load(variables, {v.name: s.getSolVal(best, v) for v in s.getVars()})


def gurobi(tool: str, m: pyo.ConcreteModel, clock: Clock, run: Run) -> None:
    """Gurobi on the rows of the blocks; the free licence ends at 2,000 rows or columns."""
    import gurobipy as gp

    path, variables = written(m, most=2)
    if path.endswith(".nl"):
        run.error = "no NL files"
        return
    model = gp.read(path, env=gp.Env(params={"OutputFlag": 0}))
    model.Params.Threads, model.Params.MIPGap = 1, GAP

    def watch(found: Any, where: int) -> None:
        if where == gp.GRB.Callback.MIPSOL:
            clock.point()
        if clock.over():
            found.terminate()

    try:
        model.optimize(watch)
    except gp.GurobiError as error:
        run.error = (
            "licence" if error.errno == gp.GRB.Error.SIZE_LIMIT_EXCEEDED else str(error)
        )
        return
    run.status, run.bound, run.nodes = (
        str(model.Status),
        model.ObjBound,
        int(model.NodeCount),
    )
    if model.SolCount:
        clock.point()
        load(variables, {v.VarName: v.X for v in model.getVars()})


def omlt(tool: str, m: pyo.ConcreteModel, clock: Clock, run: Run) -> None:
    """HiGHS on OMLT's big-M rows, with the same user's model around them."""
    from omlt import OmltBlock
    from omlt.neuralnet import ReluBigMFormulation
    from wired_models.as_omlt import definition

    for number, b in enumerate(list(network_blocks(m))):
        low, high = b.present_box()
        net = definition(b.network, low.tolist(), high.tolist())
        inner = OmltBlock()
        m.add_component(f"omlt_{number}", inner)
        inner.build_formulation(ReluBigMFormulation(net))
        ties = pyo.ConstraintList()
        m.add_component(f"omlt_ties_{number}", ties)
        for i, x in enumerate(b.inputs.values()):
            ties.add(inner.inputs[i] == x)
        for j, y in enumerate(b.outputs.values()):
            ties.add(inner.outputs[j] == y)
    highs(tool, m, clock, run)


def highs_auto(tool: str, m: pyo.ConcreteModel, clock: Clock, run: Run) -> None:
    """HiGHS on the form that each block chooses when it sees the whole model."""
    pyo.TransformationFactory("relu.auto").apply_to(m, ask_model=True)
    pyo.TransformationFactory("relu.table_rows").apply_to(m)
    highs(tool, m, clock, run)
    if clock.first is not None:
        for b in network_blocks(m):  # an output may be left on the side that is harmless
            b.warm_start(b.input_values()[0])


#: How a tool runs, and the formulation of the blocks that it is handed.
TOOLS: dict[
    str, tuple[Callable[[str, pyo.ConcreteModel, Clock, Run], None], str | None]
] = {
    "find_start": (start, "bigm"),
    "relu": (ours, None),
    "relu_highs": (ours, "bigm"),
    "relu_global": (ours, None),
    "relu_scip": (ours, None),
    "highs": (highs, "bigm"),
    "highs_auto": (highs_auto, None),
    "scip": (scip, "bigm"),
    "scip_products": (scip, "complementarity"),
    "gurobi": (gurobi, "bigm"),
    "omlt": (omlt, None),
}


def import_all() -> None:
    """Import what solvers import at first use, which is no part of the times."""
    import pyomo_relu.solvers as solvers

    for found in pkgutil.walk_packages(solvers.__path__, f"{solvers.__name__}."):
        importlib.import_module(found.name)
    for library in ("highspy", "pyscipopt"):
        with contextlib.suppress(ImportError):
            importlib.import_module(library)
    make("production", 0, None)


def measure(name: str, seed: int, tool: str, limit: float, weights: str | None) -> Run:
    """Build a model and run a tool on it."""
    solve, formulation = TOOLS[tool]
    import_all()
    begin = time.process_time()
    m = make(name, seed, weights, formulation=formulation)
    run = Run(build=time.process_time() - begin)
    clock = Clock(limit)
    try:
        solve(tool, m, clock, run)
    except Exception as error:  # a refusal is a result
        run.error = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    run.solve, run.first = clock.seconds(), clock.first
    run.megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if clock.first is not None and not run.error:
        run.off = off(m)
        (objective,) = m.component_data_objects(pyo.Objective, active=True)
        if run.off <= FEASIBLE:
            run.value = pyo.value(objective)
        else:
            run.first = None
    if run.bound is not None and not math.isfinite(run.bound):
        run.bound = None
    return run


if __name__ == "__main__":
    model, number, tool_name, seconds, *rest = sys.argv[1:]
    answer = measure(model, int(number), tool_name, float(seconds), (rest or [None])[0])
    print("RESULT " + json.dumps(asdict(answer)), flush=True)
