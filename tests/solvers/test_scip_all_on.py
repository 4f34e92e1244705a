"""Moved outputs, end games and narrowing of relu_scip on together, on random units."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from pyomo_relu.solvers.scip import end_game, handler, narrowed
from pyomo_relu.solvers.scip.handler import NetworkHandler
from pyomo_relu.solvers.scip.narrowed import Narrowed
from pyomo_relu.solvers.scip.settings import END_GAME, HANDLER, NARROWED
from tests.harness.random_networks import he_network
from tests.solvers.against_rows import wrong_by_rows

pytest.importorskip("pyscipopt")
pytest.importorskip("highspy")


def units(seed: int, formulation: str | None) -> pyo.ConcreteModel:
    """Units that are switched, and give at most, or just, what their networks say.

    Where a unit is off, or has more than is asked for, its output is in nobody's way.
    """
    rng = np.random.default_rng(seed)
    m = pyo.ConcreteModel()
    count, n = int(rng.integers(2, 5)), int(rng.integers(1, 4))
    m.u = pyo.RangeSet(0, count - 1)
    m.on = pyo.Var(m.u, domain=pyo.Binary)
    m.x = pyo.Var(m.u, range(n), bounds=(-1, 1))
    m.given = pyo.Var(m.u, bounds=(-4, 4))
    m.rows = pyo.ConstraintList()
    m.net = ReLUNetBlock(
        m.u,
        network={k: he_network(10 * seed + k, (n, 6, 5, 1)) for k in m.u},
        inputs=lambda m, k: [m.x[k, j] for j in range(n)],
        formulation=formulation,
    )
    for k in m.u:
        y, kind = m.net[k].outputs[0], rng.random()
        if kind < 0.6:
            m.rows.add(m.given[k] <= y + 8 * (1 - m.on[k]))
        elif kind < 0.8:
            m.rows.add(m.given[k] <= y)
        else:
            m.rows.add(m.given[k] == y)
        m.rows.add(m.given[k] <= 4 * m.on[k])
        m.rows.add(m.given[k] >= -4 * m.on[k])
    total = pyo.quicksum(m.given.values())
    m.rows.add(total >= float(rng.uniform(-0.5, 1.2)))
    if rng.random() < 0.5:  # inputs from one source
        each = pyo.quicksum(m.x[k, 0] for k in m.u)
        m.rows.add(each <= float(rng.uniform(-0.5, 0.5)))
    cost = pyo.quicksum(float(c) * v for c, v in zip(rng.normal(size=99), m.x.values()))
    switched = pyo.quicksum(float(rng.uniform(0.1, 1.0)) * m.on[k] for k in m.u)
    gain = float(rng.choice([0.0, 0.7]))
    sign = -1.0 if rng.random() < 0.5 else 1.0
    sense = pyo.maximize if sign < 0 else pyo.minimize
    m.cost = pyo.Objective(expr=sign * (cost + switched - gain * total), sense=sense)
    return m


@pytest.fixture
def all_on(monkeypatch):
    """Small nodes are programs from the start on, every better point narrows; their counts."""
    small = replace(END_GAME, first=6, largest=12, share=1e6, whole_nodes=10**9)
    for module in (end_game, handler):
        monkeypatch.setattr(module, "END_GAME", small)
    every = replace(NARROWED, first=1e6, probe=1e6, better=0.0, smaller=1.0)
    monkeypatch.setattr(narrowed, "NARROWED", every)
    # Fewer planes, or most of these models would be done at their root.
    few = replace(HANDLER, rounds=1, root_rounds=2)
    monkeypatch.setattr(handler, "HANDLER", few)
    seen = {"moved": 0, "closed by a moved point": 0, "ended": 0, "narrowed": 0}
    moved, ended, look = NetworkHandler._moved, NetworkHandler._ended, Narrowed.look

    def count_moved(self, wrong, z):
        before = self.counts.moved
        found = moved(self, wrong, z)
        seen["moved"] += self.counts.moved - before
        seen["closed by a moved point"] += found[1]
        return found

    def count_ended(self, bound):
        seen["ended"] += bound is not None
        return ended(self, bound)

    def count_looks(self, *what):
        seen["narrowed"] += 1
        return look(self, *what)

    monkeypatch.setattr(NetworkHandler, "_moved", count_moved)
    monkeypatch.setattr(NetworkHandler, "_ended", count_ended)
    monkeypatch.setattr(Narrowed, "look", count_looks)
    return seen


def wrong(seed: int) -> str | None:
    return wrong_by_rows(units(seed, None), units(seed, "bigm"), start=None)


def test_random_units_have_the_optimum_of_rows(all_on):
    """All of it happens, and nothing is lost."""
    assert {seed: fault for seed in range(10) if (fault := wrong(seed))} == {}
    assert all(all_on.values()), all_on


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_five_hundred_random_units(part, all_on):
    for seed in range(1000 + 50 * part, 1050 + 50 * part):
        assert wrong(seed) is None, seed
