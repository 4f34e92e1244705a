"""The table of our solvers beside their peers: what is counted, and as what."""

from __future__ import annotations

import importlib

import pytest

from tests.paths import ROOT


@pytest.fixture
def modules(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    names = ("against_peers", "best_part")
    return [importlib.import_module(name) for name in names]


def test_open_models_count_as_their_limit_and_the_best_peer_is_meant(modules):
    against, best_part = modules
    found = {
        ("x", "relu"): best_part.Cost(1.0, True),
        ("x", "a"): best_part.Cost(8.0, True),
        ("x", "b"): best_part.Cost(2.0, True),
        ("y", "relu"): best_part.Cost(1.0, True),
        ("y", "a"): best_part.Cost(8.0, False),
        ("z", "relu"): best_part.Cost(16.0, False),
        ("z", "b"): best_part.Cost(4.0, True),
        # Nothing is known of a model that everyone leaves open.
        ("w", "relu"): best_part.Cost(60.0, False),
        ("w", "a"): best_part.Cost(1.0, False),
    }
    text = against.against_peers(list("xyzw"), found, ["relu", "absent"], ["a", "b"])
    lines = [[c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines()]
    assert len(lines) == 5
    # (2 * 8 / 4)^(1/3) over x, y and z; x and a, y and a; x and b, z and b.
    assert lines[2] == ["relu", "a, b", "4", "2", "2", "1.6", "2 (1)", "1"]
    assert lines[3] == ["relu", "a", "3", "2", "1", "8", "8 (1)", "0"]
    assert lines[4] == ["relu", "b", "2", "1", "2", "0.71", "2 (1)", "1"]
    assert "No row" in against.against_peers(["x"], found, ["relu"], ["c"])
