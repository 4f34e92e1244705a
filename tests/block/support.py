"""Small models around one block, and their optima."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import NetworkBuilder, ReLUNetBlock, activations
from pyomo_relu.network import Network
from tests.harness.checks import without_log
from tests.harness.random_networks import random_network


def dense(layers) -> Network:
    """Affine layers ``(weights, bias)`` with ReLU between them."""
    b = NetworkBuilder()
    v = b.input("x", (np.shape(layers[0][0])[1],))
    for k, (w, c) in enumerate(layers):
        v = b.affine(f"h{k}", [(v, np.asarray(w, float))], np.asarray(c, float))
        if k < len(layers) - 1:
            v = b.piecewise(f"r{k}", v, activations.relu())
    return b.build([v])


def small_network(
    rng: np.random.Generator, n_inputs: int = 2, n_outputs: int = 2
) -> Network:
    """A random network of one or two small layers, some with maxima or other functions."""
    depth = int(rng.integers(1, 3))
    kinds = ("relu", "leaky_relu", "clip", "abs", "hard_tanh")
    return random_network(
        rng,
        n_inputs=n_inputs,
        n_outputs=n_outputs,
        widths=tuple(rng.integers(2, 5, depth).tolist()),
        activations=[kinds[int(rng.integers(len(kinds)))] for _ in range(depth)],
        max_pool=bool(rng.random() < 0.2),
        residual=bool(rng.random() < 0.2),
    )


def wired(net: Network, formulation: Any = "bigm", low=-1.0, high=1.0, **options: Any):
    """Inputs in a box, a row on an output, an objective with both."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(net.n_inputs), bounds=(low, high))
    m.net = ReLUNetBlock(network=net, inputs=m.x, formulation=formulation, **options)
    first, last = m.net.outputs[0], m.net.outputs[net.n_outputs - 1]
    m.row = pyo.Constraint(expr=last - m.x[0] <= 2.0)
    m.obj = pyo.Objective(expr=first + 0.3 * m.x[0], sense=pyo.maximize)
    return m


def optimum(m, solver: str = "appsi_highs") -> float | None:
    """The optimal value, by a new solver; None if there is no solution.

    HiGHS by itself stops at a gap of 1e-4, within which two right answers may differ.
    """
    tool = pyo.SolverFactory(solver)
    if not tool.available(exception_flag=False):
        pytest.skip(f"the solver '{solver}' is not available")
    without_log(tool, solver)
    if solver == "appsi_highs":
        tool.options["mip_rel_gap"] = 1e-9
    if solver == "cbc":  # else CBC 2.10 calls some feasible models infeasible
        tool.options.update({"preprocess": "off", "cuts": "off"})
    try:
        pyo.assert_optimal_termination(tool.solve(m))
    except RuntimeError as e:
        assert "feasible solution was not found" in str(e)
        return None
    return pyo.value(next(m.component_data_objects(pyo.Objective, active=True)))
