"""Random models of subsystems with integers, columns and rows of their own."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo

from pyomo_relu import ReLUNetBlock
from tests.harness.random_networks import CONTINUOUS, random_network


def subsystems_model(
    seed: int, formulation: str | None = "bigm", inputs: int = 2
) -> pyo.ConcreteModel:
    """Two to four subsystems that a few rows and columns join; a few are infeasible.

    Each has a network of up to ``inputs`` inputs, and some of: an on/off that bounds what
    it gives, a mode out of three that is an input, steps of an input, a rate below its
    output, a limit on its output. Between them are budgets, equalities, a store from one to
    the next, starts, and integers of nobody.
    """
    rng = np.random.default_rng(seed)
    m = pyo.ConcreteModel()
    count = int(rng.integers(2, 5))
    units = range(count)
    m.x = pyo.Var(units, range(inputs), bounds=(-1, 1))
    m.on = pyo.Var(units, domain=pyo.Binary)
    m.mode = pyo.Var(units, range(3), domain=pyo.Binary)
    m.rate = pyo.Var(units, range(2), bounds=(-3, 3))
    m.step = pyo.Var(units, domain=pyo.Integers, bounds=(-1, 2))
    m.store = pyo.Var(range(count + 1), bounds=(-2, 2))
    m.start = pyo.Var(units, domain=pyo.Binary)
    m.extra = pyo.Var(bounds=(-2, 2), domain=pyo.Integers)
    m.rows = pyo.ConstraintList()
    gives, uses = [], []

    def number(low: float = -1.0, high: float = 1.0) -> float:
        return float(np.round(rng.uniform(low, high), 2))

    for u in units:
        n = int(rng.integers(1, inputs + 1))
        net = random_network(
            rng,
            n_inputs=n,
            widths=[int(rng.integers(3, 6))] * int(rng.integers(1, 3)),
            n_outputs=int(rng.integers(1, 3)),
            activations=[str(rng.choice(["relu", "relu", *CONTINUOUS])) for _ in range(2)],
        )
        block = ReLUNetBlock(
            network=net, inputs=[m.x[u, i] for i in range(n)], formulation=formulation
        )
        m.add_component(f"net{u}", block)
        outputs = list(block.outputs.values())
        if rng.random() < 0.3:
            m.rows.add(m.x[u, 0] == 0.4 * m.step[u] - 0.1)
        elif rng.random() < 0.3:
            m.rows.add(sum(m.mode[u, k] for k in range(3)) == 1)
            m.rows.add(m.x[u, 0] == sum(number() * m.mode[u, k] for k in range(3)))
        if rng.random() < 0.6:  # what it gives is off, or below what the network allows
            m.rows.add(m.rate[u, 0] <= 3 * m.on[u])
            m.rows.add(m.rate[u, 0] >= -0.5 * m.on[u])
            m.rows.add(m.rate[u, 0] <= outputs[0] + number(0, 1))
            gives.append(m.rate[u, 0])
        else:
            gives.append(outputs[0])
        if rng.random() < 0.4:
            m.rows.add(m.rate[u, 1] >= outputs[-1] - 6 * (1 - m.on[u]))
            m.rows.add(m.rate[u, 1] + number() * m.rate[u, 0] >= number())
        if rng.random() < 0.3:
            m.rows.add(outputs[-1] - 0.5 * m.x[u, 0] <= number(0, 2))
        if rng.random() < 0.2:
            outputs[0].setub(number(0, 2))
        uses.append(m.x[u, 0] + 0.3 * m.rate[u, 1] + 0.5 * m.on[u])
    _join(m, rng, number, gives, uses)
    cost = sum(number(0.2, 1) * g - 0.4 * use for g, use in zip(gives, uses))
    cost += 0.1 * m.extra - 0.2 * sum(m.start.values()) + 0.1 * m.store[count]
    sense = pyo.maximize if rng.random() < 0.7 else pyo.minimize
    m.cost = pyo.Objective(expr=cost, sense=sense)
    return m


def _join(m, rng, number, gives, uses) -> None:
    """Rows between subsystems."""
    units = range(len(gives))
    m.rows.add(sum(uses) <= number(-0.5, 1.5))
    if rng.random() < 0.5:
        m.rows.add(sum(gives) + 0.3 * m.extra <= number(0, 2))
    if rng.random() < 0.2:
        m.rows.add(gives[0] - gives[1] + 0.2 * uses[0] == number(-0.3, 0.3))
    if rng.random() < 0.5:
        for u in units:
            m.rows.add(m.store[u + 1] == 0.9 * m.store[u] + 0.5 * gives[u] - 0.1)
        m.store[0].fix(0.2)
    if rng.random() < 0.5:
        for u in list(units)[1:]:
            m.rows.add(m.start[u] >= m.on[u] - m.on[u - 1])


def rivals_model(seed: int, formulation: str | None = "bigm") -> pyo.ConcreteModel:
    """Networks that read each other's prices of a grid, and inputs of their own.

    The grid is binaries, of which one is 1, or an integer number of steps; some binaries stand
    in rows of one network only, so that they are its own. A few are infeasible.
    """
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 5))
    m = pyo.ConcreteModel()
    units, grid = range(count), [-1.0, -0.2, 0.3, 1.0][: int(rng.integers(2, 5))]
    m.price = pyo.Var(units, bounds=(-1, 1))
    m.chosen = pyo.Var(units, range(len(grid)), domain=pyo.Binary)
    m.steps = pyo.Var(units, domain=pyo.Integers, bounds=(0, 2))
    m.own = pyo.Var(units, bounds=(-1, 1))
    m.sold = pyo.Var(units, bounds=(0, 3))
    m.margin = pyo.Var(units, bounds=(-4, 4))
    m.rows = pyo.ConstraintList()

    def number(low: float = -1.0, high: float = 1.0) -> float:
        return float(np.round(rng.uniform(low, high), 2))

    gain = 0.0
    for u in units:
        if rng.random() < 0.75:
            m.rows.add(sum(m.chosen[u, k] for k in range(len(grid))) == 1)
            m.rows.add(m.price[u] == sum(g * m.chosen[u, k] for k, g in enumerate(grid)))
            if rng.random() < 0.6:
                for k, g in enumerate(grid):
                    m.rows.add(
                        m.margin[u] <= (g + 0.5) * m.sold[u] + 6 * (1 - m.chosen[u, k])
                    )
        else:
            m.rows.add(m.price[u] == 0.7 * m.steps[u] - 0.6)
    for u in units:
        reads = [m.price[u], m.price[(u + 1) % count]]
        if rng.random() < 0.5:
            reads.append(m.own[u])
        net = random_network(
            rng, n_inputs=len(reads), widths=[int(rng.integers(3, 6))], n_outputs=1
        )
        block = ReLUNetBlock(network=net, inputs=reads, formulation=formulation)
        m.add_component(f"net{u}", block)
        m.rows.add(m.sold[u] <= block.outputs[0] + number(0, 1))
        gain += m.margin[u] * 0.3 + number(0.1, 1) * m.sold[u] - 0.2 * m.price[u]
        if u and rng.random() < 0.5:
            m.rows.add((-0.9, m.price[u] - m.price[u - 1], 0.9))
    m.rows.add(sum(m.sold.values()) + 0.3 * sum(m.own.values()) <= number(0.2, 2))
    if rng.random() < 0.5:
        m.rows.add(sum(m.chosen[u, 0] + m.price[u] for u in units) >= number())
    m.cost = pyo.Objective(expr=gain, sense=pyo.maximize)
    return m
