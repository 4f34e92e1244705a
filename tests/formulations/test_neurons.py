"""What the relaxation of a single neuron is, formulation by formulation.

Objectives are scaled to values of order one over the box, so that 1e-9 is an absolute
difference. What is seen is about 1e-14.
"""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.gdp import Disjunct, Disjunction

from pyomo_relu.analysis import linear_regions
from tests.formulations.support import maximum, neuron, relaxed_minima
from tests.harness.formulations import boxed_model
from tests.harness.random_networks import random_pieces

#: Of objective values of order one.
EQUAL = 1e-9


def of_order_one(net, low, high, directions):
    """A case: directions are scaled so that no term's sum over the box is beyond 1."""
    points = np.random.default_rng(0).uniform(low, high, (100, len(low)))
    top = np.abs(net.evaluate(np.vstack([low, high, points]))).max()
    size = np.abs(directions) @ [*np.maximum(np.abs(low), np.abs(high)), top]
    return net, low, high, directions / size[:, None]


def random_neuron(seed: int, n: int | None = None, name: str = "relu"):
    """Weights of both signs, a box that isn't symmetric, a bias that makes it unstable."""
    rng = np.random.default_rng(seed)
    n = n or int(rng.integers(1, 7))
    w = rng.normal(size=n) * 10.0 ** rng.uniform(-1, 1)
    low = rng.uniform(-2, 1, n)
    high = low + rng.uniform(0.1, 2, n)
    center = w @ (low + high) / 2
    bias = -center + rng.uniform(-0.5, 0.5) * np.abs(w) @ (high - low) / 2
    net = neuron(w, bias, random_pieces(rng, name, 1))
    directions = rng.normal(size=(3, n + 1))
    directions[:, -1] = -np.abs(directions[:, -1])  # where the relaxation is loose
    directions[2, -1] *= -1
    directions[:, :-1] *= np.abs(w)
    return of_order_one(net, low, high, directions)


def minima(case, formulation, **options):
    net, low, high, directions = case
    return relaxed_minima(boxed_model(net, low, high, formulation, **options), directions)


def assert_equal(a, b) -> None:
    assert np.abs(a - b).max() <= EQUAL, (a, b)


def assert_between(weak, between, strong) -> None:
    """Minima of relaxations, each no weaker than the one before."""
    assert (between >= weak - EQUAL).all(), (weak, between)
    assert (between <= strong + EQUAL).all(), (between, strong)


def gdp_hull(case):
    """Pyomo's own hull of the two pieces of a ReLU over the inputs."""
    net, low, high, directions = case
    node = net.nodes[1]
    w, bias = node.weights[0][0], float(node.bias[0])
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(len(w)))
    for i in m.x:
        m.x[i].setlb(low[i])
        m.x[i].setub(high[i])
    top = float(np.abs(w) @ np.maximum(abs(low), abs(high)) + abs(bias))
    m.y = pyo.Var(bounds=(0, top))
    row = pyo.quicksum(w[i] * m.x[i] for i in m.x) + bias
    m.on, m.off = Disjunct(), Disjunct()
    m.on.value = pyo.Constraint(expr=m.y == row)
    m.on.sign = pyo.Constraint(expr=row >= 0)
    m.off.value = pyo.Constraint(expr=m.y == 0)
    m.off.sign = pyo.Constraint(expr=row <= 0)
    m.either = Disjunction(expr=[m.on, m.off])
    pyo.TransformationFactory("gdp.hull").apply_to(m)
    m.net = pyo.Block()
    m.net.outputs = pyo.Reference(m.y)
    return relaxed_minima(m, directions)


def nested_minima(case, seed: int) -> list[np.ndarray]:
    """Minima of ever finer partitions, from one group to one for each input."""
    n = case[0].n_inputs
    rng = np.random.default_rng(seed)
    order, ends = rng.permutation(n), rng.permutation(n - 1) + 1

    def split(weights, parts):
        return [list(g) for g in np.split(order, sorted(ends[: parts - 1]))]

    return [minima(case, "partition", parts=p, split=split) for p in range(1, n + 1)]


@pytest.mark.parametrize(
    "first",
    [f if f < 20 else pytest.param(f, marks=pytest.mark.slow) for f in range(0, 300, 10)],
)
def test_partition_reaches_from_bigm_to_hull(first):
    """P = 1 is big-M; P = n is the hull, the closure of the cuts, Pyomo's gdp.hull."""
    for seed in range(first, first + 10):
        case = random_neuron(seed)
        hull = minima(case, "hull")
        assert_equal(minima(case, "partition", parts=1), minima(case, "bigm"))
        assert_equal(minima(case, "partition", parts=99), hull)
        assert_equal(gdp_hull(case), hull)
        assert_equal(closure(case), hull)
        values = nested_minima(case, seed)
        for weak, strong in zip(values, values[1:]):
            assert (strong >= weak - EQUAL).all(), (weak, strong)
        assert_equal(values[-1], hull)


def test_bigm_is_weaker_than_hull_somewhere():
    gaps = [
        minima(random_neuron(s, 5), "hull") - minima(random_neuron(s, 5), "bigm")
        for s in range(20)
    ]
    assert max(g.max() for g in gaps) > 0.1


@pytest.mark.parametrize(
    "name", ["leaky_relu", "hard_sigmoid", "abs", "step", "pwl", "pwl_jump"]
)
def test_other_activations(name):
    for seed in range(200, 206):
        case = random_neuron(seed, name=name)
        assert_equal(minima(case, "partition", parts=1), minima(case, "bigm"))
        assert_equal(minima(case, "partition", parts=99), minima(case, "hull"))


@pytest.mark.parametrize("split", ["equal_size", "equal_range", "sign", "random"])
def test_splits_lie_between(split):
    for seed in range(10):
        case = random_neuron(seed, 6)
        weak, strong = minima(case, "bigm"), minima(case, "hull")
        between = minima(case, "partition", parts=3, split=split)
        assert_between(weak, between, strong)


def test_sums_are_of_order_one():
    """A group whose sum is below a solver's tolerance is scaled, and as tight as before."""
    net = neuron([1.0, 4e-8, -3e5, 2e-7], 0.1)
    directions = np.array([[1.0, 1e-8, 3e5, 1e-7, -2.0], [-1.0, 0, -3e5, 0, -1.0]])
    case = of_order_one(net, -np.ones(4), np.ones(4), directions)
    m = boxed_model(*case[:3], "partition", parts=4)
    for v in m.net.layer["unit"].share.values():
        assert 0.5 < max(-v.lb, v.ub) < 1e3
    assert_equal(minima(case, "partition", parts=4), minima(case, "hull"))
    assert_equal(minima(case, "partition", parts=1), minima(case, "bigm"))


def test_hull_is_the_convex_hull():
    """In one direction the hull's minimum is attained by points of the graph."""
    for seed in range(20):
        net, low, high, directions = case = random_neuron(seed, 3)
        # The hull's vertices: corners of the box and points where the unit bends on
        # an edge. All edges of a box in three dimensions are few.
        w, b = net.nodes[1].weights[0][0], float(net.nodes[1].bias[0])
        corners = np.array(np.meshgrid(*zip(low, high))).reshape(3, -1).T
        points = list(corners)
        for c in corners:
            for i in range(3):
                rest = b + w @ c - w[i] * c[i]
                t = -rest / w[i]
                if low[i] < t < high[i]:
                    p = c.copy()
                    p[i] = t
                    points.append(p)
        graph = np.column_stack([points, net.evaluate(np.array(points))])
        exact = (graph @ directions.T).min(axis=0)
        assert_equal(minima(case, "hull"), exact)


def test_hull_of_a_maximum():
    """The hull of max over a box: every vertex is a vertex of an argument's region."""
    for seed in range(15):
        rng = np.random.default_rng(seed)
        n, d = 2, int(rng.integers(2, 5))
        w, b = rng.normal(size=(d, n)), 0.3 * rng.normal(size=d)
        net = maximum(w, b)
        low, high = -np.ones(n), np.ones(n)
        directions = rng.normal(size=(4, n + 1))
        regions = linear_regions(net, low, high)
        points = np.vstack([regions.vertices(r) for r in range(regions.n_regions)])
        graph = np.column_stack([points, net.evaluate(points)])
        case = of_order_one(net, low, high, directions)
        exact = (graph @ case[-1].T).min(axis=0)
        assert_equal(minima(case, "hull"), exact)
        assert (minima(case, "bigm") <= exact + EQUAL).all()


def closure(case):
    """Minima over big-M and all ideal cuts: separated for each direction in turn."""
    net, low, high, directions = case
    found = []
    for c in directions:
        m = boxed_model(net, low, high)
        terms = [*m.x.values(), *m.net.outputs.values()]
        m.goal = pyo.Objective(expr=pyo.quicksum(float(a) * v for a, v in zip(c, terms)))
        m.net.reformulate("cuts", scope="model", rounds=100, tolerance=1e-10)
        m.del_component("goal")
        found += list(relaxed_minima(m, c))
    return np.array(found)


@pytest.mark.parametrize("name", ["leaky_relu", "abs", "step"])
def test_closure_of_cuts_is_the_hull(name):
    for seed in range(5):
        case = random_neuron(seed, name=name)
        assert_equal(closure(case), minima(case, "hull"))


def test_cuts_of_more_pieces_lie_between():
    for seed in range(8):
        case = random_neuron(seed, name="hard_sigmoid")
        assert_between(minima(case, "bigm"), closure(case), minima(case, "hull"))


def test_cuts_of_a_maximum():
    """With the cuts, the upper side of a maximum is its hull's."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        d = int(rng.integers(2, 5))
        net = maximum(rng.normal(size=(d, 2)), 0.3 * rng.normal(size=d))
        directions = rng.normal(size=(3, 3))
        case = of_order_one(net, -np.ones(2), np.ones(2), directions)
        assert_equal(closure(case), minima(case, "hull"))


def test_relaxation_is_that_of_bigm():
    for name in ("relu", "leaky_relu", "hard_sigmoid", "step", "pwl", "pwl_jump"):
        for seed in range(6):
            case = random_neuron(seed, name=name)
            assert_equal(minima(case, "relaxation"), minima(case, "bigm"))


def test_relaxation_of_a_maximum_is_its_hull():
    """Over arguments that are inputs, box and all."""
    for seed in range(8):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(2, 5))
        net = maximum(np.eye(n), np.zeros(n))
        low = rng.uniform(-1, 0, n)
        high = low + rng.uniform(0.5, 1, n)
        case = of_order_one(net, low, high, rng.normal(size=(4, n + 1)))
        assert_equal(minima(case, "relaxation"), minima(case, "hull"))


def test_disjunctive_over_the_inputs_is_the_hull():
    for seed in range(6):
        case = random_neuron(seed, 4)
        inputs = minima(case, "disjunctive", space="inputs")
        assert_equal(inputs, minima(case, "hull"))
        assert_equal(minima(case, "disjunctive"), minima(case, "bigm"))
