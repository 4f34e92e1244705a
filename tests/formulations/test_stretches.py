"""One side of a curve, written by its concave or convex stretches."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import NetworkBuilder, ReLUNetBlock
from pyomo_relu.network import Network
from tests.formulations.support import relaxed_minima
from tests.formulations.test_regions import one_input
from tests.harness.formulations import assert_values_hold, boxed_model, violations

GRID = np.linspace(-1.5, 2.0, 1401)[:, None]


def curve(breakpoints, slopes, start: float = 0.0) -> Network:
    """A network of one unit with these pieces, from ``start`` at 0 on."""
    t, a = np.array([breakpoints], dtype=float), np.array([slopes], dtype=float)
    c = [start]
    for at, before, after in zip(breakpoints, slopes, slopes[1:]):
        c.append(c[-1] + (before - after) * at)
    b = NetworkBuilder()
    h = b.affine("h", [(b.input("x", (1,)), [[1.0]])])
    return b.build([b.piecewise("y", h, ("curve", t, a, np.array([c])))])


CONCAVE = curve([-1.0, 0.0, 0.5, 1.0], [3.0, 1.0, 0.25, -1.0, -2.0])
#: Concave, then convex, then concave again.
WAVE = curve([-1.0, -0.5, 0.0, 0.5, 1.0, 1.5], [2.0, 1.0, -1.0, 0.0, 1.0, 0.5, -1.0])


def best(m, expr, sense) -> float:
    m.goal = pyo.Objective(expr=expr, sense=sense)
    pyo.assert_optimal_termination(pyo.SolverFactory("appsi_highs").solve(m))
    m.del_component(m.goal)
    return pyo.value(expr)


def test_a_concave_curve_needs_no_binary_below():
    m = boxed_model(CONCAVE, -1.5, 2.0, "regions", side="hypograph")
    stats = m.net.statistics()
    assert (stats.binaries, stats.variables, stats.constraints) == (0, 1, 5)
    assert stats.layers[0].function == "hypograph, 1 stretch"
    m.net.reformulate("regions", side="epigraph", form="hull")
    assert m.net.statistics().binaries == 5
    m.net.reformulate("regions", side="both", form="hull")
    assert m.net.statistics().binaries == 5


@pytest.mark.parametrize(("side", "count"), [("hypograph", 3), ("epigraph", 5)])
def test_binaries_count_stretches(side, count):
    """Slopes of the wave: 2, 1, -1, 0, 1, 1/2, -1; a bend the other way ends a stretch."""
    m = boxed_model(WAVE, -1.5, 2.0, "regions", side=side)
    assert m.net.statistics().layers[0].function == f"{side}, {count} stretches"
    assert m.net.statistics().binaries == int(np.ceil(np.log2(count)))


@pytest.mark.parametrize("form", [None, "hull"])
@pytest.mark.parametrize("seed", range(6))
def test_optima_on_the_side_that_is_wanted(seed, form):
    net, rng = one_input(seed, n_outputs=1 + seed % 2), np.random.default_rng(seed)
    true = net.evaluate(GRID)
    for side, sense in (("hypograph", pyo.maximize), ("epigraph", pyo.minimize)):
        m = boxed_model(net, -1.5, 2.0, "regions", side=side, form=form)
        assert_values_hold(m)
        for a in rng.normal(size=3) * np.abs(true).max():
            weights = rng.uniform(0, 1, net.n_outputs)
            value = sum(float(w) * y for w, y in zip(weights, m.net.outputs.values()))
            found = best(m, value + float(a) * m.x[0], sense)
            costs = true @ weights + a * GRID[:, 0]
            # The grid may miss a breakpoint, so that it is a bound and not far away.
            away = max(1.0, np.abs(costs).max())
            ahead = found - costs.max() if sense == pyo.maximize else costs.min() - found
            assert -1e-6 * away <= ahead <= 1e-2 * away
            at = [m.x[0].value]
            assert net.evaluate(at) @ weights + a * at[0] == pytest.approx(
                found, abs=1e-6 * away
            )


@pytest.mark.parametrize("net", [CONCAVE, WAVE], ids=["concave", "wave"])
@pytest.mark.parametrize("form", [None, "hull"])
def test_the_relaxation_is_the_hull_of_the_side(net, form):
    ends = np.array([-1.5, *net.nodes[-1].breakpoints[0], 2.0])
    values = net.evaluate(ends[:, None])[:, 0]
    directions = np.column_stack([np.linspace(-3, 3, 9), np.ones(9)])
    for side, sign in (("epigraph", 1.0), ("hypograph", -1.0)):
        m = boxed_model(net, -1.5, 2.0, "regions", side=side, form=form)
        true = (directions[:, [0]] * ends + sign * values).min(axis=1)
        scaled = directions * [1.0, sign]
        assert relaxed_minima(m, scaled) == pytest.approx(true, abs=1e-8)


def test_outputs_of_different_sides():
    """Two outputs of one network, held below and above, and a third on both sides."""
    b = NetworkBuilder()
    h = b.affine("h", [(b.input("x", (1,)), np.ones((3, 1)))])
    t = np.array([[0.0, 1.0], [0.0, 1.0], [-1.0, 0.5]])
    a = np.array([[2.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, 1.5, 0.5]])
    c = np.zeros((3, 3))
    for p in (0, 1):
        c[:, p + 1] = c[:, p] + (a[:, p] - a[:, p + 1]) * t[:, p]
    net = b.build([b.piecewise("y", h, ("curves", t, a, c))])
    sides = {0: "hypograph", 1: "epigraph"}
    m = boxed_model(net, -1.5, 2.0, "regions", side=sides, form="hull")
    assert m.net.statistics().binaries == 3  # the third output's pieces
    assert_values_hold(m)
    y = m.net.outputs
    for sign in (1.0, -1.0):
        found = best(m, y[0] - y[1] + sign * y[2], pyo.maximize)
        true = net.evaluate(GRID) @ [1.0, -1.0, sign]
        assert true.max() - 1e-6 <= found <= true.max() + 1e-2
        assert m.net.error() < 1e-6
    m.net.reformulate("regions", side={0: "hypograph", 1: "epigraph", 2: "hypograph"})
    assert m.net.statistics().binaries == 1  # and only where the third one bends up


def test_what_is_off_the_curve_is_seen():
    m = boxed_model(CONCAVE, -1.5, 2.0, "regions", side="hypograph")
    best(m, m.net.outputs[0] + m.x[0], pyo.minimize)  # what the side isn't for
    m.x[0].value = 0.5
    assert m.net.error() > 1.0
    m.net.warm_start(m.net.input_values()[0])
    assert m.net.error() == 0.0
    assert violations(m) == []


def test_swaps_copies_and_names():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(-1.5, 2.0))
    m.net = ReLUNetBlock(
        network=WAVE, inputs=[m.x], output_names=["rate"], formulation="bigm"
    )
    m.net.reformulate("regions", side={"rate": "hypograph"})
    copy = m.clone()
    for model in (m, copy):
        assert model.net.statistics().binaries == 2
        model.net.warm_start([0.7])
        assert violations(model) == []
    m.net.reformulate("hull")
    pyo.TransformationFactory("relu.regions").apply_to(m, side="epigraph")
    assert "epigraph" in m.net.statistics().layers[0].function


def test_our_solver_of_networks_refuses_rows_of_one_side():
    """``relu_global`` takes the network; where it can't, one side isn't enough."""
    m = boxed_model(CONCAVE, -1.5, 2.0, "regions", side="hypograph")
    m.goal = pyo.Objective(expr=m.net.outputs[0] - m.x[0], sense=pyo.maximize)
    pyo.SolverFactory("relu_global").solve(m)
    true = CONCAVE.evaluate(GRID)[:, 0] - GRID[:, 0]
    assert pyo.value(m.goal) == pytest.approx(true.max(), abs=1e-6)
    m.net.layer["network"].line[0, 0].deactivate()
    with pytest.raises(ValueError, match="formulation 'regions', which doesn't say all"):
        pyo.SolverFactory("relu_global").solve(m)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"side": "above"}, r"side='above' is unknown; choose one of \['both'"),
        ({"side": {1: "both"}}, "names the output 1; there are 1, from 0 on"),
        ({"side": "hypograph", "form": "bigm"}, "form='bigm' writes both sides"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        boxed_model(WAVE, -1.5, 2.0, "regions", **options)


@pytest.mark.parametrize("unit", [1e-8, 1e11])
@pytest.mark.parametrize("net", [CONCAVE, WAVE], ids=["concave", "wave"])
def test_outputs_in_units(net, unit):
    (node,) = [n for n in net.nodes if n.kind == "piecewise"]
    b = NetworkBuilder()
    h = b.affine("h", [(b.input("x", (1,)), [[1.0]])])
    pieces = ("curve", node.breakpoints, unit * node.slopes, unit * node.intercepts)
    large = b.build([b.piecewise("y", h, pieces)])
    m = boxed_model(large, -1.5, 2.0, "regions", side="hypograph")
    assert_values_hold(m)
    for a in (-1.5, -0.3, 0.4, 2.2):
        found = best(m, m.net.outputs[0] / unit + a * m.x[0], pyo.maximize)
        true = net.evaluate(GRID)[:, 0] + a * GRID[:, 0]
        assert true.max() - 1e-5 <= found <= true.max() + 1e-2
