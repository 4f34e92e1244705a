"""A day of cooling: when a chiller runs and at what temperature, with cold in store.

A network estimates the power of a chiller from load, supply temperature and the ambient
temperature, which is data; one block for each hour, joined by the store, on/off decisions
with a start-up cost and a minimum run of three hours. Data are synthetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo

from pyomo_relu import ReLUNetBlock
from wired_models.networks import Surrogate

HOURS = range(24)
#: MW: the most power of the chiller, which frees the power of an hour that is off.
MOST_POWER = 6
START_COST = 20


def _power(x: np.ndarray) -> np.ndarray:
    """Power (MW) by load (MW), supply and ambient temperature (degrees Celsius)."""
    load, supply, ambient = x.T
    lift, part = (ambient - supply + 12) / 30, load / 5
    return load / (1.2 + 4.5 * part - 2.8 * part**2) * (0.5 + 0.8 * lift**1.3) * 1.1 + 0.25


CHILLER = Surrogate("chiller", _power, [1, 4, 5], [5, 10, 38], (20, 20))


def day(seed: int = 0, **options: Any) -> pyo.ConcreteModel:
    """The cheapest day, with as much cold in store in the end as in the beginning."""
    rng = np.random.default_rng(seed)
    h = np.arange(24)
    ambient = 21 + 9 * np.sin((h - 9) / 24 * 2 * np.pi) + rng.normal(0, 0.7, 24)
    demand = 2.2 + 1.6 * np.exp(-(((h - 15) / 4.0) ** 2)) + rng.uniform(-0.2, 0.2, 24)
    peaks = 35 * np.exp(-(((h - 18) / 3.0) ** 2)) + 15 * np.exp(-(((h - 9) / 2.0) ** 2))
    price = 40 + peaks + rng.normal(0, 3, 24)

    m = pyo.ConcreteModel("chiller")
    m.duty = pyo.Var(HOURS, bounds=(1, 5))
    m.supply = pyo.Var(HOURS, bounds=(4, 10))
    m.on, m.start = pyo.Var(HOURS, domain=pyo.Binary), pyo.Var(HOURS, domain=pyo.Binary)
    m.cooling = pyo.Var(HOURS, bounds=(0, 5))
    m.power = pyo.Var(HOURS, bounds=(0, MOST_POWER))
    m.store = pyo.Var(range(25), bounds=(0, 6))
    m.chiller = ReLUNetBlock(
        HOURS,
        network=CHILLER.network,
        inputs=lambda m, t: [m.duty[t], m.supply[t], float(ambient[t])],
        **options,
    )

    @m.Constraint(HOURS)
    def cooling_from_duty(m, t):
        return m.cooling[t] <= m.duty[t]

    @m.Constraint(HOURS)
    def cooling_when_on(m, t):
        return m.cooling[t] <= 5 * m.on[t]

    @m.Constraint(HOURS)
    def least_cooling(m, t):
        return m.cooling[t] >= m.on[t]

    @m.Constraint(HOURS)
    def power_when_on(m, t):
        return m.power[t] >= m.chiller[t].outputs[0] - MOST_POWER * (1 - m.on[t])

    @m.Constraint(HOURS)
    def balance(m, t):  # warm supply charges the store less
        loss = 0.03 * (m.supply[t] - 4)
        return m.store[t + 1] == 0.98 * m.store[t] + m.cooling[t] - demand[t] - loss

    m.first = pyo.Constraint(expr=m.store[0] == 3)
    m.last = pyo.Constraint(expr=m.store[24] >= 3)

    @m.Constraint(range(1, 24))
    def starts(m, t):
        return m.start[t] >= m.on[t] - m.on[t - 1]

    @m.Constraint(range(1, 22), [1, 2])
    def stays_on(m, t, k):
        return m.on[t + k] >= m.start[t]

    m.cost = pyo.Objective(
        expr=pyo.quicksum(price[t] * m.power[t] + START_COST * m.start[t] for t in HOURS)
    )
    return m
