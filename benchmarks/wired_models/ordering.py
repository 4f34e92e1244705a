"""Ordering by a value network: how many of eight goods, given what four stores hold.

A network estimates the value of an order (a Q-function); the order is whole numbers within
rows of its own. The stock is data, so eight of twelve inputs are free. After the action
selection of CAQL (Ryu et al., arXiv 1909.12397) with integers; synthetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo

from pyomo_relu import ReLUNetBlock
from wired_models.networks import Surrogate

GOODS = range(8)


def _value(x: np.ndarray) -> np.ndarray:
    """Value of (stock of four stores, order of eight goods)."""
    g = np.random.default_rng(8)
    mean, price, hold = (g.uniform(*e, 8) for e in ((2, 6), (3, 9), (0.5, 2)))
    cross = g.normal(0, 0.12, (8, 8))
    held, order = x[:, :4], x[:, 4:]
    stock = order + np.repeat(held, 2, axis=1)
    demand = mean + (order @ cross) * 0.5
    sold = np.minimum(stock, demand) + 0.3 * np.sin(stock)
    kept = (stock - demand).clip(0) ** 1.3
    value = (price * sold - hold * kept - 1.5 * order).sum(axis=1)
    return value - 0.02 * order.sum(axis=1) ** 2


VALUE = Surrogate("qnet", _value, [0] * 12, [4] * 4 + [8] * 8, (32, 32), points=4000)


def ordering(seed: int = 0, **options: Any) -> pyo.ConcreteModel:
    """The order of most value that fits in."""
    rng = np.random.default_rng(seed)
    held, volume = rng.uniform(0, 3, 4), rng.uniform(0.5, 2, 8)

    m = pyo.ConcreteModel("ordering")
    m.order = pyo.Var(GOODS, domain=pyo.Integers, bounds=(0, 8))
    m.value = ReLUNetBlock(
        network=VALUE.network, inputs=[*held.tolist(), *m.order.values()], **options
    )
    m.space = pyo.Constraint(expr=pyo.quicksum(volume[i] * m.order[i] for i in GOODS) <= 22)

    @m.Constraint(range(4))
    def pair(m, k):
        return m.order[2 * k] + m.order[2 * k + 1] <= 9

    m.together = pyo.Constraint(expr=m.order[0] + m.order[3] >= m.order[5])
    m.most = pyo.Objective(expr=m.value.outputs[0], sense=pyo.maximize)
    return m
