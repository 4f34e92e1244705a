"""AC power flow with a network for stability: three and nine buses.

Rows are those of the power flow in rectangular coordinates, so they are quadratic. The
margin of stability after the loss of a line follows from a simulation that no model holds;
a network estimates it by the generators' outputs and voltages, and the dispatch must keep
a margin. The data of the grids are public:

* three buses: Lesieutre, Molzahn, Borden, DeMarco, *Examining the limits of the
  application of semidefinite programming to power flow problems*, Allerton 2011, with the
  limit of 50 MVA (``case3_lmbd`` of the IEEE PES library PGLib-OPF);
* nine buses: Chow's system of the Western System Coordinating Council, with the costs of
  Schulz's master's thesis (``case9`` of MATPOWER). Without the network the optimum is
  5296.69.

The margins are synthetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as pyo
from wired_models.networks import Surrogate

from pyomo_relu import ReLUNetBlock

#: All powers are in units of 100 MW.
BASE = 100.0


@dataclass(frozen=True)
class Grid:
    """A grid; buses are numbered from 1, powers in units of :data:`BASE`.

    Attributes
    ----------
    load : dict
        (active, reactive) load of buses.
    generators : dict
        Of buses: (least, most) active, (least, most) reactive power, and the costs
        (quadratic, linear, constant) by MW.
    branches : list
        (from, to, resistance, reactance, charging, most apparent power).
    """

    buses: int
    load: dict[int, tuple[float, float]]
    generators: dict[int, tuple[tuple, tuple, tuple]]
    branches: list[tuple[int, int, float, float, float, float]]


THREE = Grid(
    3,
    {1: (1.1, 0.4), 2: (1.1, 0.4), 3: (0.95, 0.5)},
    {
        1: ((0, 20), (-10, 10), (0.11, 5, 0)),
        2: ((0, 20), (-10, 10), (0.085, 1.2, 0)),
        3: ((0, 0), (-10, 10), (0, 0, 0)),
    },
    [
        (1, 3, 0.065, 0.62, 0.45, 90.0),
        (3, 2, 0.025, 0.75, 0.7, 0.5),
        (1, 2, 0.042, 0.9, 0.3, 90.0),
    ],
)
NINE = Grid(
    9,
    {5: (0.9, 0.3), 7: (1.0, 0.35), 9: (1.25, 0.5)},
    {
        1: ((0.1, 2.5), (-3, 3), (0.11, 5, 150)),
        2: ((0.1, 3.0), (-3, 3), (0.085, 1.2, 600)),
        3: ((0.1, 2.7), (-3, 3), (0.1225, 1, 335)),
    },
    [
        (1, 4, 0, 0.0576, 0, 2.5),
        (4, 5, 0.017, 0.092, 0.158, 2.5),
        (5, 6, 0.039, 0.17, 0.358, 1.5),
        (3, 6, 0, 0.0586, 0, 3.0),
        (6, 7, 0.0119, 0.1008, 0.209, 1.5),
        (7, 8, 0.0085, 0.072, 0.149, 2.5),
        (8, 2, 0, 0.0625, 0, 2.5),
        (8, 9, 0.032, 0.161, 0.306, 2.5),
        (9, 4, 0.01, 0.085, 0.176, 2.5),
    ],
)


def _margin_of_two(x: np.ndarray) -> np.ndarray:
    """Margin of the three buses by the outputs and squared voltages of both generators."""
    p1, p2, w1, w2 = x.T
    stress = (p1 - 1.2) ** 2 + 0.8 * (p2 - 1.6) ** 2 + 0.6 * np.abs(p1 - p2)
    return 1.2 - 0.7 * stress + 1.5 * (w1 - 1) + 1.2 * (w2 - 1) - 2 * (w1 - w2) ** 2


def _margin_of_three(x: np.ndarray) -> np.ndarray:
    """Margin of the nine buses by outputs and squared voltages of three generators."""
    p, w = x[:, :3], x[:, 3:]
    spare = p - np.array([1.35, 0.9, 0.95])  # the first has the largest inertia
    spread = spare.max(axis=1) - spare.min(axis=1)
    swing = 0.5 * np.sin(1.5 * p[:, 1]) * p[:, 2] / (0.4 + w[:, 1] * w[:, 2])
    return 0.9 - 0.8 * spread - swing + 1.4 * (w.mean(axis=1) - 1) + 0.2 * p[:, 0] * w[:, 0]


MARGIN_OF_TWO = Surrogate(
    "margin3", _margin_of_two, [0, 0, 0.81, 0.81], [3, 3, 1.21, 1.21], (16, 16),
    file="nonlinear",
)  # fmt: skip
MARGIN_OF_THREE = Surrogate(
    "margin9", _margin_of_three, [0.1] * 3 + [0.81] * 3, [2.5] * 3 + [1.21] * 3, (20, 20),
    file="nonlinear",
)  # fmt: skip
#: The margin that a dispatch keeps; the cheapest without it has 0.96 and 0.41.
KEPT = {3: 1.2, 9: 0.7}


def _conductances(grid: Grid) -> dict[tuple[int, int], tuple[float, float, float]]:
    """Series conductance, susceptance and half the charging, by directed branch."""
    found = {}
    for i, j, r, x, b, _ in grid.branches:
        y = 1 / complex(r, x)
        found[i, j] = found[j, i] = (y.real, y.imag, b / 2)
    return found


def power_flow(grid: Grid, load: float) -> pyo.ConcreteModel:
    """The rows of the power flow and the cost, with all loads times a factor."""
    m = pyo.ConcreteModel("power flow")
    m.buses = pyo.RangeSet(1, grid.buses)
    m.lines = pyo.Set(initialize=list(_conductances(grid)), dimen=2)
    m.generators = pyo.Set(initialize=list(grid.generators))
    m.e = pyo.Var(m.buses, bounds=(0, 1.1), initialize=1.0)
    m.f = pyo.Var(m.buses, bounds=(-1.1, 1.1), initialize=0.0)
    m.square = pyo.Var(m.buses, bounds=(0.81, 1.21), initialize=1.0)
    m.p = pyo.Var(m.generators, bounds=lambda m, g: grid.generators[g][0])
    m.q = pyo.Var(m.generators, bounds=lambda m, g: grid.generators[g][1])
    m.flow = pyo.Var(m.lines, ["active", "reactive"], bounds=(-10, 10))
    m.reference = pyo.Constraint(expr=m.f[1] == 0)

    @m.Constraint(m.buses)
    def voltage(m, i):
        return m.square[i] == m.e[i] ** 2 + m.f[i] ** 2

    admittance = _conductances(grid)

    @m.Constraint(m.lines, ["active", "reactive"])
    def line(m, i, j, kind):
        g, b, charging = admittance[i, j]
        real = m.e[i] * m.e[j] + m.f[i] * m.f[j]
        turned = m.f[i] * m.e[j] - m.e[i] * m.f[j]
        if kind == "active":
            return m.flow[i, j, kind] == g * m.square[i] - g * real - b * turned
        own = -(b + charging) * m.square[i]
        return m.flow[i, j, kind] == own + b * real - g * turned

    @m.Constraint(m.buses, ["active", "reactive"])
    def balance(m, i, kind):
        k = 0 if kind == "active" else 1
        made = (m.p, m.q)[k][i] if i in m.generators else 0.0
        taken = load * grid.load.get(i, (0.0, 0.0))[k]
        return made - taken == pyo.quicksum(
            m.flow[a, b, kind] for a, b in m.lines if a == i
        )

    @m.Constraint(m.lines)
    def limit(m, i, j):
        (most,) = (s for a, b, *_, s in grid.branches if {a, b} == {i, j})
        return m.flow[i, j, "active"] ** 2 + m.flow[i, j, "reactive"] ** 2 <= most**2

    def cost(g):
        quadratic, linear, constant = grid.generators[g][2]
        mw = BASE * m.p[g]
        return quadratic * mw**2 + linear * mw + constant

    m.cost = pyo.Objective(expr=pyo.quicksum(cost(g) for g in m.generators))
    return m


def _with_margin(grid: Grid, surrogate: Surrogate, seed: int, options: dict):
    load = 1.0 if seed == 0 else float(np.random.default_rng(seed).uniform(0.9, 1.05))
    m = power_flow(grid, load)
    making = [g for g in m.generators if m.p[g].ub > 0]
    for g, most in zip(making, surrogate.upper):
        m.p[g].setub(min(m.p[g].ub, most))
    m.stability = ReLUNetBlock(
        network=surrogate.network,
        inputs=[*(m.p[g] for g in making), *(m.square[g] for g in making)],
        **options,
    )
    m.stable = pyo.Constraint(expr=m.stability.outputs[0] >= KEPT[grid.buses])
    return m


def three_buses(seed: int = 0, **options: Any) -> pyo.ConcreteModel:
    """The cheapest dispatch of three buses that keeps a margin of stability."""
    return _with_margin(THREE, MARGIN_OF_TWO, seed, options)


def nine_buses(seed: int = 0, **options: Any) -> pyo.ConcreteModel:
    """The cheapest dispatch of nine buses that keeps a margin of stability."""
    return _with_margin(NINE, MARGIN_OF_THREE, seed, options)
