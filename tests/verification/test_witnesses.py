"""Counterexamples are checked; conjunctions, borders and balls mean what they say."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu import NetworkBuilder, activations
from pyomo_relu.verification import (
    Ball,
    Box,
    Property,
    always,
    never,
    output_bounds,
    robust_classification,
    verifier,
    verify,
)
from tests.harness.random_networks import he_network


@pytest.mark.parametrize("methods", [("splitting",), ("mip",)])
def test_conjunctions(methods):
    """Rows that can each hold, but never together."""
    b = NetworkBuilder()
    x = b.input("x", (2,))
    h = b.affine("h", [(x, [[1.0, 0.0], [-1.0, 0.0]])])
    r = b.piecewise("r", h, activations.relu())
    net = b.build([b.affine("y", [(r, np.eye(2))])])  # x+ and x-: at most one positive
    box = ([-1.0, -1.0], [1.0, 1.0])
    both = never([[-1.0, 0.0], [0.0, -1.0]], [-0.2, -0.2])
    assert verify(net, box, both, methods=methods).status == "robust"
    for k in range(2):
        found = verify(net, box, never(-np.eye(2)[k], [-0.2]), methods=methods)
        assert found.status == "counterexample"


def test_border_is_safe_for_always_and_unsafe_for_never():
    b = NetworkBuilder()
    x = b.input("x", (1,))
    r = b.piecewise("r", b.affine("h", [(x, [[1.0]])]), activations.relu())
    net = b.build([b.affine("y", [(r, [[1.0]])])])
    box = ([-1.0], [1.0])  # y in [0, 1]
    assert verify(net, box, always([[1.0]], [1.0])).status != "counterexample"
    assert verify(net, box, always([[1.0]], [0.99])).status == "counterexample"
    assert verify(net, box, never([[-1.0]], [-1.0])).status == "counterexample"
    assert verify(net, box, output_bounds([-0.1], [1.1])).status == "robust"
    assert verify(net, box, output_bounds([0.1], [np.inf])).status == "counterexample"


@pytest.mark.parametrize("norm, order", [("linf", np.inf), ("l1", 1)])
def test_balls(norm, order):
    net = he_network(3, [2, 8, 8, 3])
    center = np.array([0.2, -0.1])
    label = int(net.evaluate(center).argmax())
    rng = np.random.default_rng(0)
    d = rng.standard_normal((200_000, 2))
    d /= np.linalg.norm(d, ord=order, axis=1)[:, None]
    points = center + d * rng.uniform(0, 3, (len(d), 1))
    wrong = net.evaluate(points).argmax(axis=1) != label
    distance = np.linalg.norm(points - center, ord=order, axis=1)[wrong].min()
    prop = robust_classification(label, 3)
    near = verify(net, Ball(center, 0.9 * distance, norm), prop, time_limit=600)
    far = verify(net, Ball(center, 1.02 * distance, norm), prop, time_limit=600)
    assert near.status == "robust" and far.status == "counterexample"
    reached = np.linalg.norm(far.counterexample - center, ord=order)
    assert reached <= 1.02 * distance


def test_a_wrong_counterexample_is_not_believed(monkeypatch):
    """Even if every rung lies, what comes out was checked."""
    net = he_network(1, [2, 8, 3])
    box = Box([-1.0, -1.0], [1.0, 1.0])
    safe = never([[1.0, 0.0, 0.0]], [-1e3])

    def liar(point):
        def attack(margins, sets, **_):
            return np.array([point] * len(sets)), np.full(len(sets), -1.0)

        return attack

    monkeypatch.setattr(verifier, "attack", liar([0.0, 0.0]))
    assert verify(net, box, safe).status == "robust"
    assert verify(net, box, safe, methods=["attack"]).status == "undecided"
    anything = never([[1.0, 0.0, 0.0]], [1e6])
    found = verify(net, box, anything, methods=["attack"])
    assert found.status == "counterexample"
    for point in ([5.0, 5.0], [np.nan, 0.0]):  # outside of the box; not a number
        monkeypatch.setattr(verifier, "attack", liar(point))
        found = verify(net, box, anything, methods=["attack"])
        assert found.status == "undecided"


def test_no_time_and_no_set():
    net = he_network(2, [12, 8, 8, 3])
    box = (-np.ones(12), np.ones(12))
    found = verify(net, box, never([[1.0, 0.0, 0.0]], [-2.0]), time_limit=0.0)
    assert found.status == "undecided" and found.details["out_of_time"]
    assert "undecided" in str(found)
    assert verify(net, box, Property(())).status == "robust"


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"region": ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0])}, "3 inputs"),
        ({"region": ([0.0, 1.0], [1.0, 0.0])}, "inverted"),
        ({"region": 3}, "pair"),
        ({"prop": never([[1.0, 0.0]], [0.0])}, "2 outputs"),
        ({"methods": ["magic"]}, "magic"),
        ({"time_limit": -1.0}, "time_limit"),
    ],
)
def test_errors(arguments, message):
    given = {
        "region": ([-1.0, -1.0], [1.0, 1.0]),
        "prop": robust_classification(0, 3),
        **arguments,
    }
    net = he_network(0, [2, 4, 3])
    with pytest.raises(ValueError, match=message):
        verify(net, given.pop("region"), given.pop("prop"), **given)
