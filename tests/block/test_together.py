"""Many blocks of one component: what is computed once, and what a rule may look at."""

from __future__ import annotations

import pickle

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.dae import ContinuousSet

from pyomo_relu import ReLUNetBlock, compute_bounds
from pyomo_relu.bounds import many_boxes
from pyomo_relu.formulations import BigM
from pyomo_relu.presolve import input_values, model_scope
from tests.block.support import dense, optimum, small_network
from tests.formulations.test_swap import lp_text
from tests.harness.random_networks import he_network


@pytest.fixture
def batches(monkeypatch):
    """How many boxes are bounded in each call."""
    sizes = []
    real = many_boxes.bounds_over_boxes

    def counted(network, lower, upper, method=None):
        sizes.append(len(lower))
        return real(network, lower, upper, method)

    monkeypatch.setattr(many_boxes, "bounds_over_boxes", counted)
    return sizes


def model(n=6, network=None, **options):
    """Blocks whose boxes all differ, but for the last two."""
    network = he_network(0, [2, 8, 1]) if network is None else network
    m = pyo.ConcreteModel()
    m.i = pyo.RangeSet(0, n - 1)
    m.x = pyo.Var(m.i, [0, 1], bounds=(-1, None))
    for (i, j), v in m.x.items():
        v.setub(0.1 * min(i, n - 2) + j)
    m.net = ReLUNetBlock(
        m.i, network=network, inputs=lambda m, i: [m.x[i, 0], m.x[i, 1]], **options
    )
    m.obj = pyo.Objective(expr=sum(b.outputs[0] for b in m.net.values()))
    return m


@pytest.mark.parametrize("bounds", [None, "interval", ("boxes", {"count": 20}), "lp"])
def test_all_boxes_go_in_one_batch(batches, bounds):
    m = model(bounds=bounds)
    assert batches == [5]  # two boxes are equal
    assert m.net[4].bounds is m.net[5].bounds is not m.net[3].bounds
    for b in m.net.values():
        alone = compute_bounds(b.network, *b.present_box(), bounds)
        for x, y in zip(alone.upper, b.bounds.upper):
            assert y == pytest.approx(x, rel=1e-12, abs=1e-14)
        assert b.bounds.method == alone.method
        assert b.written_output_bounds[1] == b.bounds.outputs[1].tolist()
    assert m.net.statistics().bound_seconds > 0


def test_the_same_model_as_block_by_block():
    together = model()
    apart = pyo.ConcreteModel()
    apart.x = pyo.Reference(together.x)
    network = together.net[0].network
    for i in together.i:
        inputs = [together.x[i, 0], together.x[i, 1]]
        apart.add_component(f"net{i}", ReLUNetBlock(network=network, inputs=inputs))
    for i in together.i:
        one, other = together.net[i], apart.component(f"net{i}")
        rows = [list(b.component_data_objects(pyo.Constraint)) for b in (one, other)]
        assert [r.local_name for r in rows[0]] == [r.local_name for r in rows[1]]
        assert one.statistics().binaries == other.statistics().binaries
    assert optimum(together) == pytest.approx(
        sum(optimum_of(apart, i) for i in together.i), abs=1e-6
    )


def optimum_of(m, i):
    for block in m.component_objects(pyo.Block, descend_into=False):
        block.deactivate()
    block = m.component(f"net{i}")
    block.activate()
    m.del_component("obj")
    m.obj = pyo.Objective(expr=block.outputs[0])
    return optimum(m)


def test_networks_of_a_mapping_are_batched_by_what_they_are(batches):
    a, b = he_network(0, [2, 8, 1]), he_network(1, [2, 8, 1])
    again = he_network(0, [2, 8, 1])
    m = model(network={0: a, 1: b, 2: again, 3: b, 4: a, 5: again})
    assert sorted(batches) == [2, 3]
    assert m.net[2].network is again and m.net[3].network is b
    assert m.net[0].bounds.method == m.net[1].bounds.method == "crown"


def test_writing_anew_computes_nothing_that_is_known(batches):
    m = model()
    known = {i: b.bounds for i, b in m.net.items()}
    m.net.reformulate("hull")
    m.net[2].reformulate("bigm")
    assert batches == [5] and all(m.net[i].bounds is b for i, b in known.items())
    m.x[:, 0].setub(0.05)  # tighter for all but the first
    m.net.reformulate("bigm")
    assert batches[1:] and sum(batches) == 5 + batches[1]
    m.net.reformulate(bounds="interval")
    m.net.replace_network(he_network(3, [2, 8, 1]))
    assert len(batches) == 4 and optimum(m) is not None


def test_an_error_names_the_index_and_leaves_the_model():
    network = he_network(0, [1, 8, 1])
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(4), bounds=(0, 1))
    m.x[2].setub(None)
    with pytest.raises(ValueError, match=r"net\[2\].*'x\[2\]'.*no finite upper"):
        m.net = ReLUNetBlock(range(4), network=network, inputs=lambda m, i: [m.x[i]])
    assert m.component("net") is None
    m.x[2].setub(3)
    wrong = compute_bounds(network, 0, 1)
    with pytest.raises(ValueError, match=r"net\[2\].*smaller box"):
        m.net = ReLUNetBlock(
            range(4), network=network, inputs=lambda m, i: [m.x[i]], bounds=wrong
        )
    with pytest.raises(ValueError, match=r"net\[1\].*holds 'no'"):
        m.net = ReLUNetBlock(
            range(4), network=network, inputs=lambda m, i: ["no"] if i == 1 else [m.x[i]]
        )
    m.net = ReLUNetBlock(range(4), network=network, inputs=lambda m, i: [m.x[i]])
    assert len(m.net) == 4


def test_a_failure_while_writing_leaves_no_block(monkeypatch):
    real, count = BigM.write_piecewise, []

    def fail(self, layer):
        count.append(1)
        if len(count) == 3:
            raise ValueError("no")
        real(self, layer)

    monkeypatch.setattr(BigM, "write_piecewise", fail)
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(5), [0, 1], bounds=(-1, 1))
    with pytest.raises(ValueError, match="no"):
        m.net = ReLUNetBlock(
            range(5), network=he_network(0, [2, 8, 1]), inputs=lambda m, i: m.x[i, :]
        )
    assert m.component("net") is None
    monkeypatch.undo()
    m.net = ReLUNetBlock(
        range(5), network=he_network(0, [2, 8, 1]), inputs=lambda m, i: m.x[i, :]
    )
    assert len(m.net) == 5


# ------------------------------------------------------------------ rules that look around
STEP = dense([([[1.0], [-2.0]], [0.1, 0.3]), ([[0.4, 0.5]], [-0.2])])


def chain(rule, index=range(5)):
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(-1, 1))
    m.net = ReLUNetBlock(index, network=STEP, inputs=rule)
    return m


def check_chain(m, order):
    """Each block has what it reads, and was written over the box that this has then."""
    m.x.set_value(0.3)
    y = 0.3
    for t in order:
        entry = m.net[t].entries[0]
        low, high = m.net[t].bounds.input_box
        assert (entry.lb, entry.ub) == (low[0], high[0])
        y = float(STEP.evaluate([y])[0])
    m.last = pyo.Constraint(expr=m.x == 0.3)
    m.obj = pyo.Objective(expr=m.net[order[-1]].outputs[0])
    assert optimum(m) == pytest.approx(y, abs=1e-6)
    assert m.net.error() < 1e-6


def test_a_rule_may_read_the_block_before():
    m = chain(lambda m, t: [m.net[t - 1].outputs[0] if t else m.x])
    check_chain(m, range(5))


def test_a_rule_may_read_the_block_after():
    m = chain(lambda m, t: [m.net[t + 1].outputs[0] if t < 4 else m.x])
    assert list(m.net) == list(range(5))
    check_chain(m, range(4, -1, -1))


def test_a_rule_may_read_all_blocks_so_far():
    seen = []

    def inputs(m, t):
        before = [b.outputs[0] for b in m.net.values() if b.has_network]
        seen.append([y.ub is not None for y in before])
        return [sum(before) if t else m.x]

    m = chain(inputs, range(3))
    assert seen == [[], [True], [True, True]]
    outputs = [m.net[t].outputs[0] for t in range(3)]
    m.x.fix(0.3)
    m.obj = pyo.Objective(expr=outputs[2])
    optimum(m)
    values = [0.3]
    for _ in range(3):
        values.append(float(STEP.evaluate([sum(values[1:]) or 0.3])[0]))
    assert [v.value for v in outputs] == pytest.approx(values[1:], abs=1e-6)


def test_rules_of_blocks_see_finished_blocks(batches):
    """With a rule for the blocks themselves, each is complete before the next begins."""
    done = []

    def rule(b, t):
        done.extend(d.has_network for d in held)
        held.append(b)

    held: list = []
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(3), bounds=(-1, 1))
    m.net = ReLUNetBlock(range(3), rule=rule, network=STEP, inputs=lambda m, t: [m.x[t]])
    assert len(done) == 3 and all(done) and batches == [1]


def test_a_box_that_changes_while_rules_run():
    """A rule of a later index tightens a variable: rows hold for the box there is."""

    def inputs(m, t):
        m.x.setub(1 - 0.1 * t)
        return [m.x]

    m = chain(inputs, range(4))
    assert {b.bounds.input_box[1][0] for b in m.net.values()} == {m.x.ub}


def test_points_of_a_discretization_are_batched(batches):
    m = pyo.ConcreteModel()
    m.t = ContinuousSet(bounds=(0, 1))
    m.c = pyo.Var(m.t, bounds=lambda m, t: (-1 - t, 1))
    m.net = ReLUNetBlock(m.t, network=STEP, inputs=lambda m, t: [m.c[t]])
    pyo.TransformationFactory("dae.finite_difference").apply_to(m, nfe=4)
    assert len(m.net) == 5 and batches[0] == 2 and len(batches) == 2
    assert all(b.bounds is not None for b in m.net.values())


def test_abstract_models_and_sparse_components(batches):
    a = pyo.AbstractModel()
    a.i = pyo.Set(initialize=[3, 1, 2])
    a.x = pyo.Var(a.i, bounds=lambda m, i: (0, i))
    a.net = ReLUNetBlock(a.i, network=STEP, inputs=lambda m, i: [m.x[i]])
    m = a.create_instance()
    assert batches == [3] and list(m.net) == [3, 1, 2]
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(3), bounds=(0, 1))
    m.net = ReLUNetBlock(pyo.Any, dense=False, network=STEP, inputs=lambda m, i: [m.x[i]])
    assert not m.net[1].bounds.input_box[0].any() and batches == [3, 1]
    assert m.net[2].bounds is m.net[1].bounds and batches == [3, 1]


# ------------------------------------------------------------------------ shared index sets
def test_blocks_share_index_sets_and_stay_apart():
    m = model(formulation="bigm")
    layer = next(iter(m.net[0].layer.keys()))
    sets = {id(b.layer[layer].component("out").index_set()) for b in m.net.values()}
    assert len(sets) == 1
    before = lp_text(m)
    for copy in (m.clone(), pickle.loads(pickle.dumps(m))):
        assert lp_text(copy) == before
        copy.net[0].reformulate("hull")
        copy.net.reformulate("bigm")
        assert lp_text(copy) == before
    one = m.net[3].clone()
    assert list(one.layer[layer].out) == list(m.net[3].layer[layer].out)
    m.net[0].reformulate("hull")  # what the sets came with first is gone
    m.net[0].reformulate("bigm")
    assert lp_text(m) == before and lp_text(m.clone()) == before
    m.del_component(m.net)
    pickle.dumps(one)


def test_suffixes_forget_the_blocks_that_are_written_anew():
    m = model()
    m.priority = pyo.Suffix()
    binaries = {
        i: [v for v in b.layer_variables if v.is_binary()] for i, b in m.net.items()
    }
    for i, found in binaries.items():
        for v in found:
            m.priority[v] = i
    m.priority[m.net[1].layer] = m.priority[m.x] = 7
    m.net[1].reformulate("hull")
    assert m.net[1].layer not in m.priority and m.x in m.priority
    kept = sum(len(found) for i, found in binaries.items() if i != 1)
    assert len(m.priority) == kept + 1
    m.net.reformulate("hull")
    assert len(m.priority) == 1
    pickle.dumps(m.clone())


@pytest.mark.parametrize("solver", ["relu_highs", "relu_global"])
def test_the_mark_of_a_model_is_found_as_often_for_many_blocks(monkeypatch, solver):
    calls, counts = [], []
    real = model_scope.model_mark
    monkeypatch.setattr(model_scope, "model_mark", lambda m: calls.append(m) or real(m))
    for n in (2, 5):
        m = model(n, network=small_network(np.random.default_rng(1), 2, 1))
        m.row = pyo.Constraint(expr=sum(m.x[i, 0] for i in m.i) <= 1)
        m.net.tighten("model")
        calls.clear()
        pyo.SolverFactory(solver).solve(m)
        m.net.error()
        counts.append(len(calls))
    assert counts[0] == counts[1] > 0
    m.net[0].check_box()
    m.row.deactivate()
    for check in (m.net[0].check_box, m.net.error):
        with pytest.raises(ValueError, match="changed since"):
            check()


def test_the_model_is_read_as_often_for_the_tables_of_many_blocks(monkeypatch):
    read = []
    real = input_values._InputValues.__init__

    def counted(self, model):
        read.append(model)
        real(self, model)

    monkeypatch.setattr(input_values._InputValues, "__init__", counted)
    counts = []
    for n in (2, 5):
        m = pyo.ConcreteModel()
        m.x, m.z = pyo.Var(range(n), bounds=(0, 2)), pyo.Var(range(n), domain=pyo.Binary)
        m.half = pyo.Constraint(range(n), rule=lambda m, i: m.x[i] == 0.5 * m.z[i] + 1)
        m.net = ReLUNetBlock(range(n), network=STEP, inputs=lambda m, i: [m.x[i]])
        read.clear()
        m.net.reformulate("table", values="model")
        counts.append(len(read))
    assert counts[0] == counts[1] > 0
    m.obj = pyo.Objective(expr=sum(b.outputs[0] for b in m.net.values()))
    best = min(float(STEP.evaluate([x])[0]) for x in (1.0, 1.5))
    assert optimum(m) == pytest.approx(5 * best, abs=1e-6)
