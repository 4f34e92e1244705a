"""Facilities under uncertainty: a network stands for the cost of serving the customers.

Fifteen facilities may be opened and the capacity of five regions enlarged before demand is
known; the expected cost of transport that follows is a network of all twenty decisions.
After Neur2SP (Dumouchelle et al., NeurIPS 2022), with a data set of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo

from pyomo_relu import ReLUNetBlock
from wired_models.networks import Surrogate

N, CUSTOMERS, REGIONS = 15, 40, 5
#: Cost of a unit of demand that nobody serves, and of a year with no facility.
UNSERVED, NOTHING_OPEN = 6, 150


def _distances() -> np.ndarray:
    g = np.random.default_rng(77)
    sites, customers = g.random((N, 2)), g.random((CUSTOMERS, 2))
    return np.linalg.norm(sites[:, None] - customers[None], axis=2)


def _recourse(x: np.ndarray) -> np.ndarray:
    """Mean cost over six demand scenarios, the nearest open facility first."""
    distance = _distances()
    scenarios = np.random.default_rng(5).uniform(0.5, 1.5, size=(6, CUSTOMERS))
    found = np.full(len(x), float(NOTHING_OPEN))
    for i, row in enumerate(x):
        is_open, capacity = row[:N] > 0.5, np.repeat(row[N:] * 8 + 6, 3)
        if is_open.any():
            seen = np.where(is_open[:, None], distance, 9.0)
            served = [_serve(seen, is_open, capacity, demand) for demand in scenarios]
            found[i] = sum(served) / len(scenarios)
    return found


def _serve(
    distance: np.ndarray, is_open: np.ndarray, capacity: np.ndarray, demand: np.ndarray
) -> float:
    left = np.where(is_open, capacity, 0.0)
    cost = 0.0
    for j in np.argsort(distance.min(axis=0)):
        need = demand[j]
        for f in np.argsort(distance[:, j]):
            if not is_open[f]:
                break
            amount = min(need, left[f])
            left[f] -= amount
            need -= amount
            cost += amount * distance[f, j] * 4
            if need <= 0:
                break
        cost += need * UNSERVED
    return cost


def _points(rng: np.random.Generator, n: int) -> np.ndarray:
    share = rng.uniform(0.1, 0.8, size=(n, 1))
    return np.column_stack([(rng.random((n, N)) < share) * 1.0, rng.random((n, REGIONS))])


RECOURSE = Surrogate(
    "neur2sp", _recourse, [0] * 20, [1] * 20, (64,), points=2500, sample=_points
)


def facilities(seed: int = 0, **options: Any) -> pyo.ConcreteModel:
    """Which facilities to open, at most eight and two in a region, and how large."""
    rng = np.random.default_rng(seed)
    opening, enlarging = rng.uniform(4, 9, N), rng.uniform(3, 8, REGIONS)

    m = pyo.ConcreteModel("facilities")
    m.open = pyo.Var(range(N), domain=pyo.Binary)
    m.larger = pyo.Var(range(REGIONS), bounds=(0, 1))
    m.recourse = ReLUNetBlock(
        network=RECOURSE.network, inputs=[*m.open.values(), *m.larger.values()], **options
    )

    def of_region(k: int):
        return pyo.quicksum(m.open[i] for i in range(3 * k, 3 * k + 3))

    m.most = pyo.Constraint(expr=pyo.quicksum(m.open.values()) <= 8)

    @m.Constraint(range(REGIONS))
    def most_in_region(m, k):
        return of_region(k) <= 2

    @m.Constraint(range(REGIONS))
    def larger_where_open(m, k):
        return m.larger[k] <= of_region(k)

    first = pyo.quicksum(opening[i] * m.open[i] for i in range(N))
    first += pyo.quicksum(enlarging[k] * m.larger[k] for k in range(REGIONS))
    m.cost = pyo.Objective(expr=first + m.recourse.outputs[0])
    return m
