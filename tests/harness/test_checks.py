"""The checks pass on right models and fail on wrong ones."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyomo_relu import ReLUNetBlock
from pyomo_relu.bounds import Bounds, compute_bounds
from pyomo_relu.network import NetworkBuilder
from tests.harness.checks import (
    _solve,
    assert_embedding_matches,
    assert_optimum_matches,
    assert_reads_same,
    assert_sound,
    near_step,
    solver_or_skip,
)
from tests.harness.random_networks import ALL_ACTIVATIONS, he_network, random_network
from tests.harness.search import best_found, first_layer_corners, gradient
from tests.harness.strategies import boxes, networks


def embedded(network, lower=-1.0, upper=1.0, **options):
    m = pyo.ConcreteModel()
    m.net = ReLUNetBlock(network=network, input_bounds=(lower, upper), **options)
    return m


def test_right_model_passes_and_is_left_as_it_was():
    network = he_network(0, [2, 6, 6, 2])
    m = pyo.ConcreteModel()
    m.x = pyo.Var([0, 1], bounds=(-1, 1), initialize=0.25)
    m.x[0].fix(0.5)
    m.net = ReLUNetBlock(network=network, inputs=[m.x[0], m.x[1]])
    m.obj = pyo.Objective(expr=m.net.outputs[0])
    before = [(v.name, v.value, v.fixed) for v in m.component_data_objects(pyo.Var)]
    names = [c.name for c in m.component_objects()]
    assert assert_embedding_matches(m, m.net) >= 6
    after = [(v.name, v.value, v.fixed) for v in m.component_data_objects(pyo.Var)]
    assert before == after
    assert m.obj.active
    assert names == [c.name for c in m.component_objects()]
    m.x[0].unfix()
    assert set(assert_optimum_matches(m, m.net)) == {
        (k, sense) for k in range(3) for sense in ("min", "max")
    }


@pytest.mark.parametrize("name", ["appsi_highs", "highs"])
def test_highs_is_tight_unless_told_otherwise(name):
    m = embedded(he_network(0, [2, 3, 1]))
    m.obj = pyo.Objective(expr=m.net.outputs[0])
    for options, expected in ((None, 1e-9), ({"mip_feasibility_tolerance": 1e-5}, 1e-5)):
        solver = solver_or_skip(name)
        _solve(solver, m, "the model", options, 1.0)
        highs = solver._solver_model
        assert highs.getOptionValue("mip_feasibility_tolerance")[1] == expected


def test_inputs_that_are_expressions():
    network = he_network(0, [2, 6, 1])
    m = pyo.ConcreteModel()
    m.x = pyo.Var([0, 1], bounds=(-1, 1))
    inputs = [0.5 * m.x[0] + 0.5 * m.x[1], 0.5 * m.x[0] - 0.5 * m.x[1]]
    m.net = ReLUNetBlock(network=network, inputs=inputs)
    # Not all points of the box of the expressions are reached: corners of x only.
    points = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.25, 0.5]]
    assert assert_embedding_matches(m, m.net, points=points) == 4
    with pytest.raises(AssertionError, match="no solution"):
        assert_embedding_matches(m, m.net, points=[[1.0, 1.0]])


@pytest.mark.parametrize("name", ALL_ACTIVATIONS)
def test_every_activation(name):
    network = random_network(
        np.random.default_rng(1),
        activations=[name],
        widths=(3, 3),
        n_outputs=2,
        residual=True,
        max_pool=True,
        concatenate=True,
        output_layers=2,
    )
    m = embedded(network)
    assert_embedding_matches(m, m.net)
    assert_optimum_matches(m, m.net)


@given(networks(width=(1, 4), magnitudes=("plain",)), st.data())
@settings(max_examples=12)
def test_random_networks(network, data):
    lower, upper = data.draw(boxes(network.n_inputs))
    m = embedded(network, lower, upper)
    assert_embedding_matches(m, m.net)
    assert_optimum_matches(m, m.net, objectives=[0], samples=500)


def test_cut_optimum_is_found_out():
    network = he_network(2, [2, 8, 8, 1])
    m = embedded(network)
    best = assert_optimum_matches(m, m.net)
    m.cut = pyo.Constraint(expr=m.net.outputs[0] <= best[0, "max"] - 1e-3)
    with pytest.raises(AssertionError, match="max of objective 0.*is cut off"):
        assert_optimum_matches(m, m.net)
    m.del_component("cut")
    # The same for a network with more inputs, where only the search looks.
    network = he_network(2, [4, 6, 6, 1])
    m = embedded(network)
    best = assert_optimum_matches(m, m.net)
    m.cut = pyo.Constraint(expr=m.net.outputs[0] >= best[0, "min"] + 1e-3)
    with pytest.raises(AssertionError, match="min of objective 0.*is cut off"):
        assert_optimum_matches(m, m.net)


def test_bounds_that_are_too_tight_are_found_out():
    network = he_network(2, [3, 8, 1])
    right = compute_bounds(network, -1.0, 1.0)
    shrunk = tuple(b if i == 0 else b - 0.01 for i, b in enumerate(right.upper))
    wrong = Bounds(network, right.lower, shrunk, "wrong")
    with pytest.raises(AssertionError, match="'dense_1'.*outside of its wrong bounds"):
        assert_sound(wrong)
    assert_sound(right)
    m = embedded(network, bounds=wrong)
    with pytest.raises(AssertionError, match="no solution|instead of"):
        assert_embedding_matches(m, m.net)


def test_another_network_is_found_out():
    m = embedded(he_network(0, [2, 5, 1]))
    other = he_network(1, [2, 5, 1])
    with pytest.raises(AssertionError, match="instead of"):
        assert_embedding_matches(m, m.net, other)
    with pytest.raises(AssertionError, match="objective 0"):
        assert_optimum_matches(m, m.net, other)


def test_outputs_that_are_only_bounded_from_below_are_found_out():
    network = he_network(0, [2, 5, 1])
    m = pyo.ConcreteModel()
    m.net = pyo.Block()
    m.net.inputs = pyo.Var([0, 1], bounds=(-1, 1))
    m.net.outputs = pyo.Var([0], bounds=(-10, 10))
    m.net.bounds = compute_bounds(network, -1.0, 1.0)
    with pytest.raises(AssertionError, match="instead of"):
        assert_embedding_matches(m, m.net, network)
    with pytest.raises(AssertionError, match="beyond the exact one"):
        assert_optimum_matches(m, m.net, network)
    assert_optimum_matches(m, m.net, network, relaxation=True)


def test_reads_same():
    network = he_network(0, [3, 5, 2])
    x = np.random.default_rng(0).normal(size=(7, 3))
    y = network.evaluate(x)
    assert_reads_same(network, lambda v: [y[:, :1], y[:, 1:]], x)
    with pytest.raises(AssertionError, match="differs by"):
        assert_reads_same(network, lambda v: y + 1e-3, x)
    with pytest.raises(AssertionError, match="instead of"):
        assert_reads_same(network, lambda v: y[:, :1], x)


def test_corners_attain_the_first_layers_bounds():
    network = he_network(3, [5, 7, 1])
    lower, upper = -np.arange(1.0, 6.0), np.ones(5)
    corners = first_layer_corners(network, lower, upper)
    z = network.activations(corners)[1]
    found = compute_bounds(network, lower, upper)
    assert z.max(axis=0) == pytest.approx(found.upper[1], rel=1e-12)
    assert z.min(axis=0) == pytest.approx(found.lower[1], rel=1e-12)


@given(networks())
def test_gradient_against_differences(network):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1.0, 1.0, (5, network.n_inputs))
    c = rng.normal(size=network.n_outputs)
    g = gradient(network, x, c)
    h = 1e-7
    for k in range(network.n_inputs):
        e = np.eye(network.n_inputs)[k] * h
        ends = network.evaluate(x + e), network.evaluate(x - e)
        difference = (ends[0] - ends[1]) @ c / (2.0 * h)
        scale = 1.0 + abs(difference) + abs(g[:, k])
        scale += 1e-15 * max(abs(v).max() for v in network.activations(x)) / h
        # A breakpoint between the two ends is rare: most points must agree.
        assert (abs(difference - g[:, k]) <= 1e-3 * scale).sum() >= 4


def test_search_finds_the_exact_optimum_of_a_small_network():
    from pyomo_relu.analysis import linear_regions

    for seed in range(5):
        network = he_network(seed, [2, 10, 10, 1])
        regions = linear_regions(network, -1.0, 1.0)
        for sense in ("min", "max"):
            found, x = best_found(network, -np.ones(2), np.ones(2), np.ones(1), sense)
            exact = regions.optimum(0, sense).value
            assert found == pytest.approx(exact, abs=1e-3)
            assert network.evaluate(x)[0] == found


def test_near_step():
    builder = NetworkBuilder()
    from pyomo_relu.network import activations

    x = builder.input("x", (1,))
    network = builder.build([builder.piecewise("s", x, activations.step())])
    assert near_step(network, np.array([1e-9]))
    assert not near_step(network, np.array([0.1]))


@pytest.mark.parametrize("every", [16, pytest.param(1, marks=pytest.mark.slow)])
def test_corners_of_an_image_network_are_feasible(every):
    """784-128-128-10, float32 weights: no first-layer corner is cut off."""
    network = he_network(0, [784, 128, 128, 10])
    m = embedded(network, 0.0, 1.0)
    corners = first_layer_corners(network, np.zeros(784), np.ones(784))
    count = assert_embedding_matches(m, m.net, points=corners[::every])
    assert count == 256 // every
