"""An arm that swings up: gravity by its sine, friction and motor by a network.

What is known is written as it is: gravity turns an arm by the sine of its angle, and its
load by the cosine. A network gives the torque of the motor less friction by speed and
current, which was only measured. Six steps, the angle by the trapezoidal rule, with a
quadratic cost. Data are synthetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo
from wired_models.networks import Surrogate

from pyomo_relu import ReLUNetBlock

STEPS = 6
#: Seconds of a step, gravity over length, and how much of a load pulls sideways.
STEP, GRAVITY, LOAD = 0.2, 6.0, 0.8
MOST_SPEED, MOST_CURRENT = 5.0, 2.0


def _torque(x: np.ndarray) -> np.ndarray:
    """Torque of motor and friction by speed and current."""
    speed, current = x.T
    motor = 8 * np.tanh(1.1 * current) * (1 - 0.05 * np.abs(speed))
    return motor - 0.5 * np.tanh(6 * speed) - 0.25 * speed


TORQUE = Surrogate(
    "torque", _torque, [-MOST_SPEED, -MOST_CURRENT], [MOST_SPEED, MOST_CURRENT], (12, 12),
    file="nonlinear",
)  # fmt: skip


def arm(seed: int = 0, **options: Any) -> pyo.ConcreteModel:
    """From an angle away from upright (0) to near it, at rest, with little current."""
    first = 0.7 + 0.3 * np.random.default_rng(seed).random()

    m = pyo.ConcreteModel("arm")
    m.steps, m.times = pyo.RangeSet(0, STEPS - 1), pyo.RangeSet(0, STEPS)
    m.angle = pyo.Var(m.times, bounds=(-1.5, 1.5))
    m.speed = pyo.Var(m.times, bounds=(-MOST_SPEED, MOST_SPEED))
    m.current = pyo.Var(m.steps, bounds=(-MOST_CURRENT, MOST_CURRENT))
    m.motor = ReLUNetBlock(
        m.steps,
        network=TORQUE.network,
        inputs=lambda m, k: [m.speed[k], m.current[k]],
        **options,
    )
    m.begins = pyo.Constraint(expr=m.angle[0] == first)
    m.rests = pyo.Constraint(expr=m.speed[0] == 0)

    @m.Constraint(m.steps)
    def turns(m, k):
        return m.angle[k + 1] == m.angle[k] + STEP / 2 * (m.speed[k] + m.speed[k + 1])

    @m.Constraint(m.steps)
    def speeds_up(m, k):
        pull = GRAVITY * pyo.sin(m.angle[k]) - LOAD * pyo.cos(m.angle[k])
        return m.speed[k + 1] == m.speed[k] + STEP * (pull + m.motor[k].outputs[0])

    m.arrives = pyo.Constraint(expr=(-0.1, m.angle[STEPS], 0.1))
    m.stops = pyo.Constraint(expr=(-0.3, m.speed[STEPS], 0.3))
    m.cost = pyo.Objective(
        expr=pyo.quicksum(m.angle[k] ** 2 for k in m.times)
        + 0.1 * pyo.quicksum(m.current[k] ** 2 for k in m.steps)
    )
    return m
