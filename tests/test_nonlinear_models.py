"""The nonlinear wired models build, and have points in which rows and networks hold."""

from __future__ import annotations

import importlib
from types import ModuleType

import pyomo.environ as pyo
import pytest

from pyomo_relu.formulations import network_blocks
from tests.harness.checks import solver_or_skip
from tests.paths import ROOT


@pytest.fixture
def nonlinear(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("nonlinear_models")


#: Network blocks, variables and rows of the user's own, without any formulation.
SIZES = {
    "tariffs": (1, 19, 20), "dispatch": (4, 32, 37), "pooling": (2, 48, 36),
    "mixing": (3, 20, 11), "acopf3": (1, 28, 29), "acopf9": (1, 70, 83), "arm": (6, 26, 16),
    "portfolio": (11, 35, 26), "reactor": (2, 15, 11), "pumps": (6, 46, 35),
}  # fmt: skip


def test_every_model_has_a_size(nonlinear):
    assert set(nonlinear.MODELS) == set(SIZES)


@pytest.mark.parametrize("name", sorted(SIZES))
def test_sizes(nonlinear, name):
    m = nonlinear.MODELS[name](0, formulation=None)
    found = len(list(network_blocks(m))), m.nvariables(), m.nconstraints()
    assert found == SIZES[name]


def first_point(m: pyo.ConcreteModel) -> None:
    """The first point of SCIP, whose interior point method sees products, no binaries."""
    solver = solver_or_skip("scip_direct")
    solver.options = {"display/verblevel": 0, "limits/solutions": 1, "limits/nodes": 200}
    solver.solve(m)


@pytest.mark.parametrize("name", sorted(SIZES))
def test_a_point_holds_in_rows_and_networks(nonlinear, name):
    worker = importlib.import_module("wired_worker")
    m = nonlinear.MODELS[name](0, formulation="complementarity")
    first_point(m)
    # Products of slacks are zero to 1e-6, so networks hold to 1e-3; the region of the
    # point has no products.
    pyo.TransformationFactory("relu.fixed_pattern").apply_to(m)
    first_point(m)
    assert worker.off(m) < 1e-5


@pytest.mark.parametrize(("name", "optimum"), [("THREE", 5812.64), ("NINE", 5296.69)])
def test_the_grids_are_those_of_their_sources(nonlinear, name, optimum):
    """Without the network: the published optima, which PGLib-OPF and MATPOWER state."""
    grids = importlib.import_module("nonlinear_models.power_flow")
    m = grids.power_flow(getattr(grids, name), 1.0)
    solver = solver_or_skip("scip_direct")
    solver.options = {"display/verblevel": 0, "limits/gap": 0.01}
    solver.solve(m)
    assert pyo.value(m.cost) == pytest.approx(optimum, abs=0.01)
