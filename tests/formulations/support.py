"""Single neurons, their LP relaxations, and points at which a model must hold."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
from pyomo.contrib.appsi.solvers import Highs

from pyomo_relu import NetworkBuilder, ReLUNetBlock, activations
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


def model_of(net: Network, low=-1.0, high=1.0, formulation="bigm", **options):
    """A model of a network over a box, without an objective."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(net.n_inputs))
    for i in m.x:
        m.x[i].setlb(float(np.broadcast_to(low, net.n_inputs)[i]))
        m.x[i].setub(float(np.broadcast_to(high, net.n_inputs)[i]))
    m.net = ReLUNetBlock(network=net, inputs=m.x, formulation=formulation, **options)
    return m


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
