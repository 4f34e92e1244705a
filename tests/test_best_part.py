"""The table of ``relu`` beside its best part: what counts as within, and what is unknown."""

from __future__ import annotations

import importlib

import pytest

from tests.paths import ROOT


@pytest.fixture
def best_part(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("best_part")


@pytest.mark.parametrize(
    ("one", "parts", "best", "within"),
    [
        ((1.49, True), {"a": (1.0, True), "b": (2.0, True)}, "a", True),
        ((1.51, True), {"a": (1.0, True), "b": (2.0, True)}, "a", False),
        # The limit of a part that proved nothing is no time of it, but less than its time.
        ((13.0, True), {"a": (10.0, False)}, "a", True),
        ((13.3, True), {"a": (10.0, False), "b": (8.0, False)}, "a", None),
        ((20.0, True), {"a": (10.0, False), "b": (14.0, True)}, "b", False),
        # `relu` itself may end at its limit: before, or after what is allowed.
        ((10.0, False), {"a": (10.0, True)}, "a", None),
        ((60.0, False), {"a": (10.0, True)}, "a", False),
        ((60.0, False), {"a": (60.0, False)}, "a", None),
    ],
)
def test_what_is_within(best_part, one, parts, best, within):
    found = {("m", tool): best_part.Cost(*cost) for tool, cost in parts.items()}
    found["m", "relu"] = best_part.Cost(*one)
    (pair,) = best_part.pairs(["m"], found, "relu", ["a", "b"])
    assert pair.part == best
    assert pair.within is within


def test_the_table_counts_and_begins_with_the_largest_ratio(best_part):
    found = {}
    for name, one, part in (("x", 1.0, 1.0), ("y", 9.0, 2.0), ("z", 4.0, 1.0)):
        found[name, "relu"] = best_part.Cost(one, True)
        found[name, "a"] = best_part.Cost(part, name != "z")
    found["w", "a"] = best_part.Cost(1.0, True)
    text = best_part.best_part(["w", "x", "y", "z"], found, "relu", ["a", "b"], shown=2)
    assert "0.2 on 1 of 3, more on 1; on 1 that isn't known" in text
    assert "(2): 2.1." in text
    lines = text.splitlines()[-2:]
    assert lines[0].startswith("| y | 9 | a | 2 | 4.5 | **no** |")
    assert lines[1].startswith("| z | 4 | a | > 1 | 4 | not known |")
    assert "No row" in best_part.best_part(["w"], found, "relu", ["a"])
