"""Random models for ``relu_global``: networks, links, integers, equalities, dead ends."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo

from pyomo_relu import ReLUNetBlock
from tests.harness.random_networks import CONTINUOUS, random_network


def random_model(seed: int, formulation: str | None = "bigm") -> pyo.ConcreteModel:
    """A small random model; every feature occurs in some seed.

    One to three blocks over two to four inputs, some shared, some fed by another
    block's outputs or by expressions; rows and equalities between inputs, outputs and
    variables of the user's own, integers among them. About a tenth is infeasible.
    """
    rng = np.random.default_rng(seed)
    m = pyo.ConcreteModel()
    n = int(rng.integers(1, 4))
    m.x = pyo.Var(range(n), bounds=(-1, 1))
    for j in range(n):
        if rng.random() < 0.2:
            m.x[j].domain = pyo.Integers
            m.x[j].setlb(-2)
            m.x[j].setub(2)
        elif rng.random() < 0.2:
            low = float(np.round(rng.uniform(-3, 0), 3))
            m.x[j].setlb(low)
            m.x[j].setub(low + float(np.round(rng.uniform(0.5, 3), 3)))
    count = int(rng.choice([1, 1, 2, 3]))
    outputs = []
    for b in range(count):
        width = int(rng.integers(3, 6))
        net = random_network(
            rng,
            n_inputs=int(rng.integers(1, 4)),
            widths=[width] * int(rng.integers(1, 3)),
            n_outputs=int(rng.integers(1, 3)),
            activations=[str(rng.choice(["relu", "relu", *CONTINUOUS])) for _ in range(2)],
            residual=rng.random() < 0.15,
            max_pool=rng.random() < 0.15,
            concatenate=rng.random() < 0.15,
            density=float(rng.choice([1.0, 1.0, 0.5])),
        )
        entries = []
        for _ in range(net.n_inputs):
            kind = rng.random()
            if kind < 0.15 and outputs:
                entries.append(outputs[int(rng.integers(len(outputs)))])
            elif kind < 0.35:
                c = np.round(rng.normal(size=n), 2)
                extra = outputs[0] if outputs and rng.random() < 0.3 else 0.0
                entries.append(
                    sum(float(c[j]) * m.x[j] for j in range(n)) + 0.1 + 0.3 * extra
                )
            elif kind < 0.4:
                entries.append(float(np.round(rng.normal(), 2)))
            else:
                entries.append(m.x[int(rng.integers(n))])
        m.add_component(
            f"net{b}",
            ReLUNetBlock(
                network=net, inputs=entries, formulation=formulation, bounds="crown"
            ),
        )
        outputs += list(m.component(f"net{b}").outputs.values())
    m.z = pyo.Var(range(2), bounds=(-4, 4))
    m.k = pyo.Var(bounds=(-3, 3), domain=pyo.Integers)
    m.rows = pyo.ConstraintList()

    def linear():
        pick = rng.random(len(outputs)) < 0.6
        c = np.round(rng.normal(size=len(outputs)), 2)
        expr = sum(float(a) * y for a, y, p in zip(c, outputs, pick) if p)
        d = np.round(rng.normal(size=n), 2)
        expr = expr + 0.1 * m.x[0]  # never empty
        return expr + sum(float(a) * m.x[j] for j, a in enumerate(d) if rng.random() < 0.4)

    for _ in range(int(rng.choice([0, 0, 1, 2, 3]))):
        kind = rng.random()
        side = float(np.round(rng.normal(), 2))
        if kind < 0.2:  # an equality between outputs and inputs alone
            m.rows.add(linear() + 0.0 * m.z[0] == 0.3 * side)
        elif kind < 0.4:
            m.rows.add(linear() + m.z[0] - 0.5 * m.k == side)
        elif kind < 0.7:
            m.rows.add(linear() <= side)
        elif kind < 0.8:
            m.rows.add(pyo.inequality(side - 1.0, linear() + m.z[1], side))
        else:
            m.rows.add(linear() + m.k >= side)
    if rng.random() < 0.15 and count == 1:
        outputs[0].setub(float(np.round(rng.normal(), 2)))
    if rng.random() < 0.05:
        m.x[0].fix(0 if m.x[0].is_integer() else m.x[0].lb)
    objective = linear() + 0.5 * m.z[0] - 0.3 * m.z[1] + 0.2 * m.k
    if rng.random() < 0.4:
        objective = outputs[0]
    sense = pyo.maximize if rng.random() < 0.5 else pyo.minimize
    if rng.random() < 0.93:
        m.obj = pyo.Objective(expr=objective, sense=sense)
    else:
        m.obj = pyo.Objective(expr=0.0)
    return m
