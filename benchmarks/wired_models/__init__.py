"""Networks wired into larger models: rows, integers, many blocks, nonlinear terms.

Each function of :data:`MODELS` takes a seed and options of the network blocks
(``formulation=``, ``bounds=``, ...) and returns a Pyomo model. The data are synthetic and
drawn from the seed; the networks are the same for all seeds. Every file is one decision,
written as its users would write it: variables and rows in Pyomo, a network block where a
function is only known by data.
"""

from __future__ import annotations

from wired_models import (
    chillers,
    control,
    counterfactuals,
    facilities,
    flowsheet,
    food,
    gas_lift,
    ordering,
    pricing,
    production,
    reformers,
    scenarios,
    security,
    students,
)

MODELS = {
    "student250": students.scholarships,
    "price_nl": pricing.prices_and_supply,
    "price_grid": pricing.prices_of_a_grid,
    "pricing20": pricing.rivals,
    "wfp_1x50": food.one_layer,
    "wfp_2x30": food.two_layers,
    "reformers4": reformers.reformers,
    "mpc10": control.states_as_variables,
    "mpc10d": control.states_as_outputs,
    "plant24": chillers.day,
    "neur2sp": facilities.facilities,
    "secure_uc": security.unit_commitment,
    "flowsheet": flowsheet.flowsheet,
    "gaslift17": gas_lift.pressures_as_variables,
    "gaslift17d": gas_lift.pressures_as_expressions,
    "qnet8": ordering.ordering,
    "counterfactual": counterfactuals.counterfactual,
    "cvar20": scenarios.worst_seasons,
    "production": production.production,
}

__all__ = ["MODELS"]
