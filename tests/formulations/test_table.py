"""Networks whose inputs take few values written as tables."""

from __future__ import annotations

from itertools import product

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from tests.harness.formulations import violations
from tests.harness.random_networks import ALL_ACTIVATIONS, he_network, random_network

CONTINUOUS = pyo.Var()
CONTINUOUS.construct()


def integer_model(seed: int, **options):
    """Integers in [-2, 3] and {0, 1} and a number, any activations, two outputs."""
    rng = np.random.default_rng(seed)
    names = [str(rng.choice(ALL_ACTIVATIONS)) for _ in range(2)]
    net = random_network(rng, n_inputs=3, widths=(5, 4), n_outputs=2, activations=names)
    m = pyo.ConcreteModel()
    m.n, m.on = pyo.Var(domain=pyo.Integers, bounds=(-2, 3)), pyo.Var(domain=pyo.Binary)
    m.net = ReLUNetBlock(
        network=net, inputs=[m.n, 0.4, m.on], formulation="table", **options
    )
    return m


@pytest.mark.parametrize("seed", range(10))
def test_optima_are_those_of_an_enumeration(seed):
    m = integer_model(seed)
    points = [(n, 0.4, on) for n, on in product(range(-2, 4), (0, 1))]
    outputs = m.net.network.evaluate(np.array(points, dtype=float))
    for c in np.random.default_rng(seed).normal(size=(3, 2)):
        m.goal = pyo.Objective(expr=sum(a * y for a, y in zip(c, m.net.outputs.values())))
        pyo.SolverFactory("appsi_highs").solve(m)
        assert pyo.value(m.goal) == pytest.approx((outputs @ c).min(), abs=1e-6)
        at = (m.n.value, 0.4, m.on.value)
        assert m.net.network.evaluate(at) @ c == pytest.approx(pyo.value(m.goal), abs=1e-6)
        m.del_component("goal")
    for point in points:
        m.n.value, _, m.on.value = point
        m.net.warm_start(point)
        assert violations(m) == []


def test_values_of_continuous_inputs():
    net = random_network(np.random.default_rng(0), n_inputs=2, widths=(6, 6))
    grid = [0.5, 0.75, 1.5]
    m = pyo.ConcreteModel()
    m.z = pyo.Var(range(3), domain=pyo.Binary)
    m.p, m.k = pyo.Var(bounds=(0, 2)), pyo.Var(domain=pyo.Integers, bounds=(0, 4))
    m.one = pyo.Constraint(expr=sum(m.z.values()) == 1)
    m.price = pyo.Constraint(expr=m.p == sum(g * z for g, z in zip(grid, m.z.values())))
    m.net = ReLUNetBlock(
        network=net, inputs=[m.p, m.k], formulation="table", values={0: grid}
    )
    true = net.evaluate(np.array(list(product(grid, range(5)))))[:, 0]
    for sense, best in ((pyo.minimize, true.min()), (pyo.maximize, true.max())):
        m.goal = pyo.Objective(expr=m.net.outputs[0], sense=sense)
        pyo.SolverFactory("appsi_highs").solve(m)
        assert m.net.outputs[0].value == pytest.approx(best, abs=1e-6)
        assert m.net.error() < 1e-6
        m.del_component("goal")


def test_values_by_name_and_outside_of_the_bounds():
    net = random_network(np.random.default_rng(0), n_inputs=1)
    m = pyo.ConcreteModel()
    m.p = pyo.Var(bounds=(0, 1))
    m.net = ReLUNetBlock(
        network=net, inputs=[m.p], input_names=["price"], formulation="table",
        values={"price": [-3, 0.25, 1, 7]},
    )  # fmt: skip
    assert m.net.statistics().layers[0].function == "2 cells"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {},
            r"input 0 \('p'\) is no linear expression of a few integers.*values=\{0: \[...\]\}",
        ),
        ({"values": {0: [5.0]}}, r"no value of input 0 \('p'\) lies within its bounds"),
        ({"values": {3: [1.0]}}, "names the input 3; there are 2"),
        ({"values": {0: [np.nan]}}, "must be finite numbers"),
        ({"values": {0: range(100)}, "most": 20}, "take 22 combinations.*most="),
        ({"value": 3}, "no such option"),
        ({"values": {0: {0.5: CONTINUOUS}}}, "is no binary variable"),
    ],
)
def test_refusals(options, message):
    net = random_network(np.random.default_rng(0), n_inputs=2)
    m = pyo.ConcreteModel()
    m.p, m.n = pyo.Var(bounds=(0, 1)), pyo.Var(domain=pyo.Integers, bounds=(0, 10))
    with pytest.raises(ValueError, match=message):
        m.net = ReLUNetBlock(network=net, inputs=[m.p, m.n], formulation="table", **options)


def test_swaps():
    m = integer_model(3)
    m.goal = pyo.Objective(expr=m.net.outputs[0])
    found = []
    for formulation in ("bigm", "table", "hull", "table"):
        m.net.reformulate(formulation)
        pyo.SolverFactory("appsi_highs").solve(m)
        found.append(pyo.value(m.goal))
    assert np.ptp(found) < 1e-5
    copy = m.clone()
    copy.n.value, copy.on.value = 1, 0
    copy.net.warm_start([1, 0.4, 0])
    assert violations(copy) == []


@pytest.mark.parametrize("seed", range(3))
def test_binaries_of_the_user_choose(seed):
    """With a binary for each value of each input there are none of the table's own."""
    rng = np.random.default_rng(seed)
    net = random_network(rng, n_inputs=2, widths=(6, 6))
    grids = [np.round(rng.uniform(-1, 1, k), 3).tolist() for k in (4, 3)]
    m = pyo.ConcreteModel()
    m.x = pyo.Var([0, 1], bounds=(-1, 1))
    m.z = pyo.Var([(i, k) for i in (0, 1) for k in range(len(grids[i]))], domain=pyo.Binary)
    m.at = pyo.ConstraintList()
    for i, grid in enumerate(grids):
        z = [m.z[i, k] for k in range(len(grid))]
        m.at.add(sum(z) == 1)
        m.at.add(m.x[i] == sum(v * s for v, s in zip(grid, z)))
    values = {i: {v: m.z[i, k] for k, v in enumerate(grid)} for i, grid in enumerate(grids)}
    m.net = ReLUNetBlock(network=net, inputs=m.x, formulation="table", values=values)
    assert m.net.statistics().binaries == 0
    true = net.evaluate(np.array(list(product(*grids))))[:, 0]
    for model in (m, m.clone()):
        for sense, best in ((pyo.minimize, true.min()), (pyo.maximize, true.max())):
            model.goal = pyo.Objective(expr=model.net.outputs[0], sense=sense)
            pyo.SolverFactory("appsi_highs").solve(model)
            assert pyo.value(model.goal) == pytest.approx(best, abs=1e-6)
            assert model.net.error() < 1e-6
            model.del_component("goal")


def test_an_integer_that_is_fixed_while_the_table_is_written():
    """It counts with all of its values, for it may be freed."""
    values = []
    for fixed in (False, True):
        m = pyo.ConcreteModel()
        m.k = pyo.Var(bounds=(0, 3), domain=pyo.Integers)
        if fixed:
            m.k.fix(1)
        m.net = ReLUNetBlock(
            network=he_network(0, (1, 6, 1)), inputs=[m.k], formulation="table"
        )
        m.k.unfix()
        m.obj = pyo.Objective(expr=m.net.outputs[0])
        pyo.SolverFactory("appsi_highs").solve(m)
        assert m.net.error() < 1e-9
        values.append(pyo.value(m.obj))
    assert values[0] == pytest.approx(values[1])


def test_values_that_a_param_may_change_are_asked_for():
    m = pyo.ConcreteModel()
    m.k, m.p = pyo.Var(bounds=(0, 3), domain=pyo.Integers), pyo.Param(mutable=True)
    m.p.value = 2.0
    given = {"network": he_network(0, (1, 6, 1)), "inputs": [m.p * m.k]}
    with pytest.raises(ValueError, match="without mutable Params; say what it can be"):
        m.net = ReLUNetBlock(**given, input_bounds=(0, 9), formulation="table")
