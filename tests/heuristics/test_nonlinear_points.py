"""Points of the nonlinear wired models by sequences: equalities that Newton's steps close,
optima that quadratic steps reach."""

from __future__ import annotations

import importlib

import pytest

from pyomo_relu.base.deadline import NEVER
from pyomo_relu.heuristics.sequential import SequentialSearch
from pyomo_relu.presolve.reading import read_problem
from tests.paths import ROOT

pytest.importorskip("highspy")


def search_on(monkeypatch: pytest.MonkeyPatch, name: str) -> SequentialSearch:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    models = importlib.import_module("nonlinear_models").MODELS
    m = models[name](0, formulation=None)
    view = read_problem(m, general=True).for_points()
    return SequentialSearch(view, lambda z: None, NEVER)


@pytest.mark.parametrize(
    "name", ["mixing", "reactor", "acopf3", "acopf9", "arm", "pooling"]
)
def test_a_point_by_few_programs(monkeypatch, name):
    search = search_on(monkeypatch, name)
    for _ in search.steps():
        if search.point is not None or search.programs > 150:
            break
    assert search.point is not None
    assert search.problem.violation(search.point) <= 1e-6


@pytest.mark.parametrize("name, best", [("mixing", 3.2897), ("arm", 2.49775)])
def test_a_curved_optimum_by_few_programs(monkeypatch, name, best):
    """Linear programs alone don't end there."""
    search = search_on(monkeypatch, name)
    for _ in search.steps():
        if search.programs > 200:
            break
    value = search.problem.user_objective(search.best)
    assert value == pytest.approx(best, rel=1e-4)
    # SCIP takes no point that is 1e-7 off; so far from rows are those of HiGHS as it comes.
    assert search.problem.violation(search.point) <= 1e-8
