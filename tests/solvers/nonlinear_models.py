"""Random wired models with nonlinear terms and SOS constraints."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo

from tests.presolve.random_wired import random_wired


def random_nonlinear(seed: int, formulation: str | None = "bigm") -> pyo.ConcreteModel:
    """A random wired model, with products, powers and functions in rows and objective.

    Products are of inputs, outputs and variables that no network reads; some seeds have a
    nonlinear equality, some an SOS constraint.
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
    return m
