"""Bounds of networks among rows hold at every point, whatever the multipliers are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.bounds import crown_arrays
from pyomo_relu.programs import LinearProgram
from pyomo_relu.sides.region_program import region_program
from pyomo_relu.sides.row_bounds import Multipliers, RowBounds, Subproblems
from pyomo_relu.sides.row_branching import Split, choose, inherit, split
from pyomo_relu.sides.row_terms import RowTerms
from tests.harness.random_networks import he_network

pytest.importorskip("highspy")


class Case:
    """A random network among random rows, and points at which all rows hold."""

    def __init__(self, seed: int) -> None:
        rng = self.rng = np.random.default_rng(seed)
        self.n, self.q, rest = 3, 2, 2
        self.network = he_network(seed, [3, 6, 5, 2])
        low, high = -np.ones(3), np.ones(3)
        ends = crown_arrays(self.network, low[None], high[None])
        y_low, y_high = (side[self.network.outputs[0]][0] for side in ends)
        m = self.n + self.q + rest
        self.outputs = slice(self.n, self.n + self.q)
        x = rng.uniform(-1, 1, (400, 3))
        z = np.hstack([x, self.network.evaluate(x), rng.uniform(-1, 2, (400, rest))])
        matrix = np.round(rng.normal(size=(4, m)), 2) * (rng.random((4, m)) < 0.7)
        activity = z @ matrix.T
        lower = np.quantile(activity, 0.1, axis=0)
        upper = np.quantile(activity, 0.9, axis=0)
        lower[0], upper[1] = -np.inf, np.inf
        # An output has a bound of its own that says more than the network.
        top = float(np.quantile(z[:, self.n], 0.9))
        inside = (activity >= lower).all(axis=1) & (activity <= upper).all(axis=1)
        self.points = z[inside & (z[:, self.n] <= top)]
        own_high = y_high.copy()
        own_high[0] = top
        self.program = LinearProgram(
            rng.normal(size=m),
            np.concatenate([low, y_low, -np.ones(rest)]),
            np.concatenate([high, own_high, 2.0 * np.ones(rest)]),
            sp.csr_array(matrix),
            lower,
            upper,
            np.zeros(m, dtype=bool),
        )
        self.terms = RowTerms(self.program, self.outputs, y_low, y_high, 0.1)
        self.bounds = RowBounds(self.network, self.terms)
        self.cost = self.points @ self.program.cost

    def within(self, some: Subproblems, k: int) -> np.ndarray:
        """Which points a subproblem has."""
        z = self.points[:, self.terms.columns]
        inside = ((z >= some.low[k]) & (z <= some.high[k])).all(axis=1)
        values = self.network.activations(self.points[:, : self.n])
        for i, s in self.bounds.spans.items():
            inside &= (some.fixed[k, s] * values[i] >= 0).all(axis=1)
        return inside

    def random_multipliers(self, some: Subproblems) -> Multipliers:
        m = self.bounds.first(some)
        shape = m.alpha.shape
        prices = self.terms.valid(3.0 * self.rng.normal(size=m.prices.shape))
        share = self.rng.choice([0.3, 1.0, 2.0], size=m.share.shape)
        alpha, beta = self.rng.random(shape), self.rng.exponential(size=shape)
        return Multipliers(alpha, beta, prices, share)

    def children(self, rounds: int = 4) -> Subproblems:
        """Subproblems some splits deep."""
        some = self.bounds.whole()
        for _ in range(rounds):
            m = self.bounds.first(some)
            some = split(self.bounds, some, choose(self.bounds, some, m, np.inf))
            some = some.take(~self.bounds.tighten(some))
        return some


@pytest.mark.parametrize("seed", range(6))
def test_bounds_hold_for_any_multipliers(seed):
    case = Case(seed)
    some, seen = case.children(), 0
    for ascended in (False, True):
        m = case.random_multipliers(some)
        if ascended:
            m = case.bounds.ascend(some, m, 30, float(np.median(case.cost)))
        bound, found = case.bounds.lower(some, m)
        for k in range(len(some)):
            inside = case.within(some, k)
            seen += inside.sum()
            assert (case.cost[inside] >= bound[k]).all()
            # What the linear function below says holds point by point.
            z = case.points[inside][:, case.terms.columns]
            below = z @ found.slopes[k] + found.const[k] - found.error[k]
            share = float(m.share[k, 0])
            assert (share * case.cost[inside] >= below - 1e-12).all()
    assert seen >= 2 * len(case.points)  # the children cover all


@pytest.mark.parametrize("seed", range(4))
def test_an_ascent_gains(seed):
    case = Case(seed)
    whole = case.bounds.whole()
    first = case.bounds.first(whole)
    before = case.bounds.lower(whole, first)[0][0]
    after = case.bounds.lower(whole, case.bounds.ascend(whole, first, 200))[0][0]
    assert before < after <= case.cost.min()


@pytest.mark.parametrize("seed", range(4))
def test_children_begin_with_no_less_than_their_parents_have(seed):
    """Split on any open neuron that is counted from below, whatever the multipliers are."""
    case = Case(seed)
    b, some = case.bounds, case.children()
    m = case.random_multipliers(some)
    before, found = b.lower(some, m)
    opened = (some.stored[:, : b.count] < 0) & (some.stored[:, b.count :] > 0)
    at, neuron = np.nonzero(opened & (found.rises > 0))
    assert len(at)
    on = Split(neuron, np.full(len(at), -1), found.rises[at, neuron])
    children = split(b, some.take(at), on)
    after, _ = b.lower(children, inherit(b, m.take(at), on))
    size = 1e-9 * (1.0 + abs(before[at]))
    assert (after.reshape(2, -1) >= before[at] - size).all()


def test_shares_and_multipliers_are_normalized():
    terms = Case(0).terms
    prices, share = terms.normalized(np.zeros((1, terms.count)), np.ones((1, 1)))
    total = share.sum() + abs(prices[:, terms.with_outputs]).sum()
    assert terms.outputs_cost and total == pytest.approx(1.0)
    alone = replace_cost(terms)
    prices, share = alone.normalized(np.zeros((1, terms.count)), np.full((1, 1), 2.5))
    assert share[0, 0] == 2.5
    assert abs(prices[:, terms.with_outputs]).sum() == pytest.approx(1.0)
    assert (prices == terms.valid(prices)).all()


def replace_cost(terms: RowTerms) -> RowTerms:
    """The same rows where outputs cost nothing."""
    other = terms.in_single_precision()
    other.outputs_cost = False
    return other


@pytest.mark.parametrize("seed", range(4))
def test_programs_of_subproblems_have_all_their_points(seed):
    """Seen in both ways: their points fit, and the least cost is that of the network."""
    from pyomo_relu.programs import HighsModel

    case = Case(seed)
    some = case.children(6)
    for k in range(0, len(some), 7):
        one = some.take(np.array([k]))
        low, high = case.program.lower.copy(), case.program.upper.copy()
        low[case.terms.columns], high[case.terms.columns] = one.low[0], one.high[0]
        ranges = case.bounds.nodes(one, one.stored)
        found = region_program(
            case.network,
            replace(case.program, lower=low, upper=high),
            case.outputs,
            ([a[0] for a in ranges[0]], [a[0] for a in ranges[1]]),
            {i: one.fixed[0, s].astype(float) for i, s in case.bounds.spans.items()},
        )
        answer = HighsModel(found).run()
        inside = case.within(some, k)
        if answer.point is None:
            assert not inside.any()
            continue
        z = answer.point[: len(case.program.cost)]
        y = case.network.evaluate(z[None, : case.n])[0]
        assert z[case.outputs] == pytest.approx(y, abs=1e-5)
        assert (case.cost[inside] >= answer.objective - 1e-6).all()
