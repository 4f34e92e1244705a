"""Linear bounds: sound on every kind of network, tighter than interval arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyomo_relu.bounds import compute_bounds, crown_arrays, linear_bounds_of
from pyomo_relu.bounds.backward import Backward
from pyomo_relu.bounds.crown import absolute_gradient
from pyomo_relu.bounds.linear import RULES
from pyomo_relu.network import NetworkBuilder, activations
from tests.bounds.soundness import assert_contains_samples, random_case
from tests.harness.random_networks import he_network, random_network
from tests.harness.strategies import boxes, networks, points_in


@given(st.data())
def test_no_activation_is_outside(data):
    network = data.draw(networks())
    lower, upper = data.draw(boxes(network.n_inputs))
    rng = np.random.default_rng(0)
    for method in ("interval", "improved_interval", "crown"):
        bounds = compute_bounds(network, lower, upper, method)
        assert_contains_samples(bounds, rng, 200)


@pytest.mark.parametrize("rule", [*RULES, "constant"])
def test_each_rule_alone_is_sound(rule):
    for seed in range(30):
        network, lower, upper = random_case(seed)
        bounds = compute_bounds(network, lower, upper, "crown", rules=[rule])
        assert_contains_samples(bounds, np.random.default_rng(seed), 100)


def test_many_boxes_at_once_are_sound_and_inherit():
    for seed in range(30):
        network, lower, upper = random_case(seed)
        rng = np.random.default_rng(seed)
        parent = crown_arrays(network, lower[None], upper[None])
        cut = lower + rng.random((7, network.n_inputs)) * (upper - lower)
        lows, highs = crown_arrays(
            network, np.minimum(lower, cut), np.minimum(upper, cut), parent, rules=["zero"]
        )
        for k in range(7):
            x = points_in(rng, np.minimum(lower, cut)[k], cut[k], 50)
            for a, low, high in zip(network.activations(x), lows, highs):
                assert (low[k] <= a).all() and (a <= high[k]).all()
        for low, high, a, b in zip(lows, highs, *parent):
            assert (low >= a).all() and (high <= b).all()


def test_known_values():
    # y = relu(x1 + x2) - relu(x1 - x2) on [-1, 1]^2; y is in [-2, 2].
    b = NetworkBuilder()
    x = b.input("x", (2,))
    h = b.affine("h", [(x, [[1, 1], [1, -1]])])
    r = b.piecewise("r", h, activations.relu())
    y = b.affine("y", [(r, [[1, -1]])])
    network = b.build([y])
    low, high = compute_bounds(network, -1, 1, "crown", rules=["zero"]).outputs
    # relu(z) <= z / 2 + 1 on [-2, 2]: y <= (x1 + x2) / 2 + 1 <= 2
    assert high == pytest.approx([2.0]) and low == pytest.approx([-2.0])


def test_cancellation_in_a_residual_is_seen():
    b = NetworkBuilder()
    x = b.input("x", (3,))
    h = b.affine("h", [(x, np.eye(3))], 5.0)
    r = b.piecewise("r", h, activations.relu())
    y = b.affine("y", [(r, np.eye(3)), (x, -np.eye(3))])
    network = b.build([y])
    for method in ("improved_interval", "crown"):
        low, high = compute_bounds(network, -1, 1, method).outputs
        assert low == pytest.approx(np.full(3, 5.0)) == high
    low, high = compute_bounds(network, -1, 1, "interval").outputs
    assert high - low == pytest.approx(np.full(3, 4.0))


def test_sparse_and_dense_agree():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        network = random_network(rng, n_inputs=20, widths=(30, 30), density=0.2)
        dense = NetworkBuilder()
        for node in network.nodes:
            if node.kind == "input":
                dense.input(node.name, node.shape)
            elif node.kind == "affine":
                terms = [
                    (s, w.toarray() if hasattr(w, "toarray") else w)
                    for s, w in zip(node.sources, node.weights)
                ]
                dense.affine(node.name, terms, node.bias)
                # The builder chooses the storage itself, so set it by hand.
                object.__setattr__(
                    dense.nodes[-1], "weights", tuple(np.array(t[1]) for t in terms)
                )
            else:
                dense.piecewise(
                    node.name,
                    node.source,
                    (node.function, node.breakpoints, node.slopes, node.intercepts),
                )
        other = dense.build([len(dense.nodes) - 1], fuse=False)
        a = compute_bounds(network, -1, 1, "crown")
        b = compute_bounds(other, -1, 1, "crown")
        for i in range(len(network.nodes)):
            assert np.allclose(a.lower[i], b.lower[i], rtol=1e-9, atol=1e-9)
            assert np.allclose(a.upper[i], b.upper[i], rtol=1e-9, atol=1e-9)


def test_linear_functions_stay_outside():
    for seed in range(20):
        network, lower, upper = random_case(seed)
        rng = np.random.default_rng(seed)
        lows, highs = crown_arrays(network, lower[None], upper[None])
        node = network.outputs[0]
        size = network.nodes[node].size
        weights = rng.normal(size=(2, size))
        x = points_in(rng, lower, upper, 100)
        y = network.activations(x)[node]
        for rows, values in ((np.arange(size), y), (weights, y @ weights.T)):
            found = linear_bounds_of(network, lower, upper, lows, highs, node, rows)
            tolerance = 1e-12 * (1 + abs(values))
            assert (x @ found.lower[0].T + found.lower_const[0] <= values + tolerance).all()
            assert (values <= x @ found.upper[0].T + found.upper_const[0] + tolerance).all()
            assert found.scores(lower[None], upper[None]).shape == (1, network.n_inputs)


def test_absolute_gradient_bounds_differences():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        network = random_network(
            rng, n_inputs=3, widths=(6, 6), activations=("abs", "clip")
        )
        lower, upper = -np.ones((1, 3)), np.ones((1, 3))
        lows, highs = crown_arrays(network, lower, upper)
        node = network.outputs[0]
        steep = absolute_gradient(network, lows, highs, node, np.array([0]))[0, 0]
        x, z = rng.uniform(-1, 1, (2, 200, 3))
        change = abs(network.evaluate(x) - network.evaluate(z))[:, 0]
        assert (change <= abs(x - z) @ steep + 1e-9).all()


def test_selected_rows_only():
    network = he_network(0, [3, 8, 8, 2])
    lower, upper = -np.ones((1, 3)), np.ones((1, 3))
    full = crown_arrays(network, lower, upper)
    out = network.outputs[0]
    part = crown_arrays(network, lower, upper, full, nodes={out: np.array([1])})
    assert (part[0][out] >= full[0][out]).all()
    none = crown_arrays(network, lower, upper, nodes=[])
    interval = compute_bounds(network, -1, 1, "interval")
    assert none[1][out][0] == pytest.approx(interval.upper[out])


def test_peaks_like_ratio_to_interval():
    network = he_network(3, [5, 50, 50, 1])
    a = compute_bounds(network, -1, 1, "interval").statistics()["output_width"]
    b = compute_bounds(network, -1, 1, "crown").statistics()["output_width"]
    assert b < 0.6 * a


def test_what_is_taken_off_for_known_signs_costs_its_rounding():
    """Huge multiples of what is zero but for rounding cancel, against exact arithmetic."""
    checked = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        w, x = rng.normal(size=(3, 2)), rng.normal(size=2)
        bias = -(w @ x)
        z = [
            sum(Fraction(p) * Fraction(q) for p, q in zip(row, x)) + Fraction(c)
            for row, c in zip(w, bias)
        ]
        sides = np.where([v >= 0 for v in z], 1.0, -1.0)
        known = np.cross(*(sides[:, None] * w).T)  # of all three, the weights cancel
        if not ((known > 0).all() or (known < 0).all()):
            continue
        b = NetworkBuilder()
        r = b.piecewise(
            "r", b.affine("h", [(b.input("x", (2,)), w)], bias), activations.relu()
        )
        network = b.build([b.affine("y", [(r, np.ones((1, 3)))], 0.25)])
        exact = sum(max(v, Fraction(0)) for v in z) + Fraction(0.25)
        box = x[None], x[None]
        engine = Backward(network, *box, *crown_arrays(network, *box))
        signs = {1: 1e12 * (sides * abs(known))[None]}
        found = engine.run(3, np.eye(1), "adaptive", signs=signs)
        assert Fraction(engine.lower_bound(*found)[0, 0]) <= exact
        checked += 1
    assert checked > 20
