"""Networks of one free input written as their curves."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import NetworkBuilder, ReLUNetBlock, activations
from pyomo_relu.analysis import linear_regions
from pyomo_relu.formulations.regions import curve_network
from tests.harness.checks import assert_embedding_matches, assert_optimum_matches
from tests.harness.formulations import assert_values_hold, boxed_model, violations
from tests.harness.random_networks import random_network

FORMS = ["bigm", "hull", "partition", "logarithmic"]
CONTINUOUS = ["relu", "leaky_relu", "abs", "hard_tanh", "relu6", "pwl"]


def one_input(seed: int, n_outputs: int = 1):
    """A random network of one input, of several activations, on occasion with a maximum."""
    rng = np.random.default_rng(seed)
    names = [str(rng.choice(CONTINUOUS)) for _ in range(2)]
    return random_network(
        rng,
        n_inputs=1,
        widths=(6, 5),
        n_outputs=n_outputs,
        activations=names,
        max_pool=bool(seed % 3 == 2),
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(6))
def test_optima_and_points(form, seed):
    m = boxed_model(one_input(seed), -1.5, 2.0, "regions", form=form)
    assert_optimum_matches(m, m.net, objectives=[0], samples=300)
    assert_embedding_matches(m, m.net)
    assert_values_hold(m)


@pytest.mark.parametrize("form", ["bigm", "hull", "logarithmic"])
@pytest.mark.parametrize("seed", range(8))
def test_the_relaxation_is_the_hull_of_the_curve(form, seed):
    net = one_input(seed)
    regions = linear_regions(net, [-1.0], [1.0])
    ends, values = regions.cells.vertices[:, 0], regions.output_values()[:, 0]
    m = boxed_model(net, -1.0, 1.0, "regions", form=form)
    pyo.TransformationFactory("core.relax_integer_vars").apply_to(m)
    size = np.abs(values).max()
    for a in np.random.default_rng(seed).normal(size=6):
        m.goal = pyo.Objective(expr=a * size * m.x[0] + m.net.outputs[0])
        pyo.SolverFactory("appsi_highs").solve(m)
        best = (a * size * ends + values).min()
        assert pyo.value(m.goal) == pytest.approx(best, abs=1e-7 * max(1.0, size))
        m.del_component("goal")


def test_curves_are_the_network():
    for seed in range(60):
        net = one_input(seed, n_outputs=1 + seed % 3)
        low, high = np.array([-2.0 - seed % 5]), np.array([1.0 + seed % 7])
        curve = curve_network(linear_regions(net, low, high))
        x = np.random.default_rng(seed).uniform(low, high, (400, 1))
        true = net.evaluate(x)
        assert np.abs(curve.evaluate(x) - true).max() <= 1e-9 * np.abs(true).max()


def test_neurons_that_switch_together_make_one_breakpoint():
    b = NetworkBuilder()
    h = b.affine("h", [(b.input("x", (1,)), np.ones((9, 1)))], -np.ones(9))
    r = b.piecewise("r", h, activations.relu())
    net = b.build([b.affine("y", [(r, np.arange(1.0, 10.0)[None])])])
    m = boxed_model(net, -2.0, 2.0, "regions")
    assert m.net.statistics().binaries == 1


def test_numbers_are_folded_before_regions_are_counted():
    rng = np.random.default_rng(0)
    net = random_network(rng, n_inputs=4, widths=(8, 8))
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(-1, 1))
    m.net = ReLUNetBlock(
        network=net, inputs=[0.3, 2 * m.x - 1, -0.2, 1], formulation="regions"
    )
    for x in (-0.9, 0.1, 0.77):
        m.x.fix(x)
        m.goal = pyo.Objective(expr=m.net.outputs[0])
        pyo.SolverFactory("appsi_highs").solve(m)
        m.del_component("goal")
        assert m.net.outputs[0].value == pytest.approx(
            net.evaluate([0.3, 2 * x - 1, -0.2, 1])[0], abs=1e-6
        )


def test_outputs_of_one_curve_share_binaries():
    net = one_input(4, n_outputs=3)
    pieces = linear_regions(net, [-1.0], [1.0]).n_regions
    m = boxed_model(net, -1.0, 1.0, "regions", form="logarithmic")
    assert 1 <= m.net.statistics().binaries <= int(np.ceil(np.log2(pieces)))


@pytest.mark.parametrize("unit", [1e-5, 1e6])
def test_inputs_in_units(unit):
    net = one_input(1)
    b = NetworkBuilder()
    x = b.input("x", (1,))
    scaled = b.affine("scaled", [(x, [[1 / unit]])])
    made = [scaled]
    for node in net.nodes[1:]:
        if node.kind == "affine":
            made.append(b.affine(node.name, [(made[-1], node.weights[0])], node.bias))
        else:
            pieces = (node.function, node.breakpoints, node.slopes, node.intercepts)
            made.append(b.piecewise(node.name, made[-1], pieces))
    m = boxed_model(b.build([made[-1]]), -unit, unit, "regions")
    assert_optimum_matches(m, m.net, objectives=[0], samples=300)
    assert_values_hold(m)


def test_swaps():
    m = boxed_model(one_input(0), -1.0, 1.0, "bigm")
    for formulation, options in (
        ("regions", {}),
        ("hull", {}),
        ("regions", {"form": "hull"}),
    ):
        m.net.reformulate(formulation, **options)
        assert_optimum_matches(m, m.net, objectives=[0], samples=100)
    m.net.tighten("lp")
    copy = m.clone()
    pyo.TransformationFactory("relu.regions").apply_to(copy)
    copy.net.warm_start([0.3])
    assert violations(copy) == []


def test_constant_and_linear_networks():
    b = NetworkBuilder()
    h = b.affine("h", [(b.input("x", (1,)), [[1.0], [2.0]])], [5.0, -7.0])
    r = b.piecewise("r", h, activations.relu())
    m = boxed_model(b.build([r]), -1.0, 1.0, "regions")
    assert m.net.statistics().binaries == 0
    assert_embedding_matches(m, m.net)
    m = boxed_model(one_input(0), 0.5, 0.5, "regions")
    assert_embedding_matches(m, m.net)


def test_refusals():
    net = random_network(np.random.default_rng(0), n_inputs=3)
    with pytest.raises(ValueError, match=r"3 are free here: 0 \('x\[0\]'\), 1"):
        boxed_model(net, formulation="regions")
    steps = random_network(np.random.default_rng(0), n_inputs=1, activations=["step"])
    with pytest.raises(ValueError, match="without steps"):
        boxed_model(steps, formulation="regions", form="bigm")
    with pytest.raises(ValueError, match="more than 2 linear regions.*most="):
        boxed_model(one_input(1), -3.0, 3.0, formulation="regions", most=2)
    with pytest.raises(ValueError, match="its own form"):
        boxed_model(one_input(1), formulation="regions", form="regions")
    with pytest.raises(ValueError, match="no formulation 'big-m'"):
        boxed_model(one_input(1), formulation="regions", form="big-m")
    net = random_network(np.random.default_rng(0), n_inputs=1, widths=(3, 2))
    first = next(n.name for n in net.nodes if n.kind == "piecewise")
    with pytest.raises(ValueError, match="writes whole networks"):
        boxed_model(net, formulation={first: "regions", "...": "bigm"})


def two_inputs(seed: int, n_outputs: int = 1):
    """A random network of two inputs, on occasion with steps or a maximum."""
    rng = np.random.default_rng(seed)
    names = [str(rng.choice([*CONTINUOUS, "step", "pwl_jump"])) for _ in range(2)]
    return random_network(
        rng,
        n_inputs=2,
        widths=(4, 3),
        n_outputs=n_outputs,
        activations=names,
        max_pool=bool(seed % 3 == 2),
    )


@pytest.mark.parametrize("form", ["logarithmic", "hull"])
@pytest.mark.parametrize("seed", range(8))
def test_polygons(form, seed):
    m = boxed_model(two_inputs(seed), [-1.0, -2.0], [1.0, 0.5], "regions", form=form)
    assert_optimum_matches(m, m.net, objectives=[0], samples=300)
    assert_embedding_matches(m, m.net)
    assert_values_hold(m)


@pytest.mark.parametrize("seed", range(6))
def test_steps_of_one_input(seed):
    net = random_network(
        np.random.default_rng(seed), n_inputs=1, widths=(4, 4), activations=["step", "relu"]
    )
    m = boxed_model(net, -1.0, 1.0, "regions")
    assert_optimum_matches(m, m.net, objectives=[0], samples=300)
    assert_embedding_matches(m, m.net)
    assert_values_hold(m)


def test_polygons_of_one_map_are_merged():
    """A pyramid of four sides, and a plane that a dead neuron cuts in two."""
    b = NetworkBuilder()
    x = b.input("x", (2,))
    h = b.affine("h", [(x, [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])])
    a = b.piecewise("a", h, activations.ACTIVATIONS["abs"]())
    net = b.build([b.affine("y", [(a, [[1.0, 1.0, 0.0]])])])
    m = boxed_model(net, -1.0, 1.0, "regions", form="hull")
    assert m.net.statistics().layers[0].function == "4 cells"
    assert_optimum_matches(m, m.net, objectives=[0], samples=300)


@pytest.mark.parametrize("seed", range(4))
def test_the_relaxation_is_the_hull_of_the_polygons(seed):
    net = two_inputs(seed)
    regions = linear_regions(net, [-1.0, -1.0], [1.0, 1.0])
    corners, values = regions.cells.vertices, regions.output_values()[:, 0]
    m = boxed_model(net, -1.0, 1.0, "regions")
    pyo.TransformationFactory("core.relax_integer_vars").apply_to(m)
    size = max(1e-3, float(np.abs(values).max()))
    for a in np.random.default_rng(seed).normal(size=(6, 2)) * size:
        terms = sum(float(c) * m.x[i] for i, c in enumerate(a))
        m.goal = pyo.Objective(expr=terms + m.net.outputs[0])
        pyo.SolverFactory("appsi_highs").solve(m)
        best = (corners @ a + values).min()
        assert pyo.value(m.goal) == pytest.approx(best, abs=1e-6 * max(1.0, size))
        m.del_component("goal")


def test_cells_of_one_map_whose_union_is_not_convex():
    """``max(0, min(x, y))`` is 0 on an L, which two cells make up, not its hull."""
    b = NetworkBuilder()
    x = b.input("x", (2,))
    largest = b.max("max", b.affine("n", [(x, -np.eye(2))]), [[0, 1]])
    low = b.affine("low", [(largest, [[-1.0]])])
    net = b.build([b.piecewise("y", low, activations.relu())])
    m = boxed_model(net, -1.0, 1.0, "regions", form="hull")
    assert m.net.statistics().layers[0].function == "4 cells"
    assert_embedding_matches(m, m.net)
    m.goal = pyo.Objective(expr=m.net.outputs[0] - 0.5 * m.x[0] - 0.5 * m.x[1])
    pyo.SolverFactory("appsi_highs").solve(m)
    assert pyo.value(m.goal) == pytest.approx(-0.5, abs=1e-6)


@pytest.mark.parametrize("unit", [1e-8, 1e11])
@pytest.mark.parametrize("form", ["logarithmic", "hull"])
def test_polygons_with_outputs_in_units(form, unit):
    """Numbers of order one in each row would make the output's coefficient 1e-11: dropped."""
    net = two_inputs(0)
    b = NetworkBuilder()
    made = []
    for node in net.nodes:
        if node.kind == "input":
            made.append(b.input(node.name, node.shape))
        elif node.kind == "affine":
            terms = [(made[s], w) for s, w in zip(node.sources, node.weights)]
            made.append(b.affine(node.name, terms, node.bias))
        else:
            pieces = (node.function, node.breakpoints, node.slopes, node.intercepts)
            made.append(b.piecewise(node.name, made[node.source], pieces))
    scaled = b.build([b.affine("scaled", [(made[net.outputs[0]], [[unit]])])])
    plain, large = (boxed_model(n, -1.0, 1.0, "regions", form=form) for n in (net, scaled))
    for sense in (pyo.minimize, pyo.maximize):
        found = []
        for m, factor in ((plain, 1.0), (large, 1.0 / unit)):
            m.goal = pyo.Objective(expr=factor * m.net.outputs[0] + m.x[0], sense=sense)
            pyo.SolverFactory("appsi_highs").solve(m)
            found.append(pyo.value(m.goal))
            m.del_component("goal")
        assert found[1] == pytest.approx(found[0], abs=1e-5)
    assert_values_hold(large)
