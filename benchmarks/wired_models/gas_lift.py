"""Gas lift: how much gas for each of seventeen wells, and to which of two manifolds.

A network of one hidden layer is the rate of each well by its lift gas and the pressure it
produces against, which its manifold decides. In ``pressures_as_variables`` a variable is
the pressure and an equality ties it to the routing; in ``pressures_as_expressions`` the
network reads the expression. Wells are synthetic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyomo.environ as pyo

from pyomo_relu import ReLUNetBlock
from wired_models.networks import Surrogate

WELLS, MANIFOLDS = range(17), range(2)
#: Pressure of the first manifold, and how much higher that of the second is.
PRESSURE, HIGHER = 1.2, 0.8
#: The most that a well gives, and what each manifold takes.
MOST_RATE, CAPACITY = 45, (110, 140)


def _rate(k: int) -> Callable[[np.ndarray], np.ndarray]:
    """The rate of well ``k`` by (lift gas, pressure)."""
    g = np.random.default_rng(17)
    draws = [
        [g.uniform(*ends) for ends in ((8, 30), (0.3, 0.8), (0.2, 1.4), (0.2, 0.5))]
        for _ in WELLS
    ]
    most, rise, choke, against = draws[k]

    def rate(x: np.ndarray) -> np.ndarray:
        gas, pressure = x.T
        lifted = most * (1 - np.exp(-(gas + 0.2) / rise)) * (1.4 - against * pressure)
        choked = 2.2 * (gas / choke).clip(0, 3) ** 1.4 * (gas > 0.3)
        return lifted - choked + 0.8 * np.sin(4 * gas + choke)

    return rate


WELL = [
    Surrogate(f"well{k}", _rate(k), [0, 1], [2, 2.5], (40,), points=2500, iterations=60)
    for k in WELLS
]


def _field(seed: int, as_variables: bool, options: dict[str, Any]) -> pyo.ConcreteModel:
    water = np.random.default_rng(seed).uniform(0.1, 0.6, 17)

    m = pyo.ConcreteModel("gas lift")
    m.gas = pyo.Var(WELLS, bounds=(0, 2))
    m.to = pyo.Var(WELLS, MANIFOLDS, domain=pyo.Binary)
    m.rate = pyo.Var(WELLS, MANIFOLDS, bounds=(0, MOST_RATE))
    pressure: Any = {w: PRESSURE + HIGHER * m.to[w, 1] for w in WELLS}
    if as_variables:
        m.pressure = pyo.Var(WELLS, bounds=(1, 2.5))

        @m.Constraint(WELLS)
        def pressure_of_manifold(m, w):
            return m.pressure[w] == PRESSURE + HIGHER * m.to[w, 1]

        pressure = m.pressure
    m.well = ReLUNetBlock(
        WELLS,
        network={w: WELL[w].network for w in WELLS},
        inputs=lambda m, w: [m.gas[w], pressure[w]],
        **options,
    )

    @m.Constraint(WELLS)
    def one_manifold(m, w):
        return m.to[w, 0] + m.to[w, 1] <= 1

    @m.Constraint(WELLS, MANIFOLDS)
    def only_there(m, w, k):
        return m.rate[w, k] <= MOST_RATE * m.to[w, k]

    @m.Constraint(WELLS)
    def gives(m, w):
        return m.rate[w, 0] + m.rate[w, 1] <= m.well[w].outputs[0]

    m.gas_at_hand = pyo.Constraint(expr=pyo.quicksum(m.gas.values()) <= 9)

    @m.Constraint(MANIFOLDS)
    def capacity(m, k):
        return pyo.quicksum(m.rate[w, k] for w in WELLS) <= CAPACITY[k]

    m.water = pyo.Constraint(
        expr=pyo.quicksum(water[w] * m.rate[w, k] for w, k in m.rate) <= 75
    )
    m.first_manifold = pyo.Constraint(expr=pyo.quicksum(m.to[w, 0] for w in WELLS) <= 8)
    oil = pyo.quicksum((1 - 0.3 * water[w]) * m.rate[w, k] for w, k in m.rate)
    m.value = pyo.Objective(
        expr=oil - 0.5 * pyo.quicksum(m.gas.values()), sense=pyo.maximize
    )
    return m


def pressures_as_variables(seed: int = 0, **options: Any) -> pyo.ConcreteModel:
    """Seventeen pressures as variables, each tied to its routing by an equality."""
    return _field(seed, True, options)


def pressures_as_expressions(seed: int = 0, **options: Any) -> pyo.ConcreteModel:
    """The networks read the pressure as an expression of the routing."""
    return _field(seed, False, options)
