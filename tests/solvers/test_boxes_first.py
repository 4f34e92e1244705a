"""Boxes before HiGHS: the same answers, and only where networks and model agree."""

from __future__ import annotations

import math

import numpy as np
import pyomo.environ as pyo
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory
from pyomo.contrib.solver.common.results import SolutionStatus, TerminationCondition

from pyomo_relu import NetworkBuilder, ReLUNetBlock, activations
from pyomo_relu.heuristics.network_columns import NetworkProblem
from pyomo_relu.programs.standard_form import compile_standard_form
from pyomo_relu.solvers.boxes_first import may_go_first
from tests.harness.random_networks import CONTINUOUS, he_network, random_network

pytest.importorskip("highspy")
LIMITED = {"raise_exception_on_nonoptimal_result": False, "load_solutions": False}


def model(sizes=(2, 8, 8, 1), seed=0, **kwds):
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(sizes[0]), bounds=(-1, 1))
    m.net = ReLUNetBlock(network=he_network(seed, sizes), inputs=m.x, **kwds)
    m.obj = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    return m


def allowed(m) -> bool:
    form = compile_standard_form(m)
    return may_go_first(m, form, NetworkProblem(form, [m.net]))


def solve(m, **kwds):
    return NewFactory("relu_highs").solve(m, **kwds)


@pytest.mark.parametrize("formulation", ["bigm", "hull", "partition", "cuts"])
def test_boxes_prove_what_highs_proves(formulation):
    m = model(formulation=formulation)
    results = solve(m)
    assert results.extra_info.boxes > 0
    assert results.solution_status is SolutionStatus.optimal
    assert pyo.value(m.obj) == pytest.approx(results.incumbent_objective, abs=1e-9)
    assert results.objective_bound >= results.incumbent_objective - 1e-9
    assert results.extra_info.mip_gap <= 1e-4 + 1e-9
    assert m.net.error() < 1e-9
    alone = solve(m, boxes=0, load_solutions=False)
    assert "boxes" not in alone.extra_info
    assert results.incumbent_objective == pytest.approx(alone.incumbent_objective, rel=2e-4)


def test_few_boxes_give_start_and_bound_to_highs():
    m = model((5, 20, 20, 1))
    best = solve(m, load_solutions=False).incumbent_objective
    seen = []
    results = solve(m, boxes=3, progress=seen.append)
    assert results.extra_info.boxes < 60
    assert results.extra_info.mip_node_count > 0
    assert results.extra_info.start <= results.incumbent_objective + 1e-6
    assert results.incumbent_objective == pytest.approx(best, rel=2e-4)
    assert [p.kind for p in seen][0] == "boxes" and "log" in [p.kind for p in seen]
    assert all(p.bound >= best - 1e-6 for p in seen if math.isfinite(p.bound))


def test_a_wrong_bound_of_the_boxes_would_show(monkeypatch):
    """The bound of the boxes does reach the results."""
    from pyomo_relu.solvers import boxes_first

    m = model((5, 20, 20, 1))
    right = boxes_first.search_boxes

    def shifted(*args, **kwds):
        found = right(*args, **kwds)
        found.bound, found.proven = found.value + 1e-5, False
        return found

    monkeypatch.setattr(boxes_first, "search_boxes", shifted)
    results = solve(m, boxes=3)
    assert results.objective_bound <= results.extra_info.start + 2e-5


def test_what_was_relaxed_or_taken_away_is_not_for_boxes():
    assert allowed(model())
    m = model()
    z = next(v for v in m.component_data_objects(pyo.Var) if v.is_binary())
    z.domain = pyo.Reals
    assert not allowed(m)
    m = model()
    pyo.TransformationFactory("core.relax_integer_vars").apply_to(m)
    assert not allowed(m)
    best = solve(model()).incumbent_objective
    assert solve(m).incumbent_objective > best * 1.01
    m = model()
    next(
        c for c in m.net.layer["dense_2"].component_data_objects(pyo.Constraint)
    ).deactivate()
    assert not allowed(m)
    m = model()
    m.net.layer["dense_1"].deactivate()
    assert not allowed(m)
    m = model()
    next(
        v
        for v in m.net.layer["relu_1"].component_data_objects(pyo.Var)
        if v.is_continuous()
    ).setlb(None)
    assert not allowed(m)
    assert allowed(model().clone())


def test_formulations_that_say_less_than_the_network_are_not_for_boxes():
    mixed = {"relu_1": "relaxation", "...": "bigm"}
    m = model(formulation=mixed)
    assert not allowed(m)
    best = solve(model()).incumbent_objective
    assert solve(m).incumbent_objective > best * (1 + 1e-3)
    assert not allowed(model(formulation="relaxation"))


def test_many_inputs_are_for_chains_of_relu():
    """Sides of neurons can be split where boxes are of no use."""
    m = model((30, 8, 8, 1))
    assert solve(m).extra_info.boxes > 0
    b = NetworkBuilder()
    x = b.input("x", (11,))
    leaky = b.piecewise("leaky", x, activations.leaky_relu(0.1))
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(11), bounds=(-1, 1))
    net = b.build([b.affine("y", [(leaky, np.ones((1, 11)))])])
    m.net = ReLUNetBlock(network=net, inputs=m.x)
    m.obj = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    assert "boxes" not in solve(m).extra_info
    m.x[3].fix(0.5)
    assert solve(m).extra_info.boxes > 0


def test_steps_and_rows_inside():
    b = NetworkBuilder()
    x = b.input("x", (1,))
    y = b.piecewise("step", b.affine("a", [(x, [[1.0]])]), activations.step())
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(-1, 1))
    m.net = ReLUNetBlock(network=b.build([b.affine("b", [(y, [[1.0]])])]), inputs=[m.x])
    m.obj = pyo.Objective(expr=m.net.outputs[0] - m.x, sense=pyo.maximize)
    assert not allowed(m)
    m = model()
    m.row = pyo.Constraint(expr=m.net.layer["relu_1"].out[0] <= 0.1)
    assert not allowed(m)


def test_what_the_user_adds_inside_a_network_counts():
    """A fixed binary or a tighter bound: the network's own optimum no longer holds."""
    free = model()
    best = solve(free).incumbent_objective
    found = 0
    for layer in ("relu_1", "relu_2"):
        for j, z in free.net.layer[layer].on.items():
            m = model()
            m.net.layer[layer].on[j].fix(1 - round(z.value))
            mine = solve(m, **LIMITED)
            other = NewFactory("highs").solve(m, **LIMITED)
            if other.incumbent_objective is None:
                assert mine.incumbent_objective is None
                continue
            assert mine.incumbent_objective == pytest.approx(
                other.incumbent_objective, abs=1e-4
            )
            assert mine.objective_bound >= other.incumbent_objective - 1e-6
            found += other.incumbent_objective < best - 1e-3
    assert found  # some of them do matter


def test_options_that_end_highs_early_leave_boxes_out():
    m = model()
    limited = solve(m, solver_options={"mip_max_nodes": 0}, **LIMITED)
    assert "boxes" not in limited.extra_info
    tight = solve(m, rel_gap=1e-9, abs_gap=1e-9)
    assert tight.objective_bound - tight.incumbent_objective <= 1e-8
    loose = solve(m, solver_options={"mip_rel_gap": 0.5})
    assert loose.extra_info.mip_gap <= 0.5
    assert loose.extra_info.boxes <= tight.extra_info.boxes


def test_progress_stops_the_boxes():
    m = model((5, 20, 20, 1))
    results = solve(
        m, progress=lambda p: p.kind == "boxes" and math.isfinite(p.incumbent), **LIMITED
    )
    assert results.termination_condition is TerminationCondition.interrupted
    assert results.incumbent_objective is not None
    assert results.objective_bound >= results.incumbent_objective

    def broken(p):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        solve(m, progress=broken)


@pytest.mark.parametrize("found", [True, False])
def test_interrupt_in_the_boxes(monkeypatch, found):
    """With a point it is kept, and HiGHS isn't started; without one nothing is hidden."""
    from pyomo_relu.solvers.global_search.box_search import BoxSearch
    from pyomo_relu.solvers.global_search.incumbent import Incumbent

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(BoxSearch, "_split", interrupted)
    if not found:
        monkeypatch.setattr(Incumbent, "search_box", interrupted)
    m = model((5, 20, 20, 1))
    if not found:
        with pytest.raises(KeyboardInterrupt):
            solve(m, **LIMITED)
        return
    results = solve(m, **LIMITED)
    assert results.termination_condition is TerminationCondition.interrupted
    assert results.extra_info.mip_node_count == 0
    assert results.objective_bound >= 1.6851 >= results.incumbent_objective - 1e-3


def test_tee_says_what_the_boxes_did(capsys):
    solve(model(), tee=True)
    out = capsys.readouterr().out
    assert "boxes in" in out and "proven" in out


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_users_models_agree_with_highs_alone(seed):
    """Rows, other variables, integer inputs, bounded and fixed outputs, either sense."""
    rng = np.random.default_rng(seed)
    m = pyo.ConcreteModel()
    n, k = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    m.x = pyo.Var(range(n), bounds=(-1, 1))
    m.z = pyo.Var(bounds=(-1, 2), domain=pyo.Integers)
    m.t = pyo.Var(bounds=(-2, 3))
    network = he_network(seed, (n + 1, 6, 5, k))
    inputs = [*m.x.values(), 0.5 * m.z + 0.1 if rng.random() < 0.5 else m.z]
    m.net = ReLUNetBlock(network=network, inputs=inputs)
    y = list(m.net.outputs.values())
    m.rows = pyo.ConstraintList()
    if rng.random() < 0.5:
        m.rows.add(m.t <= y[0] + 0.5 * m.x[0])
    if rng.random() < 0.5:
        m.rows.add(y[-1] + m.x[0] <= float(rng.normal()))
    if rng.random() < 0.3:
        m.rows.add(m.t + m.x[0] == 0.25)
    if rng.random() < 0.3:
        y[0].setlb(float(rng.normal()))
    if rng.random() < 0.2:
        m.x[0].fix(0.3)
    if rng.random() < 0.15:
        y[-1].fix(float(network.evaluate(np.full(n + 1, 0.3))[-1]))
    c = rng.normal(size=k + 3).tolist()
    expr = sum(a * v for a, v in zip(c, [*y, m.x[0], m.t, m.z]))
    m.obj = pyo.Objective(
        expr=expr + 1, sense=pyo.maximize if rng.random() < 0.5 else pyo.minimize
    )
    mine = solve(m, **LIMITED)
    other = NewFactory("highs").solve(m, **LIMITED)
    assert (mine.incumbent_objective is None) == (other.incumbent_objective is None)
    if mine.incumbent_objective is None:
        return
    assert mine.incumbent_objective == pytest.approx(
        other.incumbent_objective, rel=2e-4, abs=2e-4
    )
    better = 1 if m.obj.sense == pyo.maximize else -1
    assert better * (mine.objective_bound - other.incumbent_objective) >= -1e-5
    mine.solution_loader.load_vars()
    assert pyo.value(m.obj) == pytest.approx(mine.incumbent_objective, abs=1e-6)
    assert m.net.error() < 1e-5


@pytest.mark.parametrize(
    "seed", [*range(4), *[pytest.param(s, marks=pytest.mark.slow) for s in range(4, 60)]]
)
def test_graphs_and_chains_agree_with_highs_alone(seed):
    """Two networks, the second reading the first; all continuous activations, maxima."""
    rng = np.random.default_rng(seed)
    first, second = (
        random_network(
            rng,
            n_inputs=2,
            widths=(4, 3),
            n_outputs=2 if k == 0 else 1,
            activations=rng.choice(CONTINUOUS, 2).tolist(),
            residual=bool(rng.integers(2)),
            max_pool=rng.random() < 0.3,
            dead=int(rng.integers(2)),
            stable=int(rng.integers(2)),
        )
        for k in range(2)
    )
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-1, 1), domain=pyo.Reals)
    if seed % 5 == 0:
        m.x[1].domain = pyo.Integers
    kind = ["bigm", "hull", "partition"][seed % 3]
    try:
        m.net = ReLUNetBlock(network=first, inputs=m.x, formulation=kind)
        m.next = ReLUNetBlock(
            network=second, inputs=[m.net.outputs[0], m.x[1]], formulation=kind
        )
    except ValueError:  # this formulation can't write that activation
        pytest.skip("refused by the formulation")
    m.t = pyo.Var(bounds=(-5, 5))
    m.cap = pyo.Constraint(expr=m.t <= m.next.outputs[0] + 0.1 * m.x[0])
    if seed % 2:
        m.row = pyo.Constraint(expr=m.net.outputs[1] + m.x[0] >= float(rng.normal()))
    m.obj = pyo.Objective(
        expr=m.t + 0.3 * m.net.outputs[1], sense=pyo.maximize if seed % 4 else pyo.minimize
    )
    mine, other = solve(m, **LIMITED), solve(m, start=None, **LIMITED)
    assert (mine.incumbent_objective is None) == (other.incumbent_objective is None)
    if other.incumbent_objective is None:
        return
    scale = max(1.0, abs(other.incumbent_objective))
    assert abs(mine.incumbent_objective - other.incumbent_objective) <= 5e-4 * scale
    better = 1 if m.obj.sense == pyo.maximize else -1
    assert better * (mine.objective_bound - other.incumbent_objective) >= -1e-4 * scale
    mine.solution_loader.load_vars()
    assert pyo.value(m.obj) == pytest.approx(mine.incumbent_objective, abs=1e-6 * scale)
    assert max(m.net.error(), m.next.error()) <= 1e-4
