"""``SolverFactory("relu")``: looks at a model, and runs the searches that suit it."""

from __future__ import annotations

import io
from concurrent.futures import Executor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pyomo.contrib.solver.common.factory import SolverFactory
from pyomo.contrib.solver.common.results import Results
from pyomo.contrib.solver.common.util import IncompatibleModelError

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.formulations import network_blocks
from pyomo_relu.programs.scip import has_scip
from pyomo_relu.solvers.legacy import LegacyCall
from pyomo_relu.solvers.relu.config import ReluConfig
from pyomo_relu.solvers.skeleton import NetworkSolver

if TYPE_CHECKING:
    from pyomo_relu.presolve.problem import Problem
    from pyomo_relu.solvers.global_search.cost_search import RoundSearch
    from pyomo_relu.solvers.global_search.limits import Limits
    from pyomo_relu.solvers.relu.log import TogetherLog
    from pyomo_relu.solvers.relu.mip_form import MipForm
    from pyomo_relu.solvers.relu.scene import Scene


class Relu(NetworkSolver):
    """The one solver to remember for models with networks.

    Takes Pyomo's keywords and those of
    :class:`~pyomo_relu.solvers.relu.config.ReluConfig`. In the results ``extra_info`` has
    ``mip_gap``, ``mip_node_count`` (boxes and nodes of the MIP), ``scene`` (what the model
    is), ``parts`` (which searches ran: ``"boxes"``, ``"sides"``, ``"sides among rows"``,
    ``"polytopes"``, ``"prices"``, ``"relu_scip"``, ``"mip"``) and ``proof`` (which of them
    closed the gap, or None).

    Examples
    --------
    >>> import pyomo.environ as pyo
    >>> from pyomo_relu import NetworkBuilder, ReLUNetBlock, activations
    >>> b = NetworkBuilder()
    >>> x = b.input("x", (1,))
    >>> y = b.piecewise("relu", b.affine("dense", [(x, [[1.0], [-1.0]])]),
    ...                 activations.relu())
    >>> network = b.build([b.affine("out", [(y, [[1.0, 2.0]])])])
    >>> m = pyo.ConcreteModel()
    >>> m.x = pyo.Var(bounds=(-1, 3))
    >>> m.net = ReLUNetBlock(network=network, inputs=[m.x])
    >>> m.obj = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    >>> _ = pyo.SolverFactory("relu").solve(m)
    >>> round(m.x.value, 6), round(pyo.value(m.obj), 6)
    (3.0, 3.0)

    Notes
    -----
    A model without network blocks goes to HiGHS as it is, by ``relu_highs``, duals
    included. Ctrl-C and limits keep the best point and a valid bound.
    """

    CONFIG = ReluConfig()

    title = "relu"

    def search(
        self, model: Any, config: Any, deadline: Deadline, log: io.StringIO
    ) -> Results:
        """Look at the model, and run the searches that suit it."""
        config.refuse_solver_options("Options of HiGHS go to the solver 'relu_highs'.")
        if next(network_blocks(model), None) is None:
            return self._without_networks(model, config, deadline, log)
        from pyomo_relu.presolve.reading import read_problem
        from pyomo_relu.solvers.global_search.outcome import early_results
        from pyomo_relu.solvers.relu.log import TogetherLog
        from pyomo_relu.solvers.relu.other_mip import OtherMIP

        lines = TogetherLog(config, log)
        given, tee = config.mip_solver, bool(config.tee)
        other = None if given is None else OtherMIP(given, tee)
        config.timer.start("read_model")
        problem = read_problem(model, deadline, self.title, general=has_scip())
        config.timer.stop("read_model")
        results = early_results(problem, model)
        if results is not None:
            return results
        return self._together(model, config, deadline, lines, (problem, other))

    def _together(
        self,
        model: Any,
        config: Any,
        deadline: Deadline,
        lines: TogetherLog,
        found: tuple[Problem, Any],
    ) -> Results:
        from pyomo_relu.solvers.global_search.limits import Limits
        from pyomo_relu.solvers.global_search.outcome import read_results
        from pyomo_relu.solvers.global_search.workers import workers
        from pyomo_relu.solvers.relu.copy import WrittenCopy
        from pyomo_relu.solvers.relu.mip_form import PresolvedMIP
        from pyomo_relu.solvers.relu.scene import Kind, small_networks
        from pyomo_relu.solvers.relu.search import TogetherSearch

        problem, other = found
        limits = Limits(
            rel_gap=config.rel_gap,
            abs_gap=config.abs_gap,
            time_limit=deadline.left(),
            seed=config.seed,
            points=True,
        )

        def write(cutoff: float, seconds: float) -> MipForm:
            """The problem for a MIP solver, points that cost more left out."""
            by_auto = (
                scene.kind is Kind.TABLES or scene.is_convex or small_networks(problem)
            )
            if by_auto:
                return WrittenCopy(model, problem, deadline)
            return PresolvedMIP(problem, cutoff, deadline, seconds)

        with workers(config) as executor:
            scene, inner = networks_search(problem, limits, executor)
            search = TogetherSearch(
                problem,
                limits,
                lines.report,
                scene,
                inner,
                write,
                config.threads or 1,
                other,
            )
            search.on_form = lines.mip
            lines.head(search)
            if config.warmstart:
                search.incumbent.offer_present()
            config.timer.start("search")
            search.run()
            config.timer.stop("search")
        results = read_results(search, model)
        info = results.extra_info
        info.mip_node_count = search.counts.boxes + search.mip_nodes
        info.scene, info.parts, info.proof = str(scene), list(search.parts), search.proof
        lines.end(search)
        return results

    def _without_networks(
        self, model: Any, config: Any, deadline: Deadline, log: io.StringIO
    ) -> Results:
        """A model without networks: HiGHS, as it is, or SCIP where it isn't linear."""
        from pyomo_relu.solvers.highs import ReluHighs
        from pyomo_relu.solvers.scip.solver import ReluScip

        def passed_on(solver: NetworkSolver) -> Results:
            own = solver.config()
            for name in ("tee", "threads", "rel_gap", "abs_gap", "warmstart", "progress"):
                own.get(name).set_value(config.get(name).value())
            own.timer = config.timer
            return solver.search(model, own, deadline, log)

        try:
            return passed_on(ReluHighs())
        except IncompatibleModelError:
            if not has_scip():
                raise
            return passed_on(ReluScip())


def boxes_or_prices(
    problem: Problem, scene: Scene, limits: Limits, executor: Executor | None
) -> tuple[Scene, list[RoundSearch]]:
    """The search of boxes, sides, polytopes or prices that suits, if one does.

    Only when that search is made is it known whether subsystems are polytopes.
    """
    from pyomo_relu.solvers.global_search.cost_search import RoundSearch
    from pyomo_relu.solvers.global_search.piece_search import PieceSearch
    from pyomo_relu.solvers.global_search.strategy import by_turns, choose_search
    from pyomo_relu.solvers.relu.scene import Kind

    if scene.kind is Kind.FEW:
        return scene, [by_turns(problem, limits, executor)]
    if problem.network is None or scene.kind in (Kind.MANY, Kind.NONLINEAR):
        return scene, []
    search = choose_search(problem, limits, executor)
    if isinstance(search, PieceSearch):
        scene = replace(scene, kind=Kind.POLYTOPES)
    return scene, [search] if isinstance(search, RoundSearch) else []


def networks_search(
    problem: Problem, limits: Limits, executor: Executor | None
) -> tuple[Scene, RoundSearch | None]:
    """What a problem is, and the search of the networks that suits it.

    The search is None where a MIP has to do alone. Where the user's rows matter, SCIP takes
    turns with it if it is installed.
    """
    from pyomo_relu.solvers.global_search.row_side_search import RowSideSearch
    from pyomo_relu.solvers.relu.scene import Kind, look_at
    from pyomo_relu.solvers.relu.scip_part import ScipPart
    from pyomo_relu.solvers.relu.settings import TOGETHER
    from pyomo_relu.solvers.relu.turns import Turns

    scene, parts = boxes_or_prices(problem, look_at(problem), limits, executor)
    favourite: int | None = None
    rowed = (Kind.FEW, Kind.SUBSYSTEMS, Kind.MANY, Kind.NONLINEAR, Kind.SMOOTH)
    if has_scip() and scene.kind in rowed:
        # No MIP takes part where the rest isn't linear, so nobody waits for a turn.
        scip = ScipPart(problem, limits, whole=scene.kind is Kind.NONLINEAR and not parts)
        scip.patience = TOGETHER.scip_after if parts else 0.0
        parts.append(scip)
        # Bounds that all stand still say nothing; then it is SCIP that gets on among rows.
        if scene.kind in (Kind.SUBSYSTEMS, Kind.MANY):
            favourite = len(parts) - 1
    if scene.kind is Kind.MANY and RowSideSearch.fits(problem):
        rows = RowSideSearch(problem, limits, executor)
        leads = rows.leads(problem)
        rows.patience = 0.0 if leads else TOGETHER.row_sides_after
        # In front of the others it takes the place of the one that leads.
        parts.insert(0 if leads else len(parts), rows)
    if not parts:
        return scene, None
    return scene, parts[0] if len(parts) == 1 else Turns(parts, favourite)


class LegacyRelu(LegacyCall, Relu):
    """``pyo.SolverFactory("relu")``: Pyomo's customary way to call a solver.

    ``solve`` takes the usual ``tee``, ``timelimit``, ``load_solutions``, and the keywords
    of :class:`Relu`; ``options`` may hold the latter too.
    """

    def _take_options(self, options: dict[str, Any], kwds: dict[str, Any]) -> dict:
        return self._options_as_keywords(options, kwds)


SolverFactory.register(
    "relu",
    doc="The one solver to remember for models with networks",
)(Relu, LegacyRelu)
