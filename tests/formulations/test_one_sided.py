"""Units of which a model needs one side only: no other optimum, and no binaries."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import NetworkBuilder, ReLUNetBlock
from pyomo_relu.bounds import compute_bounds
from pyomo_relu.formulations import OneSided
from pyomo_relu.formulations.unit_sides import UnitSides
from pyomo_relu.formulations.units import unit_pieces
from pyomo_relu.network import Network, activations
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.solvers.relu.scene import look_at
from tests.harness.random_networks import ALL_ACTIVATIONS, random_network
from tests.presolve.random_wired import blocks_on_inputs, optimum, random_pushed

FORMS = ("bigm", "hull", "partition", "cuts", "logarithmic")


def convex_network(rng: np.random.Generator, n: int = 3, widths=(6, 5)) -> Network:
    """Input-convex: nonnegative weights behind the first layer, and the inputs beside them."""
    b = NetworkBuilder()
    x = last = b.input("x", (n,))
    for k, width in enumerate(widths):
        w = rng.normal(size=(width, b.nodes[last].size))
        terms = [(last, abs(w) if k else w)]
        if k:
            terms.append((x, rng.normal(size=(width, n))))
        h = b.affine(f"dense_{k}", terms, 0.3 * rng.normal(size=width))
        last = b.piecewise(f"relu_{k}", h, activations.relu())
    w = rng.uniform(0, 1, (1, widths[-1]))
    return b.build([b.affine("out", [(last, w), (x, rng.normal(size=(1, n)))])])


def any_network(rng: np.random.Generator) -> Network:
    """Of two inputs: any activation, maxima, sums of layers, or an input-convex one."""
    if rng.random() < 0.2:
        return convex_network(rng, 2)
    return random_network(
        rng,
        n_inputs=2,
        widths=(4, 3),
        activations=[str(a) for a in rng.choice(ALL_ACTIVATIONS, 2)]
        if rng.random() < 0.5
        else ("relu",),
        max_pool=bool(rng.random() < 0.3),
        residual=bool(rng.random() < 0.3),
        output_activation="relu" if rng.random() < 0.2 else None,
        density=float(rng.choice([1.0, 0.6])),
    )


def check_optimum(seed: int) -> tuple[int, int, int]:
    """Compare the optimum with that of big-M; binaries of either, and whether it exists."""
    m = random_pushed(seed, make_network=any_network, formulation=None)
    pyo.TransformationFactory("relu.bigm").apply_to(m)
    true, exact = optimum(m), m.net.statistics().binaries
    form = FORMS[seed % len(FORMS)]
    pyo.TransformationFactory("relu.one_sided").apply_to(m, form=form)
    found = optimum(m)
    pyo.TransformationFactory("relu.one_sided").apply_to(m)
    few = m.net.statistics().binaries
    again = optimum(m)
    for value in (found, again):
        assert (value is None) == (true is None), (seed, form)
        if true is not None:
            assert value == pytest.approx(true, abs=1e-5, rel=1e-6), (seed, form)
    return exact, few, true is not None


def test_no_optimum_changes():
    """Random models of every kind, whatever writes the units that need a binary."""
    exact, few, solved = np.sum([check_optimum(seed) for seed in range(8)], axis=0)
    assert few < exact and solved >= 6


@pytest.mark.slow
def test_no_optimum_of_five_hundred_changes():
    exact, few, solved = np.sum([check_optimum(k) for k in range(1000, 1500)], axis=0)
    assert few < 0.9 * exact and solved >= 300


def convex_model(seed: int, network: Network | None = None, **options) -> pyo.ConcreteModel:
    """The smallest output of an input-convex network under a row on its inputs."""
    net = convex_network(np.random.default_rng(seed)) if network is None else network
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(net.n_inputs), bounds=(-2, 2))
    m.t = pyo.Var()
    m.net = ReLUNetBlock(network=net, inputs=m.x, **options)
    m.limit = pyo.Constraint(expr=m.net.outputs[0] <= m.t)
    m.row = pyo.Constraint(expr=sum(m.x.values()) >= 0.5)
    m.goal = pyo.Objective(expr=m.t + 0.1 * m.x[0])
    return m


@pytest.mark.parametrize("solver", ["appsi_highs", "relu", "relu_highs", "relu_scip"])
def test_epigraph_of_a_convex_network_is_a_linear_program(solver):
    m = convex_model(0)
    pyo.SolverFactory("appsi_highs").solve(m)
    true = pyo.value(m.goal)
    m.net.reformulate("one_sided")
    s = m.net.statistics()
    assert s.binaries == 0 and s.units_on_one_side > 5
    assert f"{s.units_on_one_side} of {s.units_on_one_side} unstable units" in str(s)
    if solver == "relu_scip":
        pytest.importorskip("pyscipopt")
    pyo.SolverFactory(solver).solve(m)
    assert pyo.value(m.goal) == pytest.approx(true, abs=1e-4)
    assert m.t.value >= m.net.evaluate()[0] - 1e-6


@pytest.mark.parametrize("n", [8, 20])
def test_relu_writes_a_convex_network_at_once(n, capsys):
    m = convex_model(3, network=convex_network(np.random.default_rng(3), n, (20, 20)))
    results = pyo.SolverFactory("relu").solve(m, tee=True)
    assert "columns (0 integer)" in capsys.readouterr().out
    assert pyo.check_optimal_termination(results)
    pyo.TransformationFactory("relu.one_sided").apply_to(m)
    assert pyo.value(m.goal) == pytest.approx(optimum(m), abs=1e-4, rel=1e-4)
    scene = look_at(read_problem(m))
    assert scene.is_convex and "networks that need no binary" in str(scene)
    m.row.set_value(m.x[0] * m.x[1] >= 0.1)  # which no linear program takes
    assert not look_at(read_problem(m, general=True)).is_convex
    m.row.set_value(m.net.outputs[0] >= m.x[0])
    m.net.reformulate("bigm")
    assert not look_at(read_problem(m)).is_convex


def test_concave_and_mixed_sides():
    b = NetworkBuilder()
    h = b.affine("pre", [(b.input("x", (2,)), [[1.0, -1.0], [1.0, 2.0]])])
    low = b.piecewise("low", h, activations.relu(max_value=0.5))
    out = b.affine("out", [(low, [[1.0, -1.0], [0.0, 1.0]])])
    bounds = compute_bounds(b.build([out]), [-1, -1], [1, 1], "crown")
    held = UnitSides(bounds, ("epigraph", "hypograph"))
    (i,) = (k for k, node in enumerate(bounds.network.nodes) if node.name == "low")
    node = bounds.network.nodes[i]
    assert held.below[i].tolist() == [True, False] and held.above[i].tolist() == [
        False,
        True,
    ]
    # ReLU with a top bends both ways, so neither of the two needs no binary.
    assert not any(held.pieces_suffice(i, u, pieces_of(bounds, node, u)) for u in (0, 1))
    inside = compute_bounds(bounds.network, [0.1, 0.0], [1.0, 0.1], "crown")
    held = UnitSides(inside, ("epigraph", "hypograph"))
    assert held.pieces_suffice(i, 1, pieces_of(inside, node, 1)) == -1
    assert held.pieces_suffice(i, 0, pieces_of(inside, node, 0)) == 0


def pieces_of(bounds, node, u):
    low, high = bounds.lower[node.source][u], bounds.upper[node.source][u]
    return unit_pieces(node, u, float(low), float(high))


@pytest.mark.parametrize("seed", range(30))
def test_what_is_held_moves_the_outputs_as_it_should(seed):
    """Entries that move off their values on their free side leave outputs on theirs."""
    rng = np.random.default_rng(seed)
    net = any_network(rng)
    bounds = compute_bounds(net, [-1.5] * 2, [2.0] * 2, "crown")
    side = str(rng.choice(["epigraph", "hypograph"]))
    held = UnitSides(bounds, (side,) * net.n_outputs)
    for x in rng.uniform(-1.5, 2.0, (20, 2)):
        true = net.evaluate(x)
        values: list[np.ndarray] = []
        for i, node in enumerate(net.nodes):
            if i in net.inputs:
                values.append(x)
                continue
            y = node(*[values[s][None] for s in node.sources])[0]
            free_up = ~held.above[i] & held.below[i]
            free_down = ~held.below[i] & held.above[i]
            moved = y + rng.exponential(0.3, y.size) * (1.0 * free_up - free_down)
            values.append(np.clip(moved, bounds.lower[i], bounds.upper[i]))
        y = np.concatenate([values[i] for i in net.outputs])
        gap = y - true if side == "epigraph" else true - y
        assert gap.min() >= -1e-9


def test_a_row_that_comes_later_is_refused():
    m = convex_model(1)
    m.net.reformulate("one_sided")
    m.more = pyo.Constraint(expr=m.net.outputs[0] >= m.x[1])
    with pytest.raises(ValueError, match=r"only the epigraph of .*reformulate\(\)"):
        optimum(m)
    m.net.reformulate()
    assert m.net.statistics().binaries > 0
    optimum(m)


def test_a_row_on_a_variable_inside_is_refused():
    m = convex_model(1)
    m.net.reformulate("one_sided")
    m.more = pyo.Constraint(expr=m.net.layer["relu_0"].out[0] <= 1.0)
    with pytest.raises(ValueError, match=r"relu_0.*out\[0\]' inside of it is not what"):
        optimum(m)


def test_auto_takes_it_where_it_saves_binaries():
    m = convex_model(2, formulation="auto")
    assert m.net.statistics().reason.startswith("bigm")
    pyo.TransformationFactory("relu.auto").apply_to(m, ask_model=True)
    s = m.net.statistics()
    assert s.reason.startswith("one_sided: ") and s.binaries == 0
    m.goal.sense, m.t = pyo.maximize, 0.0
    m.limit.set_value(m.net.outputs[0] >= m.t)
    pyo.TransformationFactory("relu.auto").apply_to(m, ask_model=True)
    assert m.net.statistics().reason.startswith("bigm")


def test_options():
    for form in ("regions", "table", "auto", "relaxation", "fixed_pattern", "one_sided"):
        with pytest.raises(ValueError, match="doesn't write single units exactly"):
            OneSided(form=form)
    with pytest.raises(ValueError, match="'one_sided': side='up' is unknown"):
        convex_model(0, formulation="one_sided", side="up")
    m = convex_model(0, formulation=("one_sided", {"side": {0: "hypograph"}}))
    assert "though of the outputs the hypograph is enough" in m.net.statistics().reason
    m = blocks_on_inputs(0, 2, make_network=any_network, formulation="one_sided")
    assert m.net.statistics().units_on_one_side == 0
    assert "call reformulate() when" in m.net[0].statistics().reason
