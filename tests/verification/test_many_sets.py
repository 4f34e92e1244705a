"""Properties of many unsafe sets: memory, verdicts and time stay in proportion."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from pyomo_relu import NetworkBuilder, activations
from pyomo_relu.base.deadline import Deadline
from pyomo_relu.verification import (
    Ball,
    Box,
    Property,
    never,
    robust_classification,
    rungs,
    verifier,
    verify,
)
from pyomo_relu.verification import attack as attack_room
from pyomo_relu.verification.input_splitting import split_inputs
from pyomo_relu.verification.margins import Margins
from pyomo_relu.verification.properties import Unsafe
from pyomo_relu.verification.verify_settings import VERIFY
from tests.harness.random_networks import he_network


def classifier(rng, n_inputs: int, n_classes: int, hidden=(), lead: float = 0.0):
    """A random network whose class 0 is ahead by ``lead`` at the origin."""
    sizes, at_zero = [n_inputs, *hidden, n_classes], np.zeros(n_inputs)
    b = NetworkBuilder()
    v = b.input("x", (n_inputs,))
    for k, (size, width) in enumerate(zip(sizes[1:], sizes)):
        w, bias = rng.normal(size=(size, width)) / np.sqrt(width), rng.normal(size=size)
        at_zero = w @ at_zero + 0.1 * bias
        if k == len(hidden):
            bias[0] += 10.0 * (at_zero[1:].max() - at_zero[0] + lead)
            return b.build([b.affine("o", [(v, w)], 0.1 * bias)])
        v = b.piecewise(
            f"r{k}", b.affine(f"h{k}", [(v, w)], 0.1 * bias), activations.relu()
        )
        at_zero = np.maximum(at_zero, 0.0)


def peak_mib(function) -> float:
    """Most memory that a call takes besides what was there."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "hidden, lead, radius, methods",
    [
        ((), 50.0, 0.01, verifier.METHODS),
        ((), 0.0, 0.01, ("attack",)),
        ((40, 40), 3.0, 0.05, ("attack", "bounds")),
    ],
)
def test_a_thousand_classes_in_little_memory(hidden, lead, radius, methods):
    """An array of sets x points x outputs would be gigabytes, one of sets x outputs is 8."""
    net = classifier(np.random.default_rng(0), 20, 1000, hidden, lead)
    box, prop = (
        Box(-radius * np.ones(20), radius * np.ones(20)),
        robust_classification(0, 1000),
    )

    def run() -> None:
        verify(net, box, prop, methods=methods, time_limit=3.0)

    assert peak_mib(run) < 250


def test_boxes_of_many_sets_in_little_memory():
    """Every set has a corner in each box; their rows are never all there at once."""
    net = classifier(np.random.default_rng(0), 6, 1000, (40,))
    margins = Margins(net, robust_classification(0, 1000), Box(-np.ones(6), np.ones(6)))

    def run() -> None:
        found = split_inputs(margins, range(999), lambda x: False, max_boxes=30)
        assert not found.proved and found.boxes >= 30

    assert peak_mib(run) < 100


@pytest.mark.parametrize(
    "seed", [*range(8), *(pytest.param(k, marks=pytest.mark.slow) for k in range(8, 80))]
)
def test_many_sets_have_the_verdict_of_all(seed):
    """Class 0 is ahead, or is not, by a little: some sets are left after the bounds."""
    rng = np.random.default_rng(seed)
    n, ahead, norm = (
        int(rng.integers(70, 200)),
        seed % 2 == 0,
        ["linf", "l1"][seed // 2 % 2],
    )
    region = Ball(np.zeros(2), float(rng.choice([0.1, 0.4, 1.0])), norm)
    grid = np.linspace(-region.radius, region.radius, 81)
    points = region.project(np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2))

    def margins(lead: float):
        net = classifier(np.random.default_rng(seed), 2, n, (16, 16, 16), lead)
        y = net.evaluate(points)
        return net, (y[:, :1] - y[:, 1:]).min(axis=0)

    _, seen = margins(0.0)
    gap = 0.03 * (seen.max() - seen.min())
    net, seen = margins(-seen.min() + (gap if ahead else -gap))
    methods = [("attack", "bounds", "splitting"), ("bounds", "relu_global")][seed % 3 == 2]
    found = verify(
        net, region, robust_classification(0, n), methods=methods, time_limit=None
    )
    assert found.status == ("robust" if ahead else "counterexample")
    known = np.isfinite(found.lower)
    assert (found.lower[known] <= seen[known] + 1e-9).all()
    if ahead:
        assert (found.lower > 0).all() and (found.upper > 0).all()
    else:
        y = net.evaluate(found.counterexample)
        assert y[0] <= y[1:].max() and region.contains(found.counterexample)


@pytest.mark.parametrize("seed", range(5))
def test_rows_margins_and_gradients_of_random_sets(seed):
    rng = np.random.default_rng(seed)
    net = he_network(seed, [3, 8, 5])
    sets = []
    for k in range(int(rng.integers(1, 9))):
        rows = int(rng.integers(1, 4))
        inputs = rng.normal(size=(rows, 3)) if k % 3 == 1 else None
        sets.append(Unsafe(rng.normal(size=(rows, 5)), rng.normal(size=rows), inputs))
    prop, region = Property(tuple(sets)), Ball(np.zeros(3), 1.0, ["l1", "linf"][seed % 2])
    margins = Margins(net, prop, region)
    x = region.samples(20, rng)
    right = prop.margins(x, net.evaluate(x))
    if margins.ball is not None:  # in the ball or not, is a row of each set
        right = np.maximum(right, (abs(x).sum(axis=1) - 1.0)[:, None])
    assert margins.of_rows(margins.rows(x)) == pytest.approx(right)
    which = rng.integers(len(sets), size=len(x))
    value, slope = margins.gradient(x, which)
    assert value == pytest.approx(right[np.arange(len(x)), which])
    h = 1e-7
    for i in range(3):
        step = h * np.eye(3)[i]
        up, down = (margins.gradient(x + s, which)[0] for s in (step, -step))
        smooth = abs(up + down - 2 * value) < 1e-10
        assert slope[smooth, i] == pytest.approx(((up - down) / (2 * h))[smooth], abs=1e-5)
    some = rng.permutation(len(sets))[: max(1, len(sets) // 2)]
    part = margins.only(some)
    assert part.of_rows(part.rows(x)) == pytest.approx(right[:, some])
    assert margins.rows(x)[:, margins.rows_of(some)] == pytest.approx(part.rows(x))


class Looks(Deadline):
    """A deadline that has passed at its last look."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def expired(self) -> bool:
        self.looks -= 1
        return self.looks <= 0


def test_the_attack_looks_at_the_time_between_passes(monkeypatch):
    net = he_network(0, [4, 30, 60])
    margins = Margins(net, robust_classification(0, 60, -1e3), Box(-np.ones(4), np.ones(4)))
    calls = []
    gradient = margins.gradient

    def counted(points, sets):
        calls.append(len(points))
        return gradient(points, sets)

    monkeypatch.setattr(margins, "gradient", counted)
    monkeypatch.setattr(attack_room, "VERIFY", replace(VERIFY, pass_numbers=2000))
    points, values = attack_room.attack(
        margins, range(59), restarts=16, steps=40, deadline=Looks(6)
    )
    assert len(calls) == 6 and max(calls) <= 2000 // 94
    assert points.shape == (59, 4)
    assert np.isfinite(values[0]) and np.isinf(values[-1])


def test_a_search_of_sides_ends_with_its_time(monkeypatch):
    """A hundred sets that each begin a search would take a hundred times a search."""
    net = he_network(1, [12, 20, 20, 100])
    begun = []
    split_neurons = rungs.split_neurons

    def split(*args, **kwargs):
        begun.append(args)
        return split_neurons(*args, **kwargs)

    monkeypatch.setattr(rungs, "split_neurons", split)
    box, prop = Box(-np.ones(12), np.ones(12)), robust_classification(0, 100)
    climb = verifier.Verifier(net, box, prop, methods=["neurons"])
    rungs.bound(climb)
    climb.seen.witness = None
    rungs.search_sides(climb, Deadline(0.0))
    assert not begun
    rungs.search_sides(climb, Deadline())
    assert begun


@pytest.mark.parametrize("many", [False, True])
def test_a_set_without_rows_is_everything(many):
    net = he_network(0, [2, 4, 3])
    prop = never(np.zeros((0, 3)), [])
    if many:
        prop = robust_classification(0, 3, -1e9) | prop
    found = verify(net, ([-1, -1], [1, 1]), prop)
    assert found.status == "counterexample"
