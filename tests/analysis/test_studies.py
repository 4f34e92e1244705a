"""Pieces of the study scripts that a table depends on."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from tests.paths import ROOT


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_test_functions_have_their_known_minima():
    plate = load("plate")
    assert plate.peaks(0.228, -1.626) == pytest.approx(-6.551, abs=1e-3)
    assert plate.ackley(0.0, 0.0) == pytest.approx(0.0, abs=1e-12)
    assert plate.himmelblau(3.0, 2.0) == 0.0
