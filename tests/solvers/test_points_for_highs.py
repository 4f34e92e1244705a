"""Points that HiGHS asks for while it searches: what it takes, and who pays the time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pyomo_relu.heuristics.start import Start
from pyomo_relu.programs import HighsModel, LinearProgram
from pyomo_relu.programs.highs import Event
from pyomo_relu.solvers import starting
from pyomo_relu.solvers.highs_settings import SETTINGS
from pyomo_relu.solvers.starting import OngoingStart
from tests.programs.test_highs import knapsack, program

pytest.importorskip("highspy")
#: HiGHS ends at the root.
SHORT = {"presolve": "off", "mip_heuristic_effort": 0.0, "mip_max_nodes": 1}


def split_market() -> tuple[LinearProgram, np.ndarray]:
    """Equalities over binaries and a point that satisfies them, which are hard to meet.

    Source: Cornuejols and Dawande, IPCO 1998.
    """
    rng = np.random.default_rng(0)
    a = rng.integers(0, 100, (4, 30)).astype(float)
    point = rng.integers(0, 2, 30).astype(float)
    side = a @ point
    return program(np.zeros(30), a, side, side, upper=1.0, integer=True), point


def test_a_point_that_is_asked_for_becomes_the_incumbent():
    problem, point = split_market()
    assert HighsModel(problem, **SHORT).run().point is None  # it has none by itself
    model, asked = HighsModel(problem, **SHORT), []

    def give(event: Event) -> np.ndarray | None:
        asked.append(event)
        return point if len(asked) == 1 else None

    model.ask_for_points(give)
    answer = model.run()
    assert answer.point is not None and (np.round(answer.point) == point).all()


def test_a_point_that_breaks_a_row_is_not_taken():
    model, asked = HighsModel(knapsack(), presolve="off"), []

    def give(event: Event) -> np.ndarray:
        asked.append(event)
        return np.ones(60)  # all in, which is far too much

    model.ask_for_points(give)
    model.stop_when(lambda event: len(asked) >= 3)
    answer = model.run()
    assert asked
    whole = knapsack()
    assert answer.point is None or whole.violation(answer.point) <= 1e-6
    assert answer.objective is None or answer.objective > whole.cost.sum() + 1.0


class Clock:
    """CPU time that stands still unless it is told to go on."""

    def __init__(self) -> None:
        self.now = 100.0

    def process_time(self) -> float:
        return self.now


class Search:
    """A search for a start that takes all the time that it gets."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.best = clock, Start()
        self.pieces: list[float] = []
        self.found: np.ndarray | None = None

    def more(self, cpu_seconds: float) -> np.ndarray | None:
        self.pieces.append(cpu_seconds)
        self.clock.now += cpu_seconds
        return self.found


@pytest.fixture
def ongoing(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(starting, "time", clock)
    search = Search(clock)
    return OngoingStart(search), search, clock


def event(incumbent: float = math.inf) -> Event:
    return Event(0.0, incumbent, -math.inf, math.inf, 0)


def test_without_a_point_the_search_gets_its_large_share(ongoing):
    give, search, clock = ongoing
    assert give(event()) is None and not search.pieces  # nothing is due yet
    # What is due is smaller than the smallest piece that is worth it.
    clock.now += 0.9 * SETTINGS.points_least / SETTINGS.points_share_without
    assert give(event()) is None and not search.pieces
    clock.now += 1.0
    search.found = np.ones(3)
    assert give(event()) is search.found
    assert search.pieces == [pytest.approx(0.5 * (1.0 + 0.18))]
    # The time that it took is time that has passed, and is spent.
    assert give(event()) is search.found
    assert search.pieces[1] == pytest.approx(0.5 * search.pieces[0])
    clock.now += 100.0
    give(event())
    assert search.pieces[2] == SETTINGS.points_most


def test_with_a_point_of_either_the_search_gets_its_small_share(ongoing):
    give, search, clock = ongoing
    clock.now += 4.0
    give(event(incumbent=-3.0))
    assert search.pieces == [pytest.approx(0.4)]
    search.best = Start(value=1.0, violation=0.0)
    clock.now += 5.6
    give(event())
    assert search.pieces[1] == pytest.approx(0.1 * 10.0 - 0.4)


def test_a_search_that_failed_is_not_asked_again(ongoing, caplog):
    give, search, clock = ongoing
    calls = []

    def fail(cpu_seconds: float) -> None:
        calls.append(cpu_seconds)
        raise RuntimeError("of the search")

    search.more = fail
    clock.now += 10.0
    assert give(event()) is None
    clock.now += 10.0
    assert give(event()) is None
    assert len(calls) == 1 and "of the search" in caplog.text
