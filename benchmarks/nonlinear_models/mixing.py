"""A flowsheet whose mixers are bilinear: two reactors and a separator with a recycle.

Streams have a flow and a concentration, and mixers conserve both, so balances are products
of two variables. Networks stand for the conversion of a reactor by concentration,
temperature and residence time, and for what the separator takes off by its feed and its
reflux. Functions are synthetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo
from wired_models.networks import Surrogate

from pyomo_relu import ReLUNetBlock

REACTORS = range(2)
VOLUME = [2.0, 3.0]
MOST_FLOW = 4.0


def _conversion(x: np.ndarray) -> np.ndarray:
    """Share of A that reacts by concentration, temperature and residence time."""
    a, hot, time = x.T
    rate = 0.9 * np.exp(2.4 * (hot - 1)) * (1 - 0.35 * a)
    loss = 0.12 * (hot - 0.3).clip(0) ** 2
    return rate * time / (1 + rate * time) * (1 - loss)


def _split(x: np.ndarray) -> np.ndarray:
    """Shares of A and of B that go back, and heat, by the share of A and reflux."""
    a, reflux = x.T
    back_a = 1 - 0.9 * np.exp(-1.1 * reflux) * (1 - 0.3 * a)
    back_b = 0.25 * np.exp(-0.6 * reflux) + 0.1 * a
    return np.column_stack([back_a, back_b, 0.3 * reflux * (0.6 + a)])


CONVERSION = Surrogate(
    "conversion", _conversion, [0, 0, 0.3], [1, 1, 6], (20, 20), file="nonlinear"
)
SPLIT = Surrogate("split", _split, [0, 0.2], [1, 4], (16, 16), file="nonlinear")


def mixing(seed: int = 0, **options: Any) -> pyo.ConcreteModel:
    """The most valuable operation; the feed is split between the reactors."""
    rng = np.random.default_rng(seed)
    price, feed_price = rng.uniform(5.5, 6.5), rng.uniform(1.8, 2.2)

    m = pyo.ConcreteModel("mixing")
    m.feed = pyo.Var(REACTORS, bounds=(0, 2))
    m.flow = pyo.Var(REACTORS, bounds=(0.4, MOST_FLOW))  # into each reactor
    m.a = pyo.Var(REACTORS, bounds=(0, 1))  # share of A there
    m.hot = pyo.Var(REACTORS, bounds=(0, 1))
    m.time = pyo.Var(REACTORS, bounds=(0.3, 6))
    m.left = pyo.Var(bounds=(0, 1))  # share of A into the separator
    m.reflux = pyo.Var(bounds=(0.2, 4))
    m.back_a, m.back_b = pyo.Var(bounds=(0, 2)), pyo.Var(bounds=(0, 2))
    m.made = pyo.Var(bounds=(0, MOST_FLOW))
    m.reactor = ReLUNetBlock(
        REACTORS,
        network=CONVERSION.network,
        inputs=lambda m, k: [m.a[k], m.hot[k], m.time[k]],
        **options,
    )
    m.separator = ReLUNetBlock(network=SPLIT.network, inputs=[m.left, m.reflux], **options)

    @m.Constraint(REACTORS)
    def residence(m, k):
        return m.time[k] * m.flow[k] == VOLUME[k]

    # The second reactor gets what leaves the first; what comes back goes to the first.
    m.first_flow = pyo.Constraint(expr=m.flow[0] == m.feed[0] + m.back_a + m.back_b)
    m.second_flow = pyo.Constraint(expr=m.flow[1] == m.flow[0] + m.feed[1])
    m.first_a = pyo.Constraint(expr=m.flow[0] * m.a[0] == m.feed[0] + m.back_a)
    first_left = m.a[0] * (1 - m.reactor[0].outputs[0])
    m.second_a = pyo.Constraint(
        expr=m.flow[1] * m.a[1] == m.flow[0] * first_left + m.feed[1]
    )
    m.separator_a = pyo.Constraint(expr=m.left == m.a[1] * (1 - m.reactor[1].outputs[0]))
    shares = m.separator.outputs
    m.a_back = pyo.Constraint(expr=m.back_a == m.flow[1] * m.left * shares[0])
    m.b_back = pyo.Constraint(expr=m.back_b == m.flow[1] * (1 - m.left) * shares[1])
    # In balance, what is fed leaves; at most 8 per cent of it may be A.
    m.product = pyo.Constraint(expr=m.made == m.feed[0] + m.feed[1])
    m.purity = pyo.Constraint(expr=m.flow[1] * m.left - m.back_a <= 0.08 * m.made)
    heat = pyo.quicksum(m.hot[k] ** 2 * m.flow[k] for k in REACTORS)
    m.profit = pyo.Objective(
        expr=(price - feed_price) * m.made - 0.4 * heat - m.flow[1] * shares[2],
        sense=pyo.maximize,
    )
    return m
