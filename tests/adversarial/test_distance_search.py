"""Smallest distances by branch and bound on sides: they agree with programs."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu import NetworkBuilder, activations
from pyomo_relu.adversarial import find_adversarial, nearest
from pyomo_relu.adversarial.decision import Decision
from pyomo_relu.adversarial.distance_search import DistanceSearch
from pyomo_relu.base.deadline import NEVER
from pyomo_relu.bounds import compute_bounds
from tests.harness.random_networks import he_network

pytest.importorskip("highspy")


@pytest.fixture
def no_program(monkeypatch):
    """Programs may not be solved."""

    def refuse(*args, **kwargs):
        raise AssertionError("a program was solved")

    monkeypatch.setattr(nearest, "solve_program", refuse)
    return monkeypatch


@pytest.mark.parametrize("norm", ["l1", "linf"])
@pytest.mark.parametrize("rule", ["untargeted", "target", "ratio"])
@pytest.mark.parametrize("seed", range(3))
def test_the_program_agrees(seed, rule, norm, no_program):
    net = he_network(seed, [(6, 8, 8, 3), (10, 9, 6, 5, 3), (12, 14, 4)][seed])
    x = np.random.default_rng(seed).uniform(0, 1, net.n_inputs)
    options: dict = {"norm": norm, "time_limit": 600}
    if rule != "untargeted":
        options["target"] = int(net.evaluate(x).argsort()[-2])
    if rule == "ratio":
        options["ratio"] = 1.2
    found = find_adversarial(net, x, **options)
    no_program.undo()
    other = find_adversarial(net, x, sides=False, **options)
    assert found.status == other.status
    if found.image is not None:
        assert found.nodes > 0
        assert found.distance == pytest.approx(other.distance, rel=2e-4, abs=1e-6)
        assert other.distance * (1 - 2e-4) - 1e-6 <= found.bound <= found.distance


def search_of(seed, sizes, norm="l1", target=None, **options):
    net = he_network(seed, sizes)
    x = np.random.default_rng(seed).uniform(0, 1, net.n_inputs)
    bounds = compute_bounds(net, 0.0, 1.0, "crown")
    decision = Decision(net, x, target, margin=1e-4, **options)
    return DistanceSearch(decision, norm, bounds.lower, bounds.upper)


@pytest.mark.parametrize("norm", ["l1", "linf"])
def test_without_a_first_image(norm):
    """Images come from the regions that the bounds point to."""
    search = search_of(0, (6, 8, 8, 3), norm)
    assert search.length == np.inf
    assert search.run(NEVER)
    assert search.decision.wins(search.best)
    assert search.bound == pytest.approx(search.length, rel=1e-4)


def test_bounds_hold_in_every_round():
    final = search_of(1, (8, 10, 10, 3))
    assert final.run(NEVER)
    search, rounds = search_of(1, (8, 10, 10, 3)), 0
    for tree in search.trees:
        tree.start(search.target)
    while any(len(tree) for tree in search.trees):
        assert search.bound <= final.length + 1e-9
        rounds += 1
        for k, tree in enumerate(search.trees):
            search.look(k, tree.step(search.target))
    assert rounds > 2 and search.length == pytest.approx(final.length, rel=1e-4)


@pytest.mark.parametrize("norm", ["l1", "linf"])
def test_rules_that_no_image_obeys(norm, no_program):
    """An output that is always the least, and a cap that is too small."""
    b = NetworkBuilder()
    x = b.input("x", (3,))
    r = b.piecewise("r", b.affine("h", [(x, np.eye(3))]), activations.relu())
    weights = np.array([[1.0, 1.0, 0.0], [0.5, 0.2, 0.1], [-1.0, -1.0, -1.0]])
    net = b.build([b.affine("y", [(r, weights)], [0.5, 0.0, 0.0])])
    image = np.array([0.5, 0.4, 0.3])
    found = find_adversarial(net, image, norm=norm, target=2)
    assert found.status == "impossible" and found.image is None
    assert found.bound == np.inf


@pytest.mark.parametrize("norm", ["l1", "linf"])
def test_an_interrupted_search_leaves_a_valid_bound(norm, monkeypatch):
    """Two rounds, then the program goes on."""
    net = he_network(4, [8, 12, 12, 3])
    x = np.random.default_rng(1).uniform(0, 1, 8)
    known = find_adversarial(net, x, norm=norm, sides=False, time_limit=600)
    calls = []

    def some(self, deadline):
        calls.append(1)
        for k, tree in enumerate(self.trees):
            self.look(k, tree.start(self.target))
        self.look(0, self.trees[0].step(self.target))
        return not any(len(t) for t in self.trees)

    monkeypatch.setattr(DistanceSearch, "run", some)
    found = find_adversarial(net, x, norm=norm, start=False, time_limit=600)
    assert calls and found.optimal
    assert found.distance == pytest.approx(known.distance, rel=1e-3)


def test_where_it_does_not_fit():
    assert not DistanceSearch.fits(he_network(0, [2, 3, 2]), "l0")
    b = NetworkBuilder()
    x = b.input("x", (2,))
    h = b.affine("h", [(x, np.eye(2))])
    pooled = b.max("m", h, [(0, 1)])
    assert not DistanceSearch.fits(b.build([b.affine("y", [(pooled, [[1.0]])])]), "l1")


@pytest.mark.parametrize(
    ("hidden", "suits"),
    [
        ((8,) * 6, False),
        ((8,) * 5, True),
        ((20, 10, 8, 8, 8, 8), True),
        ((10,) * 6, True),
        ((5,) * 8, False),
    ],
)
def test_many_narrow_layers_are_left_to_the_program(hidden, suits, monkeypatch):
    """Unless the caller asks for sides, or against them."""
    net = he_network(5, [6, *hidden, 3])
    assert DistanceSearch.suits(net) == suits
    tried = []
    monkeypatch.setattr(
        nearest._Search, "run", lambda self: tried.append(self.sides) or _Nothing()
    )
    for sides in (None, True, False):
        find_adversarial(net, np.full(6, 0.5), sides=sides, start=False)
    assert tried == [suits, True, False]


class _Nothing:
    """A result of which only the seconds are set."""
