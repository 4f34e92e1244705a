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


def test_two_inputs_of_any_value_are_refused():
    net = random_network(np.random.default_rng(0), n_inputs=2)
    m = pyo.ConcreteModel()
    m.p, m.q = pyo.Var(bounds=(0, 1)), pyo.Var(bounds=(0, 1))
    why = (
        r"input 0 \('.*'\) is no linear expression of a few integers.*values=\{0: \[...\]\}"
    )
    for inputs in ([m.p, m.q], [m.p, 0.5]):
        with pytest.raises(ValueError, match=why):
            m.net = ReLUNetBlock(network=net, inputs=inputs, formulation="table")


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


def curves_by_value(seed: int, named: bool, n_outputs: int = 1):
    """A network of ``gas``, which is any, of one of two pressures, and of an integer."""
    net = random_network(
        np.random.default_rng(seed), n_inputs=3, widths=(6, 5), n_outputs=n_outputs
    )
    m = pyo.ConcreteModel()
    m.gas = pyo.Var(bounds=(-1, 1.5))
    m.to = pyo.Var([0, 1], domain=pyo.Binary)
    m.one = pyo.Constraint(expr=m.to[0] + m.to[1] == 1)
    m.pressure = pyo.Var(bounds=(0, 1))
    m.routed = pyo.Constraint(expr=m.pressure == 0.2 * m.to[0] + 0.9 * m.to[1])
    m.n = pyo.Var(domain=pyo.Integers, bounds=(0, 2))
    values = {1: {0.2: m.to[0], 0.9: m.to[1]} if named else [0.2, 0.9]}
    m.net = ReLUNetBlock(
        network=net,
        inputs=[m.gas, m.pressure, m.n],
        formulation="table",
        values=values,
    )
    return m


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_one_input_may_take_any_value(seed, named):
    m = curves_by_value(seed, named, 1 + seed % 2)
    net, grid = m.net.network, np.linspace(-1, 1.5, 2001)
    points = np.array([(g, p, n) for g in grid for p in (0.2, 0.9) for n in range(3)])
    rng = np.random.default_rng(seed)
    for c in rng.normal(size=(3, net.n_outputs + 1)):
        cost = c[:-1] @ np.array([*m.net.outputs.values()]) + c[-1] * m.gas
        m.goal = pyo.Objective(expr=cost)
        pyo.SolverFactory("appsi_highs").solve(m)
        true = net.evaluate(points) @ c[:-1] + c[-1] * points[:, 0]
        found, size = pyo.value(m.goal), max(1.0, np.abs(true).max())
        assert true.min() - 1e-2 * size <= found <= true.min() + 1e-6
        assert m.net.error() < 1e-6 * size
        m.del_component("goal")
    for gas, p, n in points[rng.integers(0, len(points), 5)]:
        m.gas.value, m.pressure.value, m.n.value = gas, p, n
        m.to[0].value, m.to[1].value = int(p == 0.2), int(p == 0.9)
        m.net.warm_start([gas, p, n])
        assert violations(m) == []


def test_the_limit_counts_pieces():
    m = curves_by_value(1, True)
    count = int(m.net.statistics().layers[0].function.split()[0])
    m.net.reformulate("table", values={1: [0.2, 0.9]}, most=count)
    with pytest.raises(ValueError, match=f"more than {count - 1}; raise the option most="):
        m.net.reformulate("table", values={1: [0.2, 0.9]}, most=count - 1)
