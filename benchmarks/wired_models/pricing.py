"""Prices: what to charge, and where to ship, when demand depends on the price.

``prices_and_supply`` and ``prices_of_a_grid``: a network estimates the demand of eight
regions from price, month, season and region; 25 units are shipped. With free prices the
revenue is bilinear; on a grid of 31 prices it is linear, with one binary for each price.
After the avocado notebook of gurobi-machinelearning. ``rivals``: twenty products whose
demand depends on their own price and on those of three rivals, five prices each. Data and
networks are synthetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo

from pyomo_relu import ReLUNetBlock
from wired_models.networks import Surrogate

REGIONS = range(8)
#: Demand of each region at the price 0.7, its fall with the price, and transport cost.
BASE = np.array([4.8, 3.9, 6.2, 0.9, 5.8, 4.6, 7.0, 2.6])
ELASTICITY = np.array([1.1, 1.0, 1.3, 0.9, 1.5, 1.2, 1.6, 1.1])
TRANSPORT = [0.3, 0.1, 0.4, 0.5, 0.3, 0.2, 0.2, 0.2]
#: What a unit that is shipped and not sold costs.
WASTE = 0.1
SUPPLY = 25


def _demand(x: np.ndarray) -> np.ndarray:
    """Demand by (price, month, peak season, region one-hot)."""
    price, month, peak, region = x[:, 0], x[:, 1], x[:, 2], x[:, 3:].argmax(axis=1)
    trend = BASE[region] * np.exp(-ELASTICITY[region] * (price - 0.7))
    return trend * (1 + 0.04 * month) * (1 + 0.15 * peak) + 0.3 * np.sin(5 * price + region)


def _points(rng: np.random.Generator, n: int) -> np.ndarray:
    region = rng.integers(0, 8, n)
    columns = rng.uniform(0.4, 2.2, n), rng.integers(0, 8, n), rng.integers(0, 2, n)
    return np.column_stack([*columns, np.eye(8)[region]])


DEMAND = Surrogate("avocado", _demand, [0] * 11, [1] * 11, (20, 20), sample=_points)


def _supply(seed: int, options: dict[str, Any]) -> tuple[pyo.ConcreteModel, np.ndarray]:
    """Shipping, sales and waste of one month; revenue is left to the caller."""
    most = BASE * 1.3 * np.random.default_rng(seed).uniform(0.9, 1.1, 8)
    m = pyo.ConcreteModel("prices")
    m.price = pyo.Var(REGIONS, bounds=(0.5, 2.0))
    m.shipped = pyo.Var(REGIONS, bounds=lambda m, r: (0.1 * most[r], most[r]))
    m.sold = pyo.Var(REGIONS, bounds=lambda m, r: (0, most[r]))
    m.wasted = pyo.Var(REGIONS, bounds=lambda m, r: (0, most[r]))
    m.demand = ReLUNetBlock(
        REGIONS,
        network=DEMAND.network,
        inputs=lambda m, r: [m.price[r], 7.0, 1.0, *np.eye(8)[r].tolist()],
        **options,
    )
    m.supply = pyo.Constraint(expr=pyo.quicksum(m.shipped.values()) == SUPPLY)

    @m.Constraint(REGIONS)
    def sold_is_shipped(m, r):
        return m.sold[r] <= m.shipped[r]

    @m.Constraint(REGIONS)
    def sold_is_wanted(m, r):
        return m.sold[r] <= m.demand[r].outputs[0]

    @m.Constraint(REGIONS)
    def waste(m, r):
        return m.wasted[r] == m.shipped[r] - m.sold[r]

    m.cost = pyo.Expression(
        expr=pyo.quicksum(
            WASTE * m.wasted[r] + TRANSPORT[r] * m.shipped[r] for r in REGIONS
        )
    )
    return m, most


def prices_and_supply(seed: int = 0, **options: Any) -> pyo.ConcreteModel:
    """Any price; revenue is price times sales, so the model is bilinear."""
    m, _ = _supply(seed, options)
    revenue = pyo.quicksum(m.price[r] * m.sold[r] for r in REGIONS)
    m.profit = pyo.Objective(expr=revenue - m.cost, sense=pyo.maximize)
    return m


def prices_of_a_grid(seed: int = 0, **options: Any) -> pyo.ConcreteModel:
    """One of 31 prices for each region; sales are split by price, so all is linear."""
    m, most = _supply(seed, options)
    grid = np.arange(0.5, 2.001, 0.05).tolist()
    m.prices = pyo.RangeSet(0, len(grid) - 1)
    m.chosen = pyo.Var(REGIONS, m.prices, domain=pyo.Binary)
    m.sold_at = pyo.Var(REGIONS, m.prices, bounds=lambda m, r, k: (0, most[r]))

    @m.Constraint(REGIONS)
    def one_price(m, r):
        return pyo.quicksum(m.chosen[r, k] for k in m.prices) == 1

    @m.Constraint(REGIONS)
    def price_chosen(m, r):
        return m.price[r] == pyo.quicksum(grid[k] * m.chosen[r, k] for k in m.prices)

    @m.Constraint(REGIONS)
    def sales_split(m, r):
        return m.sold[r] == pyo.quicksum(m.sold_at[r, k] for k in m.prices)

    @m.Constraint(REGIONS, m.prices)
    def sold_at_chosen(m, r, k):
        return m.sold_at[r, k] <= most[r] * m.chosen[r, k]

    revenue = pyo.quicksum(grid[k] * m.sold_at[r, k] for r in REGIONS for k in m.prices)
    m.profit = pyo.Objective(expr=revenue - m.cost, sense=pyo.maximize)
    return m


PRODUCTS = range(20)
PRICES = np.array([0.8, 1.1, 1.4, 1.7, 2.0])
#: A product's rivals are those this many places further on, in a circle.
RIVALS = (1, 3, 7)


def _share(x: np.ndarray) -> np.ndarray:
    """Demand by the own price and those of three rivals: a logit of the market."""
    own = np.exp(3 - 1.6 * x[:, 0])
    return 20 * own / (1 + own + np.exp(2.2 - 1.3 * x[:, 1:]).sum(axis=1) / 2)


SHARE = Surrogate("demand", _share, [0.6] * 4, [2.4] * 4, (20, 20))


def rivals(seed: int = 0, **options: Any) -> pyo.ConcreteModel:
    """Twenty products at one of five prices; their demands read each other's prices."""
    n = len(PRODUCTS)
    rng = np.random.default_rng(seed)
    size, cost = rng.uniform(0.5, 2, n), rng.uniform(0.2, 0.8, n)

    m = pyo.ConcreteModel("rivals")
    m.prices = pyo.RangeSet(0, len(PRICES) - 1)
    m.chosen = pyo.Var(PRODUCTS, m.prices, domain=pyo.Binary)
    m.price = pyo.Var(PRODUCTS, bounds=(0.8, 2.0))
    m.sold = pyo.Var(PRODUCTS, bounds=(0, 22))
    m.margin = pyo.Var(PRODUCTS, bounds=(-10, 60))

    @m.Constraint(PRODUCTS)
    def one_price(m, i):
        return pyo.quicksum(m.chosen[i, k] for k in m.prices) == 1

    @m.Constraint(PRODUCTS)
    def price_chosen(m, i):
        return m.price[i] == pyo.quicksum(PRICES[k] * m.chosen[i, k] for k in m.prices)

    m.demand = ReLUNetBlock(
        PRODUCTS,
        network=SHARE.network,
        inputs=lambda m, i: [m.price[i], *(m.price[(i + k) % n] for k in RIVALS)],
        **options,
    )

    @m.Constraint(PRODUCTS)
    def sold_is_wanted(m, i):
        return m.sold[i] <= m.demand[i].outputs[0]

    @m.Constraint(PRODUCTS, m.prices)
    def margin_at_price(m, i, k):
        slack = (40 + 22 * cost[i]) * (1 - m.chosen[i, k])
        return m.margin[i] <= (PRICES[k] - cost[i]) * m.sold[i] + slack

    @m.Constraint(range(n - 1))
    def neighbours(m, i):
        return (-0.9, m.price[i + 1] - m.price[i], 0.9)

    m.promotions = pyo.Constraint(expr=pyo.quicksum(m.chosen[i, 0] for i in PRODUCTS) >= 4)
    m.capacity = pyo.Constraint(
        expr=pyo.quicksum(size[i] * m.sold[i] for i in PRODUCTS) <= 6 * n
    )
    m.profit = pyo.Objective(
        expr=pyo.quicksum(size[i] * m.margin[i] for i in PRODUCTS), sense=pyo.maximize
    )
    return m
