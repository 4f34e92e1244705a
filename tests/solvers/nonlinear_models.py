"""Random wired models with nonlinear terms and SOS constraints."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo

from pyomo_relu import ReLUNetBlock
from tests.harness.random_networks import he_network
from tests.presolve.random_wired import random_wired


def random_nonlinear(
    seed: int, formulation: str | None = "bigm", more: bool = False
) -> pyo.ConcreteModel:
    """A random wired model, with products, powers and functions in rows and objective.

    Products are of inputs, outputs and variables that no network reads; some seeds have a
    nonlinear equality, some an SOS constraint. With ``more``, some have a network with
    nonlinear inputs, equalities of outputs and products, and rows that nothing satisfies.
    """
    m = random_wired(seed, formulation)
    rng = np.random.default_rng(1000 + seed)
    last = m.net[len(m.net) - 1].block.outputs
    m.w = pyo.Var(range(3), bounds=(0, 2))

    def number(low: float = 0.2, high: float = 1.0) -> float:
        return float(np.round(rng.uniform(low, high), 2))

    terms = [
        number() * m.w[0] * last[1],
        number() * pyo.exp(-m.w[1]) * m.p[0],
        number() * m.w[2] ** 2,
        -number() * m.u[0] * m.p[0],
        number() * last[0] ** 2,
    ]
    kept = [t for t in terms if rng.random() < 0.5] or terms[:1]
    m.cost.expr += sum(kept)
    if rng.random() < 0.5:
        m.rows.add(m.w[0] * m.w[1] + 0.3 * m.w[2] >= 0.4 + 0.1 * m.p[0])
    if rng.random() < 0.3:
        m.rows.add(m.w[1] == 0.5 + 0.2 * m.w[2] * m.u[0])
    if rng.random() < 0.3:
        m.rows.add(pyo.log(1.5 + m.w[1]) + 0.1 * last[1] <= number(0.6, 1.2))
    if rng.random() < 0.4:
        level = int(rng.integers(1, 3))
        m.sos = pyo.SOSConstraint(var=m.w, sos=level)
    if more:
        add_more(m, seed, formulation)
    return m


def random_continuous(
    seed: int, formulation: str | None = "bigm", more: bool = False
) -> pyo.ConcreteModel:
    """The same with all of the user's columns continuous."""
    m = random_nonlinear(seed, formulation, more)
    for v in m.component_objects(pyo.Var, descend_into=False):
        for one in v.values():
            if one.is_integer():
                low, high = one.bounds
                one.domain = pyo.Reals
                one.bounds = low, high
    return m


def add_more(m: pyo.ConcreteModel, seed: int, formulation: str | None) -> None:
    """Nonlinear inputs, equalities, and what is infeasible, each in some models."""
    rng = np.random.default_rng(9000 + seed)
    last = m.net[len(m.net) - 1].block.outputs
    if rng.random() < 0.5:
        inputs = [m.w[0] * m.w[1] - 0.5 * m.p[0], pyo.sin(m.w[2]) + m.u[0]]
        if rng.random() < 0.3:
            inputs[0] = last[0] * m.w[1]
        m.extra = ReLUNetBlock(
            network=he_network(seed, (2, 5, 2)),
            inputs=inputs,
            input_bounds=[(-3, 3), (-3, 3)],
            formulation=formulation,
        )
        m.cost.expr += float(rng.choice([-0.7, 0.4])) * m.extra.outputs[0]
        if rng.random() < 0.5:
            m.rows.add(m.extra.outputs[1] * m.w[2] <= 0.6)
    if rng.random() < 0.3:
        m.rows.add(m.w[0] + 0.2 * m.w[2] == 0.8 + 0.1 * last[0] ** 2)
    if rng.random() < 0.2:
        m.rows.add(pyo.cos(m.w[2]) * m.w[1] + 0.2 * last[1] == 0.3)
    if rng.random() < 0.1:
        m.rows.add(m.w[0] * m.w[1] >= float(rng.uniform(3.5, 4.5)))


def random_products(
    seed: int, formulation: str | None = "bigm", more: bool = False
) -> pyo.ConcreteModel:
    """Inputs of networks of one free input times what these bound: outputs, columns of rows.

    With ``more``, products with both signs, squares of outputs and a second input.
    """
    rng = np.random.default_rng(7000 + seed)
    kinds = rng.choice(["output", "below", "above", "flipped", "equal"], 3)
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(3), bounds=lambda m, k: (float(k) - 1.5, float(k) + 0.5))
    m.s = pyo.Var(range(3), bounds=(-1.5, 2))
    m.free = pyo.Var(range(3), bounds=(0, 1))
    m.net, m.rows = pyo.Block(range(3)), pyo.ConstraintList()
    total = 0.0
    for k, kind in enumerate(kinds.tolist()):
        network = he_network(seed + 50 * k, (1, 6, 5, 2) if k else (2, 6, 1))
        inputs = [m.x[k]] if k else [m.x[k], 0.3]
        if more and not k:
            inputs[1] = m.free[0]
        m.net[k].block = ReLUNetBlock(
            network=network, inputs=inputs, formulation=formulation
        )
        y = m.net[k].block.outputs
        c, d = np.round(rng.uniform(0.3, 1.2, 2), 2).tolist()
        if kind == "below":
            m.rows.add(c * m.s[k] - y[0] <= d)
        elif kind == "above":
            m.rows.add(c * m.s[k] - y[0] >= -d)
        elif kind == "flipped":
            m.rows.add(-c * m.s[k] - y[0] >= -d)
        elif kind == "equal":
            m.rows.add(m.s[k] == c * y[0] + 0.1)
        tied = y[0] if kind == "output" else m.s[k]
        factor = float(rng.choice([1.0, -0.7] if more else [1.0, 0.4]))
        total += factor * m.x[k] * tied - 0.3 * m.free[k] * m.s[k]
        if more and k == 2:
            m.rows.add(m.x[k] * tied + y[1] ** 2 <= 2.5)
    m.rows.add(m.s[0] + m.s[1] + m.s[2] + m.free[0] >= 0.2)
    sense = pyo.maximize if rng.random() < 0.6 else pyo.minimize
    m.cost = pyo.Objective(expr=total, sense=sense)
    return m
