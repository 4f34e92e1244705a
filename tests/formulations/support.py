"""Single neurons and their LP relaxations."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
from pyomo.contrib.appsi.solvers import Highs

from pyomo_relu import NetworkBuilder, activations
from pyomo_relu.network import Network


def neuron(weights, bias: float, pieces=None) -> Network:
    """One neuron whose output is the network's."""
    b = NetworkBuilder()
    x = b.input("x", (len(weights),))
    h = b.affine("pre", [(x, np.atleast_2d(weights))], [bias])
    return b.build([b.piecewise("unit", h, pieces or activations.relu())])


def maximum(weights, bias) -> Network:
    """The maximum of the rows of an affine map."""
    b = NetworkBuilder()
    x = b.input("x", (np.shape(weights)[1],))
    h = b.affine("pre", [(x, weights)], bias)
    return b.build([b.max("unit", h, [list(range(len(bias)))])])


def relaxed_minima(m, directions) -> np.ndarray:
    """Minima of the LP relaxation, for rows of coefficients of (inputs, outputs)."""
    for v in m.component_data_objects(pyo.Var):
        if v.is_integer() or v.is_binary():
            low, high = v.bounds
            v.domain = pyo.Reals
            v.setlb(low)
            v.setub(high)
    terms = [*m.x.values(), *m.net.outputs.values()]
    solver = Highs()
    solver.highs_options = {
        "primal_feasibility_tolerance": 1e-10,
        "dual_feasibility_tolerance": 1e-10,
    }
    # An instance kept between solves starts each LP from the last one's basis.
    found = []
    m.direction = pyo.Objective(expr=0.0)
    for c in np.atleast_2d(directions):
        m.direction.set_value(pyo.quicksum(float(a) * v for a, v in zip(c, terms)))
        solver.solve(m)
        found.append(pyo.value(m.direction))
    m.del_component("direction")
    return np.array(found)
