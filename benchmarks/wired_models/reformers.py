"""Four reformers that share duty and steam, each with a steam ratio in steps.

A network of four hidden layers estimates five outputs of an autothermal reformer from its
bypass fraction and its steam ratio. After OMLT's reformer notebook; a smooth stand-in for
its data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo

from pyomo_relu import ReLUNetBlock
from wired_models.networks import Surrogate

UNITS = range(4)
#: Outputs of the network.
H2, N2, CO, DUTY, STEAM = range(5)


def _reformer(x: np.ndarray) -> np.ndarray:
    b, r = x.T
    h2 = 0.32 + 0.05 * np.sin(3 * b) - 0.08 * (r - 1.05) ** 2 * 4 + 0.03 * b * r
    n2 = 0.30 + 0.12 * (0.8 - b) * r / 1.2 - 0.02 * np.cos(4 * r)
    co = 0.08 + 0.05 * b + 0.03 * np.sin(5 * r + b)
    duty = 20 + 35 * (1 - b) * r + 4 * np.sin(6 * b)
    return np.column_stack([h2, n2, co, duty, 1 + 1.8 * r - 0.5 * b**2])


REFORMER = Surrogate("atr", _reformer, [0.1, 0.8], [0.8, 1.2], (10, 10, 10, 10))


def reformers(seed: int = 0, **options: Any) -> pyo.ConcreteModel:
    """Hydrogen of four reformers, weighted by its price at each site."""
    weight = np.random.default_rng(seed).uniform(0.8, 1.2, 4)

    m = pyo.ConcreteModel("reformers")
    m.bypass = pyo.Var(UNITS, bounds=(0.1, 0.8))
    m.ratio = pyo.Var(UNITS, bounds=(0.8, 1.2))
    m.step = pyo.Var(UNITS, domain=pyo.Integers, bounds=(0, 8))
    m.reformer = ReLUNetBlock(
        UNITS,
        network=REFORMER.network,
        inputs=lambda m, u: [m.bypass[u], m.ratio[u]],
        **options,
    )

    @m.Constraint(UNITS)
    def ratio_in_steps(m, u):
        return m.ratio[u] == 0.8 + 0.05 * m.step[u]

    @m.Constraint(UNITS)
    def purity(m, u):
        return m.reformer[u].outputs[N2] <= 0.34

    def total(output: int):
        return pyo.quicksum(m.reformer[u].outputs[output] for u in UNITS)

    m.duty = pyo.Constraint(expr=total(DUTY) <= 4 * 36)
    m.steam = pyo.Constraint(expr=total(STEAM) <= 4 * 2.6)
    m.monoxide = pyo.Constraint(expr=total(CO) <= 4 * 0.118)
    m.value = pyo.Objective(
        expr=pyo.quicksum(
            100 * weight[u] * m.reformer[u].outputs[H2] - 0.05 * m.reformer[u].outputs[DUTY]
            for u in UNITS
        ),
        sense=pyo.maximize,
    )
    return m
