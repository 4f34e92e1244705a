"""Unit commitment with a secure frequency: four hours, ten generators, fourteen buses.

A network estimates how far the frequency falls when the largest unit fails, from what is
on and what it produces; it must not fall below a limit. The rest is a unit commitment with
a direct-current network (buses and reactances of the IEEE 14-bus case); the function
behind the network is synthetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo

from pyomo_relu import ReLUNetBlock
from wired_models.networks import Surrogate

GENERATORS, HOURS, BUSES = range(10), range(4), range(1, 15)
AT_BUS = [1, 1, 2, 2, 3, 6, 6, 8, 9, 14]
MOST = np.array([0.9, 0.7, 0.5, 0.4, 0.5, 0.4, 0.3, 0.4, 0.3, 0.2])
#: From, to, reactance.
LINES = [
    (1, 2, 0.059), (1, 5, 0.223), (2, 3, 0.198), (2, 4, 0.176), (2, 5, 0.174),
    (3, 4, 0.171), (4, 5, 0.042), (4, 7, 0.209), (4, 9, 0.556), (5, 6, 0.252),
    (6, 11, 0.199), (6, 12, 0.256), (6, 13, 0.130), (7, 8, 0.176), (7, 9, 0.110),
    (9, 10, 0.085), (9, 14, 0.270), (10, 11, 0.192), (12, 13, 0.200), (13, 14, 0.348),
]  # fmt: skip
LOAD = {
    2: 0.217, 3: 0.942, 4: 0.478, 5: 0.076, 6: 0.112, 9: 0.295, 10: 0.09, 11: 0.035,
    12: 0.061, 13: 0.135, 14: 0.149,
}  # fmt: skip
#: Flow of a line, share of its capacity that a generator may change in an hour, and the
#: least it produces while it is on.
MOST_FLOW, RAMP, LEAST = 0.9, 0.6, 0.25
#: How far the frequency may fall.
NADIR = 0.42


def _inertia_and_reserve() -> tuple[np.ndarray, np.ndarray]:
    g = np.random.default_rng(4)
    return g.uniform(2, 7, 10), g.uniform(0.5, 1.5, 10)


def _nadir(x: np.ndarray) -> np.ndarray:
    inertia_of, reserve_of = _inertia_and_reserve()
    on, power = x[:, :10], x[:, 10:]
    inertia = (on * inertia_of * MOST).sum(axis=1) + 0.6
    reserve = (on * reserve_of * (MOST - power).clip(0)).sum(axis=1) + 0.15
    lost = (power * on).max(axis=1)
    return 2.2 * lost / inertia**0.5 / (reserve**0.5 + 0.25) + 0.25 * lost / inertia


def _points(rng: np.random.Generator, n: int) -> np.ndarray:
    on = (rng.random((n, 10)) < rng.uniform(0.3, 1, (n, 1))) * 1.0
    return np.column_stack([on, on * MOST * rng.random((n, 10))])


FALL = Surrogate("nadir", _nadir, [0] * 20, [1] * 20, (30, 30), points=4000, sample=_points)


def unit_commitment(seed: int = 0, **options: Any) -> pyo.ConcreteModel:
    """What is on and what it produces, at least cost."""
    rng = np.random.default_rng(seed)
    level = np.array([0.62, 0.8, 1.0, 0.85]) * rng.uniform(0.95, 1.05, 4)
    fuel, running, starting = (
        rng.uniform(*ends, 10) for ends in ((10, 40), (1, 5), (1, 6))
    )

    m = pyo.ConcreteModel("unit commitment")
    m.on = pyo.Var(HOURS, GENERATORS, domain=pyo.Binary)
    m.start = pyo.Var(HOURS, GENERATORS, bounds=(0, 1))
    m.power = pyo.Var(HOURS, GENERATORS, bounds=lambda m, t, i: (0, MOST[i]))
    m.phase = pyo.Var(HOURS, BUSES, bounds=(-2, 2))
    m.fall = ReLUNetBlock(
        HOURS,
        network=FALL.network,
        inputs=lambda m, t: [v[t, i] for v in (m.on, m.power) for i in GENERATORS],
        **options,
    )

    @m.Constraint(HOURS, GENERATORS)
    def most_power(m, t, i):
        return m.power[t, i] <= MOST[i] * m.on[t, i]

    @m.Constraint(HOURS, GENERATORS)
    def least_power(m, t, i):
        return m.power[t, i] >= LEAST * MOST[i] * m.on[t, i]

    @m.Constraint(HOURS)
    def reference(m, t):
        return m.phase[t, 1] == 0

    def flow(t: int, line: tuple[int, int, float]):
        first, second, reactance = line
        return (m.phase[t, first] - m.phase[t, second]) / reactance

    @m.Constraint(HOURS, BUSES)
    def balance(m, t, b):
        made = sum(m.power[t, i] for i in GENERATORS if AT_BUS[i] == b)
        away = sum(flow(t, line) for line in LINES if line[0] == b)
        here = sum(flow(t, line) for line in LINES if line[1] == b)
        return made - level[t] * LOAD.get(b, 0) == away - here

    @m.Constraint(HOURS, range(len(LINES)))
    def flow_limit(m, t, k):
        return (-MOST_FLOW, flow(t, LINES[k]), MOST_FLOW)

    @m.Constraint(HOURS, GENERATORS)
    def starts(m, t, i):
        if t == 0:
            return pyo.Constraint.Skip
        return m.start[t, i] >= m.on[t, i] - m.on[t - 1, i]

    @m.Constraint(HOURS, GENERATORS)
    def ramp(m, t, i):
        if t == 0:
            return pyo.Constraint.Skip
        most = RAMP * MOST[i]
        return (-most, m.power[t, i] - m.power[t - 1, i], most)

    @m.Constraint(HOURS)
    def secure(m, t):
        return m.fall[t].outputs[0] <= NADIR

    m.cost = pyo.Objective(
        expr=pyo.quicksum(
            fuel[i] * m.power[t, i] + running[i] * m.on[t, i] + starting[i] * m.start[t, i]
            for t in HOURS
            for i in GENERATORS
        )
    )
    return m
