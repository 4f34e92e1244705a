"""The wired models of the benchmark are the models that their results are of."""

from __future__ import annotations

import importlib
from types import ModuleType

import pyomo.environ as pyo
import pytest

from pyomo_relu.formulations import network_blocks
from tests.paths import ROOT


@pytest.fixture
def wired(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("wired_models")


#: Network blocks, variables and rows of the user's own, without any formulation.
SIZES = {
    "student250": (250, 500, 1), "price_nl": (8, 40, 25), "price_grid": (8, 536, 297),
    "pricing20": (20, 180, 181), "wfp_1x50": (1, 26, 14), "wfp_2x30": (1, 26, 14),
    "reformers4": (4, 32, 11), "mpc10": (10, 84, 105), "mpc10d": (10, 62, 69),
    "plant24": (24, 193, 187), "neur2sp": (1, 21, 11), "secure_uc": (4, 180, 284),
    "flowsheet": (6, 31, 15), "gaslift17": (17, 119, 90), "gaslift17d": (17, 102, 73),
    "qnet8": (1, 9, 6), "counterfactual": (1, 43, 22), "cvar20": (20, 45, 21),
    "production": (10, 130, 145),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(SIZES))
def test_sizes(wired, name):
    m = wired.MODELS[name](0, formulation=None)
    found = len(list(network_blocks(m))), m.nvariables(), m.nconstraints()
    assert found == SIZES[name]


def test_every_model_has_a_size(wired):
    assert set(wired.MODELS) == set(SIZES)


#: Optima of the linear relaxations with bounds by intervals, of an independent writing of
#: the same models; they depend on every weight, coefficient and random draw.
RELAXED = [
    ("reformers4", 0, 157.75904399706832),
    ("reformers4", 1, 186.83193919646786),
    ("neur2sp", 0, -417.7354851360705),
    ("qnet8", 1, 316.4538147770862),
    ("wfp_1x50", 0, 3.9478197738169283),
    ("production", 0, 1.7941278051435376),
    ("flowsheet", 1, 28.5201534622934),
    ("gaslift17d", 1, 204.05372269374914),
]


@pytest.mark.parametrize(("name", "seed", "value"), RELAXED)
def test_relaxations(wired, name, seed, value):
    m = wired.MODELS[name](seed, bounds="interval")
    pyo.TransformationFactory("core.relax_integer_vars").apply_to(m)
    pyo.SolverFactory("appsi_highs").solve(m)
    (objective,) = m.component_data_objects(pyo.Objective, active=True)
    assert pyo.value(objective) == pytest.approx(value, rel=1e-6)
