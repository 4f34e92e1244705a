"""Branching learns from what it gained."""

from __future__ import annotations

import pytest

from pyomo_relu.solvers.scip.gains import Candidate, Gains


def candidates(*scores: float) -> list[Candidate]:
    return [Candidate(k, score) for k, score in enumerate(scores)]


def gained(gains: Gains, candidate: Candidate, lower: float, upper: float) -> None:
    """A branching on a candidate whose children gain so much."""
    gains.expect(candidate, 10.0, 1, 2)
    gains.learn(1, 10.0 + lower)
    gains.learn(2, 10.0 + upper)


def test_scores_alone_decide_at_first():
    assert Gains().best(candidates(1.0, 3.0, 2.0)).column == 1
    assert Gains().best(candidates(2.0, 2.0)).column == 0


def test_a_column_that_gained_little_gives_way():
    gains = Gains()
    for _ in range(20):
        first, second = candidates(3.0, 2.0)
        gained(gains, first, 0.01, 0.01)
        gained(gains, second, 1.0, 1.0)
    assert gains.best(candidates(3.0, 2.0)).column == 1
    # Of a third one the average is expected.
    assert gains.best(candidates(3.0, 0.5, 3.0)).column == 2


def test_both_children_count():
    gains = Gains()
    for _ in range(20):
        first, second = candidates(1.0, 1.0)
        gained(gains, first, 4.0, 0.0)
        gained(gains, second, 1.0, 1.0)
    assert gains.best(candidates(1.0, 1.0)).column == 1


def test_kinds_have_units_of_their_own():
    """What inputs gained for a unit of score says nothing of sides."""
    gains = Gains()
    for _ in range(20):
        gained(gains, Candidate(0, 1.0, "input"), 0.1, 0.1)
        gained(gains, Candidate(1, 1.0, "side"), 5.0, 5.0)
    assert gains.best([Candidate(2, 3.0, "input"), Candidate(3, 1.0, "side")]).column == 3


def test_only_children_that_are_expected_teach():
    gains = Gains()
    (only,) = candidates(1.0)
    gains.learn(7, 5.0)
    gains.expect(only, 10.0, None, 3)
    gains.learn(3, 12.0)
    gains.learn(3, 99.0)
    assert gains._all[only.kind].gain == pytest.approx(2.0)
