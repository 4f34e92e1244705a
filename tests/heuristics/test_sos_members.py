"""Which members of SOS constraints programs hold at 0."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.heuristics.sos_members import SosMembers
from pyomo_relu.presolve.problem import SosColumns


class Sets:
    """What is asked of a problem."""

    def __init__(self, *sos: SosColumns) -> None:
        self.sos = list(sos)


@pytest.mark.parametrize("level, kept", [(1, {2}), (2, {1, 4})])
def test_the_largest_are_kept(level, kept):
    one = SosColumns(level, np.array([1, 4, 0, 2]))
    members = SosMembers(Sets(one), np.random.default_rng(0))
    point = np.array([0.0, 0.6, -0.9, 9.0, 0.8])
    assert members.zero is None and members.broken(point) > 0.5
    low, high = np.full(5, -1.0), np.full(5, 1.0)
    members.hold(low, high)
    assert (low == -1).all()
    members.settle(point)
    members.hold(low, high)
    assert {j for j in range(5) if low[j] < high[j]} == {3} | kept
    members.settle(np.array([1.0, 0, 0, 0, 0]))  # there is a choice already
    assert set(members.zero) == {0, 1, 2, 4} - kept
    members.release()
    assert members.zero is None


def test_every_choice_is_drawn():
    sets = Sets(SosColumns(2, np.arange(4)), SosColumns(1, np.array([7, 8])))
    members, seen = SosMembers(sets, np.random.default_rng(1)), set()
    for _ in range(200):
        members.draw()
        seen.add(tuple(members.zero.tolist()))
    assert len(seen) == 3 * 2 and all(len(one) == 2 + 1 for one in seen)
