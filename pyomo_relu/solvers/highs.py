"""``SolverFactory("relu_highs")``: a lean path from a linear Pyomo model to HiGHS.

For any linear model, with and without network blocks. The model goes as arrays; the
start of a model with network blocks comes from the networks themselves; what HiGHS
does not know is refused instead of ignored.
"""

from __future__ import annotations

import datetime
import io
import logging
import math
import threading
import time
from typing import Any

import numpy as np
from pyomo.common.timing import HierarchicalTimer
from pyomo.contrib.solver.common.base import (
    Availability,
    LegacySolverWrapper,
    SolverBase,
)
from pyomo.contrib.solver.common.factory import SolverFactory
from pyomo.contrib.solver.common.results import Results, TerminationCondition
from pyomo.contrib.solver.common.util import (
    NoFeasibleSolutionError,
    NoOptimalSolutionError,
)
from pyomo.core.staleflag import StaleFlagManager

from pyomo_relu.formulations import network_blocks
from pyomo_relu.solvers.options import (
    Progress,
    ReluHighsConfig,
    apply_config,
    set_options,
)
from pyomo_relu.solvers.results import empty_results, read_results
from pyomo_relu.solvers.standard_form import (
    StandardForm,
    compile_standard_form,
    pass_model,
)

logger = logging.getLogger(__name__)

#: Share of the time limit that ``start='auto'`` may take at most.
START_SHARE = 0.1


class ReluHighs(SolverBase):
    """HiGHS for linear models, with a start from the networks in them.

    Besides Pyomo's keywords (``tee``, ``time_limit``, ``threads``, ``rel_gap``,
    ``abs_gap``, ``solver_options``, ``load_solutions``,
    ``raise_exception_on_nonoptimal_result``) takes those of
    :class:`~pyomo_relu.solvers.options.ReluHighsConfig`: ``warmstart``, ``start``,
    ``start_time``, ``progress``.

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

    def available(self) -> Availability:
        """Whether ``highspy`` can be imported."""
        try:
            import highspy  # noqa: F401
        except ImportError:
            return Availability.NotFound
        return Availability.FullLicense

    def version(self) -> tuple[int, ...]:
        """The version of HiGHS."""
        import highspy

        return tuple(int(part) for part in highspy.Highs().version().split("."))

    def solve(self, model, **kwds: Any) -> Results:
        """Solve a linear model.

        Parameters
        ----------
        model : BlockData
        **kwds
            See the class.

        Returns
        -------
        Results
            Pyomo's own; ``extra_info`` has ``mip_gap``, ``mip_node_count`` and, where
            one was looked for, ``start`` with the objective of the start.

        Raises
        ------
        IncompatibleModelError
            If the model isn't linear.
        ValueError
            For unknown options, a network block without a formulation, and inputs
            whose bounds were widened after their network was written.
        NoOptimalSolutionError, NoFeasibleSolutionError
            As with all of Pyomo's new solvers.
        """
        config = self.config(value=kwds, preserve_implicit=True)
        try:
            import highspy
        except ImportError as e:
            raise ImportError("relu_highs needs HiGHS; pip install highspy") from e
        stamp = datetime.datetime.now(datetime.UTC)
        begin = time.perf_counter()
        timer = config.timer = config.timer or HierarchicalTimer()
        blocks = list(network_blocks(model))
        check_networks(blocks)
        StaleFlagManager.mark_all_as_stale()

        highs = highspy.Highs()
        highs.setOptionValue("log_to_console", False)
        highs.setOptionValue("output_flag", bool(config.tee) or bool(config.progress))
        if config.threads is not None or "threads" in config.solver_options:
            # The scheduler keeps the number of threads of its first use in a process.
            highspy.Highs.resetGlobalScheduler(True)
        apply_config(highs, config, bool(blocks))  # refuses before the work begins

        timer.start("compile_model")
        form = compile_standard_form(model)
        timer.stop("compile_model")
        log, start = io.StringIO(), None
        if not form.columns:
            results = empty_results(model, form)
        else:
            timer.start("find_start")
            point = None
            if form.is_mip and config.warmstart:
                point = present_values(form, blocks)
            elif form.is_mip and blocks and config.start == "auto":
                point = self._auto_start(model, form, blocks, config)
                start = None if point is None else form.objective_value(point)
            timer.stop("find_start")
            timer.start("transfer_model")
            pass_model(highs, form)
            if point is not None:
                give_start(highs, point)
            timer.stop("transfer_model")
            if config.time_limit is not None:
                left = config.time_limit - (time.perf_counter() - begin)
                set_options(highs, {"time_limit": max(left, 0.0)})
            watch = _Watch(highs, config, log)
            timer.start("optimize")
            watch.run()
            timer.stop("optimize")
            results = read_results(highs, model, form)
        results.solver_name, results.solver_version = self.name, self.version()
        results.solver_config, results.solver_log = config, log.getvalue()
        if start is not None:
            results.extra_info.start = start
        results.timing_info.start_timestamp = stamp
        results.timing_info.wall_time = time.perf_counter() - begin
        results.timing_info.timer = timer
        return self._finish(results, config)

    def _auto_start(self, model, form: StandardForm, blocks, config) -> np.ndarray | None:
        from pyomo_relu.heuristics.start import search_start

        seconds = config.start_time
        limits = [config.time_limit, config.solver_options.value().get("time_limit")]
        for limit in limits:
            if limit is not None:
                seconds = min(seconds, START_SHARE * float(limit))
        if seconds <= 0:
            return None
        try:
            found = search_start(model, form, blocks, time_limit=seconds)
        except Exception as error:  # a start is a gift: its failure must not cost the solve
            logger.warning("no start from the networks: %s", error)
            return None
        return found.point if found.feasible else None

    def _finish(self, results: Results, config) -> Results:
        done = (
            results.termination_condition
            is TerminationCondition.convergenceCriteriaSatisfied
        )
        found = results.incumbent_objective is not None
        if config.load_solutions and found:
            results.solution_loader.load_solution()
        if not done and config.raise_exception_on_nonoptimal_result:
            raise NoOptimalSolutionError(
                f"HiGHS stopped with '{results.termination_condition.name}'"
                + (", its best point is loaded" if config.load_solutions and found else "")
                + "; give raise_exception_on_nonoptimal_result=False to get its results."
            )
        if config.load_solutions and not found:
            raise NoFeasibleSolutionError()
        return results


class LegacyReluHighs(LegacySolverWrapper, ReluHighs):
    """``pyo.SolverFactory("relu_highs")``: Pyomo's customary way to call a solver."""

    def solve(self, model, **kwds: Any):  # type: ignore[override]
        """Solve a linear model.

        Parameters
        ----------
        model : BlockData
        **kwds
            The usual ``tee``, ``timelimit``, ``warmstart``, ``options``,
            ``load_solutions``, and those of :class:`ReluHighs`.

        Returns
        -------
        SolverResults
            The customary results. Without a feasible point nothing is loaded and no
            error is raised, as with Pyomo's file-based solvers; see
            ``results.solver.termination_condition``.
        """
        own = {k: kwds.pop(k) for k in list(kwds) if k in _OWN_KEYWORDS}
        load = kwds.pop("load_solutions", True)
        saved = {k: self.config.get(k).value() for k in _RESTORED}
        options = dict(self.config.solver_options)
        try:
            for key, setting in own.items():
                self.config.get(key).set_value(setting)
            # Loading is left to here, where a missing solution is no error.
            legacy = super().solve(model, load_solutions=False, **kwds)
            results: Results = self._last_results
            found = results.incumbent_objective is not None
            if load and found:
                results.solution_loader.load_solution()
                legacy.solution.clear()
            elif load:
                logger.warning(
                    "relu_highs found no feasible point (%s); values are as before.",
                    results.termination_condition.name,
                )
            return legacy
        finally:
            # Pyomo's wrapper keeps what one call sets; here each call stands alone.
            for key, setting in saved.items():
                self.config.get(key).set_value(setting)
            self.config.solver_options.reset()
            self.config.solver_options.set_value(options)
            self._last_results = None

    def _map_results(self, model, results: Results):
        self._last_results = results
        legacy, solution = super()._map_results(model, results)
        legacy.solver.wallclock_time = results.timing_info.wall_time
        nodes = results.extra_info.get("mip_node_count", None)
        if nodes is not None:
            tree = legacy.solver.statistics.branch_and_bound
            tree.number_of_created_subproblems = nodes.value()
            tree.number_of_bounded_subproblems = nodes.value()
        return legacy, solution

    def warm_start_capable(self) -> bool:
        """True: ``solve(m, warmstart=True)`` starts from the present values."""
        return True


_OWN_KEYWORDS = (
    "warmstart",
    "start",
    "start_time",
    "progress",
    "time_limit",
    "threads",
    "rel_gap",
    "abs_gap",
    "timer",
)
_RESTORED = (
    *_OWN_KEYWORDS,
    "tee",
    "load_solutions",
    "raise_exception_on_nonoptimal_result",
)


class _Watch:
    """Runs HiGHS: passes its log on, calls the user, and minds interrupts."""

    def __init__(self, highs, config, log: io.StringIO) -> None:
        self.highs, self.progress = highs, config.progress
        self.streams = [*config.tee, log] if config.tee else []
        self.stop = False
        self.error: BaseException | None = None
        if self.streams:
            highs.cbLogging += self._log
        if self.progress is not None:
            highs.cbMipLogging += self._line
            highs.cbMipImprovingSolution += self._better
            for name in ("cbMipInterrupt", "cbSimplexInterrupt", "cbIpmInterrupt"):
                callback = getattr(highs, name)
                callback += self._interrupt

    def _log(self, event) -> None:
        for stream in self.streams:
            stream.write(event.message)

    def _line(self, event) -> None:
        self._report("log", event.data_out, event.data_out.mip_primal_bound)

    def _better(self, event) -> None:
        self._report("incumbent", event.data_out, event.data_out.objective_function_value)

    def _report(self, kind: str, data, incumbent: float) -> None:
        if self.stop:
            return
        report = Progress(
            kind,
            data.running_time,
            incumbent,
            data.mip_dual_bound,
            data.mip_gap,
            data.mip_node_count,
        )
        try:
            self.stop = bool(self.progress(report))
        except BaseException as error:  # must not travel through HiGHS
            self.error, self.stop = error, True

    def _interrupt(self, event) -> None:
        if self.stop:
            event.data_in.user_interrupt = True

    def run(self) -> None:
        if threading.current_thread() is threading.main_thread():
            # Runs HiGHS in a thread, so that Ctrl-C arrives and ends it in good order.
            self.highs.HandleKeyboardInterrupt = True
            self.highs.solve()
        else:
            self.highs.run()
        for stream in self.streams:
            stream.flush()
        if self.error is not None:
            raise self.error


def check_networks(blocks) -> None:
    """Refuse network blocks that don't say what the network does.

    Raises
    ------
    ValueError
        For a block without a formulation, and for inputs that may leave the box the
        network was written for, by their bounds or by a fixed value.
    """
    for block in blocks:
        if block._network is None or block.bounds is None:
            raise ValueError(
                f"'{block.name}' has no formulation, so its outputs would be free; call "
                f"{block.name}.reformulate('bigm'), or deactivate it."
            )
        block.check_box()
        low, high = block.bounds.input_box
        for i, entry in enumerate(block._entries):
            if isinstance(entry, float) or not entry.is_variable_type():
                continue
            if entry.fixed and entry.value is not None:
                slack = 1e-6 * max(1.0, abs(low[i]), abs(high[i]))
                if not low[i] - slack <= entry.value <= high[i] + slack:
                    raise ValueError(
                        f"'{block.name}': '{entry.name}' is fixed at {entry.value:g}, "
                        f"outside [{low[i]:g}, {high[i]:g}] for which the network was "
                        "written; widen its bounds and call reformulate()."
                    )


def present_values(form: StandardForm, blocks) -> np.ndarray | None:
    """The variables' present values as a start, NaN where there is none.

    A network whose inputs have values but whose own variables have not gets these from
    a forward pass; the model's variables stay as they are.
    """
    point = np.array(
        [math.nan if v.value is None else float(v.value) for v in form.columns]
    )
    if np.isnan(point).any():
        from pyomo_relu.heuristics.problem import complete_through_networks

        complete_through_networks(form, blocks, point)
    return None if np.isnan(point).all() else point


def give_start(highs, point: np.ndarray) -> None:
    """Give HiGHS a start; where it is NaN HiGHS completes it by a sub-MIP."""
    import highspy

    known = np.flatnonzero(~np.isnan(point))
    if len(known) == len(point):
        solution = highspy.HighsSolution()
        solution.col_value = point.tolist()
        solution.value_valid = True
        highs.setSolution(solution)
    elif len(known):
        highs.setSolution(len(known), known.astype(np.int32), point[known])


SolverFactory.register(
    "relu_highs",
    doc="HiGHS for linear models, with starts from the networks in them",
)(ReluHighs, LegacyReluHighs)
