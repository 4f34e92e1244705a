"""What users do inside a network block: variables, rows with them, written rows."""

from __future__ import annotations

import pyomo.environ as pyo

from pyomo_relu import ReLUNetBlock
from tests.harness.random_networks import random_network
from tests.solvers.edits import (
    NotHere,
    a_block,
    add,
    an_input,
    edit,
    inner,
    is_binary,
    objective,
    pick,
    span,
    written_row,
)


# ------------------------------------------------------------- variables inside a block
@edit
def fix_a_binary_inside(m, rng):
    inner(m, rng, is_binary).fix(int(rng.integers(2)))


@edit
def fix_a_neuron(m, rng):
    v = inner(m, rng, lambda v: v.is_continuous())
    low, high = span(v)
    v.fix(low + 0.5 * (high - low))


@edit
def fix_and_free_a_neuron(m, rng):
    v = inner(m, rng)
    v.fix(0)
    v.unfix()


@edit
def lower_an_upper_bound_inside(m, rng):
    v = inner(m, rng)
    low, high = span(v)
    v.setub(low + float(rng.uniform(0, 0.9)) * (high - low))


@edit
def raise_a_lower_bound_inside(m, rng):
    v = inner(m, rng)
    low, high = span(v)
    v.setlb(low + float(rng.uniform(0.1, 1)) * (high - low))


@edit
def loosen_bounds_inside(m, rng):
    v = inner(m, rng, lambda v: v.is_continuous())
    v.setlb(None if rng.random() < 0.5 else -50.0)
    v.setub(None if rng.random() < 0.5 else 50.0)


@edit
def relax_one_binary(m, rng):
    v = inner(m, rng, is_binary)
    v.domain = pyo.Reals
    v.setlb(0)
    v.setub(1)


@edit
def make_a_neuron_integer(m, rng):
    inner(m, rng, lambda v: v.is_continuous()).domain = pyo.Integers


@edit
def fix_through_a_reference(m, rng):
    layers = a_block(m, rng).component("layer")
    layer = pick(rng, [k for k in layers.values() if k.component("out") is not None])
    v = pick(rng, pyo.Reference(layer.out).values())
    v.setub(0.5 * v.ub if v.ub is not None and v.ub > 0 else v.ub)


# ----------------------------------------------------------- rows with what is inside
@edit
def row_on_binaries(m, rng):
    found = [v for v in a_block(m, rng).layer_variables if v.is_integer()]
    if not found:
        raise NotHere
    add(m, pyo.Constraint(expr=sum(found) <= int(rng.integers(len(found) + 1))))


@edit
def row_on_a_neuron_and_an_input(m, rng):
    v = inner(m, rng, lambda v: v.is_continuous())
    add(m, pyo.Constraint(expr=v + an_input(m, rng) <= float(rng.normal())))


@edit
def a_neuron_in_the_objective(m, rng):
    o = objective(m)
    o.set_value(o.expr + float(rng.normal()) * inner(m, rng))


@edit
def a_network_reads_a_neuron(m, rng):
    v = inner(m, rng, lambda v: v.is_continuous())
    span(v)
    net = random_network(rng, n_inputs=1, widths=[3], n_outputs=1)
    block = ReLUNetBlock(network=net, inputs=[v])
    add(m, block, "reader")
    o = objective(m)
    o.set_value(o.expr + 0.3 * block.outputs[0])


@edit
def row_added_to_the_block(m, rng):
    b = a_block(m, rng)
    y = pick(rng, b.component("outputs").values())
    low, high = span(y)
    add(b, pyo.Constraint(expr=y <= low + float(rng.uniform(0.2, 1)) * (high - low)))


@edit
def row_added_to_a_layer(m, rng):
    b = a_block(m, rng)
    layer = pick(rng, b.component("layer").values())
    y = pick(rng, b.component("outputs").values())
    low, high = span(y)
    add(layer, pyo.Constraint(expr=y >= low + float(rng.uniform(0, 0.7)) * (high - low)))


@edit
def objective_in_a_layer(m, rng):
    b = a_block(m, rng)
    o, x = objective(m), an_input(m, rng)
    o.deactivate()
    add(
        pick(rng, b.component("layer").values()),
        pyo.Objective(expr=o.expr + 0.1 * x, sense=o.sense),
    )


@edit
def special_ordered_set_inside(m, rng):
    found = [v for v in a_block(m, rng).layer_variables if v.is_integer()][:3]
    if len(found) < 2:
        raise NotHere
    add(m, pyo.SOSConstraint(rule=lambda _: (found, [1, 2, 3][: len(found)]), sos=1))


@edit
def product_with_a_neuron(m, rng):
    add(m, pyo.Constraint(expr=inner(m, rng) * an_input(m, rng) <= 1))


# --------------------------------------------------------------------- written rows
@edit
def deactivate_a_written_row(m, rng):
    written_row(m, rng).deactivate()


@edit
def deactivate_and_activate_a_row(m, rng):
    row = written_row(m, rng)
    was = row.active
    row.deactivate()
    if was:
        row.activate()


@edit
def deactivate_a_layer(m, rng):
    pick(rng, a_block(m, rng).component("layer").values()).deactivate()


@edit
def deactivate_all_layers(m, rng):
    a_block(m, rng).component("layer").deactivate()


@edit
def delete_a_written_component(m, rng):
    row = written_row(m, rng).parent_component()
    row.parent_block().del_component(row)


@edit
def change_a_written_row(m, rng):
    row = written_row(m, rng)
    low, body, high = row.to_bounded_expression(evaluate_bounds=True)
    shift = float(rng.uniform(-0.3, 0.3))
    if low is not None and high is not None:
        row.set_value((low + shift, body, high + shift))
    elif high is not None:
        row.set_value((None, body, high + shift))
    else:
        row.set_value((low + shift, body, None))


@edit
def multiply_a_written_row(m, rng):
    row = written_row(m, rng)
    low, body, high = row.to_bounded_expression(evaluate_bounds=True)
    if low is not None and high is not None:
        row.set_value((3.0 * low, 3.0 * body, 3.0 * high))
    elif high is not None:
        row.set_value((None, 3.0 * body, 3.0 * high))


@edit
def read_the_expressions(m, rng):
    for row in m.component_data_objects(pyo.Constraint, active=True):
        str(row.expr)
