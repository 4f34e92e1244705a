"""``SolverFactory("relu_global")``: proven optima in the space of the inputs."""

from __future__ import annotations

import io
import math
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

from pyomo.contrib.solver.common.factory import SolverFactory
from pyomo.contrib.solver.common.results import Results

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.solvers.global_search.config import ReluGlobalConfig
from pyomo_relu.solvers.legacy import LegacyCall
from pyomo_relu.solvers.skeleton import NetworkSolver
from pyomo_relu.solvers.watch import Log

if TYPE_CHECKING:
    from pyomo_relu.presolve.problem import Problem
    from pyomo_relu.solvers.global_search.cost_search import CostSearch

#: Seconds between two lines of the log.
LOG_EVERY = 1.0


class ReluGlobal(NetworkSolver):
    """Global optimization of models with networks by branching on their inputs.

    For models whose nonlinear part is network blocks, with any formulation or none, and
    whose rest is mixed-integer linear. Takes Pyomo's keywords and those of
    :class:`~pyomo_relu.solvers.global_search.config.ReluGlobalConfig`. In the results
    ``extra_info`` has ``mip_gap``, ``mip_node_count`` (boxes), ``rounds``,
    ``linear_programs``, ``small_mips``, ``open_boxes``.

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
    The searches and the proof that they end are in
    ``docs/mathematics/branch_and_bound.rst``, what they can't do in
    ``docs/guide/relu_global.md``. Ctrl-C and limits keep the best point and a valid bound.
    """

    CONFIG = ReluGlobalConfig()

    title = "relu_global"

    def search(
        self, model: Any, config: Any, deadline: Deadline, log: io.StringIO
    ) -> Results:
        """Read the model, choose a search, and run it."""
        from pyomo_relu.presolve.reading import read_problem
        from pyomo_relu.solvers.global_search.limits import Limits
        from pyomo_relu.solvers.global_search.outcome import early_results, read_results
        from pyomo_relu.solvers.global_search.strategy import choose_search

        if config.solver_options:
            name = next(iter(config.solver_options))
            raise ValueError(
                f"relu_global has no solver option '{name}'; its options are keywords of "
                "solve(): " + ", ".join(self.CONFIG.keywords) + "."
            )
        config.timer.start("read_model")
        problem = read_problem(model, deadline)
        config.timer.stop("read_model")
        lines = SearchLog(config, log)
        results = early_results(problem, model)
        if results is not None:
            return results
        limits = Limits(
            rel_gap=config.rel_gap,
            abs_gap=config.abs_gap,
            time_limit=deadline.left(),
            node_limit=math.inf if config.node_limit is None else config.node_limit,
            batch_size=config.batch_size,
            leaf_neurons=config.leaf_neurons,
            seed=config.seed,
            hand_over=config.hand_over,
            points=True,
        )
        executor, own = config.executor, None
        if executor is None and (config.threads or 1) > 1:
            executor = own = ProcessPoolExecutor(config.threads)
        try:
            search = choose_search(problem, limits, executor, lines.report)
            lines.head(problem)
            if config.warmstart:
                search.incumbent.offer_present()
            config.timer.start("search")
            search.run()
            config.timer.stop("search")
        finally:
            if own is not None:
                own.shutdown()
        results = read_results(search, model)
        lines.report(search, "end")
        return results


class SearchLog(Log):
    """Lines for ``tee``, and the user's callback."""

    last = -math.inf

    def head(self, problem: Problem) -> None:
        """What the model is, and the titles of the columns."""
        whole = int(problem.integer.sum())
        self.write(
            f"relu_global: {problem.n} inputs, {len(problem.links)} networks, "
            f"{len(problem.columns)} columns ({whole} integer), "
            f"{len(problem.row_lower)} rows"
        )
        for note in problem.as_rows:
            self.write(f"relu_global: {note}")
        self.write(
            f"{'':2}{'seconds':>8} {'boxes':>9} {'open':>7} {'bound':>14} "
            f"{'incumbent':>14} {'gap':>9}"
        )

    def report(self, search: CostSearch, kind: str) -> bool:
        """One event of the search; whether the user wants to stop."""
        now = search.progress(kind)
        if self.streams and (kind != "log" or now.seconds - self.last >= LOG_EVERY):
            self.last = now.seconds
            shown = "-" if not math.isfinite(now.gap) else f"{100 * now.gap:.4f}%"
            self.write(
                f"{'* ' if kind == 'incumbent' else '  '}{now.seconds:8.2f} "
                f"{now.nodes:9d} {search.open_boxes:7d} {now.bound:14.7g} "
                f"{now.incumbent:14.7g} {shown:>9}"
            )
        return kind != "end" and self.progress is not None and bool(self.progress(now))


class LegacyReluGlobal(LegacyCall, ReluGlobal):
    """``pyo.SolverFactory("relu_global")``: Pyomo's customary way to call a solver.

    ``solve`` takes the usual ``tee``, ``timelimit``, ``load_solutions``, and the keywords
    of :class:`ReluGlobal`; ``options`` may hold the latter too.
    """

    def _take_options(self, options: dict[str, Any], kwds: dict[str, Any]) -> dict:
        return self._options_as_keywords(options, kwds)


SolverFactory.register(
    "relu_global",
    doc="Global optimization of models with networks, by branching on their inputs",
)(ReluGlobal, LegacyReluGlobal)
