"""What users do to models and whole blocks: transformations, copies, inputs, outputs."""

from __future__ import annotations

import pickle

import numpy as np
import pyomo.environ as pyo
from pyomo.contrib.fbbt.fbbt import fbbt

from pyomo_relu import ReLUNetBlock
from pyomo_relu.formulations import network_blocks
from tests.harness.random_networks import random_network
from tests.solvers.edits import (
    NotHere,
    a_block,
    add,
    an_input,
    an_output,
    edit,
    objective,
    pick,
    span,
    transform,
)


# -------------------------------------------------------------------- transformations
@edit
def relax_integers(m, rng):
    transform("core.relax_integer_vars", m)


@edit
def relax_integers_and_back(m, rng):
    token = transform("core.relax_integer_vars", m)
    transform("core.relax_integer_vars", m, reverse=token)


@edit
def relax_one_block(m, rng):
    transform("core.relax_integer_vars", a_block(m, rng))


def _with_factors(m, rng) -> None:
    m.scaling_factor = pyo.Suffix(direction=pyo.Suffix.EXPORT)
    kinds = (pyo.Var, pyo.Constraint, pyo.Objective)
    for kind in kinds:
        for c in m.component_data_objects(kind):
            if rng.random() < 0.2:
                m.scaling_factor[c] = float(np.round(10 ** rng.uniform(-1, 1), 3))
    if rng.random() < 0.3:  # only the user's own
        for v in [v for b in network_blocks(m) for v in b.layer_variables]:
            m.scaling_factor.pop(v, None)


@edit
def scale_in_place(m, rng):
    if m.component("scaling_factor") is not None:
        m.del_component("scaling_factor")
    _with_factors(m, rng)
    transform("core.scale_model", m, rename=bool(rng.random() < 0.5))


@edit
def scale_a_copy(m, rng):
    if m.component("scaling_factor") is not None:
        m.del_component("scaling_factor")
    _with_factors(m, rng)
    scale = pyo.TransformationFactory("core.scale_model")
    try:
        return scale.create_using(m, rename=bool(rng.random() < 0.5))
    except TypeError:
        # Pyomo's clone takes the expression of a row on a deleted component away, and its
        # scaling then stumbles over that row.
        rows = m.clone().component_data_objects(pyo.Constraint)
        if all(row.expr is not None for row in rows):
            raise
        raise NotHere from None


@edit
def strip_bounds(m, rng):
    transform("contrib.strip_var_bounds", m, strip_domains=bool(rng.random() < 0.5))


@edit
def strip_bounds_and_back(m, rng):
    strip = pyo.TransformationFactory("contrib.strip_var_bounds")
    strip.apply_to(m, reversible=True)
    strip.revert(m)


@edit
def strip_bounds_of_one_block(m, rng):
    transform("contrib.strip_var_bounds", a_block(m, rng), strip_domains=False)


@edit
def detect_fixed(m, rng):
    transform("contrib.detect_fixed_vars", m)


@edit
def propagate_fixed(m, rng):
    transform("contrib.propagate_fixed_vars", m)


@edit
def propagate_bounds_of_equalities(m, rng):
    transform("contrib.propagate_eq_var_bounds", m)


@edit
def propagate_zero_sums(m, rng):
    transform("contrib.propagate_zero_sum", m)


@edit
def rows_to_bounds(m, rng):
    transform("contrib.constraints_to_var_bounds", m)


@edit
def deactivate_trivial(m, rng):
    transform("contrib.deactivate_trivial_constraints", m)


@edit
def midpoint_values(m, rng):
    transform("contrib.init_vars_midpoint", m)


@edit
def zero_values(m, rng):
    transform("contrib.init_vars_zero", m)


@edit
def remove_zero_terms(m, rng):
    transform("contrib.remove_zero_terms", m)


@edit
def aggregate(m, rng):
    transform("contrib.aggregate_vars", m)


@edit
def slacks_on_all_rows(m, rng):
    transform("core.add_slack_variables", m)


@edit
def slacks_on_some_rows(m, rng):
    rows = [c for c in m.component_objects(pyo.Constraint, active=True)]
    transform("core.add_slack_variables", m, targets=[pick(rng, rows)])


@edit
def tighten_bounds_by_rows(m, rng):
    fbbt(m)


@edit
def tighten_bounds_by_rows_of_a_block(m, rng):
    fbbt(a_block(m, rng))


@edit
def fix_integers(m, rng):
    for v in m.component_data_objects(pyo.Var):
        if v.is_integer() and v.value is None and not v.fixed:
            v.set_value(int(rng.integers(2)), skip_validation=True)
    transform("core.fix_integer_vars", m)


@edit
def integers_to_binaries(m, rng):
    transform("contrib.integer_to_binary", m)


@edit
def another_formulation_by_transformation(m, rng):
    transform(f"relu.{pick(rng, ('bigm', 'hull', 'partition', 'cuts'))}", m)


# --------------------------------------------------------------------- whole blocks
@edit
def reformulate_a_block(m, rng):
    a_block(m, rng).reformulate(pick(rng, ("bigm", "hull", "partition", "cuts")))


@edit
def relax_and_reformulate(m, rng):
    b = a_block(m, rng)
    transform("core.relax_integer_vars", b)
    b.reformulate("bigm")


@edit
def row_on_a_formulation_that_is_replaced(m, rng):
    b = a_block(m, rng)
    v = pick(rng, b.layer_variables)
    row = pyo.Constraint(expr=v + an_input(m, rng) <= float(rng.normal()))
    add(m, row)
    b.reformulate("bigm")


@edit
def tighten_a_block(m, rng):
    a_block(m, rng).tighten("crown")


@edit
def tighten_with_the_model(m, rng):
    a_block(m, rng).tighten("model")


@edit
def delete_a_block(m, rng):
    b = a_block(m, rng).parent_component()
    b.parent_block().del_component(b)


@edit
def another_block_of_the_same_name(m, rng):
    b = a_block(m, rng).parent_component()
    holder, name, entries = b.parent_block(), b.local_name, list(b.entries)
    holder.del_component(b)
    net = random_network(rng, n_inputs=len(entries), widths=[3], n_outputs=1)
    holder.add_component(name, ReLUNetBlock(network=net, inputs=entries, bounds="crown"))


@edit
def output_of_another_model(m, rng):
    other = m.clone()
    y = an_output(other, rng)
    add(m, pyo.Constraint(expr=an_input(m, rng) + y <= 2.0))
    m._kept = [other]


@edit
def add_an_indexed_block(m, rng):
    x = an_input(m, rng)
    net = random_network(rng, n_inputs=1, widths=[3], n_outputs=1)
    block = ReLUNetBlock([0, 1], network=net, inputs=lambda b, k: [(0.5 + k) * x])
    add(m, block, "indexed")
    o = objective(m)
    o.set_value(o.expr + 0.3 * block[0].outputs[0] - 0.2 * block[1].outputs[0])


@edit
def add_a_block_in_a_block(m, rng):
    x = an_input(m, rng)
    unit = pyo.Block()
    add(m, unit, "unit")
    net = random_network(rng, n_inputs=1, widths=[3], n_outputs=1)
    unit.net = ReLUNetBlock(network=net, inputs=[x], formulation="hull")
    o = objective(m)
    o.set_value(o.expr + 0.4 * unit.net.outputs[0])


@edit
def deactivate_what_holds_a_block(m, rng):
    holders = [b for b in m.component_data_objects(pyo.Block, descend_into=False)]
    found = [b for b in holders if b.component("net") is not None and b.active]
    pick(rng, found).deactivate()


@edit
def a_bound_that_is_a_parameter(m, rng):
    x = an_input(m, rng)
    low, high = span(x)
    p = pyo.Param(initialize=high, mutable=True)
    add(m, p)
    x.setub(p)
    p.set_value(high + float(rng.choice([-0.2 * (high - low), 0.0, 0.5])))


@edit
def domain_of_an_input(m, rng):
    an_input(m, rng).domain = pyo.NonNegativeReals


@edit
def replace_a_network(m, rng):
    b = a_block(m, rng)
    net = random_network(
        rng, n_inputs=len(b.entries), widths=[3], n_outputs=len(b.output_variables)
    )
    b.replace_network(net)


@edit
def relax_a_block_and_tighten_another(m, rng):
    transform("core.relax_integer_vars", a_block(m, rng))
    a_block(m, rng).tighten("model")


@edit
def disjunctions(m, rng):
    a_block(m, rng).reformulate("disjunctive", transformation="gdp.bigm")


@edit
def disjunctions_transformed_by_the_user(m, rng):
    a_block(m, rng).reformulate("disjunctive", transformation=None)
    transform("gdp.hull" if rng.random() < 0.5 else "gdp.bigm", m)


@edit
def deactivate_a_block(m, rng):
    a_block(m, rng).deactivate()


@edit
def deactivate_and_activate_a_block(m, rng):
    b = a_block(m, rng)
    b.deactivate()
    b.activate()


@edit
def copy_the_model(m, rng):
    return m.clone()


@edit
def pickle_the_model(m, rng):
    return pickle.loads(pickle.dumps(m))


@edit
def copy_one_block(m, rng):
    b = a_block(m, rng)
    if not isinstance(b, pyo.Block):
        raise NotHere
    copy = b.clone()
    add(m, copy, "copied")
    o = objective(m)
    o.set_value(o.expr + 0.2 * next(iter(copy.component("outputs").values())))


# ------------------------------------------------------------------ inputs and outputs
@edit
def fix_an_output(m, rng):
    y = an_output(m, rng)
    low, high = span(y)
    y.fix(low + float(rng.uniform(0.3, 0.7)) * (high - low))


@edit
def bound_an_output(m, rng):
    y = an_output(m, rng)
    low, high = span(y)
    y.setub(low + float(rng.uniform(0.3, 0.9)) * (high - low))


@edit
def loosen_an_output(m, rng):
    y = an_output(m, rng)
    y.setlb(None)
    y.setub(None)


@edit
def integer_output(m, rng):
    an_output(m, rng).domain = pyo.Integers


@edit
def fix_an_input(m, rng):
    x = an_input(m, rng)
    low, high = span(x)
    x.fix(low if x.is_integer() else low + float(rng.uniform(0, 1)) * (high - low))


@edit
def fix_an_input_outside(m, rng):
    x = an_input(m, rng)
    low, high = span(x)
    x.fix(high + 1 + (high - low), skip_validation=True)


@edit
def widen_an_input(m, rng):
    x = an_input(m, rng)
    _, high = span(x)
    x.setub(high + 1.0)


@edit
def widen_an_input_and_write_anew(m, rng):
    x = an_input(m, rng)
    _, high = span(x)
    x.setub(high + 1.0)
    for b in network_blocks(m):
        b.reformulate("bigm")


@edit
def narrow_an_input(m, rng):
    x = an_input(m, rng)
    low, high = span(x)
    x.setub(high - 0.3 * (high - low) if not x.is_integer() else high - 1)


@edit
def integer_input(m, rng):
    an_input(m, rng).domain = pyo.Integers


@edit
def unfix_everything(m, rng):
    for v in m.component_data_objects(pyo.Var):
        v.unfix()


@edit
def set_an_input_expression(m, rng):
    found = [
        e
        for e in a_block(m, rng).entries
        if not isinstance(e, float) and e.is_named_expression_type()
    ]
    e = pick(rng, found)
    e.set_value(0.5 * e.expr)


@edit
def warm_start_values(m, rng):
    for b in network_blocks(m):
        x = np.zeros(b.network.n_inputs)
        for i, e in enumerate(b.entries):
            x[i] = e if isinstance(e, float) else pyo.value(e, exception=False) or 0.0
        b.warm_start(x)
