"""Bounds from the whole model: tighter, valid for it, refused when it changes."""

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import NetworkBuilder, ReLUNetBlock, activations
from pyomo_relu.network import PiecewiseLinear
from tests.harness.random_networks import he_network


def linked_model(seed=0, integer=False, width=6):
    """Two networks in a chain, with constraints on inputs and outputs."""
    first = he_network(seed, [3, width, width, 2])
    second = he_network(seed + 50, [3, width, width, 1])
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(3), bounds=(-1, 1))
    m.z = pyo.Var(domain=pyo.Binary if integer else pyo.UnitInterval)
    m.free = pyo.Var()
    m.a = ReLUNetBlock(network=first, inputs=m.x)
    m.b = ReLUNetBlock(network=second, inputs=[m.a.outputs[0], m.a.outputs[1], m.z])
    m.sum = pyo.Constraint(expr=m.x[0] + m.x[1] + m.x[2] <= 0.3 + 0.2 * m.z)
    low, high = (float(b[0]) for b in m.a.bounds.outputs)
    m.limit = pyo.Constraint(expr=m.a.outputs[0] <= low + 0.55 * (high - low))
    m.def_free = pyo.Constraint(expr=m.free == 2 * m.b.outputs[0] + m.z)
    m.obj = pyo.Objective(expr=m.free, sense=pyo.maximize)
    return m


def solve(m):
    solver = pyo.SolverFactory("appsi_highs")
    solver.highs_options = {"mip_rel_gap": 1e-9}
    pyo.assert_optimal_termination(solver.solve(m))
    return pyo.value(m.obj)


SLOW = [
    pytest.param(*case, marks=pytest.mark.slow)
    for case in ((1, False), (1, True), (2, True), (3, True))
]


@pytest.mark.parametrize("seed, integer", [(0, False), (0, True), *SLOW])
def test_tighter_and_valid(seed, integer):
    m = linked_model(seed, integer, width=4 if integer else 6)
    best = solve(m)
    before = m.a.bounds, m.b.bounds
    untouched = m.clone()
    for block in (m.a, m.b):
        found = block.tighten("model", integer=integer, time_limit=600)
        assert found.scope.startswith("model ")
    for old, new in zip(before, (m.a.bounds, m.b.bounds)):
        assert old.contains(new, 1e-12)
        assert new.statistics()["mean_width"] < old.statistics()["mean_width"]
    assert solve(m) == pytest.approx(best, abs=1e-5 * max(1, abs(best)))
    # the exact range of each pre-activation over the model stays within
    for name in ("a",) if seed else ("a", "b"):
        block, bounds = untouched.component(name), m.component(name).bounds
        for node in block.network.nodes:
            if not isinstance(node, PiecewiseLinear):
                continue
            out = block.layer[block.network.nodes[node.source].name].component("out")
            for u, v in list(out.items())[:2]:
                low, high = bounds.lower[node.source][u], bounds.upper[node.source][u]
                for sense, bound in ((pyo.minimize, low), (pyo.maximize, high)):
                    untouched.obj.set_value(v)
                    untouched.obj.sense = sense
                    exact = solve(untouched)
                    gap = exact - bound if sense == pyo.minimize else bound - exact
                    assert gap >= -1e-6
    # and so does every feasible point
    rng = np.random.default_rng(seed)
    met = 0
    for x in rng.uniform(-1, 1, (3000, 3)):
        z = float(rng.integers(2)) if integer else float(rng.uniform())
        y = m.a.network.evaluate(x)
        if x.sum() > 0.3 + 0.2 * z or y[0] > m.limit.upper():
            continue
        met += 1
        for block, point in ((m.a, x), (m.b, np.append(y, z))):
            values = block.network.activations(point)
            for v, low, high in zip(values, block.bounds.lower, block.bounds.upper):
                assert (v[0] >= low - 1e-9).all() and (v[0] <= high + 1e-9).all()
    assert met > 50


def test_a_changed_model_is_refused():
    m = linked_model(1)
    m.a.tighten("model")
    solve(m)
    assert m.a.error() < 1e-6
    m.obj.expr = m.a.outputs[1]  # another objective changes nothing
    m.x[0].fix(0.1)
    m.a.check_box()
    m.x[0].unfix()
    m.limit.deactivate()
    for call in (m.a.error, m.a.check_box):
        with pytest.raises(ValueError, match=r"tighten\('model'\) again"):
            call()
    again, anew = m.clone(), m.clone()
    again.a.tighten("model")
    anew.a.reformulate()  # with bounds of the method that the block was made with
    anew.b.reformulate()
    m.a.reformulate("bigm", bounds="interval")
    # Its outputs are the inputs of the other network, which was written for tighter ones.
    with pytest.raises(ValueError, match=r"call b.reformulate\(\)"):
        solve(m)
    m.b.reformulate("bigm")
    for mended in (m, again, anew):
        solve(mended)
        assert mended.a.error() < 1e-6


def test_a_wider_variable_is_refused():
    m = linked_model(2)
    m.a.tighten("model")
    m.x[1].setub(1.5)
    with pytest.raises(ValueError, match="have changed since"):
        m.a.error()


def test_an_infeasible_model_is_said():
    m = linked_model(3)
    m.never = pyo.Constraint(expr=m.x[0] + m.x[1] >= 5)
    with pytest.raises(ValueError, match="the model is infeasible"):
        m.a.tighten("model")


def test_nonlinear_constraints_are_left_out():
    m = linked_model(0)
    m.curve = pyo.Constraint(expr=m.x[0] ** 2 + m.x[1] ** 2 <= 1.5)
    assert m.a.tighten("model").scope.startswith("model ")


def test_the_copy_keeps_its_bounds():
    m = linked_model(0)
    m.a.tighten("model")
    copy = m.clone()
    copy.a.check_box()
    n = sum(
        int(m.a.bounds.stable(i).sum())
        for i, p in enumerate(m.a.network.nodes)
        if isinstance(p, PiecewiseLinear)
    )
    assert copy.a.statistics().stable == n


def test_networks_that_were_relaxed_count_as_their_rows():
    """Bounds by the exact network would cut off what its relaxation allows."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(-1, 1))
    b = NetworkBuilder()
    x = b.input("x", (1,))
    tent = b.affine("pre", [(x, [[1.0], [1.0]])], [0.0, -0.5])
    y = b.affine("y", [(b.piecewise("relu", tent, activations.relu()), [[1.0, -2.0]])])
    m.a = ReLUNetBlock(network=b.build([y]), inputs=[m.x])
    m.b = ReLUNetBlock(network=b.build([y]), inputs=[m.a.outputs[0]])
    m.obj = pyo.Objective(expr=0.1 * m.b.outputs[0] + m.a.outputs[0], sense=pyo.maximize)
    pyo.TransformationFactory("core.relax_integer_vars").apply_to(m.a)
    pyo.SolverFactory("appsi_highs").solve(m)
    right = pyo.value(m.obj)
    m.b.tighten("model", integer=True)
    pyo.SolverFactory("appsi_highs").solve(m)
    assert pyo.value(m.obj) == pytest.approx(right, abs=1e-6)


def test_relaxing_another_network_ends_the_bounds():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-1, 1))
    m.a = ReLUNetBlock(network=he_network(0, (2, 4, 1)), inputs=m.x)
    m.b = ReLUNetBlock(network=he_network(1, (2, 4, 1)), inputs=[m.a.outputs[0], m.x[0]])
    m.b.tighten("model")
    m.b.check_box()
    relax = pyo.TransformationFactory("core.relax_integer_vars")
    token = relax.apply_to(m.a)
    with pytest.raises(ValueError, match="changed since"):
        m.b.check_box()
    relax.apply_to(m.a, reverse=token)
    m.b.check_box()
    relax.apply_to(m.b)  # its own rows are relaxed, and stay what they are
    m.b.check_box()


def test_rows_on_variables_inside_other_networks():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-1, 1))
    m.a = ReLUNetBlock(network=he_network(0, (2, 4, 1)), inputs=m.x)
    m.b = ReLUNetBlock(network=he_network(1, (2, 4, 1)), inputs=[m.a.outputs[0], m.x[0]])
    m.row = pyo.Constraint(expr=sum(v for v in m.a.layer_variables if v.is_integer()) <= 1)
    m.obj = pyo.Objective(expr=m.b.outputs[0], sense=pyo.maximize)
    pyo.SolverFactory("appsi_highs").solve(m)
    right = pyo.value(m.obj)
    m.b.tighten("model", integer=True)
    pyo.SolverFactory("appsi_highs").solve(m)
    assert pyo.value(m.obj) == pytest.approx(right, abs=1e-6)
