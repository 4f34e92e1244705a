"""Bounds over rows and the best point: nothing that is as good is cut off."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.solvers.global_search import narrowing
from pyomo_relu.solvers.global_search.mip import BoxMIP, node_ranges
from pyomo_relu.solvers.global_search.narrowing import Narrowing
from pyomo_relu.solvers.relu.mip_form import PresolvedMIP
from tests.solvers.row_models import rows_model

pytest.importorskip("highspy")


def narrowed(problem, cutoff):
    found = Narrowing.of_problem(problem, cutoff, Deadline())
    before = found.width
    found.run()
    assert found.width <= before
    return found


def boxes(found):
    """All bounds of a problem with one network."""
    (ranges,) = found.ranges
    return found.lower, found.upper, ranges.lows, ranges.highs


def best(problem, *boxes):
    answer = BoxMIP(problem, *boxes).solve(gap=1e-7)
    assert answer.solved
    return answer


def check(seed):
    """The optimum stays, and nothing better appears; how much narrower bounds are."""
    p = read_problem(rows_model(seed), Deadline(), "relu")
    if p.network is None:
        return 1.0
    exact = best(p, p.lower, p.upper, *node_ranges(p, *p.box))
    if exact.point is None:
        found = narrowed(p, math.inf)
        again = best(p, *boxes(found))
        assert again.point is None
        return 1.0
    cost = float(p.cost @ exact.point)
    for more in (0.0, 0.1 * (1.0 + abs(cost))):
        found = narrowed(p, cost + more)
        again = best(p, *boxes(found))
        assert again.point is not None
        # At the best cost itself boxes are as wide as the margins, and HiGHS takes one point of
        # them for another.
        close = 1e-5 if more else 1e-4
        assert float(p.cost @ again.point) == pytest.approx(cost, rel=close, abs=close)
        # The optimum itself lies within all bounds.
        values = p.network.activations(exact.point[None, : p.n])
        for low, high, a in zip(found.ranges[0].lows, found.ranges[0].highs, values):
            assert (a[0] >= low - 1e-6).all()
            assert (a[0] <= high + 1e-6).all()
    whole = Narrowing.of_problem(p, math.inf, Deadline()).width
    return found.width / whole if whole else 1.0


def test_nothing_as_good_is_cut_off():
    ratios = [check(seed) for seed in range(12)]
    assert np.exp(np.mean(np.log(np.maximum(ratios, 1e-3)))) < 0.8


def test_neurons_that_no_output_needs_keep_their_bounds():
    """Over this model's rows the second layer is off, so nothing depends on the first."""
    check(274)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_nothing_as_good_is_cut_off_in_a_thousand_models(part):
    for seed in range(100 + 100 * part, 200 + 100 * part):
        check(seed)


def test_a_row_that_binds_makes_the_mip_smaller_and_its_proof_is_the_models():
    p = read_problem(rows_model(3), Deadline(), "relu")
    exact = best(p, p.lower, p.upper, *node_ranges(p, *p.box))
    cost = float(p.cost @ exact.point)
    form = PresolvedMIP(p, cost, Deadline(), 10.0)
    plain = PresolvedMIP(p, math.inf, Deadline(), 0.0)
    assert "smaller" in form.description or "decided" in form.description
    assert len(form.program.row_lower) <= len(plain.program.row_lower) + 1
    assert form.cutoff == cost
    start = form.point_of(exact.point)
    assert start is not None
    assert form.program.violation(start) <= 1e-6


def test_a_limit_keeps_what_is_proved(monkeypatch):
    p = read_problem(rows_model(3), Deadline(), "relu")
    asked = []
    ends = narrowing._Ends.of

    def once(self, cost, const, noise):
        asked.append(cost)
        if len(asked) > 1:
            self.deadline.cpu_end = -math.inf
        return ends(self, cost, const, noise)

    monkeypatch.setattr(narrowing._Ends, "of", once)
    found = Narrowing.of_problem(p, math.inf, Deadline(cpu_seconds=1e9))
    found.run()
    exact = best(p, p.lower, p.upper, *node_ranges(p, *p.box))
    again = best(p, *boxes(found))
    assert again.bound == pytest.approx(exact.bound, rel=1e-5, abs=1e-5)
