"""The parts of relu_global: bounds of boxes, tightening, proved LP bounds, MIPs."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from pyomo_relu.analysis import linear_regions
from pyomo_relu.bounds import crown_arrays
from pyomo_relu.bounds.box_bounds import BoxBounds
from pyomo_relu.bounds.tighten import tighten_boxes
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.solvers.global_search.box_search import BoxSearch
from pyomo_relu.solvers.global_search.branching import choose_input
from pyomo_relu.solvers.global_search.limits import Limits
from pyomo_relu.solvers.global_search.mip import BoxAnswer, BoxMIP
from pyomo_relu.solvers.global_search.subsystems import (
    CellSubsystem,
    Prices,
    find_subsystems,
    links_of,
)
from tests.harness.random_networks import CONTINUOUS, he_network, random_network

pytest.importorskip("highspy")


def model_of(network, low=-1.0, high=1.0):
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(network.n_inputs), bounds=(low, high))
    m.net = ReLUNetBlock(network=network, inputs=m.x, formulation=None)
    m.obj = pyo.Objective(expr=m.net.outputs[0])
    return m


@pytest.mark.parametrize("seed", range(8))
def test_planes_and_neurons_of_nested_boxes_are_sound(seed):
    rng = np.random.default_rng(seed)
    network = random_network(
        rng,
        n_inputs=3,
        widths=(6, 6),
        n_outputs=2,
        activations=[str(rng.choice(CONTINUOUS)) if seed < 6 else "relu" for _ in range(2)],
        max_pool=seed % 2 == 0,
    )
    m = model_of(network)
    m.row = pyo.Constraint(expr=m.net.outputs[0] + m.net.outputs[1] <= 100.0)
    p = read_problem(m)
    sides = [(k, s) for k in range(p.n_queries) for s in (1.0, -1.0)]
    bounder = BoxBounds(p.network, sides, steps=3)
    plain = BoxBounds(p.network, sides)
    gained = 0
    low, high = -np.ones((1, 3)), np.ones((1, 3))
    stored = bounder.inherited.start()
    for _ in range(6):
        planes = bounder(low, high, stored)
        before = plain(low, high, stored).low
        assert (planes.low >= before - 1e-9 * (1.0 + abs(before))).all()
        gained += int((planes.low > before + 1e-6).sum())
        for i in range(len(low)):
            x = low[i] + rng.random((200, 3)) * (high[i] - low[i])
            values = p.network.evaluate(x)
            for k, (query, sign) in enumerate(sides):
                y = sign * values[:, query]
                plane = x @ planes.slopes[i, 0, k] + planes.consts[i, 0, k]
                assert (plane <= y).all()
                assert planes.low[i, k] <= y.min()
            hidden = p.network.activations(x)
            lows, highs = bounder.inherited.by_node(planes.stored[i : i + 1])
            for node in bounder.inherited.hidden:
                assert (lows[node][0] <= hidden[node]).all()
                assert (hidden[node] <= highs[node][0]).all()
        dim, at = choose_input(low, high, high - low, np.zeros(3, dtype=bool))
        each = np.arange(len(low))
        first, second = high.copy(), low.copy()
        first[each, dim] = second[each, dim] = at
        low, high = np.concatenate([low, second]), np.concatenate([first, high])
        stored = np.concatenate([planes.stored] * 2)
    assert gained or seed < 6


def test_tightening_keeps_every_wanted_point():
    rng = np.random.default_rng(1)
    shrunk = 0
    for _ in range(200):
        low = rng.uniform(-2, 0, (1, 3))
        high = low + rng.uniform(0, 3, (1, 3))
        a, b = rng.normal(size=(1, 2, 3)), rng.normal(size=(1, 2))
        whole = np.array([False, False, True])
        x = low + rng.random((400, 3)) * (high - low)
        x[:, 2] = np.round(x[:, 2])
        x = x[(x >= low).all(axis=1) & (x <= high).all(axis=1)]
        wanted = x[(x @ a[0].T <= b[0]).all(axis=1)]
        before = np.prod(high - low)
        empty = tighten_boxes(low, high, a, b, whole)
        if empty[0]:
            assert not len(wanted)
            continue
        assert (wanted >= low[0]).all() and (wanted <= high[0]).all()
        shrunk += np.prod(high - low) < 0.9 * before
    assert shrunk > 50


@pytest.mark.parametrize("name", [*CONTINUOUS, "step", "pwl_jump"])
def test_box_mip_writes_every_function(name):
    rng = np.random.default_rng(3)
    network = random_network(
        rng, n_inputs=2, widths=(4, 3), activations=(name,), max_pool=name == "relu"
    )
    low, high = np.array([-0.6, -0.2]), np.array([0.7, 0.9])
    p = read_problem(model_of(network))
    exact = linear_regions(network, low, high).optimum([1.0], "min").value
    lows, highs = crown_arrays(p.network, low[None], high[None])
    lower, upper = p.lower.copy(), p.upper.copy()
    lower[:2], upper[:2] = low, high
    args = (p, lower, upper, [a[0] for a in lows], [a[0] for a in highs])
    answer = BoxMIP(*args).solve()
    assert answer.solved
    assert answer.bound == pytest.approx(exact, abs=1e-5)
    assert BoxMIP(*args).solve(cutoff=exact - 1e-3).point is None
    if name in CONTINUOUS:
        # The linear region of a point: its best is what the network has there.
        x = low + rng.random(2) * (high - low)
        pattern = [v[0] for v in p.network.activations(x[None])]
        region = BoxMIP(*args, pattern).solve()
        assert float(network.evaluate(region.point[:2])[0]) == pytest.approx(
            region.point[2], abs=1e-6
        )
        assert region.point[2] <= float(network.evaluate(x)[0]) + 1e-9


def test_pricing_a_subsystem_is_exact_to_its_tolerance():
    rng = np.random.default_rng(5)
    network = random_network(rng, n_inputs=2, widths=(6, 6), n_outputs=2)
    m = model_of(network)
    m.row = pyo.Constraint(expr=m.net.outputs[1] <= 50.0)
    p = read_problem(m)
    ((drivers, outputs),) = find_subsystems(p)
    links = links_of(p, [(drivers, outputs)])[0]
    subsystem = CellSubsystem(p, drivers, outputs, links, leaf_neurons=12)
    low, high = np.array([-0.5, -1.0]), np.array([1.0, 0.4])
    regions = linear_regions(network, low, high)
    for _ in range(8):
        v = rng.normal(size=2)
        priced = subsystem.price(Prices(np.zeros(2), v, low, high), 1e-3)
        exact = regions.optimum(v, "min").value
        assert priced.bound <= exact + 1e-9 <= priced.value + 2e-9
        assert priced.value - priced.bound <= 1e-3
    # The cells are still a partition of the whole box.
    volumes = np.prod(subsystem.cells["upper"] - subsystem.cells["lower"], axis=1)
    assert volumes.sum() == pytest.approx(4.0)


def test_the_first_point_is_a_gain():
    search = BoxSearch(read_problem(model_of(he_network(0, (2, 6, 1)))), Limits())
    assert not search.gained(np.inf)  # there is none yet
    search.incumbent.offer_inputs(np.zeros((1, 2)))
    cost = search.incumbent.cost
    assert search.gained(np.inf) and search.gained(cost + 1.0)
    assert not search.gained(cost) and not search.gained(cost + 1e-5 * abs(cost))


def test_a_box_too_narrow_to_split_is_not_split(monkeypatch):
    """Where the MIP doesn't decide it either, its bound stays, and the search ends."""
    p = read_problem(model_of(he_network(0, (2, 6, 1)), 0.3, 0.3 + 1e-12))
    asked = []

    def undecided(self, *args, **kwargs):
        asked.append(self)
        return BoxAnswer(None, -np.inf, solved=False, reason="error")

    monkeypatch.setattr(BoxMIP, "solve", undecided)
    search = BoxSearch(p, Limits(rel_gap=0.0, abs_gap=0.0, node_limit=50))
    search.run()
    assert asked and search.counts.boxes == 1
    assert search.stopped is None and not search.open_boxes
    least = min(p.network.evaluate(x)[0] for x in (p.lower[:2], p.upper[:2]))
    assert search.bound <= least
