"""Pooling: four crudes, two pools, two products, with a quality that a network blends.

The flows and the qualities of a pool are bilinear (Haverly 1978, in the form with a
quality variable for each pool). Sulphur blends linearly; the octane number of a product
does not, and a network estimates it by the aromatics, olefins and volatility of the blend.
Data are synthetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo
from wired_models.networks import Surrogate

from pyomo_relu import ReLUNetBlock

CRUDES, POOLS, PRODUCTS = range(4), range(2), range(2)
QUALITIES = ("aromatics", "olefins", "volatility", "sulphur")
#: Of each crude; shares, but for the sulphur in percent.
QUALITY = {
    "aromatics": [0.45, 0.2, 0.3, 0.1],
    "olefins": [0.1, 0.35, 0.05, 0.2],
    "volatility": [0.2, 0.5, 0.35, 0.8],
    "sulphur": [2.0, 1.0, 2.5, 0.5],
}
COST = [9.0, 12.0, 7.0, 15.0]
PRICE, DEMAND = [18.0, 21.0], [100.0, 120.0]
LEAST_OCTANE, MOST_SULPHUR = [88.0, 92.0], [2.0, 1.4]
#: What a pool holds; what a crude may send directly to each product.
SIZE, DIRECT = 120.0, 30.0


def _octane(x: np.ndarray) -> np.ndarray:
    """Octane number by aromatics, olefins and volatility."""
    aromatics, olefins, volatility = x.T
    linear = 82 + 18 * aromatics + 14 * olefins + 6 * volatility
    return linear + 14 * aromatics * olefins - 9 * (aromatics - volatility / 2) ** 2


OCTANE = Surrogate(
    "octane", _octane, [0.1, 0.05, 0.2], [0.45, 0.35, 0.8], (20, 20), file="nonlinear"
)


def pooling(seed: int = 0, **options: Any) -> pyo.ConcreteModel:
    """The most profitable blend."""
    cost = np.array(COST) * np.random.default_rng(seed).uniform(0.9, 1.1, 4)

    m = pyo.ConcreteModel("pooling")
    m.into = pyo.Var(CRUDES, POOLS, bounds=(0, SIZE))
    m.out = pyo.Var(POOLS, PRODUCTS, bounds=(0, SIZE))
    m.direct = pyo.Var(CRUDES, PRODUCTS, bounds=(0, DIRECT))
    m.bought = pyo.Var(CRUDES, POOLS, domain=pyo.Binary)
    m.sold = pyo.Var(PRODUCTS, bounds=lambda m, j: (20, DEMAND[j]))

    def ends(m, _, q):
        return min(QUALITY[q]), max(QUALITY[q])

    m.in_pool = pyo.Var(POOLS, QUALITIES, bounds=ends)
    m.in_product = pyo.Var(PRODUCTS, QUALITIES, bounds=ends)

    @m.Constraint(POOLS)
    def pool_balance(m, p):
        made = pyo.quicksum(m.out[p, j] for j in PRODUCTS)
        return pyo.quicksum(m.into[i, p] for i in CRUDES) == made

    @m.Constraint(POOLS)
    def pool_size(m, p):
        return pyo.quicksum(m.into[i, p] for i in CRUDES) <= SIZE

    @m.Constraint(POOLS, QUALITIES)
    def pool_quality(m, p, q):
        sent = pyo.quicksum(QUALITY[q][i] * m.into[i, p] for i in CRUDES)
        return sent == m.in_pool[p, q] * pyo.quicksum(m.out[p, j] for j in PRODUCTS)

    @m.Constraint(PRODUCTS)
    def product_balance(m, j):
        blended = pyo.quicksum(m.out[p, j] for p in POOLS)
        return m.sold[j] == blended + pyo.quicksum(m.direct[i, j] for i in CRUDES)

    @m.Constraint(PRODUCTS, QUALITIES)
    def product_quality(m, j, q):
        blended = pyo.quicksum(m.in_pool[p, q] * m.out[p, j] for p in POOLS)
        direct = pyo.quicksum(QUALITY[q][i] * m.direct[i, j] for i in CRUDES)
        return blended + direct == m.in_product[j, q] * m.sold[j]

    @m.Constraint(CRUDES, POOLS)
    def only_if_bought(m, i, p):
        return m.into[i, p] <= SIZE * m.bought[i, p]

    @m.Constraint(POOLS)
    def two_crudes(m, p):
        return pyo.quicksum(m.bought[i, p] for i in CRUDES) <= 2

    m.octane = ReLUNetBlock(
        PRODUCTS,
        network=OCTANE.network,
        inputs=lambda m, j: [m.in_product[j, q] for q in QUALITIES[:3]],
        **options,
    )

    @m.Constraint(PRODUCTS)
    def octane_enough(m, j):
        return m.octane[j].outputs[0] >= LEAST_OCTANE[j]

    @m.Constraint(PRODUCTS)
    def sulphur_low(m, j):
        return m.in_product[j, "sulphur"] <= MOST_SULPHUR[j]

    sold = pyo.quicksum(PRICE[j] * m.sold[j] for j in PRODUCTS)
    used = pyo.quicksum(cost[i] * v for (i, _), v in (*m.into.items(), *m.direct.items()))
    m.profit = pyo.Objective(expr=sold - used, sense=pyo.maximize)
    return m
