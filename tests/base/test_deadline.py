"""The clock of every limit."""

import math
import pickle
import time

import pytest

from pyomo_relu.base import deadline
from pyomo_relu.base.deadline import NEVER, Deadline, TimeUp


def test_no_limit_never_comes():
    assert NEVER.left() == math.inf and not NEVER.expired()
    NEVER.check()


@pytest.mark.parametrize("limits", [(0.0, None), (None, 0.0), (0.0, 5.0)])
def test_the_nearer_of_clock_and_cpu_time_counts(limits):
    deadline = Deadline(*limits)
    assert deadline.left() == 0.0 and deadline.expired()
    with pytest.raises(TimeUp):
        deadline.check()
    assert 0.0 < Deadline(100.0, 1000.0).left() <= 100.0
    assert 0.0 < Deadline(1000.0, 100.0).left() <= 100.0


@pytest.mark.parametrize("limits", [(-1.0, None), (None, -1.0), (math.nan, None)])
def test_a_negative_limit_is_refused(limits):
    with pytest.raises(ValueError, match="time_limit must not be negative"):
        Deadline(*limits)


def test_a_part_ends_with_its_share_and_never_without_an_end():
    whole = Deadline(100.0, 50.0)
    part = whole.part(0.5)
    # Half of the clock's time and half of the CPU time.
    assert 20.0 < part.left() <= 25.0
    assert part.cpu_end <= whole.cpu_end - 20.0 and part.end <= whole.end - 40.0
    assert 40.0 < whole.limit <= 50.0
    assert NEVER.part(0.3).left() == math.inf and NEVER.limit is None


def test_a_deadline_travels_to_a_machine_whose_clock_has_another_beginning(monkeypatch):
    sent = pickle.dumps(Deadline(100.0, 50.0))
    here = time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: here() + 1e6)
    there = pickle.loads(sent)
    assert 90.0 < there.left() <= 100.0 and there.elapsed < 10.0


def test_a_part_is_of_what_is_left_and_of_both_clocks(monkeypatch):
    wall, cpu = [1000.0], [50.0]
    monkeypatch.setattr(deadline, "_waited", 0.0)
    monkeypatch.setattr(time, "perf_counter", lambda: wall[0])
    monkeypatch.setattr(time, "process_time", lambda: cpu[0])
    whole = Deadline(100.0, 10.0)
    wall[0], cpu[0] = 1060.0, 52.0
    part = whole.part(0.5)
    assert part.end == 1080.0 and part.cpu_end == 56.0
    assert part.left() == 4.0  # of CPU time, which ends first
    cpu[0] = 57.0
    assert part.expired() and not whole.expired()
    wall[0] = 1200.0
    assert whole.part(0.5).left() == 0.0  # nothing is left: no time, and no error
    only = Deadline(100.0).part(0.25)
    assert only.end == 1225.0 and only.cpu_end == math.inf
    rest = Deadline(None, 8.0).part(0.25)
    assert rest.end == math.inf and rest.left() == 2.0
