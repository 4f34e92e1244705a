"""``SolverFactory("relu_global")``: proven optima in the space of the inputs."""

from __future__ import annotations

import io
import math
from typing import Any

from pyomo.contrib.solver.common.factory import SolverFactory
from pyomo.contrib.solver.common.results import Results

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.solvers.global_search.config import ReluGlobalConfig
from pyomo_relu.solvers.legacy import LegacyCall
from pyomo_relu.solvers.skeleton import NetworkSolver


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
        from pyomo_relu.solvers.global_search.search_log import SearchLog
        from pyomo_relu.solvers.global_search.strategy import choose_search
        from pyomo_relu.solvers.global_search.workers import workers

        config.refuse_solver_options()
        config.timer.start("read_model")
        problem = read_problem(model, deadline)
        config.timer.stop("read_model")
        lines = SearchLog(config, log, "open", lambda search: search.open_boxes)
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
        with workers(config) as executor:
            search = choose_search(problem, limits, executor, lines.report)
            whole = int(problem.integer.sum())
            lines.say(
                f"{problem.n} inputs, {len(problem.links)} networks, "
                f"{len(problem.columns)} columns ({whole} integer), "
                f"{len(problem.row_lower)} rows: {' and '.join(search.planned)}"
            )
            for note in problem.as_rows:
                lines.say(note)
            lines.titles()
            if config.warmstart:
                search.incumbent.offer_present()
            config.timer.start("search")
            search.run()
            config.timer.stop("search")
        results = read_results(search, model)
        lines.end(search)
        return results


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
