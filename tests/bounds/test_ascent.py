"""The ascent on functions whose best points are known."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.bounds.ascent import Pace, ascend

PACE = Pace(rates=(0.1, 0.2), shrink=0.99)


class Parabolas:
    """``-a (x - p)^2 - |y - q|^2`` on ``0 <= x``, for N problems with two arrays each."""

    def __init__(self, n: int = 6) -> None:
        rng = np.random.default_rng(3)
        self.a, self.p = rng.uniform(0.5, 2.0, (n, 1)), rng.uniform(-1.0, 1.0, (n, 1))
        self.q = rng.uniform(-1.0, 1.0, (n, 2))
        self.seen: list[int] = []

    def bounds(self, point):
        x, y = point
        self.seen.append(len(x))
        return (-self.a * (x - self.p) ** 2)[:, 0] - ((y - self.q) ** 2).sum(axis=1)

    def gradients(self, point):
        x, y = point
        return [-2.0 * self.a * (x - self.p), -2.0 * (y - self.q)]

    def keep(self, left):
        self.a, self.p, self.q = self.a[left], self.p[left], self.q[left]

    def project(self, point):
        np.maximum(point[0], 0.0, out=point[0])

    def only(self, k: int) -> Parabolas:
        one = Parabolas(len(self.a))
        one.keep(np.arange(len(self.a)) == k)
        return one

    def best(self):
        return self.bounds([np.maximum(self.p, 0.0), self.q])

    def start(self):
        return [np.full((len(self.a), 1), 0.5), np.zeros((len(self.a), 2))]


def test_the_best_points_are_reached():
    problems = Parabolas()
    x, y = ascend(problems, problems.start(), 300, PACE)
    assert x == pytest.approx(np.maximum(problems.p, 0.0), abs=1e-3)
    assert y == pytest.approx(problems.q, abs=1e-3)


def test_who_leaves_the_batch_changes_nothing_for_the_others():
    """Each problem ends as it does alone, at the first point that decides it."""
    problems = Parabolas()
    goal = problems.best() + np.array([-0.5, -0.01, 1.0, -0.2, 1.0, -0.05])
    whole = ascend(problems, problems.start(), 60, PACE, goal)
    assert problems.seen[-1] == 2  # the goals of two are out of reach
    for k in range(6):
        one = Parabolas().only(k)
        alone = ascend(one, one.start(), 60, PACE, goal[k : k + 1])
        for a, b in zip(whole, alone):
            assert (a[k] == b[0]).all()
        reached = Parabolas().only(k).bounds([v[k : k + 1] for v in whole])
        assert k in (2, 4) or reached[0] >= goal[k]


def test_a_crowd_waits_for_the_others():
    problems = Parabolas()
    goal = np.array([-9.0, -9.0, 10.0, 10.0, 10.0, 10.0])
    ascend(problems, problems.start(), 20, Pace((0.1, 0.2), 1.0, crowd=0.5), goal)
    assert set(problems.seen) == {6}


def test_the_best_point_met_is_kept_not_the_last_one():
    problems = Parabolas()
    wild = Pace(rates=(5.0, 5.0), shrink=1.0)
    found = ascend(problems, problems.start(), 30, wild)
    assert (problems.bounds(found) >= problems.bounds(problems.start())).all()


def test_when_it_ends():
    for steps, deadline in ((1, Deadline()), (50, Deadline(0.0))):
        problems = Parabolas()
        found = ascend(problems, problems.start(), steps, PACE, deadline=deadline)
        assert len(problems.seen) == 1
        assert all((a == b).all() for a, b in zip(found, problems.start()))
    problems = Parabolas()
    ascend(problems, problems.start(), 500, Pace((0.1, 0.2), 0.9, look=5, stall=1e-3))
    assert 8 < len(problems.seen) < 200
