"""Pyomo's customary way to call a solver, as this package's solvers share it."""

from __future__ import annotations

import logging
from inspect import signature
from typing import Any

from pyomo.contrib.solver.common.base import LegacySolverWrapper
from pyomo.contrib.solver.common.results import Results
from pyomo.opt import SolverResults

logger = logging.getLogger(__name__)

#: Keywords of Pyomo's own that one call must not leave behind.
_PYOMO_KEYWORDS = ("tee", "load_solutions", "raise_exception_on_nonoptimal_result")
#: All keywords that Pyomo's own wrapper takes.
_CUSTOMARY = frozenset(signature(LegacySolverWrapper.solve).parameters)


class LegacyCall(LegacySolverWrapper):
    """``SolverFactory(...).solve(model, ...)`` over a solver of Pyomo's new kind.

    Pyomo's wrapper knows none of the solver's own keywords, keeps what one call sets,
    and treats a missing solution as an error; here each call stands alone, and without
    a feasible point nothing is loaded.
    """

    _last_results: Any = None

    def solve(self, model: Any, **kwds: Any) -> SolverResults:  # type: ignore[override]
        """Solve a model.

        Parameters
        ----------
        model : BlockData
        **kwds
            The usual ``tee``, ``timelimit``, ``options``, ``load_solutions``, and the
            solver's own.

        Returns
        -------
        SolverResults
            The customary results. Without a feasible point nothing is loaded and no
            error is raised, as with Pyomo's file-based solvers; see
            ``results.solver.termination_condition``.
        """
        options = dict(self.options)
        kwds = self._take_options(options, kwds)
        keywords = self.CONFIG.keywords
        own = {k: kwds.pop(k) for k in list(kwds) if k in keywords}
        unknown = [k for k in kwds if k not in _CUSTOMARY]
        if unknown:
            raise TypeError(self.CONFIG.unknown(unknown[0]))
        load = kwds.pop("load_solutions", True)
        saved = {k: self.config.get(k).value() for k in (*keywords, *_PYOMO_KEYWORDS)}
        try:
            for key, setting in own.items():
                self.config.get(key).set_value(setting)
            # Loading is left to here, where a missing solution is no error.
            legacy = super().solve(model, load_solutions=False, **kwds)
            results: Results = self._last_results
            if load and results.incumbent_objective is not None:
                results.solution_loader.load_solution()
                legacy.solution.clear()
            elif load:
                logger.warning(
                    "%s found no feasible point (%s); values are as before.",
                    self.name,
                    results.termination_condition.name,
                )
            return legacy
        finally:
            for key, setting in saved.items():
                self.config.get(key).set_value(setting)
            self.config.solver_options.reset()
            self.config.solver_options.set_value(options)
            self._last_results = None

    def _take_options(self, options: dict[str, Any], kwds: dict[str, Any]) -> dict:
        """The keywords of a call, given the solver's lasting options."""
        return kwds

    def _options_as_keywords(
        self, options: dict[str, Any], kwds: dict[str, Any]
    ) -> dict[str, Any]:
        """The keywords of a call, where every option is one of the solver's keywords.

        Raises
        ------
        ValueError
            For an option that the solver hasn't.
        """
        kwds, keywords = dict(kwds), self.CONFIG.keywords
        for key, setting in {**options, **(kwds.pop("options", None) or {})}.items():
            if key not in keywords:
                raise ValueError(self.CONFIG.unknown(key))
            kwds.setdefault(key, setting)
        self.config.solver_options.reset()
        return kwds

    def _map_results(self, model: Any, results: Results) -> tuple[SolverResults, Any]:
        self._last_results = results
        legacy, solution = super()._map_results(model, results)
        legacy.solver.wallclock_time = results.timing_info.wall_time
        nodes = results.extra_info.get("mip_node_count", None)
        if nodes is not None:
            tree = legacy.solver.statistics.branch_and_bound
            tree.number_of_created_subproblems = nodes.value()
            tree.number_of_bounded_subproblems = nodes.value()
        return legacy, solution
