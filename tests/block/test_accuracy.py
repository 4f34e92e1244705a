"""Blocks of networks with smooth units, by curves with a proved error."""

from __future__ import annotations

import pickle

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from pyomo_relu.network import Network, NetworkBuilder, activations
from tests.harness.random_networks import random_network

ACCURACY = 2e-2


@pytest.fixture(scope="module")
def network() -> Network:
    rng = np.random.default_rng(3)
    return random_network(
        rng, n_inputs=2, widths=(3, 3), n_outputs=2, activations=("tanh", "relu")
    )


def model(network: Network, **keywords):
    m = pyo.ConcreteModel()
    m.x = pyo.Var([0, 1], bounds=(-1, 1))
    m.net = ReLUNetBlock(network=network, inputs=m.x, **{"accuracy": ACCURACY, **keywords})
    m.obj = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    return m


def best(network: Network) -> float:
    """The largest value of the first output at many points."""
    x = np.random.default_rng(0).uniform(-1.0, 1.0, (20_000, 2))
    return float(network.evaluate(x)[:, 0].max())


@pytest.mark.parametrize(
    "formulation", ["bigm", "hull", "logarithmic", "partition", "disjunctive"]
)
def test_an_optimum_is_near_the_true_one(network, formulation):
    m = model(network, formulation=formulation)
    pyo.SolverFactory("appsi_highs").solve(m)
    proved = m.net.accuracy()
    assert set(proved) == {0, 1} and max(proved.values()) <= ACCURACY
    assert m.net.error() <= max(proved.values()) + 1e-6
    assert m.net.leak() <= 1e-6
    assert m.net.true_network is network
    value = pyo.value(m.net.outputs[0])
    assert best(network) - proved[0] - 1e-6 <= value <= best(network) + proved[0] + 1e-2


@pytest.mark.parametrize("solver", ["relu_highs", "relu_global", "relu"])
def test_solvers_of_the_package_solve_the_curves(network, solver):
    m = model(network)
    pyo.SolverFactory(solver).solve(m)
    value = pyo.value(m.obj)
    assert m.net.leak() <= 1e-6 and m.net.error() <= ACCURACY
    pyo.SolverFactory("appsi_highs").solve(m)
    assert abs(value - pyo.value(m.obj)) <= 2e-4


def test_margins_lose_no_point_of_the_true_network(network):
    m = model(network, margin=True)
    pyo.SolverFactory("appsi_highs").solve(m)
    assert pyo.value(m.obj) >= best(network)
    assert m.net.error() <= 2.0 * ACCURACY
    for x in np.random.default_rng(1).uniform(-1.0, 1.0, (20, 2)):
        m.net.warm_start(x)
        assert m.net.error() <= 1e-9
        for row in m.component_data_objects(pyo.Constraint, active=True):
            assert row.lslack() >= -1e-7 and row.uslack() >= -1e-7
    assert all(-1.0 <= v.value <= 1.0 for v in m.net.deviation.values())


@pytest.mark.parametrize("margin", [False, True])
def test_rows_on_the_safe_side(network, margin):
    m = model(network, margin=margin)
    most = best(network) - 0.3
    m.safe = pyo.Constraint(expr=m.net.output_interval(0)[1] <= most)
    pyo.SolverFactory("appsi_highs").solve(m)
    x = np.array([v.value for v in m.x.values()])
    assert network.evaluate(x)[0] <= most + 1e-6
    assert network.evaluate(x)[0] >= most - 4.0 * ACCURACY


def test_a_wider_box_gets_curves_of_its_own(network):
    m = model(network)
    old = m.net.network
    m.x[0].setub(1.5)
    with pytest.raises(ValueError, match="were widened"):
        m.net.check_box()
    m.net.reformulate()
    assert m.net.network is not old and m.net.approximation.bounds.input_box[1][0] == 1.5
    assert max(m.net.accuracy().values()) <= ACCURACY
    m.x[0].setub(0.5)
    kept = m.net.network
    m.net.reformulate("hull")
    assert m.net.network is kept
    m.net.tighten("lp")
    assert m.net.network is kept


def test_another_network_in_the_same_block(network):
    rng = np.random.default_rng(8)
    other = random_network(
        rng, n_inputs=2, widths=(3,), n_outputs=2, activations=("sigmoid",)
    )
    m = model(network, margin=True)
    m.net.replace_network(other)
    assert m.net.true_network.fingerprint == other.fingerprint
    pyo.SolverFactory("appsi_highs").solve(m)
    assert pyo.value(m.obj) >= best(other)
    relu = random_network(rng, n_inputs=2, widths=(3,), n_outputs=2)
    plain = model(network)
    plain.net.replace_network(relu)
    assert plain.net.approximation is None and plain.net.accuracy() == {0: 0.0, 1: 0.0}


def test_copies_keep_the_proof(network):
    m = model(network)
    m.net.warm_start([0.2, 0.3])
    for copy in (m.clone(), pickle.loads(pickle.dumps(m))):
        assert copy.net.accuracy() == m.net.accuracy()
        assert copy.net.error() == m.net.error()
        assert copy.net.true_network.fingerprint == network.fingerprint


def test_blocks_of_one_box_share_their_curves(network):
    m = pyo.ConcreteModel()
    m.x = pyo.Var([0, 1, 2], [0, 1], bounds=(-1, 1))
    m.x[2, 0].setub(0.5)
    m.net = ReLUNetBlock(
        [0, 1, 2],
        network=network,
        inputs=lambda m, i: [m.x[i, 0], m.x[i, 1]],
        accuracy=ACCURACY,
    )
    assert m.net[0].network is m.net[1].network is not m.net[2].network
    m.x[0, 0].setub(2.0)
    m.net.reformulate("hull")
    assert m.net[0].network is not m.net[1].network


def test_what_statistics_says(network):
    found = model(network).net.statistics()
    assert 0.0 < found.proved_error <= found.accuracy == ACCURACY
    assert found.pieces > 3
    assert "of the true network, as is proved (accuracy=0.02)" in str(found)
    assert "true network" not in str(
        model(network, accuracy=None, formulation="smooth").net.statistics()
    )


def test_an_accuracy_without_smooth_units_changes_nothing():
    rng = np.random.default_rng(1)
    relu = random_network(rng, n_inputs=2, widths=(3,), n_outputs=2)
    m = model(relu, margin=True)
    assert m.net.network is relu and m.net.component("deviation") is None
    assert m.net.output_interval(0) == (m.net.outputs[0], m.net.outputs[0])


def test_refusals(network):
    with pytest.raises(ValueError, match="accuracy=1e-3, curves with that proved error"):
        model(network, accuracy=None)
    with pytest.raises(ValueError, match="leave one of the two out"):
        model(network, formulation="smooth")
    with pytest.raises(ValueError, match="has accuracy=, so its smooth units are curves"):
        model(network).net.reformulate("smooth")
    with pytest.raises(ValueError, match="margin=True needs accuracy="):
        model(network, accuracy=None, margin=True, formulation=None)
    with pytest.raises(ValueError, match="net: accuracy=-1 must be positive"):
        model(network, accuracy=-1)
    b = NetworkBuilder()
    x = b.input("x", (2,))
    h = b.smooth("unit", b.affine("dense", [(x, [[1.0, 1.0]])]), "tanh")
    b_step = b.piecewise("jump", b.affine("next", [(h, [[1.0]])]), activations.step())
    with pytest.raises(
        ValueError, match="layer 'jump' computes 'step', a step, behind smooth"
    ):
        model(b.build([b_step]))
