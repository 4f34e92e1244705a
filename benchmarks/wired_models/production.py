"""Oil production of Grimstad and Andersson: eight wells, two risers, routing.

Source: Grimstad, Andersson, *ReLU networks as surrogate models in mixed-integer linear
programs*, Computers and Chemical Engineering 131, 2019 (arXiv 1907.03140), section 5. The
networks are theirs, from the repository relu-opt-public (MIT licence, beside the data);
the model is written anew. A well's network gives its oil rate by its wellhead pressure
(1-20-20-1); a riser's network gives the pressure at the separator, which is fixed, by the
rates of oil, gas and water and the pressure upstream (4-50-50-1). Each well is routed to
one riser or shut; rates balance; gas is limited; oil is maximized. Pressures are in 100
bar, rates in 100,000 barrels a day.

The best value known is 1.286386, proved to 1e-4.
"""

from __future__ import annotations

from typing import Any

import pyomo.environ as pyo

from pyomo_relu import ReLUNetBlock
from wired_models.networks import stored

WELLS, RISERS, PHASES = range(8), range(2), ("oil", "gas", "water")
#: Gas by oil of each well, and its water cut in percent.
GAS = [1.053, 0.805, 0.789, 0.790, 0.633, 0.745, 0.742, 0.759]
WATER_CUT = [12.7, 23.7, 41.7, 55.4, 54.81, 27.0, 0.0, 0.0]
#: The highest pressure and oil rate of each well, and the lowest pressure of all.
WELL_PRESSURE = [1.65329, 1.55873, 1.76193, 1.51174, 1.44545, 1.32290, 1.62300, 1.24020]
WELL_OIL = [0.240734, 0.284504, 0.190091, 0.162084, 0.090637, 0.232649, 0.269781, 0.323648]
LEAST_PRESSURE = 0.3
#: The box of each riser's network, and the pressure of each separator.
RISER = {"oil": (0.04, 1.6), "gas": (0.024, 1.92), "water": (0.0, 0.96)}
RISER_PRESSURE = (0.299867, 2.09987)
SEPARATOR = [0.20, 0.30]
#: What the plant takes of gas, and the most that a choke takes of the pressure.
MOST_GAS, MOST_DROP = 3.40, 2.2


def by_oil(well: int, phase: str) -> float:
    """Rate of a phase by the oil rate of a well."""
    if phase == "oil":
        return 1.0
    cut = WATER_CUT[well]
    return GAS[well] if phase == "gas" else cut / (100 - cut)


def production(seed: int = 0, **options: Any) -> pyo.ConcreteModel:
    """The model; there is one set of data, so the seed says nothing."""
    m = pyo.ConcreteModel("production")
    m.wellhead = pyo.Var(WELLS, bounds=lambda m, i: (LEAST_PRESSURE, WELL_PRESSURE[i]))

    def most(m, i, *where):
        return (0, WELL_OIL[i] * by_oil(i, where[-1]))

    m.rate = pyo.Var(WELLS, PHASES, bounds=most)
    m.to = pyo.Var(WELLS, RISERS, PHASES, bounds=most)
    m.open = pyo.Var(WELLS, RISERS, domain=pyo.Binary)
    m.drop = pyo.Var(WELLS, RISERS, bounds=(0, MOST_DROP))
    m.flow = pyo.Var(RISERS, PHASES, bounds=lambda m, r, p: RISER[p])
    m.pressure = pyo.Var(RISERS, bounds=RISER_PRESSURE)

    m.well = ReLUNetBlock(
        WELLS,
        network={i: stored("production", f"well{i + 1}") for i in WELLS},
        inputs=lambda m, i: [m.wellhead[i]],
        **options,
    )
    m.riser = ReLUNetBlock(
        RISERS,
        network=stored("production", "flowline1"),
        inputs=lambda m, r: [*(m.flow[r, p] for p in PHASES), m.pressure[r]],
        **options,
    )

    @m.Constraint(WELLS)
    def well_gives(m, i):
        return m.well[i].outputs[0] == m.rate[i, "oil"]

    @m.Constraint(RISERS)
    def riser_ends(m, r):
        return m.riser[r].outputs[0] == SEPARATOR[r]

    @m.Constraint(WELLS, ["gas", "water"])
    def with_the_oil(m, i, p):
        return m.rate[i, p] == by_oil(i, p) * m.rate[i, "oil"]

    @m.Constraint(WELLS, PHASES)
    def split(m, i, p):
        return m.rate[i, p] == pyo.quicksum(m.to[i, r, p] for r in RISERS)

    @m.Constraint(WELLS)
    def one_riser(m, i):
        return m.open[i, 0] + m.open[i, 1] <= 1

    @m.Constraint(WELLS, RISERS, PHASES)
    def only_where_open(m, i, r, p):
        return m.to[i, r, p] <= most(m, i, p)[1] * m.open[i, r]

    @m.Constraint(RISERS, PHASES)
    def gathered(m, r, p):
        return m.flow[r, p] == pyo.quicksum(m.to[i, r, p] for i in WELLS)

    # An open well's pressure is that of its riser and the drop of its choke.
    @m.Constraint(WELLS, RISERS, ["above", "below"])
    def pressures(m, i, r, side):
        own, spread = m.wellhead[i], RISER_PRESSURE[1] - RISER_PRESSURE[0]
        slack = (WELL_PRESSURE[i] - LEAST_PRESSURE + spread) * (1 - m.open[i, r])
        gap = own - m.pressure[r] - m.drop[i, r]
        return gap <= slack if side == "above" else gap >= -slack

    m.gas = pyo.Constraint(expr=pyo.quicksum(m.flow[r, "gas"] for r in RISERS) <= MOST_GAS)
    m.oil = pyo.Objective(
        expr=pyo.quicksum(m.flow[r, "oil"] for r in RISERS), sense=pyo.maximize
    )
    return m
