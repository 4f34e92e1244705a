"""A food basket: the cheapest one that nourishes and that people like to eat.

A network estimates the palatability of a basket of 25 foods; nutrients are linear, and the
basket must reach at least one half. After the World Food Programme's study in OptiCL
(Maragno et al., arXiv 2111.04469) with data drawn here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo

from pyomo_relu import ReLUNetBlock
from wired_models.networks import Surrogate

FOODS = range(25)
NUTRIENTS = range(11)
#: The group of each food: 1 to 4 by what people live on, 0 salt, 5 sugar, 6 others.
GROUP = np.array([1] * 7 + [2] * 4 + [3] * 5 + [4] * 5 + [0, 5, 6, 6])
#: The share of each group that people like best.
IDEAL = {1: 4.0, 2: 0.6, 3: 0.5, 4: 0.5, 5: 0.25}
SALT, SUGAR = 21, 22


def _palatability(x: np.ndarray) -> np.ndarray:
    off: Any = 0
    for group, ideal in IDEAL.items():
        share = x[:, group == GROUP].sum(axis=1)
        off = off + (abs(share - ideal) / ideal) ** 1.5 * (1.0 if group == 1 else 0.5)
    monotony = x.max(axis=1) / (x.sum(axis=1) + 1e-9)
    return 1 / (1 + 0.6 * off + 0.8 * monotony)


def _points(rng: np.random.Generator, n: int) -> np.ndarray:
    x = rng.gamma(0.35, 1.0, size=(n, 25)) * np.where(GROUP == 1, 0.9, 0.3)
    return np.minimum(x * (rng.random((n, 25)) < 0.7), 4)


def _surrogate(key: str, hidden: tuple[int, ...]) -> Surrogate:
    return Surrogate(
        key, _palatability, [0] * 25, [4] * 25, hidden, points=4000, sample=_points
    )


ONE_LAYER, TWO_LAYERS = _surrogate("wfp50", (50,)), _surrogate("wfp30", (30, 30))


def _basket(seed: int, palatability: Surrogate, options: dict) -> pyo.ConcreteModel:
    rng = np.random.default_rng(seed)
    content = rng.lognormal(0, 0.9, size=(11, 25)) * (rng.random((11, 25)) < 0.6)
    content[:, GROUP == 0] = 0
    need = content.mean(axis=1) * 5.0
    cost = rng.lognormal(0, 0.5, 25) + 0.15 * content.mean(axis=0)

    m = pyo.ConcreteModel("food basket")
    m.amount = pyo.Var(FOODS, bounds=(0, 4))
    m.liking = ReLUNetBlock(
        network=palatability.network, inputs=[m.amount[i] for i in FOODS], **options
    )

    @m.Constraint(NUTRIENTS)
    def nourishes(m, k):
        return pyo.quicksum(content[k, i] * m.amount[i] for i in FOODS) >= need[k]

    m.salt = pyo.Constraint(expr=m.amount[SALT] == 0.05)
    m.sugar = pyo.Constraint(expr=m.amount[SUGAR] == 0.2)
    m.liked = pyo.Constraint(expr=m.liking.outputs[0] >= 0.5)
    m.cost = pyo.Objective(expr=pyo.quicksum(cost[i] * m.amount[i] for i in FOODS))
    return m


def one_layer(seed: int = 0, **options: Any) -> pyo.ConcreteModel:
    """Palatability by 50 neurons."""
    return _basket(seed, ONE_LAYER, options)


def two_layers(seed: int = 0, **options: Any) -> pyo.ConcreteModel:
    """Palatability by two layers of 30 neurons."""
    return _basket(seed, TWO_LAYERS, options)
