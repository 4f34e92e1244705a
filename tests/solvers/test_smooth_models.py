"""Models with smooth networks: exact formulations, proven optima, starts, bounds of models."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from pyomo_relu.heuristics import find_start
from pyomo_relu.network import NetworkBuilder
from tests.harness.random_networks import SMOOTH, random_network

#: A fine grid of the box, of the two inputs of all models here.
SIDE = np.linspace(-1.0, 1.0, 401)
GRID = np.stack(np.meshgrid(SIDE, SIDE), axis=-1).reshape(-1, 2)


#: Functions that are expressions of Pyomo, too.
WRITTEN = [name for name in SMOOTH if name not in ("gelu", "erf")]


def random_smooth(seed, choices=SMOOTH):
    rng = np.random.default_rng(seed)
    names = [str(name) for name in rng.choice(choices, 2)]
    if seed % 3 == 0:
        names[0] = "relu"
    return random_network(
        rng,
        n_inputs=2,
        widths=(4, 3),
        n_outputs=2,
        activations=names,
        residual=seed % 4 == 1,
        max_pool=seed % 5 == 2,
        output_activation="sigmoid" if seed % 4 == 3 else None,
    )


def model_of(network, seed, formulation=None, **options):
    """Two inputs, one maybe an integer over ten, a row on inputs, and one on outputs."""
    rng = np.random.default_rng(seed)
    m = pyo.ConcreteModel()
    m.x = pyo.Var([0, 1], bounds=(-1, 1))
    first = m.x[0]
    if seed % 2:
        m.k = pyo.Var(domain=pyo.Integers, bounds=(-10, 10))
        first = m.k / 10.0
        m.x[0].fix(0.0)
    m.net = ReLUNetBlock(
        network=network,
        inputs=[first, m.x[1]],
        input_bounds=(-1, 1),
        formulation=formulation,
        **options,
    )
    a = rng.normal(size=2)
    m.row = pyo.Constraint(expr=float(a[0]) * first + float(a[1]) * m.x[1] <= 0.3)
    y = network.evaluate(GRID)
    limit = float(np.quantile(y[:, 1], 0.7))
    m.cap = pyo.Constraint(expr=m.net.outputs[1] <= limit)
    m.goal = pyo.Objective(expr=m.net.outputs[0] + 0.1 * first)
    points = GRID
    if seed % 2:
        points = GRID[np.isclose(GRID[:, 0] * 10.0, np.round(GRID[:, 0] * 10.0))]
    y = network.evaluate(points)
    fine = (points @ a <= 0.3) & (y[:, 1] <= limit)
    return m, float((y[:, 0] + 0.1 * points[:, 0])[fine].min())


def check_optimum(seed, solver):
    """The optimum is no worse than the best point of the grid, and hardly better."""
    m, known = model_of(random_smooth(seed), seed)
    results = pyo.SolverFactory(solver).solve(m)
    assert pyo.check_optimal_termination(results), seed
    assert m.net.error() <= 1e-9
    found = pyo.value(m.goal)
    assert found <= known + 1e-4 * max(1.0, abs(known)), seed
    # Between points of the grid a network gains by its slope times half a step, and by
    # the rows' tolerances.
    assert found >= known - 0.02 * max(1.0, abs(known)), seed
    assert pyo.value(m.row.body) <= 0.3 + 1e-6
    assert pyo.value(m.cap.body) <= pyo.value(m.cap.upper) + 1e-6


@pytest.mark.parametrize("seed", [1, 3])
@pytest.mark.parametrize("solver", ["relu_global", "relu"])
def test_proven_optima(seed, solver):
    check_optimum(seed, solver)


@pytest.mark.parametrize("seed", [6])
def test_proven_optima_by_scip(seed):
    pytest.importorskip("pyscipopt")
    check_optimum(seed, "relu_scip")


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["relu_global", "relu", "relu_scip"])
def test_many_proven_optima(solver):
    for seed in range(100, 200):
        check_optimum(seed, solver)


def violation(m):
    worst = 0.0
    for c in m.component_data_objects(pyo.Constraint, active=True):
        body = pyo.value(c.body)
        low, high = (-np.inf if c.lower is None else pyo.value(c.lower)), np.inf
        high = high if c.upper is None else pyo.value(c.upper)
        worst = max(worst, low - body, body - high)
    for v in m.component_data_objects(pyo.Var):
        low, high = (-np.inf if v.lb is None else v.lb), (np.inf if v.ub is None else v.ub)
        worst = max(worst, low - v.value, v.value - high)
    return worst


@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("name", WRITTEN)
def test_expressions_are_the_network(name, reduced):
    rng = np.random.default_rng(3)
    second = name if reduced else "relu"
    network = random_network(rng, widths=(3, 3), activations=(name, second), n_outputs=2)
    m = pyo.ConcreteModel()
    m.x = pyo.Var([0, 1], bounds=(-2, 2))
    m.net = ReLUNetBlock(network=network, inputs=m.x, formulation="smooth", reduced=reduced)
    for x in rng.uniform(-2, 2, (5, 2)):
        m.net.warm_start(x)
        assert violation(m) <= 1e-12
        assert m.net.error() <= 1e-12
    (binaries,) = {m.net.statistics().binaries} or {0}
    assert (binaries == 0) == reduced or not reduced


@pytest.mark.parametrize("name", ["gelu", "erf"])
def test_what_has_no_expression_is_refused(name):
    network = random_network(np.random.default_rng(0), activations=(name,))
    with pytest.raises(ValueError, match=f"layer '{name}_1' computes '{name}'"):
        ReLUNetBlock(
            network=network, input_bounds=(-1, 1), formulation="smooth"
        ).construct()


def test_other_formulations_name_the_remedy():
    m = pyo.ConcreteModel()
    m.net = ReLUNetBlock(network=random_smooth(1), input_bounds=(-1, 1), formulation=None)
    for name in ("bigm", "hull", "auto", "regions", "disjunctive"):
        with pytest.raises(ValueError, match="formulation='smooth', exact"):
            m.net.reformulate(name)
    with pytest.raises(ValueError, match="has pieces, and reduced=True"):
        network = random_network(np.random.default_rng(0), activations=("relu", "tanh"))
        m.other = ReLUNetBlock(
            network=network, input_bounds=(-1, 1), formulation="smooth", reduced=True
        )


def test_units_that_do_not_move_are_numbers():
    b = NetworkBuilder()
    h = b.affine("d", [(b.input("x", (1,)), [[1.0], [0.0]])], [0.0, 0.0])
    network = b.build([b.affine("o", [(b.smooth("s", h, "softplus"), [[1.0, 2.0]])])])
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(-1, 1))
    m.net = ReLUNetBlock(network=network, inputs=[m.x], formulation="smooth")
    assert len(m.net.layer["s"].smooth) == 1
    m.net.warm_start([0.4])
    assert violation(m) <= 1e-12


@pytest.mark.parametrize("seed", range(3))
def test_starts_and_tighter_bounds(seed):
    m, known = model_of(random_smooth(seed, WRITTEN), seed, "smooth")
    start = find_start(m, time_limit=120)
    assert start.feasible and m.net.error() <= 1e-9
    assert violation(m) <= 1e-6
    assert start.value >= known - 0.02 * max(1.0, abs(known))
    before = m.net.bounds.statistics()["output_width"]
    m.net.tighten("boxes")
    assert m.net.bounds.statistics()["output_width"] <= before + 1e-12
    assert "smooth" in str(m.net.statistics())


def test_the_relaxation_holds_every_point():
    rng = np.random.default_rng(5)
    for seed in range(4):
        network = random_smooth(seed)
        m = pyo.ConcreteModel()
        m.x = pyo.Var([0, 1], bounds=(-1, 1))
        m.net = ReLUNetBlock(network=network, inputs=m.x, formulation="relaxation")
        for x in rng.uniform(-1, 1, (20, 2)):
            m.net.warm_start(x)
            assert violation(m) <= 1e-9, seed
