"""A portfolio with quadratic risk, few assets, and costs of trading by a network.

Risk is quadratic and convex; at most five of ten assets are held. What a trade costs
depends on its size and on how liquid the asset is, which a network has learned; a second
network corrects the expected return of the whole by its exposures to three factors. Data
are synthetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo
from wired_models.networks import Surrogate

from pyomo_relu import ReLUNetBlock

ASSETS, FACTORS = range(10), range(3)
HELD, LEAST, MOST = 5, 0.05, 0.4
#: How much a unit of variance costs.
AVERSION = 4.0


def _cost(x: np.ndarray) -> np.ndarray:
    """Cost in percent of the portfolio by the change of a share, and liquidity."""
    change, liquidity = x.T
    impact = 1.6 * np.abs(change) ** 1.5 / (0.3 + liquidity)
    return impact + 0.15 * np.abs(change)


def _timing(x: np.ndarray) -> np.ndarray:
    """Percent a year that exposures to value, size and momentum add."""
    value, size, momentum = x.T
    crowded = np.maximum(momentum - 0.4, 0) * 6
    return 2 * np.tanh(2 * value) + 1.5 * size * (1 - size) + 2.5 * momentum - crowded


COST = Surrogate("impact", _cost, [-0.4, 0], [0.4, 1], (12, 12), file="nonlinear")
TIMING = Surrogate("timing", _timing, [-1] * 3, [1] * 3, (16, 16), file="nonlinear")


def portfolio(seed: int = 0, **options: Any) -> pyo.ConcreteModel:
    """The best portfolio in percent a year, from a present one of equal shares."""
    rng = np.random.default_rng(seed)
    exposure = rng.uniform(-1, 1, (10, 3))
    returns = 4 + 3 * rng.random(10)
    liquidity = rng.uniform(0.1, 0.9, 10)
    loading = rng.normal(size=(10, 4)) * 0.8
    risk = (loading @ loading.T + np.diag(rng.uniform(0.5, 1.5, 10))).round(6)
    own = np.where(np.arange(10) % 2, 0.2, 0.0)

    m = pyo.ConcreteModel("portfolio")
    m.share = pyo.Var(ASSETS, bounds=(0, MOST))
    m.held = pyo.Var(ASSETS, domain=pyo.Binary)
    m.exposed = pyo.Var(FACTORS, bounds=(-1, 1))
    m.trade = ReLUNetBlock(
        ASSETS,
        network=COST.network,
        inputs=lambda m, i: [m.share[i] - float(own[i]), float(liquidity[i])],
        **options,
    )
    m.timing = ReLUNetBlock(network=TIMING.network, inputs=m.exposed, **options)
    m.whole = pyo.Constraint(expr=pyo.quicksum(m.share.values()) == 1)
    m.few = pyo.Constraint(expr=pyo.quicksum(m.held.values()) <= HELD)

    @m.Constraint(ASSETS)
    def most_if_held(m, i):
        return m.share[i] <= MOST * m.held[i]

    @m.Constraint(ASSETS)
    def least_if_held(m, i):
        return m.share[i] >= LEAST * m.held[i]

    @m.Constraint(FACTORS)
    def exposures(m, k):
        own = pyo.quicksum(float(exposure[i, k]) * m.share[i] for i in ASSETS)
        return m.exposed[k] == own

    m.variance = pyo.Var(bounds=(0, 10))
    m.risk = pyo.Constraint(
        expr=m.variance
        >= pyo.quicksum(
            float(risk[i, j]) * m.share[i] * m.share[j] for i in ASSETS for j in ASSETS
        )
    )
    expected = pyo.quicksum(float(returns[i]) * m.share[i] for i in ASSETS)
    costs = pyo.quicksum(m.trade[i].outputs[0] for i in ASSETS)
    m.gain = pyo.Objective(
        expr=expected + m.timing.outputs[0] - costs - AVERSION * m.variance,
        sense=pyo.maximize,
    )
    return m
