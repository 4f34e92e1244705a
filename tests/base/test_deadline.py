"""The clock of every limit."""

import math
import pickle
import time

import pytest

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
