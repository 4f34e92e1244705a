"""Dispatch: four units over two hours, with fuel by powers and emissions by exponentials.

Fuel of a unit is a polynomial of its output, its emissions are the classical sum of a
polynomial and an exponential (Gent and Lamont 1971). A network gives the power of a wind
park by what it is told to yield to its neighbours, wind and direction, another the losses
of the grid by all outputs. Data are synthetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo
from wired_models.networks import Surrogate

from pyomo_relu import ReLUNetBlock

UNITS, HOURS = range(4), range(2)
#: Per unit of 100 MW: the least and the most of each unit.
LEAST, MOST = [0.3, 0.3, 0.2, 0.2], [1.6, 1.4, 1.2, 1.0]
#: Fuel: constant, linear and the coefficient of the power 2.2.
FUEL = [(12, 20, 9), (10, 22, 7), (6, 26, 5), (4, 30, 4)]
#: Emissions: linear, and coefficient and rate of the exponential.
EMITTED = [(1.0, 0.25, 2.2), (1.2, 0.3, 1.9), (0.8, 0.2, 2.6), (0.6, 0.15, 2.4)]
START_COST, RAMP = 8, 0.5


def _park(x: np.ndarray) -> np.ndarray:
    """Power of a park by how far its first row is turned, wind and direction."""
    turned, wind, direction = x.T
    free = (wind / 12) ** 3 / (1 + (wind / 12) ** 3) * 1.6
    wake = 0.45 * np.exp(-((direction + 2.2 * turned) ** 2) / 0.3)
    return free * (np.cos(turned) ** 1.9 * 0.4 + 0.6 * (1 - wake))


def _losses(x: np.ndarray) -> np.ndarray:
    """Losses of the grid by the outputs of the units and of the park."""
    far = np.array([0.03, 0.02, 0.045, 0.015, 0.05])
    flow = np.abs(x[:, 0] + x[:, 2] - x[:, 1] - x[:, 4])
    return x**2 @ far + 0.04 * flow**1.5


PARK = Surrogate("park", _park, [-0.5, 3, -1], [0.5, 16, 1], (16, 16), file="nonlinear")
LOSSES = Surrogate("losses", _losses, [0] * 5, [1.6] * 5, (16, 16), file="nonlinear")


def dispatch(seed: int = 0, **options: Any) -> pyo.ConcreteModel:
    """The cheapest two hours within a limit of emissions."""
    rng = np.random.default_rng(seed)
    demand = np.array([2.6, 3.2]) * rng.uniform(0.95, 1.05, 2)
    wind, direction = rng.uniform(7, 12, 2), rng.uniform(-0.6, 0.6, 2)

    m = pyo.ConcreteModel("dispatch")
    m.power = pyo.Var(UNITS, HOURS, bounds=lambda m, i, t: (0, MOST[i]))
    m.on = pyo.Var(UNITS, HOURS, domain=pyo.Binary)
    m.start = pyo.Var(UNITS, HOURS, bounds=(0, 1))
    m.turned = pyo.Var(HOURS, bounds=(-0.5, 0.5))
    m.park = ReLUNetBlock(
        HOURS,
        network=PARK.network,
        inputs=lambda m, t: [m.turned[t], float(wind[t]), float(direction[t])],
        **options,
    )
    m.wind = pyo.Var(HOURS, bounds=(0, 1.6))

    @m.Constraint(HOURS)
    def wind_is_there(m, t):
        return m.wind[t] <= m.park[t].outputs[0]

    m.losses = ReLUNetBlock(
        HOURS,
        network=LOSSES.network,
        inputs=lambda m, t: [*(m.power[i, t] for i in UNITS), m.wind[t]],
        **options,
    )

    @m.Constraint(HOURS)
    def balance(m, t):
        made = pyo.quicksum(m.power[i, t] for i in UNITS) + m.wind[t]
        return made >= demand[t] + m.losses[t].outputs[0]

    @m.Constraint(UNITS, HOURS)
    def most(m, i, t):
        return m.power[i, t] <= MOST[i] * m.on[i, t]

    @m.Constraint(UNITS, HOURS)
    def least(m, i, t):
        return m.power[i, t] >= LEAST[i] * m.on[i, t]

    @m.Constraint(UNITS, HOURS)
    def starts(m, i, t):
        before = m.on[i, t - 1] if t else (1 if i < 2 else 0)
        return m.start[i, t] >= m.on[i, t] - before

    @m.Constraint(UNITS, HOURS[1:], [1, -1])
    def ramp(m, i, t, sign):
        return sign * (m.power[i, t] - m.power[i, t - 1]) <= RAMP + LEAST[i]

    def emitted(i, t):
        linear, factor, rate = EMITTED[i]
        return linear * m.power[i, t] + factor * (pyo.exp(rate * m.power[i, t]) - 1)

    m.emissions = pyo.Constraint(
        expr=pyo.quicksum(emitted(i, t) for i in UNITS for t in HOURS) <= 14
    )

    def fuel(i, t):
        constant, linear, bent = FUEL[i]
        p = m.power[i, t]
        return constant * m.on[i, t] + linear * p + bent * p**2.2

    m.cost = pyo.Objective(
        expr=pyo.quicksum(
            fuel(i, t) + START_COST * m.start[i, t] for i in UNITS for t in HOURS
        )
    )
    return m
