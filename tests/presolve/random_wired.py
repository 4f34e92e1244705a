"""Random models whose rows say what their networks' inputs are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo

from pyomo_relu import ReLUNetBlock
from tests.harness.random_networks import he_network


def random_wired(seed: int, formulation: str | None = "bigm") -> pyo.ConcreteModel:
    """A small chain of blocks with states, definitions, constants, and a circle at times.

    States follow outputs, as they are, shifted, or added up (``s[t + 1] == s[t] - y``);
    other inputs are affine in a variable, an integer or a sum of chosen values, one may
    have a single value, and some seeds feed the last output back to the first block.
    """
    rng = np.random.default_rng(seed)
    m = pyo.ConcreteModel()
    steps = int(rng.integers(1, 4))
    m.s = pyo.Var(range(steps + 1), bounds=(-2, 2))
    m.u = pyo.Var(range(steps), bounds=(-1, 1))
    m.p = pyo.Var(range(steps), bounds=(-1.5, 2.0))
    m.k = pyo.Var(range(steps), domain=pyo.Integers, bounds=(-1, 2))
    m.z = pyo.Var(range(steps), range(3), domain=pyo.Binary)
    m.c = pyo.Var(bounds=(-1, 1))
    m.free = pyo.Var(bounds=(-3, 3))
    m.rows, m.net = pyo.ConstraintList(), pyo.Block(range(steps))

    def number(low: float = -1.0, high: float = 1.0) -> float:
        return float(np.round(rng.uniform(low, high), 2))

    def define(t: int) -> None:
        """Say what ``p[t]`` is; in some seeds nothing does."""
        kind, p, scale = rng.integers(6), m.p[t], float(rng.choice([1.0, -2.0, 3.0]))
        w = number(0.3, 0.8)
        if kind == 0:
            m.rows.add(scale * p == scale * (0.1 + w * m.k[t]))
        elif kind == 1:
            m.rows.add(scale * p - scale * w * m.u[t] == 0.2 * scale)
        elif kind == 2:
            values = [number() for _ in range(3)]
            m.rows.add(sum(m.z[t, i] for i in range(3)) == 1)
            m.rows.add(p == sum(a * m.z[t, i] for i, a in enumerate(values)))
        elif kind == 3:
            m.rows.add(p == w * m.free - 0.3)
        elif kind == 4 and t:
            m.rows.add(p == m.p[t - 1] * w + 0.1 * m.u[t])

    for t in range(steps):
        define(t)
        net = he_network(10 * seed + t, (3, int(rng.integers(3, 6)), 2))
        inputs: list[Any] = [m.s[t], m.p[t], m.u[t] if rng.random() < 0.7 else m.c]
        if rng.random() < 0.2:
            inputs[1] = 0.5 * m.p[t] - 0.25 * m.s[t] + 0.1
        box = (-5, 5) if rng.random() < 0.3 else None
        m.net[t].block = ReLUNetBlock(
            network=net, inputs=inputs, formulation=formulation, input_bounds=box
        )
        y = m.net[t].block.outputs
        if rng.random() < 0.8:
            kind, w = rng.integers(3), number(0.2, 0.6)
            right = [0.5 * y[0], w * y[0] + 0.1, m.s[t] - w * y[0]][kind]
            m.rows.add(m.s[t + 1] == right)
    last = m.net[steps - 1].block.outputs
    if rng.random() < 0.3:
        m.rows.add(m.s[0] == 0.3 * last[1] + 0.2 * m.free)
    elif rng.random() < 0.5:
        m.rows.add(2 * m.s[0] == 2 * number())
    if rng.random() < 0.4:
        m.c.setlb(0.25)
        m.c.setub(0.25)
    if rng.random() < 0.3:
        m.u[0].fix(number())
    m.rows.add(m.free + sum(m.p.values()) + 0.5 * m.s[steps] <= 2)
    m.rows.add(m.p[0] + m.k[0] - 0.3 * m.s[0] >= -1.5)
    weights = [number() for _ in range(6)]
    terms = [last[1], m.s[steps], m.p[0], m.free, m.u[steps - 1], m.k[0]]
    m.cost = pyo.Objective(
        expr=sum(a * x for a, x in zip(weights, terms)),
        sense=pyo.maximize if rng.random() < 0.5 else pyo.minimize,
    )
    return m
