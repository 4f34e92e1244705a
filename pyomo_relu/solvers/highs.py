"""``SolverFactory("relu_highs")``: a lean path from a linear Pyomo model to HiGHS.

For any linear model, with and without network blocks. The model goes as arrays; the
start of a model with network blocks comes from the networks themselves; what HiGHS
does not know is refused instead of ignored.
"""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pyomo.contrib.solver.common.factory import SolverFactory
from pyomo.contrib.solver.common.results import Results
from pyomo.contrib.solver.common.util import IncompatibleModelError

from pyomo_relu.base.deadline import Deadline, TimeUp
from pyomo_relu.formulations import network_blocks
from pyomo_relu.presolve.fixed_outputs import compile_with_networks
from pyomo_relu.programs import HighsModel, ProgramError, highs_version
from pyomo_relu.programs.standard_form import StandardForm
from pyomo_relu.solvers.for_highs import apply_config, gaps, stops_early
from pyomo_relu.solvers.highs_settings import SETTINGS
from pyomo_relu.solvers.legacy import LegacyCall
from pyomo_relu.solvers.options import ReluHighsConfig
from pyomo_relu.solvers.results import boxed_results, empty_results, read_results
from pyomo_relu.solvers.skeleton import NetworkSolver
from pyomo_relu.solvers.starting import OngoingStart, check_networks, present_values
from pyomo_relu.solvers.watch import Watch

if TYPE_CHECKING:
    from pyomo_relu.heuristics.network_columns import NetworkProblem
    from pyomo_relu.heuristics.start import StartSearch

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Given:
    """What there is before HiGHS runs: what boxes found, a start, and who finds more."""

    boxed: Any = None
    point: np.ndarray | None = None
    search: StartSearch | None = None


class ReluHighs(NetworkSolver):
    """HiGHS for linear models, with a start from the networks in them.

    Besides Pyomo's keywords (``tee``, ``time_limit``, ``threads``, ``rel_gap``,
    ``abs_gap``, ``solver_options``, ``load_solutions``,
    ``raise_exception_on_nonoptimal_result``) takes those of
    :class:`~pyomo_relu.solvers.options.ReluHighsConfig`: ``warmstart``, ``start``,
    ``start_time``, ``boxes``, ``boxes_time``, ``progress``. In the results ``extra_info``
    has ``mip_gap``, ``mip_node_count`` and, where one was looked for, ``start`` with the
    objective of the start, and ``boxes`` where boxes went first.

    Examples
    --------
    >>> import pyomo.environ as pyo
    >>> import pyomo_relu
    >>> m = pyo.ConcreteModel()
    >>> m.x = pyo.Var(bounds=(0, 3), domain=pyo.Integers)
    >>> m.row = pyo.Constraint(expr=2 * m.x <= 5)
    >>> m.obj = pyo.Objective(expr=m.x, sense=pyo.maximize)
    >>> _ = pyo.SolverFactory("relu_highs").solve(m)
    >>> m.x.value
    2.0

    Notes
    -----
    Ctrl-C ends the search and keeps the best point found.
    """

    CONFIG = ReluHighsConfig()

    title = "relu_highs"
    by_rows = True

    def version(self) -> tuple[int, ...]:
        """The version of HiGHS."""
        return highs_version()

    def _seconds(self, config: Any) -> float | None:
        options = config.solver_options.value().get("time_limit")
        limits = [float(t) for t in (config.time_limit, options) if t is not None]
        return min(limits, default=None)

    def search(
        self, model: Any, config: Any, deadline: Deadline, log: io.StringIO
    ) -> Results:
        """Compile, look for a start or an answer in the networks, run HiGHS."""
        blocks = list(network_blocks(model))
        check_networks(blocks)
        highs, timer = HighsModel(threads=0), config.timer
        apply_config(highs, config, bool(blocks))  # refuses before the work begins
        timer.start("compile_model")
        form = compile_with_networks(model, self.title, deadline)
        timer.stop("compile_model")
        watch = Watch(highs, config, log, form.maximize)
        if not form.columns:
            return empty_results(model, form)
        timer.start("find_start")
        given = self._start(model, form, blocks, config, watch, deadline)
        boxed, point = given.boxed, given.point
        timer.stop("find_start")
        if boxed is not None and (boxed.proven or boxed.stopped):
            watch.close()
            results = boxed_results(model, form, boxed)
        else:
            results = self._by_highs(model, form, given, watch, deadline)
        if point is not None and not config.warmstart:
            results.extra_info.start = form.objective_value(point)
        if boxed is not None:
            results.extra_info.boxes = boxed.boxes
        return results

    def _by_highs(
        self,
        model: Any,
        form: StandardForm,
        given: _Given,
        watch: Watch,
        deadline: Deadline,
    ) -> Results:
        """What HiGHS makes of the model, from a start where there is one."""
        timer = watch.timer
        timer.start("transfer_model")
        try:
            watch.highs.load(form)
        except ProgramError as error:
            raise IncompatibleModelError(str(error)) from error
        if given.point is not None:
            watch.highs.start_at(given.point)
        if given.search is not None and given.search.wired is not None:
            watch.highs.ask_for_points(OngoingStart(given.search))
        timer.stop("transfer_model")
        timer.start("optimize")
        answer = watch.run(deadline.left())
        timer.stop("optimize")
        return read_results(answer, model, form, given.boxed)

    def _start(
        self,
        model: Any,
        form: StandardForm,
        blocks: list[Any],
        config: Any,
        watch: Watch,
        deadline: Deadline,
    ) -> _Given:
        """What boxes found, a start, and who may find more; each may be None."""
        if not form.is_mip:
            return _Given()
        # A block whose rows were changed is left to HiGHS: its network says nothing.
        networks = [b for b in blocks if all(c.restricts for c in b.changes())]
        if config.warmstart:
            limit = Deadline(min(SETTINGS.partial_start, deadline.left()))
            return _Given(point=present_values(form, networks, limit))
        seconds = min(config.start_time, SETTINGS.share * deadline.left())
        given = _Given()
        if not networks or config.start != "auto" or seconds <= 0:
            return given
        from pyomo_relu.heuristics.network_columns import NetworkProblem
        from pyomo_relu.heuristics.start import begin_start, read_wired

        try:
            problem = NetworkProblem(form, networks, deadline)
            boxed = self._boxes(model, form, problem, config, watch, deadline)
            if boxed is not None:
                watch.bound = boxed.bound
                watch.write(f"relu_highs: {boxed}")
                given = _Given(boxed, boxed.point)
                if boxed.proven or boxed.stopped:
                    return given
            wired = read_wired(model, deadline)
            if boxed is not None and wired is None:
                return given
            search = begin_start(problem, seconds, wired=wired)
            found = search.run(given.point)
            watch.write(f"relu_highs: start: {found if found.feasible else 'none found'}")
            point = found.point if found.feasible else given.point
            given = _Given(boxed, point, search)
        except TimeUp:
            pass
        except Exception as error:  # a start is a gift: its failure must not cost the solve
            logger.warning("no start from the networks: %s", error)
        return given

    def _boxes(
        self,
        model: Any,
        form: StandardForm,
        problem: NetworkProblem,
        config: Any,
        watch: Watch,
        deadline: Deadline,
    ) -> Any:
        """What boxes find where they may go first; else None."""
        from pyomo_relu.solvers.boxes_first import may_go_first, search_boxes

        most = SETTINGS.share * deadline.left()
        cpu = min(config.boxes_time, most)
        if not config.boxes or cpu <= 0 or stops_early(config):
            return None
        if not may_go_first(model, form, problem):
            return None
        return search_boxes(
            model,
            form,
            problem,
            nodes=config.boxes,
            cpu_seconds=cpu,
            seconds=min(SETTINGS.wall_per_cpu * cpu, most),
            gaps=gaps(config),
            report=watch.tell,
        )


class LegacyReluHighs(LegacyCall, ReluHighs):
    """``pyo.SolverFactory("relu_highs")``: Pyomo's customary way to call a solver.

    ``solve`` takes the usual ``tee``, ``timelimit``, ``warmstart``, ``options``,
    ``load_solutions``, and the keywords of :class:`ReluHighs`.
    """

    def warm_start_capable(self) -> bool:
        """True: ``solve(m, warmstart=True)`` starts from the present values."""
        return True


SolverFactory.register(
    "relu_highs",
    doc="HiGHS for linear models, with starts from the networks in them",
)(ReluHighs, LegacyReluHighs)
