"""Random models whose rows say what inputs are, or which way outputs are pushed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyomo.environ as pyo

from pyomo_relu import ReLUNetBlock
from pyomo_relu.network import Network
from tests.harness.random_networks import he_network, random_network


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


def curve(rng: np.random.Generator) -> Network:
    """A random network of one input."""
    return random_network(rng, n_inputs=1, widths=(5, 4))


def blocks_on_inputs(
    seed: int,
    n_blocks: int = 2,
    make_network: Callable[[np.random.Generator], Network] = curve,
    **options: Any,
) -> pyo.ConcreteModel:
    """A model with networks of neighbouring variables ``x[k]``; curves if left out."""
    rng = np.random.default_rng(seed)
    networks = {k: make_network(rng) for k in range(n_blocks)}
    n = max(network.n_inputs for network in networks.values())
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(n_blocks + n - 1), bounds=(-1.5, 2.0))
    m.net = ReLUNetBlock(
        range(n_blocks),
        network=networks,
        inputs=lambda m, k: [m.x[k + i] for i in range(networks[k].n_inputs)],
        **options,
    )
    return m


def random_pushed(seed: int, **options: Any) -> pyo.ConcreteModel:
    """A random bounded model: rows in both directions, definitions, integers.

    Mostly an output is wanted large, or small, by all that uses it. ``options`` as those of
    :func:`blocks_on_inputs`.
    """
    rng = np.random.default_rng(seed)
    m = blocks_on_inputs(seed, 2, **options)
    ends = [float(rng.uniform(0.2, 4)) for _ in range(2)]
    m.t = pyo.Var(range(3), bounds=lambda m, k: (-ends[k], ends[k]) if k < 2 else None)
    m.n = pyo.Var(domain=pyo.Integers, bounds=(-2, 2))
    m.rows = pyo.ConstraintList()
    way = rng.choice([-1.0, 1.0], 2)
    used = [m.net[k].outputs[0] for k in m.net]
    for k in range(2):  # where an output is defined as a variable, that is used instead
        if rng.random() < 0.6:
            t = m.t[int(rng.choice([k, 2]))]
            factor = float(rng.choice([-1, 1]) * rng.uniform(0.3, 1))
            more = float(rng.normal()) * m.n if rng.random() < 0.3 else 0.0
            m.rows.add(t == factor * used[k] + more)
            used[k], way[k] = t, way[k] * np.sign(factor)
    for _ in range(rng.integers(0, 4)):
        odd = rng.choice([1.0, -1.0], 2, p=[0.85, 0.15])
        body = sum(float(w * o * rng.uniform(0, 2)) * v for w, o, v in zip(way, odd, used))
        body += float(rng.normal()) * m.n + float(rng.normal()) * m.x[0]
        if rng.random() < 0.5:
            m.rows.add(body >= float(rng.uniform(-2, 0)))
        else:
            m.rows.add(-body <= float(rng.uniform(0, 2)))
    m.rows.add(m.x[0] + m.x[1] + m.n <= float(rng.uniform(0, 3)))
    cost = sum(float(-w * rng.uniform(0, 2)) * v for w, v in zip(way, used))
    rest = sum(float(c) * v for c, v in zip(rng.normal(size=3), [m.x[0], m.x[1], m.n]))
    m.goal = pyo.Objective(expr=cost + rest)
    if rng.random() < 0.5:
        m.goal.set_value(-(cost + rest))
        m.goal.sense = pyo.maximize
    return m


def optimum(m: pyo.ConcreteModel) -> float | None:
    """By HiGHS, None where there is none."""
    solver = pyo.SolverFactory("appsi_highs")
    solver.highs_options = {"mip_rel_gap": 1e-9}
    found = solver.solve(m, load_solutions=False)
    if found.solver.termination_condition != pyo.TerminationCondition.optimal:
        return None
    return found.problem.upper_bound
