"""Tariffs: what to charge in each of six periods of a day, when demand moves between them.

A network estimates the demand of all six periods by all six prices: who pays more in the
evening washes at night. Revenue is price times demand, and the regulator caps the average
price that customers pay, which is bilinear as well. Data are synthetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo
from wired_models.networks import Surrogate

from pyomo_relu import ReLUNetBlock

PERIODS = range(6)
LOWEST, HIGHEST = 0.5, 2.0
#: GWh of each period at the price 1, its elasticity, and the share of what it loses by a
#: high price that other periods gain, near ones more.
BASE = np.array([2.0, 2.4, 4.0, 3.6, 4.4, 5.0])
ELASTICITY = np.array([0.5, 0.6, 0.9, 0.8, 0.7, 0.9])
MOVED = 0.6
#: What a GWh costs in each period, and what one of the day's peak costs.
COST = np.array([0.45, 0.4, 0.7, 0.6, 0.8, 1.0])
PEAK_COST = 1.5


def _demand(x: np.ndarray) -> np.ndarray:
    """Demand of each period by the prices of all."""
    lost = BASE * (1 - x ** (-ELASTICITY))
    distance = np.abs(np.subtract.outer(PERIODS, PERIODS))
    near = np.exp(-np.minimum(distance, 6 - distance) / 1.5) * (distance > 0)
    gained = MOVED * lost @ (near / near.sum(axis=1, keepdims=True))
    return BASE - lost + gained


DEMAND = Surrogate(
    "tariff", _demand, [LOWEST] * 6, [HIGHEST] * 6, (20, 20), file="nonlinear"
)


def tariffs(seed: int = 0, **options: Any) -> pyo.ConcreteModel:
    """The most profitable tariff with at most two changes of price a day by more than 0.1."""
    rng = np.random.default_rng(seed)
    cost = COST * rng.uniform(0.9, 1.1, 6)
    cap = rng.uniform(1.1, 1.2)

    m = pyo.ConcreteModel("tariffs")
    m.price = pyo.Var(PERIODS, bounds=(LOWEST, HIGHEST))
    m.changes = pyo.Var(PERIODS, domain=pyo.Binary)
    m.peak = pyo.Var(bounds=(0, 10))
    m.demand = ReLUNetBlock(network=DEMAND.network, inputs=m.price, **options)
    demand = m.demand.outputs

    @m.Constraint(PERIODS, [1, -1])
    def change(m, t, sign):
        rise = sign * (m.price[(t + 1) % 6] - m.price[t])
        return rise <= 0.1 + (HIGHEST - LOWEST - 0.1) * m.changes[t]

    m.few_changes = pyo.Constraint(expr=pyo.quicksum(m.changes.values()) <= 2)

    @m.Constraint(PERIODS)
    def peak_of_all(m, t):
        return m.peak >= demand[t]

    m.average_price = pyo.Constraint(
        expr=pyo.quicksum((m.price[t] - cap) * demand[t] for t in PERIODS) <= 0
    )
    margin = pyo.quicksum((m.price[t] - cost[t]) * demand[t] for t in PERIODS)
    m.profit = pyo.Objective(expr=margin - PEAK_COST * m.peak, sense=pyo.maximize)
    return m
