"""Water to a tower: two pumps over three periods, head losses by a power of the flow.

The head that a pump must give grows with the flow to the power 1.852 (Hazen and Williams)
and with the level of the tower. Which flow it gives, and its power, depend on head and
speed; networks have learned both from the maker's curves. Pumps run or rest, the tower has
to be as full in the end as in the beginning. Data are synthetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo
from wired_models.networks import Surrogate

from pyomo_relu import ReLUNetBlock

PUMPS, PERIODS = range(2), range(3)
#: Static head, resistance of the main, and metres of level by volume in store.
STATIC, RESISTANCE, LEVEL = 20.0, 1.6, 1.5
MOST_FLOW, MOST_POWER = 3.0, 40.0
SLOWEST = 0.6


def _pump(size: float):
    def flow_and_power(x: np.ndarray) -> np.ndarray:
        """Flow and power by head (m) and relative speed."""
        head, speed = x.T
        spare = 46 * size * speed**2 - head
        flow = np.sqrt(spare.clip(0) / (6.5 / size**2)) * (1 - 0.1 * (1 - speed))
        efficiency = 0.82 - 0.2 * (flow / (2 * speed) - 0.9) ** 2
        return np.column_stack([flow, 0.3 * flow * head / efficiency + 1.5 * speed**3])

    return flow_and_power


PUMP = [
    Surrogate(f"pump{k}", _pump(size), [20, SLOWEST], [48, 1], (16, 16), file="nonlinear")
    for k, size in enumerate((1.0, 1.15))
]
FLOW, POWER = 0, 1


def pumps(seed: int = 0, **options: Any) -> pyo.ConcreteModel:
    """The cheapest day."""
    rng = np.random.default_rng(seed)
    demand = np.array([1.2, 2.4, 1.9]) * rng.uniform(0.95, 1.05, 3)
    price = np.array([0.6, 1.4, 1.0]) * rng.uniform(0.9, 1.1, 3)

    m = pyo.ConcreteModel("pumps")
    m.on = pyo.Var(PUMPS, PERIODS, domain=pyo.Binary)
    m.speed = pyo.Var(PUMPS, PERIODS, bounds=(SLOWEST, 1))
    m.head = pyo.Var(PERIODS, bounds=(20, 48))
    m.flow = pyo.Var(PUMPS, PERIODS, bounds=(0, MOST_FLOW))
    m.power = pyo.Var(PUMPS, PERIODS, bounds=(0, MOST_POWER))
    m.main = pyo.Var(PERIODS, bounds=(0, 2 * MOST_FLOW))
    m.store = pyo.Var(range(4), bounds=(0, 4))
    m.pump = ReLUNetBlock(
        PUMPS,
        PERIODS,
        network={(k, t): PUMP[k].network for k in PUMPS for t in PERIODS},
        inputs=lambda m, k, t: [m.head[t], m.speed[k, t]],
        **options,
    )

    @m.Constraint(PERIODS)
    def gathered(m, t):
        return m.main[t] == pyo.quicksum(m.flow[k, t] for k in PUMPS)

    @m.Constraint(PERIODS)
    def head_needed(m, t):
        lost = RESISTANCE * m.main[t] ** 1.852
        return m.head[t] == STATIC + lost + LEVEL * m.store[t]

    @m.Constraint(PUMPS, PERIODS)
    def flow_when_on(m, k, t):
        return m.flow[k, t] <= MOST_FLOW * m.on[k, t]

    @m.Constraint(PUMPS, PERIODS, [1, -1])
    def flow_of_pump(m, k, t, sign):
        gap = sign * (m.flow[k, t] - m.pump[k, t].outputs[FLOW])
        return gap <= MOST_FLOW * (1 - m.on[k, t])

    @m.Constraint(PUMPS, PERIODS)
    def power_of_pump(m, k, t):
        least = m.pump[k, t].outputs[POWER] - MOST_POWER * (1 - m.on[k, t])
        return m.power[k, t] >= least

    @m.Constraint(PERIODS)
    def balance(m, t):
        return m.store[t + 1] == m.store[t] + m.main[t] - demand[t]

    m.first = pyo.Constraint(expr=m.store[0] == 2)
    m.last = pyo.Constraint(expr=m.store[3] >= 2)
    m.cost = pyo.Objective(
        expr=pyo.quicksum(price[t] * m.power[k, t] for k in PUMPS for t in PERIODS)
    )
    return m
