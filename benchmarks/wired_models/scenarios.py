"""A decision for twenty seasons: mean yield and the mean of the worst fifth.

A network is the yield of a field by four decisions and a number of the season. All
seasons share the decisions, so twenty networks read the same four inputs; the worst fifth
(conditional value at risk) is linear in their outputs. Synthetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo

from pyomo_relu import ReLUNetBlock
from wired_models.networks import Surrogate

SEASONS = range(20)
#: The share of seasons that counts as the worst.
WORST = 0.2


def _yield(x: np.ndarray) -> np.ndarray:
    """Yield by four decisions and a number of the season, all in [0, 1]."""
    a, b, c, d, season = x.T
    early = 10 * np.exp(-3 * (a - 0.3 - 0.4 * season) ** 2)
    late = 6 * np.exp(-5 * (b - 0.7 + 0.3 * season) ** 2) * (1 + 0.5 * c)
    return early + late - 3 * (d - season * c) ** 2 + 2 * np.sin(5 * a * d) - 2 * c


YIELD = Surrogate("yield", _yield, [0] * 5, [1] * 5, (20, 20), points=4000)


def worst_seasons(seed: int = 0, **options: Any) -> pyo.ConcreteModel:
    """Half the mean yield and half the mean of the worst fifth."""
    season = np.random.default_rng(seed).random(20).tolist()

    m = pyo.ConcreteModel("seasons")
    m.x = pyo.Var(range(4), bounds=(0, 1))
    m.threshold = pyo.Var(bounds=(-30, 40))
    m.shortfall = pyo.Var(SEASONS, bounds=(0, 60))
    m.field = ReLUNetBlock(
        SEASONS,
        network=YIELD.network,
        inputs=lambda m, s: [*m.x.values(), season[s]],
        **options,
    )

    @m.Constraint(SEASONS)
    def falls_short(m, s):
        return m.shortfall[s] >= m.threshold - m.field[s].outputs[0]

    m.effort = pyo.Constraint(expr=m.x[0] + m.x[1] + 2 * m.x[2] + m.x[3] <= 2.2)
    n = len(SEASONS)
    worst = m.threshold - pyo.quicksum(m.shortfall.values()) / (WORST * n)
    mean = pyo.quicksum(m.field[s].outputs[0] for s in SEASONS) / n
    m.value = pyo.Objective(expr=0.5 * worst + 0.5 * mean, sense=pyo.maximize)
    return m
