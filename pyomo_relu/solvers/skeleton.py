"""What ``solve`` does in each of this package's solvers."""

from __future__ import annotations

import datetime
import io
import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from pyomo.common.timing import HierarchicalTimer
from pyomo.contrib.solver.common.base import Availability, SolverBase
from pyomo.contrib.solver.common.results import Results, TerminationCondition
from pyomo.contrib.solver.common.util import (
    NoFeasibleSolutionError,
    NoOptimalSolutionError,
)
from pyomo.core.staleflag import StaleFlagManager
from pyomo.environ import Objective

from pyomo_relu.base.deadline import Deadline, TimeUp
from pyomo_relu.programs import has_highs
from pyomo_relu.programs.strangers import check_model
from pyomo_relu.solvers.results import HighsSolutionLoader, make_results


class NetworkSolver(SolverBase, ABC):
    """A solver for models with networks: the frame around its search.

    The time limit begins with the call: reading the model counts.

    Attributes
    ----------
    title : str
        The name that errors give the solver.
    by_rows : bool
        Whether a network is the rows that its formulation wrote, not what it computes.
    """

    title: ClassVar[str]
    by_rows: ClassVar[bool] = False

    def available(self) -> Availability:
        """Whether ``highspy`` can be imported."""
        return Availability.FullLicense if has_highs() else Availability.NotFound

    def version(self) -> tuple[int, ...]:
        """The version of the package; a solver that calls another one gives that one's."""
        from pyomo_relu.base.versions import VERSION

        return tuple(int(part) for part in VERSION.split(".")[:3])

    def needs(self) -> str:
        """What to install where the solver isn't available."""
        return f"{self.title} needs HiGHS; pip install highspy"

    @abstractmethod
    def search(
        self, model: Any, config: Any, deadline: Deadline, log: io.StringIO
    ) -> Results:
        """The search itself; ``TimeUp`` where the time was up before it began.

        Parameters
        ----------
        model : BlockData
        config : ConfigDict
            Checked by this: what it doesn't take is refused before any work.
        deadline : Deadline
        log : StringIO
            Gets what goes to ``tee``.
        """

    def _seconds(self, config: Any) -> float | None:
        """The time limit of a call."""
        return config.time_limit

    def solve(self, model: Any, **kwds: Any) -> Results:
        """Solve a model.

        Parameters
        ----------
        model : BlockData
        **kwds
            See the class.

        Returns
        -------
        Results
            Pyomo's own; what ``extra_info`` has is said by the class.

        Raises
        ------
        IncompatibleModelError
            If the model, for ``relu_global`` without its networks, isn't mixed-integer
            linear.
        ValueError
            For unknown options, network blocks that don't say what the network does, and
            inputs whose bounds were widened after their network was written;
            ``relu_global`` also refuses inputs without finite bounds and nonlinear input
            expressions.
        NoOptimalSolutionError, NoFeasibleSolutionError
            As with all of Pyomo's new solvers.
        """
        unknown = [key for key in kwds if key not in self.config]
        if unknown:
            raise ValueError(self.config.unknown(unknown[0]))
        config = self.config(value=kwds, preserve_implicit=True)
        if not self.available():
            raise ImportError(self.needs())
        seconds = self._seconds(config)
        stamp = datetime.datetime.now(datetime.UTC)
        deadline = Deadline(None if seconds is None or math.isinf(seconds) else seconds)
        config.timer = config.timer or HierarchicalTimer()
        check_model(model, self.title)
        log = io.StringIO()
        try:
            results = self.search(model, config, deadline, log)
        except TimeUp:
            results = self._out_of_time(model, config)
        results.solver_name, results.solver_version = self.name, self.version()
        results.solver_config, results.solver_log = config, log.getvalue()
        results.timing_info.start_timestamp = stamp
        results.timing_info.wall_time = deadline.elapsed
        results.timing_info.timer = config.timer
        return self._finish(results, config)

    def _out_of_time(self, model: Any, config: Any) -> Results:
        """The results of a call whose time was up before its search began.

        Present values that were offered are its point if they are feasible as they are.
        """
        from pyomo_relu.solvers.offered import offered_point

        objective = next(model.component_data_objects(Objective, active=True), None)
        maximize = objective is not None and not objective.is_minimizing()
        found = None
        if config.warmstart:
            found = offered_point(model, self.title, self.by_rows)
        loader = HighsSolutionLoader(model, None, None) if found is None else found[0]
        return make_results(
            loader,
            TerminationCondition.maxTimeLimit,
            None if found is None else found[1],
            math.inf if maximize else -math.inf,
            mip_gap=math.inf,
        )

    def _finish(self, results: Results, config: Any) -> Results:
        """Load what was found, and raise what Pyomo's solvers raise.

        Raises
        ------
        NoOptimalSolutionError, NoFeasibleSolutionError
        """
        StaleFlagManager.mark_all_as_stale()
        found = results.incumbent_objective is not None
        if config.load_solutions and found:
            results.solution_loader.load_solution()
        proved = TerminationCondition.convergenceCriteriaSatisfied
        if (
            results.termination_condition is not proved
            and config.raise_exception_on_nonoptimal_result
        ):
            loaded = config.load_solutions and found
            raise NoOptimalSolutionError(
                f"{self.title} stopped with '{results.termination_condition.name}'"
                + (", its best point is loaded" if loaded else "")
                + "; give raise_exception_on_nonoptimal_result=False to get its results."
            )
        if config.load_solutions and not found:
            raise NoFeasibleSolutionError()
        return results
