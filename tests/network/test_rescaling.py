"""Rescaling: the same function, smaller numbers, the same relaxation."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest
from hypothesis import given
from scipy.optimize import minimize

from pyomo_relu import ReLUNetBlock
from pyomo_relu.bounds import compute_bounds
from pyomo_relu.network import NetworkBuilder
from pyomo_relu.network import activations as act
from pyomo_relu.network.rescaling import _Program, rescale
from tests.harness.checks import solver_or_skip
from tests.harness.random_networks import he_network
from tests.harness.strategies import networks, points_in


def unbalanced(seed=0, sizes=(3, 6, 5, 2)):
    """A He network with random factors between 0.01 and 100 on its neurons."""
    rng = np.random.default_rng(seed)
    b = NetworkBuilder()
    last, before = b.input("x", (sizes[0],)), np.ones(sizes[0])
    for k, (n, size) in enumerate(zip(sizes, sizes[1:]), start=1):
        final = k == len(sizes) - 1
        s = np.ones(size) if final else 10.0 ** rng.uniform(-2, 2, size)
        w = rng.standard_normal((size, n)) * s[:, None] / before
        last = b.affine(f"dense_{k}", [(last, w)], 0.1 * rng.standard_normal(size) * s)
        if not final:
            last = b.piecewise(f"relu_{k}", last, act.relu())
        before = s
    return b.build([last])


@given(networks())
def test_outputs_are_equal_bit_by_bit(network):
    x = points_in(
        np.random.default_rng(0), *[np.full(network.n_inputs, v) for v in (-2.0, 2.0)], 200
    )
    new = rescale(network)
    y, z = network.evaluate(x), new.network.evaluate(x)
    # One sparse product may add in another order; the terms themselves are equal.
    assert z == pytest.approx(y, rel=1e-12, abs=1e-12 * (1 + abs(y).max()))
    assert new.objective[1] <= new.objective[0] * (1 + 1e-9) or new.objective[1] < 1e-300


@pytest.mark.parametrize("powers_of_two", [True, False])
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_values_of_all_nodes_are_scaled(power, powers_of_two):
    network = unbalanced()
    new = rescale(network, power=power, powers_of_two=powers_of_two)
    x = points_in(np.random.default_rng(1), -np.ones(3), np.ones(3), 200)
    tolerance = 0.0 if powers_of_two else 1e-12
    for a, b, f in zip(network.activations(x), new.network.activations(x), new.factors):
        assert b == pytest.approx(a * f, rel=tolerance, abs=tolerance * abs(a * f).max())
    assert new.network.evaluate(x) == pytest.approx(network.evaluate(x), rel=1e-12)
    assert new.objective[1] < 0.2 * new.objective[0]


@pytest.mark.parametrize("objective", ["weights", "big_m"])
def test_descent_reaches_the_minimum_of_the_convex_program(objective):
    network = unbalanced(3)
    bounds = compute_bounds(network, -1.0, 1.0) if objective == "big_m" else None
    program = _Program(network, 1.0, bounds)
    program.minimize(1000)
    free = np.arange(1, program.n)

    def value(t):
        log = np.zeros(program.n)
        log[free] = t
        return program.value(log)

    best = minimize(
        value, np.zeros(len(free)), method="L-BFGS-B", options={"maxiter": 3000}
    )
    assert program.value(program.log) <= best.fun * (1 + 1e-6)


def test_sum_of_big_m_falls_and_bounds_carry_over():
    network = unbalanced(1)
    bounds = compute_bounds(network, -1.0, 1.0, "crown")
    new = rescale(network, "big_m", bounds)
    carried = new.bounds(bounds)
    anew = compute_bounds(new.network, -1.0, 1.0, "crown")
    for a, b in zip(carried.lower + carried.upper, anew.lower + anew.upper):
        assert a == pytest.approx(b, rel=1e-9, abs=1e-9)
    assert carried.network is new.network

    def big_m(bounds, network):
        return sum(
            (bounds.upper[n.source] - bounds.lower[n.source])[~bounds.stable(i)].sum()
            for i, n in enumerate(network.nodes)
            if n.kind == "piecewise"
        )

    assert big_m(carried, new.network) < 0.5 * big_m(bounds, network)
    with pytest.raises(ValueError, match="powers of two"):
        rescale(network, powers_of_two=False).bounds(bounds)


def test_the_relaxation_keeps_its_value():
    solver = solver_or_skip()
    network = unbalanced(2)
    values = []
    for net in (network, rescale(network, powers_of_two=False).network):
        m = pyo.ConcreteModel()
        m.net = ReLUNetBlock(
            network=net, input_bounds=(-1, 1), formulation="bigm", bounds="interval"
        )
        m.obj = pyo.Objective(expr=m.net.outputs[0])
        pyo.TransformationFactory("core.relax_integer_vars").apply_to(m)
        solver.solve(m)
        values.append(pyo.value(m.obj))
    assert values[0] == pytest.approx(values[1], rel=1e-6)


def test_a_residual_connection_and_a_maximum():
    rng = np.random.default_rng(5)
    b = NetworkBuilder()
    x = b.input("x", (3,))
    first = b.affine("first", [(x, 50 * rng.normal(size=(4, 3)))], rng.normal(size=4))
    r1 = b.piecewise("r1", first, act.leaky_relu(0.1))
    second = b.affine("second", [(r1, rng.normal(size=(4, 4)))], rng.normal(size=4))
    added = b.affine("add", [(second, np.eye(4)), (first, np.eye(4))])
    r2 = b.piecewise("r2", added, act.relu())
    pool = b.max("pool", r2, [[0, 1], [2, 3]])
    network = b.build([b.affine("out", [(pool, 0.02 * rng.normal(size=(2, 2)))])])
    new = rescale(network)
    x = rng.uniform(-1, 1, (200, 3))
    assert new.network.evaluate(x) == pytest.approx(network.evaluate(x), rel=1e-12)
    assert new.objective[1] < 0.8 * new.objective[0]
    i = [n.name for n in network.nodes].index("r2")
    f = new.factors[i]
    assert f[0] == f[1] and f[2] == f[3] and (f != 1).all()


@pytest.mark.parametrize("name", ["relu6", "hard_tanh", "step"])
def test_units_that_are_not_homogeneous_keep_their_scale(name):
    b = NetworkBuilder()
    x = b.input("x", (2,))
    h = b.affine("h", [(x, 100 * np.eye(2))])
    network = b.build(
        [b.affine("y", [(b.piecewise("a", h, act.ACTIVATIONS[name]()), np.eye(2))])]
    )
    assert all((f == 1).all() for f in rescale(network).factors)


def test_errors():
    network = he_network(0, (2, 3, 1))
    with pytest.raises(ValueError, match="'weights' or 'big_m'"):
        rescale(network, "M")
    with pytest.raises(ValueError, match="needs bounds="):
        rescale(network, "big_m")
    with pytest.raises(ValueError, match="another network"):
        rescale(network, "big_m", compute_bounds(he_network(1, (2, 3, 1)), -1, 1))
