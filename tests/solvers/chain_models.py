"""Random models over time: a network's state is read again by the next step."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo

from pyomo_relu import ReLUNetBlock
from tests.harness.random_networks import random_network


def chain_model(seed: int, formulation: str | None = "bigm") -> pyo.ConcreteModel:
    """Two or three steps of one network, with rows between them; a few are infeasible.

    The next state is what the network gives, or a store that it fills. Some steps can be
    switched off, some states are limited, and controls may be integers or tied to the last one.
    """
    rng = np.random.default_rng(seed)
    m = pyo.ConcreteModel()
    steps, states = int(rng.integers(2, 4)), int(rng.integers(1, 3))
    store = rng.random() < 0.4
    m.s = pyo.Var(range(steps + 1), range(states), bounds=(-2, 2))
    m.u = pyo.Var(range(steps), bounds=(-1, 1))
    m.on = pyo.Var(range(steps), domain=pyo.Binary)
    m.off = pyo.Var(range(steps), bounds=(0, 4))
    m.rows = pyo.ConstraintList()

    def number(low: float = -1.0, high: float = 1.0) -> float:
        return float(np.round(rng.uniform(low, high), 2))

    net = random_network(
        rng,
        n_inputs=states + 1,
        widths=[int(rng.integers(3, 6))] * int(rng.integers(1, 3)),
        n_outputs=states,
    )
    for i in range(states):
        if rng.random() < 0.8:
            m.s[0, i].fix(number())
    for t in range(steps):
        reads = [*(m.s[t, i] for i in range(states)), m.u[t]]
        block = ReLUNetBlock(network=net, inputs=reads, formulation=formulation)
        m.add_component(f"net{t}", block)
        for i in range(states):
            gives = block.outputs[i]
            if store:
                m.rows.add(m.s[t + 1, i] == 0.7 * m.s[t, i] + 0.4 * gives)
            else:
                m.rows.add(m.s[t + 1, i] == gives)
        if rng.random() < 0.2:
            m.u[t].domain = pyo.Integers
        if rng.random() < 0.4:
            m.rows.add(m.u[t] <= m.on[t])
            m.rows.add(m.u[t] >= -m.on[t])
        if t and rng.random() < 0.4:
            m.rows.add((-0.6, m.u[t] - m.u[t - 1], 0.6))
        if rng.random() < 0.3:
            m.rows.add(m.s[t + 1, 0] <= number(0, 1.5))
        goal = number()
        m.rows.add(m.off[t] >= m.s[t + 1, 0] - goal)
        m.rows.add(m.off[t] >= goal - m.s[t + 1, 0])
    m.obj = pyo.Objective(
        expr=sum(m.off.values()) + 0.2 * sum(m.on.values()) + number() * m.u[0]
    )
    return m
