"""Everything a formulation must pass, a user's own included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyomo.environ as pyo

from pyomo_relu import ReLUNetBlock
from pyomo_relu.network import Network
from tests.harness.checks import assert_embedding_matches, assert_optimum_matches
from tests.harness.random_networks import random_network


def primitive_network(name: str, seed: int, n_inputs: int = 2) -> Network:
    """A small random network of one activation, or with maxima (``"max"``)."""
    rng = np.random.default_rng(seed)
    if name == "max":
        return random_network(rng, n_inputs=n_inputs, widths=(4, 3), max_pool=True)
    return random_network(rng, n_inputs=n_inputs, widths=(3, 2), activations=[name])


def boxed_model(net: Network, low=-1.0, high=1.0, formulation: Any = "bigm", **options):
    """A model with the inputs ``x`` in a box and the block ``net``; no objective."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(net.n_inputs))
    for i in m.x:
        m.x[i].setlb(float(np.broadcast_to(low, net.n_inputs)[i]))
        m.x[i].setub(float(np.broadcast_to(high, net.n_inputs)[i]))
    m.net = ReLUNetBlock(network=net, inputs=m.x, formulation=formulation, **options)
    return m


def assert_formulation_exact(
    formulation: Any,
    primitives: Sequence[str] = ("relu", "leaky_relu", "clip", "step", "pwl", "max"),
    *,
    solver: str = "appsi_highs",
    solver_options: dict | None = None,
    seeds: Sequence[int] = (0, 1),
    tolerance: float = 1e-6,
    **options: Any,
) -> None:
    """A formulation describes the network and nothing else, whatever the primitive.

    On random networks of one and two inputs: with the inputs fixed the outputs are the
    network's, optima equal the exact ones over all linear regions, and after
    ``warm_start`` every constraint and bound holds.

    Parameters
    ----------
    formulation : str or Formulation
        Registered name, or the object itself.
    primitives : sequence of str
        Of :data:`tests.harness.random_networks.ALL_ACTIVATIONS`, and ``"max"``.
    solver, solver_options, tolerance
        As in :func:`tests.harness.checks.assert_optimum_matches`.
    seeds : sequence of int
        One network for each; the even ones have one input.
    **options
        Of the formulation.
    """
    for name in primitives:
        for seed in seeds:
            net = primitive_network(name, seed, 1 + seed % 2)
            m = boxed_model(net, -1.0, 1.0, formulation, **options)
            what = {"solver": solver, "options": solver_options, "tolerance": tolerance}
            assert_optimum_matches(m, m.net, objectives=[0], samples=300, **what)
            assert_embedding_matches(m, m.net, **what)
            assert_values_hold(m)


def assert_values_hold(m, count: int = 3, seed: int = 0) -> None:
    """After ``warm_start`` at random points everything in the model holds."""
    rng = np.random.default_rng(seed)
    low, high = m.net.bounds.input_box
    for x in rng.uniform(low, high, (count, len(low))):
        y = m.net.warm_start(x)
        assert violations(m) == []
        assert np.array_equal(y, m.net.network.evaluate(x))


def violations(m, tolerance: float = 1e-6) -> list[str]:
    """Constraints, bounds, domains and SOS conditions that the present values break."""
    found = []
    for c in m.component_data_objects(pyo.Constraint, active=True):
        body = pyo.value(c.body)
        scale = max(1.0, abs(body))
        if (c.lower is not None and body < pyo.value(c.lower) - tolerance * scale) or (
            c.upper is not None and body > pyo.value(c.upper) + tolerance * scale
        ):
            found.append(f"{c.name}: {body}")
    for v in m.component_data_objects(pyo.Var):
        if v.value is None:
            found.append(f"{v.name} has no value")
            continue
        scale = max(1.0, abs(v.value))
        if v.lb is not None and v.value < v.lb - tolerance * scale:
            found.append(f"{v.name} = {v.value} < {v.lb}")
        if v.ub is not None and v.value > v.ub + tolerance * scale:
            found.append(f"{v.name} = {v.value} > {v.ub}")
        if v.is_binary() and abs(v.value - round(v.value)) > tolerance:
            found.append(f"{v.name} = {v.value} isn't binary")
    for s in m.component_data_objects(pyo.SOSConstraint, active=True):
        where = [k for k, (v, _) in enumerate(s.get_items()) if abs(v.value) > tolerance]
        if where and (len(where) > s.level or where[-1] - where[0] >= s.level):
            found.append(f"{s.name}: {where}")
    return found
