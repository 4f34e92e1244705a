"""Predictive control: ten steps that bring a pendulum upright with little torque.

A network is the dynamics over a step of 0.1 s, from angle, speed and torque to angle and
speed; each block reads what the one before it gives. ``states_as_variables`` has a
variable for each state and an equality for each step, as most people write it;
``states_as_outputs`` hands outputs on. Data are synthetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyomo.environ as pyo

from pyomo_relu import ReLUNetBlock
from wired_models.networks import Surrogate

ANGLE, SPEED = 0, 1
HORIZON = 10


def _pendulum(x: np.ndarray) -> np.ndarray:
    """Angle and speed after 0.1 s, by two steps of Euler's method."""
    angle, speed, torque = x.T
    dt = 0.1
    for _ in range(2):
        new = speed + dt / 2 * (6 * np.sin(angle) - 0.6 * speed + 4 * torque)
        angle = angle + dt / 2 * (speed + new) / 2
        speed = new
    return np.column_stack([angle, speed])


PENDULUM = Surrogate("mpc16", _pendulum, [-1.5, -4, -2], [1.5, 4, 2], (16, 16))


def _first_angle(seed: int) -> float:
    return 0.9 + 0.1 * np.random.default_rng(seed).random()


def _controls(steps: int) -> pyo.ConcreteModel:
    m = pyo.ConcreteModel("pendulum")
    m.steps, m.times = pyo.RangeSet(0, steps - 1), pyo.RangeSet(0, steps)
    m.torque = pyo.Var(m.steps, bounds=(-2, 2))
    m.size_of_angle = pyo.Var(m.times, bounds=(0, 1.5))
    m.size_of_torque = pyo.Var(m.steps, bounds=(0, 2))
    m.size_of_speed = pyo.Var(m.times, bounds=(0, 4))
    return m


def _cost(m: pyo.ConcreteModel, times: Sequence[int], angle: Any, speed: Any) -> None:
    """Absolute values, the rate of the torque, and the objective."""
    steps = m.steps.last() + 1

    def add(name: str, index: Any, size: Any, of: Any) -> None:
        both = [(1, "above"), (-1, "below")]
        for sign, side in both:
            row = pyo.Constraint(index, rule=lambda m, t, s=sign: size[t] >= s * of[t])
            m.add_component(f"{name}_{side}", row)

    add("angle", times, m.size_of_angle, angle)
    add("speed", times, m.size_of_speed, speed)
    add("torque", m.steps, m.size_of_torque, m.torque)

    @m.Constraint(range(steps - 1))
    def rate(m, t):
        return (-1.5, m.torque[t + 1] - m.torque[t], 1.5)

    far = [m.size_of_angle[t] + 0.1 * m.size_of_speed[t] for t in range(1, steps + 1)]
    m.cost = pyo.Objective(
        expr=pyo.quicksum(far)
        + 0.05 * pyo.quicksum(m.size_of_torque.values())
        + 5 * m.size_of_angle[steps]
    )


def states_as_variables(seed: int = 0, **options: Any) -> pyo.ConcreteModel:
    """A variable for each state, tied to the step before by an equality."""
    m = _controls(HORIZON)
    m.angle, m.speed = (pyo.Var(m.times, bounds=(-most, most)) for most in (1.5, 4))
    m.step = ReLUNetBlock(
        m.steps,
        network=PENDULUM.network,
        inputs=lambda m, t: [m.angle[t], m.speed[t], m.torque[t]],
        **options,
    )
    m.first_angle = pyo.Constraint(expr=m.angle[0] == _first_angle(seed))
    m.first_speed = pyo.Constraint(expr=m.speed[0] == 0.3)

    @m.Constraint(m.steps)
    def next_angle(m, t):
        return m.angle[t + 1] == m.step[t].outputs[ANGLE]

    @m.Constraint(m.steps)
    def next_speed(m, t):
        return m.speed[t + 1] == m.step[t].outputs[SPEED]

    @m.Constraint(range(1, HORIZON + 1))
    def slow(m, t):
        return (-3, m.speed[t], 3)

    _cost(m, list(m.times), m.angle, m.speed)
    return m


def states_as_outputs(seed: int = 0, **options: Any) -> pyo.ConcreteModel:
    """The next block reads the outputs of the one before; states have no variables."""
    m = _controls(HORIZON)
    angle: list[Any] = [_first_angle(seed)]
    speed: list[Any] = [0.3]
    m.step = pyo.Block(m.steps)
    for t in m.steps:
        inputs = [angle[t], speed[t], m.torque[t]]
        m.step[t].net = ReLUNetBlock(network=PENDULUM.network, inputs=inputs, **options)
        after = m.step[t].net.outputs
        for output, most in ((ANGLE, 1.5), (SPEED, 3)):
            low, high = after[output].bounds
            after[output].setlb(-most if low is None else max(-most, low))
            after[output].setub(most if high is None else min(most, high))
        angle.append(after[ANGLE])
        speed.append(after[SPEED])
    _cost(m, list(range(1, HORIZON + 1)), angle, speed)
    return m
