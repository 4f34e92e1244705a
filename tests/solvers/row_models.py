"""Random models of one network among rows and integers."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo

from pyomo_relu import ReLUNetBlock
from tests.harness.random_networks import he_network


class _Writer:
    """A model that grows, and a point at which most of its rows hold."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.m = pyo.ConcreteModel()
        self.m.v = pyo.VarList()
        self.m.rows = pyo.ConstraintList()
        self.values: list[float] = []

    def variable(self, integer: bool) -> int:
        """A variable with bounds; its number."""
        v = self.m.v.add()
        if integer:
            low, high = sorted(self.rng.integers(-2, 4, 2).tolist())
            v.domain = pyo.Integers
            self.values.append(float(self.rng.integers(low, high + 1)))
        else:
            low, high = sorted(np.round(self.rng.uniform(-2, 2, 2), 2).tolist())
            self.values.append(float(self.rng.uniform(low, high)))
        v.setlb(low)
        v.setub(high)
        return len(self.values) - 1

    def row(self, parts: list[tuple[float, object, float]], tight: float) -> None:
        """A row of some parts, each a factor, an expression and its value at the point."""
        body = sum(a * e for a, e, _ in parts)
        here = sum(a * x for a, _, x in parts)
        kind = self.rng.random()
        slack = tight * self.rng.uniform(-0.1, 1.0)
        if kind < 0.1:
            self.m.rows.add(body == here)
        elif kind < 0.3:
            self.m.rows.add((here - slack - 0.5, body, here + slack + 0.5))
        else:
            self.m.rows.add(body <= here + slack)


def rows_model(seed: int, formulation: str | None = "bigm") -> pyo.ConcreteModel:
    """A model of a network of three to seven inputs among rows, some columns integer."""
    w = _Writer(seed)
    rng, m = w.rng, w.m
    n, rest = int(rng.integers(3, 8)), int(rng.integers(0, 4))
    whole = rng.random(n + rest) < rng.choice([0.0, 0.4, 0.8])
    for one in whole.tolist():
        w.variable(one)
    hidden = [int(k) for k in rng.integers(3, 9, rng.integers(1, 3))]
    q = int(rng.integers(1, 3))
    network = he_network(seed, [n, *hidden, q])
    inputs = [m.v[i + 1] for i in range(n)]
    m.net = ReLUNetBlock(network=network, inputs=inputs, formulation=formulation)
    y = network.evaluate(np.array([w.values[:n]]))[0]
    every = [(m.v[i + 1], w.values[i]) for i in range(n + rest)]
    outputs = [(m.net.outputs[k], float(y[k])) for k in range(q)]
    for _ in range(int(rng.integers(1, 5))):
        some = [pair for pair in every if rng.random() < 0.5] or every[:1]
        if rng.random() < 0.4:
            some = some + outputs
        parts = [(float(np.round(rng.normal(), 2)) or 1.0, e, x) for e, x in some]
        w.row(parts, float(rng.choice([0.2, 1.0])))
    if rng.random() < 0.2:
        m.net.outputs[0].setlb(float(y[0]) - 0.3)
    cost = sum(float(np.round(rng.normal(), 2)) * e for e, _ in every)
    if rng.random() < 0.7:
        cost = cost + 3.0 * sum(float(rng.normal()) * e for e, _ in outputs)
    sense = pyo.minimize if rng.random() < 0.5 else pyo.maximize
    m.obj = pyo.Objective(expr=cost, sense=sense)
    return m
