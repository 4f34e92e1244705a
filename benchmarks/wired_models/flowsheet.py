"""A flowsheet with recycle: three reactors, two separators, an impurity, all by networks.

Component A becomes B in three reactors in series; two separators take A off and most of
it goes back to the feed. Every unit is a network, and streams are variables that balances
tie together, so a point has to close the recycle. Functions are synthetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo

from pyomo_relu import ReLUNetBlock
from wired_models.networks import Surrogate

REACTORS, SEPARATORS = range(3), range(2)
#: Streams: 0 after mixing, 1 to 3 after each reactor, 4 and 5 after each separator.
STREAMS = range(6)
RECYCLED = 0.9
REACTED, HEAT = 0, 1
A_OFF, B_OFF, REFLUX_HEAT = 0, 1, 2


def _reactor(x: np.ndarray) -> np.ndarray:
    """A that reacts, and heat, by A and B in and temperature."""
    a, b, t = x.T
    rate = 2.2 * np.exp(-4 * (1 - t)) + 0.1
    reacted = a * rate / (1 + rate + 0.25 * b + 0.15 * a)
    return np.column_stack([reacted, 0.8 * reacted * (1 + 0.5 * t) + 0.6 * t**2])


def _separator(x: np.ndarray) -> np.ndarray:
    """A and B that leave overhead, and heat, by A and B in and reflux."""
    a, b, reflux = x.T
    off_a = a * (1 - np.exp(-1.2 * reflux)) * (1 - 0.05 * b / (1 + a))
    off_b = b * 0.35 * np.exp(-0.9 * reflux)
    return np.column_stack([off_a, off_b, 0.25 * reflux * (a + b) ** 0.9])


def _impurity(x: np.ndarray) -> np.ndarray:
    """Impurity by A fed, B made, and the first and last temperature."""
    a, b, first, last = x.T
    made = 0.06 * a * first**2 + 0.05 * b * last**3
    return made + 0.05 * np.abs(first - last) * np.sqrt(1 + a)


REACTOR = Surrogate("reactor", _reactor, [0, 0, 0], [10, 10, 1], (24, 24))
SEPARATOR = Surrogate("sep", _separator, [0, 0, 0.3], [10, 10, 4], (24, 24))
IMPURITY = Surrogate("byprod", _impurity, [0, 0, 0, 0], [10, 10, 1, 1], (20, 20))


def flowsheet(seed: int = 0, **options: Any) -> pyo.ConcreteModel:
    """The most valuable operation, within purity, impurity and demand."""
    price = 5 + 0.3 * np.random.default_rng(seed).random()

    m = pyo.ConcreteModel("flowsheet")
    m.feed = pyo.Var(bounds=(1, 6))
    m.a, m.b = pyo.Var(STREAMS, bounds=(0, 10)), pyo.Var(STREAMS, bounds=(0, 10))
    m.temperature = pyo.Var(REACTORS, bounds=(0, 1))
    m.reflux = pyo.Var(SEPARATORS, bounds=(0.3, 4))

    m.reactor = ReLUNetBlock(
        REACTORS,
        network=REACTOR.network,
        inputs=lambda m, k: [m.a[k], m.b[k], m.temperature[k]],
        **options,
    )

    @m.Constraint(REACTORS)
    def a_reacts(m, k):
        return m.a[k + 1] == m.a[k] - m.reactor[k].outputs[REACTED]

    @m.Constraint(REACTORS)
    def b_is_made(m, k):
        return m.b[k + 1] == m.b[k] + m.reactor[k].outputs[REACTED]

    m.separator = ReLUNetBlock(
        SEPARATORS,
        network=SEPARATOR.network,
        inputs=lambda m, k: [m.a[3 + k], m.b[3 + k], m.reflux[k]],
        **options,
    )

    @m.Constraint(SEPARATORS)
    def a_leaves(m, k):
        return m.a[4 + k] == m.a[3 + k] - m.separator[k].outputs[A_OFF]

    @m.Constraint(SEPARATORS)
    def b_leaves(m, k):
        return m.b[4 + k] == m.b[3 + k] - m.separator[k].outputs[B_OFF]

    def overhead(output: int):
        return m.separator[0].outputs[output] + m.separator[1].outputs[output]

    m.mix_a = pyo.Constraint(expr=m.a[0] == m.feed + RECYCLED * overhead(A_OFF))
    m.mix_b = pyo.Constraint(expr=m.b[0] == RECYCLED * overhead(B_OFF))

    m.impurity = ReLUNetBlock(
        network=IMPURITY.network,
        inputs=[m.a[0], m.b[3], m.temperature[0], m.temperature[2]],
        **options,
    )
    m.pure = pyo.Constraint(expr=m.a[5] <= 0.04 * m.b[5])
    m.clean = pyo.Constraint(expr=m.impurity.outputs[0] <= 0.35)
    m.demand = pyo.Constraint(expr=m.b[5] >= 1.5)
    heat = pyo.quicksum(m.reactor[k].outputs[HEAT] for k in REACTORS)
    heat += pyo.quicksum(m.separator[k].outputs[REFLUX_HEAT] for k in SEPARATORS)
    m.profit = pyo.Objective(
        expr=price * m.b[5] - 2 * m.feed - 0.5 * heat - 3 * m.impurity.outputs[0],
        sense=pyo.maximize,
    )
    return m
