"""The record of what a formulation wrote: what counts as a change, and what doesn't."""

from __future__ import annotations

import pickle

import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from pyomo_relu.block import is_as_written
from tests.harness.random_networks import he_network

ALL = ("bigm", "hull", "partition", "cuts", "sos1", "complementarity", "disjunctive")


def model(formulation="bigm", sizes=(2, 5, 4, 1)):
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(sizes[0]), bounds=(-1, 1))
    net = he_network(0, sizes)
    m.net = ReLUNetBlock(network=net, inputs=m.x, formulation=formulation)
    m.obj = pyo.Objective(expr=m.net.outputs[0])
    return m


def found(m):
    return [(c.text, c.restricts) for c in m.net.changes()]


def free(m, integer=False):
    return next(v for v in m.net.layer_variables if v.is_integer() == integer)


def row(m):
    return next(m.net.layer["dense_1"].component_data_objects(pyo.Constraint))


@pytest.mark.parametrize("formulation", ALL)
def test_nothing_has_changed_in_what_was_just_written(formulation):
    m = model(formulation)
    assert is_as_written(m.net)
    assert is_as_written(m.clone().net)
    assert is_as_written(pickle.loads(pickle.dumps(m)).net)
    m.net.reformulate(formulation)
    assert is_as_written(m.net)


def test_values_and_what_is_outside_count_for_nothing():
    m = model()
    m.net.warm_start([0.1, -0.2])
    m.x[0].fix(0.3)
    m.x[1].setub(0.5)
    m.net.outputs[0].setub(0.1)
    m.net.row = pyo.Constraint(expr=m.net.outputs[0] + m.x[1] >= -5)
    m.row = pyo.Constraint(expr=free(m) <= 3)
    v = free(m)
    v.fix(0)
    v.unfix()
    row(m).deactivate()
    row(m).activate()
    str(row(m).expr)
    assert is_as_written(m.net)


@pytest.mark.parametrize(
    ("what", "restricts", "change"),
    [
        ("was fixed", True, lambda m: free(m).fix(0.1)),
        ("got a tighter bound", True, lambda m: free(m).setub(free(m).ub - 0.01)),
        ("got a tighter bound", True, lambda m: free(m).setlb(free(m).lb + 0.01)),
        ("was made integer", True, lambda m: setattr(free(m), "domain", pyo.Integers)),
        ("lost a bound", False, lambda m: free(m).setlb(None)),
        ("lost a bound", False, lambda m: free(m).setub(free(m).ub + 0.01)),
        (
            "was relaxed",
            False,
            lambda m: setattr(free(m, True), "domain", pyo.UnitInterval),
        ),
        ("was deactivated or removed", False, lambda m: row(m).deactivate()),
        (
            "was deactivated or removed",
            False,
            lambda m: m.net.layer["dense_1"].deactivate(),
        ),
        ("was deactivated or removed", False, lambda m: m.net.layer.deactivate()),
        (
            "was deactivated or removed",
            False,
            lambda m: m.net.layer["dense_1"].del_component("affine"),
        ),
        ("were removed", False, lambda m: m.net.del_component("layer")),
        ("was rewritten", False, lambda m: row(m).set_value(free(m) <= 0.2)),
        (
            "was added",
            True,
            lambda m: m.net.layer["relu_1"].add_component(
                "mine", pyo.Constraint(expr=free(m) <= 0.2)
            ),
        ),
        (
            "was added",
            False,
            lambda m: m.net.layer["relu_1"].add_component(
                "mine", pyo.Objective(expr=free(m))
            ),
        ),
    ],
)
def test_each_change_is_seen_and_stays_in_copies(what, restricts, change):
    m = model()
    change(m)
    for copy in (m, m.clone(), pickle.loads(pickle.dumps(m))):
        changes = found(copy)
        assert changes and all(r is restricts for _, r in changes)
        if what != "was deactivated or removed" or copy is m:
            assert any(what in text for text, _ in changes)
    if m.net.component("layer") is not None:
        m.net.reformulate("bigm")
        assert is_as_written(m.net)


def test_a_row_set_anew_to_what_it_said():
    m = model()
    low, body, high = row(m).to_bounded_expression(evaluate_bounds=True)
    row(m).set_value((low, 1.0 * body, high))
    assert is_as_written(m.net)
    row(m).set_value((2 * low, 2 * body, 2 * high))
    assert not is_as_written(m.net)


def test_lazy_rows_are_compared_too(monkeypatch):
    from pyomo_relu.programs import lazy_rows

    monkeypatch.setattr(lazy_rows, "LAZY_ABOVE", 1)
    m = model()
    lazy = [
        c
        for c in m.net.component_data_objects(pyo.Constraint)
        if isinstance(c, lazy_rows.LazyRow)
    ]
    assert lazy and is_as_written(m.clone().net)
    str(lazy[0].expr)  # becomes an ordinary row
    assert is_as_written(m.net) and is_as_written(m.clone().net)
    lazy[1].set_value(lazy[1].body == 7)
    assert [text for text, _ in found(m)] == [f"'{lazy[1].name}' was rewritten"]


def test_relaxing_and_taking_it_back():
    m = model()
    relax = pyo.TransformationFactory("core.relax_integer_vars")
    token = relax.apply_to(m)
    assert [r for _, r in found(m)] == [False]
    relax.apply_to(m, reverse=token)
    assert is_as_written(m.net)


@pytest.mark.parametrize("rename", [True, False])
@pytest.mark.parametrize("factor", [0.1, 10.0, -3.0])
def test_a_scaled_block(factor, rename):
    """Its rows hold; its box and its error are those of the network's own units."""
    m = model()
    m.net.warm_start([0.5, -0.25])
    m.scaling_factor = pyo.Suffix(direction=pyo.Suffix.EXPORT)
    m.scaling_factor[m.x[0]] = factor
    m.scaling_factor[m.net.outputs[0]] = 2.0
    scale = pyo.TransformationFactory("core.scale_model")
    s = scale.create_using(m, rename=rename)
    x = s.find_component("scaled_x" if rename else "x")[0]
    assert is_as_written(m.net) and not is_as_written(s.net)
    assert x.value == pytest.approx(0.5 * factor)
    s.net.check_box()
    assert s.net.error() < 1e-12
    assert s.net.evaluate() == pytest.approx(m.net.evaluate())
    with pytest.raises(ValueError, match="scale_model"):
        s.net.reformulate("bigm")
    with pytest.raises(ValueError, match="scale_model"):
        s.net.warm_start([0.0, 0.0])
    scale.apply_to(s.clone(), rename=False)
    # A second scaling replaces Pyomo's record of the first, but not the block's.
    s.scaling_factor.clear()
    s.scaling_factor.activate()
    s.scaling_factor[x] = 7.0
    scale.apply_to(s, rename=False)
    s.net.check_box()
    assert s.net.error() < 1e-12
    for row in s.net.component_data_objects(pyo.Constraint, active=True):
        assert row.slack() > -1e-6
    if factor > 0:
        x.setub(1.01 * x.ub)
    else:
        x.setlb(1.01 * x.lb)
    with pytest.raises(ValueError, match="before the model is scaled"):
        s.net.check_box()
    with pytest.raises(ValueError, match="widened"):
        pyo.SolverFactory("appsi_highs").solve(s)


def test_a_block_written_over_scaled_variables():
    """What was scaled before counts as it is."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var([0, 1], bounds=(-1, 1), initialize=0.5)
    m.scaling_factor = pyo.Suffix(direction=pyo.Suffix.EXPORT)
    m.scaling_factor[m.x[0]] = 10.0
    pyo.TransformationFactory("core.scale_model").apply_to(m, rename=False)
    m.net = ReLUNetBlock(network=he_network(0, (2, 4, 1)), inputs=m.x)
    assert is_as_written(m.net)
    m.net.warm_start([7.0, 0.5])
    assert m.net.evaluate() == pytest.approx(m.net.network.evaluate([7.0, 0.5]))
    m.net.reformulate("hull")


def test_scaled_expressions_as_inputs():
    m = pyo.ConcreteModel()
    m.x = pyo.Var([0, 1], bounds=(-1, 1), initialize=0.5)
    net = he_network(0, (1, 4, 1))
    m.net = ReLUNetBlock(network=net, inputs=[m.x[0] + 2 * m.x[1]])
    m.net.outputs[0].set_value(float(net.evaluate([1.5])[0]), skip_validation=True)
    m.scaling_factor = pyo.Suffix(direction=pyo.Suffix.EXPORT)
    m.scaling_factor[m.x[1]] = 0.1
    pyo.TransformationFactory("core.scale_model").apply_to(m)
    m.net.check_box()
    assert m.net.error() < 1e-12
    m.scaled_x[1].setub(0.2)
    with pytest.raises(ValueError, match="widened"):
        m.net.check_box()


def test_suffixes_forget_what_a_formulation_made():
    m = model()
    m.priority = pyo.Suffix()
    m.priority[free(m, True)] = 3
    m.priority[m.x[0]] = 5
    pyo.TransformationFactory("core.relax_integer_vars").apply_to(m.net)
    m.net.reformulate("hull")
    assert len(m.priority) == 1
    copy = m.clone()
    assert copy.priority[copy.x[0]] == 5
    pickle.dumps(m)


def test_a_bound_that_is_a_param_counts_by_its_value():
    m = model()
    m.top = pyo.Param(mutable=True, initialize=0.5)
    v = free(m)
    before = v.ub
    v.setub(m.top)
    assert is_as_written(m.net) == (before == 0.5)
    m.top.set_value(before)
    assert is_as_written(m.net)
    m.top.set_value(before + 1.0)
    assert found(m) == [(f"'{v.name}' lost a bound", False)]
