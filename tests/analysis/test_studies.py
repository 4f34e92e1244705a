"""Pieces of the study scripts that a table depends on."""

from __future__ import annotations

import importlib

import numpy as np
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


def test_a_network_of_the_study_of_penalties_is_trained_and_minimized(load):
    pytest.importorskip("torch")
    study = load("paper_plate")
    names = {name for *_, chosen in study.USUAL for name in chosen} - set(study.STRENGTHS)
    assert not names
    every = list(study.cases())
    assert len(every) == len({case[:-1] for case in every})
    for name, weights in study.STRENGTHS.items():
        assert study.penalties(name, weights[0]) or name == "plain"
    x, y = study.samples("peaks", 500, 1)
    how = study.Training(points=500, steps=60)
    terms = study.penalties("gap + width", 1e-3)
    layers, seconds = study.train((2, 6, 6, 1), x, y[:, None], terms, 0, how)
    network = study.dense(layers)
    found = study.minimized(network, 20.0)
    assert seconds > 0 and found["status"] == "optimal"
    exact = study.linear_regions(network, -1.0, 1.0).optimum(0).value
    assert found["objective"] == pytest.approx(exact, abs=1e-3)
    assert found["root"] <= exact + 1e-6 and found["bound"] <= exact + 1e-6
    assert study.size_of(network, -1.0, 1.0)["neurons"] == 12


def test_a_retrained_network_is_in_the_units_of_its_teacher(load, monkeypatch):
    pytest.importorskip("torch")
    study = load("paper_plate")
    monkeypatch.setattr(study, "OIL_STEPS", 800)
    hidden = np.array([[2.0, 1.0, -1.0, 1.0]]), np.array([1.0, -4.5, 5.0, -5.0])
    teacher = study.dense([hidden, (np.full((4, 1), 3.0), np.array([50.0]))])
    network, error, _ = study.retrained(teacher, [4.0], [6.0], [], 0)
    assert error < 0.1
    x = np.linspace(4.0, 6.0, 9)[:, None]
    away = network.evaluate(x) - teacher.evaluate(x)
    assert abs(away).max() < 0.2 * np.ptp(teacher.evaluate(x))
