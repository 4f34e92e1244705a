"""``SolverFactory("relu_scip")``: networks as constraints of SCIP."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from pyomo.common.config import ConfigDict
from pyomo.contrib.solver.common.base import Availability
from pyomo.contrib.solver.common.factory import SolverFactory
from pyomo.contrib.solver.common.results import Results

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.programs.scip import has_scip, scip_version
from pyomo_relu.solvers.legacy import LegacyCall
from pyomo_relu.solvers.scip.config import ReluScipConfig
from pyomo_relu.solvers.skeleton import NetworkSolver
from pyomo_relu.solvers.watch import Log

if TYPE_CHECKING:
    from pyomo_relu.presolve.problem import Problem


class ReluScip(NetworkSolver):
    """SCIP for models with networks, which are constraints and not rows.

    For models with network blocks in any formulation or none: linear rows, integers, SOS
    constraints, and nonlinear terms of sums, products, powers, ``exp``, ``log``, ``log10``,
    ``sqrt``, ``sin``, ``cos``, ``tan``, ``tanh`` and ``abs`` in rows and objective. Takes
    Pyomo's keywords and those of :class:`~pyomo_relu.solvers.scip.config.ReluScipConfig`. In
    the results ``extra_info`` has ``mip_gap``, ``mip_node_count``, ``planes`` and
    ``branchings`` (rows and branchings that the networks made), ``side_branchings`` (those
    on sides of neurons), ``first_point`` (seconds
    until there was a point, None without one), ``open_boxes`` (boxes too narrow to split
    on which tolerances leave the answer open), ``closed_by_mip`` (nodes with few undecided
    neurons that a small program closed) and ``subproblems_beside`` (those of the search by sides
    among rows, which has turns where one network of many inputs is in the cost).

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
    >>> m.k = pyo.Var(domain=pyo.Integers, bounds=(0, 5))
    >>> m.net = ReLUNetBlock(network=network, inputs=[m.x], formulation=None)
    >>> m.row = pyo.Constraint(expr=m.net.outputs[0] + 0.5 * m.k <= 2.2)
    >>> m.obj = pyo.Objective(expr=m.net.outputs[0] + m.k, sense=pyo.maximize)
    >>> _ = pyo.SolverFactory("relu_scip").solve(m)
    >>> round(m.x.value, 6) in (0.2, -0.1), round(pyo.value(m.obj), 6)
    (True, 4.2)

    Notes
    -----
    Ctrl-C and limits keep the best point and a valid bound.
    """

    CONFIG: ConfigDict = ReluScipConfig()

    title = "relu_scip"

    def available(self) -> Availability:
        """Whether ``pyscipopt`` and ``highspy`` can be imported."""
        return super().available() if has_scip() else Availability.NotFound

    def needs(self) -> str:
        """What to install, for an error."""
        if has_scip():
            return super().needs()
        return "relu_scip needs SCIP; pip install 'pyomo_relu[scip]' (or pyscipopt)"

    def version(self) -> tuple[int, ...]:
        """The version of SCIP."""
        return scip_version()

    def search(
        self, model: Any, config: Any, deadline: Deadline, log: io.StringIO
    ) -> Results:
        """Read the model, look for a point, run SCIP."""
        from pyomo_relu.presolve.reading import read_problem
        from pyomo_relu.solvers.global_search.outcome import early_results
        from pyomo_relu.solvers.scip.search import ScipSearch

        config.timer.start("read_model")
        problem = read_problem(model, deadline, self.title, general=True)
        config.timer.stop("read_model")
        lines = Log(config, log)
        self._head(problem, lines)
        results = early_results(problem, model)
        if results is not None:
            return results
        search = ScipSearch(problem, config, lines, deadline)
        config.timer.start("find_start")
        search.look_for_points()
        config.timer.stop("find_start")
        config.timer.start("optimize")
        search.run()
        config.timer.stop("optimize")
        return search.results(model)

    def _head(self, problem: Problem, lines: Log) -> None:
        """What the model is."""
        whole = int(problem.integer.sum())
        lines.write(
            f"relu_scip: {len(problem.links)} networks on {problem.n} variables, "
            f"{len(problem.columns)} columns ({whole} integer), "
            f"{len(problem.row_lower)} rows"
        )
        for note in problem.as_rows:
            lines.write(f"relu_scip: {note}")


class LegacyReluScip(LegacyCall, ReluScip):
    """``pyo.SolverFactory("relu_scip")``: Pyomo's customary way to call a solver.

    ``solve`` takes the usual ``tee``, ``timelimit``, ``warmstart``, ``options`` (SCIP's
    parameters), ``load_solutions``, and the keywords of :class:`ReluScip`.
    """

    def warm_start_capable(self) -> bool:
        """True: ``solve(m, warmstart=True)`` starts from the present values."""
        return True


SolverFactory.register(
    "relu_scip",
    doc="SCIP with networks as constraints, for rows, integers and nonlinear terms",
)(ReluScip, LegacyReluScip)
