"""Two stirred tanks with Arrhenius's law, cooled by a jacket that a network describes.

A becomes B, and B becomes C, both faster with heat by Arrhenius's law. Tanks are
isothermal and well mixed, so balances hold products of rates and concentrations. How much
heat the jacket takes depends on temperature, coolant and fouling; a network has learned
it. Data are synthetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo
from wired_models.networks import Surrogate

from pyomo_relu import ReLUNetBlock

TANKS = range(2)
#: Rate at 350 K by hour, activation energy over the gas constant in K, heat by mole.
FIRST, SECOND = (1.2, 5200.0, 40.0), (0.12, 8200.0, 30.0)
REFERENCE = 350.0
COLDEST, HOTTEST = 310.0, 390.0


def _jacket(x: np.ndarray) -> np.ndarray:
    """Heat taken by temperature (K, less 350 over 40) and coolant (0 to 1)."""
    hot, coolant = x.T
    film = 28 * coolant**0.6 / (1 + 0.4 * coolant)
    return film * (1.4 + hot) * (1 - 0.12 * (hot.clip(0) * coolant))


JACKET = Surrogate("jacket", _jacket, [-1, 0], [1, 1], (16, 16), file="nonlinear")


def reactor(seed: int = 0, **options: Any) -> pyo.ConcreteModel:
    """The most of B less what heat, coolant and feed cost."""
    rng = np.random.default_rng(seed)
    price, coolant_price = rng.uniform(9, 11), rng.uniform(0.8, 1.2)

    m = pyo.ConcreteModel("reactor")
    m.feed = pyo.Var(bounds=(0.2, 2))  # flow over volume of the first tank, by hour
    m.temperature = pyo.Var(TANKS, bounds=(COLDEST, HOTTEST))
    m.coolant = pyo.Var(TANKS, bounds=(0, 1))
    m.a, m.b = pyo.Var(TANKS, bounds=(0, 1)), pyo.Var(TANKS, bounds=(0, 1))
    m.first_rate = pyo.Var(TANKS, bounds=(0.05, 6))
    m.second_rate = pyo.Var(TANKS, bounds=(0.005, 2))
    m.jacket = ReLUNetBlock(
        TANKS,
        network=JACKET.network,
        inputs=lambda m, k: [(m.temperature[k] - REFERENCE) / 40, m.coolant[k]],
        **options,
    )

    def arrhenius(k, law):
        rate, energy, _ = law
        return rate * pyo.exp(energy / REFERENCE - energy / m.temperature[k])

    @m.Constraint(TANKS)
    def first_law(m, k):
        return m.first_rate[k] == arrhenius(k, FIRST)

    @m.Constraint(TANKS)
    def second_law(m, k):
        return m.second_rate[k] == arrhenius(k, SECOND)

    @m.Constraint(TANKS)
    def balance_of_a(m, k):
        before = m.a[k - 1] if k else 1.0
        return m.feed * (before - m.a[k]) == m.first_rate[k] * m.a[k]

    @m.Constraint(TANKS)
    def balance_of_b(m, k):
        before = m.b[k - 1] if k else 0.0
        made = m.first_rate[k] * m.a[k] - m.second_rate[k] * m.b[k]
        return m.feed * (m.b[k] - before) == made

    @m.Constraint(TANKS)
    def heat(m, k):
        first = FIRST[2] * m.first_rate[k] * m.a[k]
        return first + SECOND[2] * m.second_rate[k] * m.b[k] <= m.jacket[k].outputs[0]

    m.limit_of_c = pyo.Constraint(expr=1 - m.a[1] - m.b[1] <= 0.15 * m.b[1])
    used = coolant_price * pyo.quicksum(m.coolant[k] ** 1.5 for k in TANKS)
    m.profit = pyo.Objective(
        expr=price * m.feed * m.b[1] - 3 * m.feed - used, sense=pyo.maximize
    )
    return m
