"""Ipopt, through its executable or the one that CasADi brings along."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyomo.environ as pyo
import pytest


def ipopt_or_skip() -> Callable[[Any], bool]:
    """A function that solves a model by Ipopt and loads what it found, or a skipped test.

    It returns whether Ipopt calls the point a local optimum; it starts from the values
    of the variables.
    """
    if pyo.SolverFactory("ipopt").available(exception_flag=False):
        return _by_executable
    try:
        import casadi  # noqa: F401
    except ImportError:
        pytest.skip("no Ipopt: neither the executable 'ipopt' nor the package 'casadi'")
    return _by_casadi


def _by_executable(m) -> bool:
    results = pyo.SolverFactory("ipopt").solve(m, load_solutions=False)
    good = pyo.check_optimal_termination(results)
    if good:
        m.solutions.load_from(results)
    return good


def _by_casadi(m) -> bool:
    import casadi
    from pyomo.repn.plugins.nl_writer import NLWriter

    text = io.StringIO()
    # Without a presolve every variable is in the file.
    written = NLWriter().write(m, text, linear_presolve=False, scale_model=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.nl"
        path.write_text(text.getvalue())
        nlp = casadi.NlpBuilder()
        nlp.import_nl(str(path))
    problem = {"x": casadi.vertcat(*nlp.x), "f": nlp.f, "g": casadi.vertcat(*nlp.g)}
    quiet = {"print_time": False, "ipopt.print_level": 0, "ipopt.sb": "yes"}
    solver = casadi.nlpsol("solver", "ipopt", problem, quiet)
    found = solver(x0=nlp.x_init, lbx=nlp.x_lb, ubx=nlp.x_ub, lbg=nlp.g_lb, ubg=nlp.g_ub)
    for v, number in zip(written.variables, found["x"].full().ravel()):
        v.set_value(float(number), skip_validation=True)
    return bool(solver.stats()["success"])
