"""Pieces of the study scripts that a table depends on."""

from __future__ import annotations

import importlib

import pytest

from tests.paths import ROOT


@pytest.fixture
def load(monkeypatch):
    """Import a script of the folder ``benchmarks``."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def test_test_functions_have_their_known_minima(load):
    plate = load("plate")
    assert plate.peaks(0.228, -1.626) == pytest.approx(-6.551, abs=1e-3)
    assert plate.ackley(0.0, 0.0) == pytest.approx(0.0, abs=1e-12)
    assert plate.himmelblau(3.0, 2.0) == 0.0
