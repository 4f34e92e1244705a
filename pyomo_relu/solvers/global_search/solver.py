"""``SolverFactory("relu_global")``: proven optima in the space of the inputs."""

from __future__ import annotations

import datetime
import io
import math
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from pyomo.common.timing import HierarchicalTimer
from pyomo.contrib.solver.common.base import (
    Availability,
    SolverBase,
)
from pyomo.contrib.solver.common.factory import SolverFactory
from pyomo.contrib.solver.common.results import Results, TerminationCondition
from pyomo.contrib.solver.common.util import (
    NoFeasibleSolutionError,
    NoOptimalSolutionError,
)
from pyomo.core.staleflag import StaleFlagManager

from pyomo_relu.programs import has_highs
from pyomo_relu.solvers.global_search.config import OWN_KEYWORDS, ReluGlobalConfig
from pyomo_relu.solvers.legacy import LegacyCall
from pyomo_relu.solvers.options import Progress

#: Seconds between two lines of the log.
LOG_EVERY = 1.0


class ReluGlobal(SolverBase):
    """Global optimization of models with networks by branching on their inputs.

    For models whose nonlinear part is network blocks, with any formulation or none, and
    whose rest is mixed-integer linear. Takes Pyomo's keywords and those of
    :class:`~pyomo_relu.solvers.global_search.config.ReluGlobalConfig`.

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
    >>> m.net = ReLUNetBlock(network=network, inputs=[m.x], formulation=None)
    >>> m.obj = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    >>> _ = pyo.SolverFactory("relu_global").solve(m)
    >>> round(m.x.value, 6), round(pyo.value(m.obj), 6)
    (3.0, 3.0)

    Notes
    -----
    The method, its proof of convergence and its limits are in the guide,
    ``docs/guide/relu_global.md``. Ctrl-C and limits keep the best point and a valid
    bound.
    """

    CONFIG = ReluGlobalConfig()

    def available(self) -> Availability:
        """Whether ``highspy`` can be imported."""
        return Availability.FullLicense if has_highs() else Availability.NotFound

    def version(self) -> tuple[int, ...]:
        """The version of the package."""
        from pyomo_relu import __version__

        return tuple(int(part) for part in __version__.split(".")[:3])

    def solve(self, model, **kwds: Any) -> Results:
        """Solve a model to proven optimality.

        Parameters
        ----------
        model : BlockData
        **kwds
            See the class.

        Returns
        -------
        Results
            Pyomo's own. ``extra_info`` has ``mip_gap``, ``mip_node_count`` (boxes),
            ``rounds``, ``linear_programs``, ``small_mips``, ``open_boxes``.

        Raises
        ------
        IncompatibleModelError
            If the model without its networks isn't mixed-integer linear.
        ValueError
            For unknown options, inputs without finite bounds, nonlinear input
            expressions, and inputs whose bounds were widened after their block was
            written.
        NoOptimalSolutionError, NoFeasibleSolutionError
            As with all of Pyomo's new solvers.
        """
        from pyomo_relu.solvers.global_search.problem import read_problem
        from pyomo_relu.solvers.global_search.results import early_results, read_results
        from pyomo_relu.solvers.global_search.state import Limits
        from pyomo_relu.solvers.global_search.strategy import choose_search

        config = self.config(value=kwds, preserve_implicit=True)
        if config.solver_options:
            name = next(iter(config.solver_options))
            raise ValueError(
                f"relu_global has no solver option '{name}'; its options are keywords of "
                "solve(): " + ", ".join(OWN_KEYWORDS) + "."
            )
        if not self.available():
            raise ImportError("relu_global needs HiGHS; pip install highspy")
        stamp = datetime.datetime.now(datetime.UTC)
        begin = time.perf_counter()
        timer = config.timer = config.timer or HierarchicalTimer()
        StaleFlagManager.mark_all_as_stale()
        timer.start("read_model")
        problem = read_problem(model)
        timer.stop("read_model")
        log = _Log(config)
        results = early_results(problem, model)
        if results is None:
            limit = math.inf if config.time_limit is None else config.time_limit
            limits = Limits(
                config.rel_gap,
                config.abs_gap,
                limit - (time.perf_counter() - begin),
                math.inf if config.node_limit is None else config.node_limit,
                config.batch_size,
                config.leaf_neurons,
                config.seed,
                config.hand_over,
            )
            executor, own = config.executor, None
            if executor is None and (config.threads or 1) > 1:
                executor = own = ProcessPoolExecutor(config.threads)
            try:
                search = choose_search(problem, limits, executor, log.report)
                log.head(problem)
                if config.warmstart:
                    search.incumbent.offer_present()
                timer.start("search")
                search.run()
                timer.stop("search")
            finally:
                if own is not None:
                    own.shutdown()
            results = read_results(search, model)
            log.report(search, "end")
        results.solver_name, results.solver_version = self.name, self.version()
        results.solver_config, results.solver_log = config, log.text.getvalue()
        results.timing_info.start_timestamp = stamp
        results.timing_info.wall_time = time.perf_counter() - begin
        results.timing_info.timer = timer
        return self._finish(results, config)

    def _finish(self, results: Results, config) -> Results:
        done = (
            results.termination_condition
            is TerminationCondition.convergenceCriteriaSatisfied
        )
        if not done and config.raise_exception_on_nonoptimal_result:
            raise NoOptimalSolutionError(
                f"relu_global stopped with '{results.termination_condition.name}'; give "
                "raise_exception_on_nonoptimal_result=False to get its results."
            )
        if config.load_solutions:
            if results.incumbent_objective is None:
                raise NoFeasibleSolutionError()
            results.solution_loader.load_solution()
        return results


class _Log:
    """Lines for ``tee``, and the user's callback."""

    def __init__(self, config) -> None:
        self.text, self.progress = io.StringIO(), config.progress
        self.streams = [*config.tee, self.text] if config.tee else []
        self.last = -math.inf

    def write(self, line: str) -> None:
        for stream in self.streams:
            stream.write(line + "\n")
            stream.flush()

    def head(self, problem) -> None:
        whole = int(problem.integer.sum())
        self.write(
            f"relu_global: {problem.n} inputs, {len(problem.links)} networks, "
            f"{len(problem.columns)} columns ({whole} integer), "
            f"{len(problem.row_lower)} rows"
        )
        self.write(
            f"{'':2}{'seconds':>8} {'boxes':>9} {'open':>7} {'bound':>14} "
            f"{'incumbent':>14} {'gap':>9}"
        )

    def report(self, search, kind: str) -> bool:
        """One event of the search; whether the user wants to stop."""
        from pyomo_relu.solvers.global_search.results import gap_of

        p = search.problem
        found = search.incumbent.point is not None
        now = search.elapsed
        worst = math.inf * p.sign
        incumbent = p.user_objective(search.incumbent.cost) if found else worst
        bound = p.user_objective(search.bound)
        gap = gap_of(incumbent, bound)
        if self.streams and (kind != "log" or now - self.last >= LOG_EVERY):
            self.last = now
            shown = "-" if not math.isfinite(gap) else f"{100 * gap:.4f}%"
            self.write(
                f"{'* ' if kind == 'incumbent' else '  '}{now:8.2f} "
                f"{search.counts.boxes:9d} {search.open_boxes:7d} {bound:14.7g} "
                f"{incumbent:14.7g} {shown:>9}"
            )
        if self.progress is None or kind == "end":
            return False
        return bool(
            self.progress(Progress(kind, now, incumbent, bound, gap, search.counts.boxes))
        )


class LegacyReluGlobal(LegacyCall, ReluGlobal):
    """``pyo.SolverFactory("relu_global")``: Pyomo's customary way to call a solver.

    ``solve`` takes the usual ``tee``, ``timelimit``, ``load_solutions``, and the keywords
    of :class:`ReluGlobal`; ``options`` may hold the latter too.
    """

    own_keywords = OWN_KEYWORDS

    def _take_options(self, options: dict[str, Any], kwds: dict[str, Any]) -> dict:
        kwds = dict(kwds)
        for key, setting in {**options, **(kwds.pop("options", None) or {})}.items():
            if key not in OWN_KEYWORDS:
                raise ValueError(
                    f"relu_global has no option '{key}'; it takes "
                    + ", ".join(OWN_KEYWORDS)
                    + "."
                )
            kwds.setdefault(key, setting)
        self.config.solver_options.reset()
        return kwds


SolverFactory.register(
    "relu_global",
    doc="Global optimization of models with networks, by branching on their inputs",
)(ReluGlobal, LegacyReluGlobal)
