"""A counterfactual: the least change of an application for a loan that has it granted.

A network decides by six numbers and four categories (one-hot); the change is sparse, the
age doesn't fall, one category can't change. After counterfactual explanations by
mixed-integer programming (DACE, Kanamori et al., IJCAI 2020; DiCE); synthetic.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pyomo.environ as pyo

from pyomo_relu import ReLUNetBlock
from wired_models.networks import Surrogate

NUMBERS = range(6)
#: How many categories each of four features has, and the inputs where they begin.
SIZES = [3, 4, 5, 6]
BEGIN = np.cumsum([6, *SIZES]).tolist()
GRANTED, MOST_CHANGES = 0.5, 3


def _points(rng: np.random.Generator, n: int) -> np.ndarray:
    parts = [rng.random((n, 6))]
    parts += [np.eye(k)[rng.integers(0, k, n)] for k in SIZES]
    return np.column_stack(parts)


def _score(x: np.ndarray) -> np.ndarray:
    g = np.random.default_rng(13)
    of_numbers, of_categories = g.normal(0, 1, 6), g.normal(0, 0.8, sum(SIZES))
    number, category = x[:, :6], x[:, 6:]
    linear = 2 * (number - 0.5) @ of_numbers + category @ of_categories
    crossed = 2 * np.sin(4 * number[:, 0] * number[:, 1])
    both = category[:, 3] + category[:, 9]
    return linear + crossed - 2.5 * number[:, 2] * both - 0.8


SCORE = Surrogate(
    "credit", _score, [0] * 24, [1] * 24, (20, 20), points=4000, sample=_points
)


def _refused(seed: int) -> np.ndarray:
    """An application that is clearly refused: rank 31 of 400 by its score."""
    points = _points(np.random.default_rng(100 + seed), 400)
    return points[np.argsort(SCORE.network.evaluate(points)[:, 0])[30]]


def counterfactual(seed: int = 0, **options: Any) -> pyo.ConcreteModel:
    """The least weighted change that has the loan granted."""
    given = _refused(seed).tolist()

    m = pyo.ConcreteModel("counterfactual")
    m.number = pyo.Var(NUMBERS, bounds=(0, 1))
    m.category = pyo.Var(range(6, 24), domain=pyo.Binary)
    m.score = ReLUNetBlock(
        network=SCORE.network,
        inputs=[*m.number.values(), *m.category.values()],
        **options,
    )
    m.granted = pyo.Constraint(expr=m.score.outputs[0] >= GRANTED)

    @m.Constraint(range(len(SIZES)))
    def one_category(m, k):
        return pyo.quicksum(m.category[i] for i in range(BEGIN[k], BEGIN[k + 1])) == 1

    m.more, m.less = pyo.Var(NUMBERS, bounds=(0, 1)), pyo.Var(NUMBERS, bounds=(0, 1))
    m.changed = pyo.Var(NUMBERS, domain=pyo.Binary)

    @m.Constraint(NUMBERS)
    def change(m, i):
        return m.number[i] == given[i] + m.more[i] - m.less[i]

    @m.Constraint(NUMBERS)
    def change_counts(m, i):
        return m.more[i] + m.less[i] <= m.changed[i]

    m.few = pyo.Constraint(expr=pyo.quicksum(m.changed.values()) <= MOST_CHANGES)
    m.older = pyo.Constraint(expr=m.number[0] >= given[0])

    @m.Constraint(range(BEGIN[0], BEGIN[1]))
    def same_category(m, i):
        return m.category[i] == given[i]

    distance = pyo.quicksum([*m.more.values(), *m.less.values()])
    distance += 0.05 * pyo.quicksum(m.changed.values())
    for begin, end in pairwise(BEGIN):
        own = [i for i in range(begin, end) if given[i] == 1]
        distance += 0.5 * pyo.quicksum(1 - m.category[i] for i in own)
    m.distance = pyo.Objective(expr=distance)
    return m
