"""Networks wired into nonlinear models: products, powers, exponentials, sines.

As in :mod:`wired_models`, each function of :data:`MODELS` takes a seed and options of the
network blocks and returns a Pyomo model; the networks are the same for all seeds.
"""

from __future__ import annotations

from nonlinear_models import (
    arm,
    dispatch,
    mixing,
    pooling,
    portfolio,
    power_flow,
    pumps,
    reactor,
    tariffs,
)

MODELS = {
    "tariffs": tariffs.tariffs,
    "dispatch": dispatch.dispatch,
    "pooling": pooling.pooling,
    "mixing": mixing.mixing,
    "acopf3": power_flow.three_buses,
    "acopf9": power_flow.nine_buses,
    "arm": arm.arm,
    "portfolio": portfolio.portfolio,
    "reactor": reactor.reactor,
    "pumps": pumps.pumps,
}

__all__ = ["MODELS"]
