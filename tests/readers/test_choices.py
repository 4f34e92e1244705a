"""Choices by comparisons, in the tensor graph itself."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.network import PiecewiseLinear
from pyomo_relu.readers.tensors import TensorGraph

RNG = np.random.default_rng(0)
W = RNG.normal(size=(3, 4))
POINTS = np.vstack([np.zeros((1, 3)), RNG.normal(size=(50, 3)), np.eye(3)])


def graph():
    g = TensorGraph()
    x = g.input("x", (1, 3), 0)
    return g, x, g.matmul("h", x, W, np.array([0.0, 1.0, -1.0, 0.5]))


def values(g, y, expected):
    network = g.builder.build([y.handle])
    assert np.abs(network.evaluate(POINTS) - expected(POINTS)).max() <= 1e-12
    return network


def h_of(p):
    return p @ W + np.array([0.0, 1.0, -1.0, 0.5])


@pytest.mark.parametrize("strict", [False, True])
def test_a_leaky_relu_is_one_node(strict):
    g, _, h = graph()
    c = g.compare("c", h, np.array(0.0), less=False, strict=strict)
    y = g.choose("y", c, h, g.scale("s", h, 0.1))
    network = values(g, y, lambda p: np.where(h_of(p) > 0, h_of(p), 0.1 * h_of(p)))
    [node] = [v for v in network.nodes if isinstance(v, PiecewiseLinear)]
    assert node.function == "leaky_relu" and not node.jumps.any()


def test_a_gate_is_a_relu():
    g, _, h = graph()
    c = g.compare("c", h, np.array(0.0), less=False, strict=True)
    for y in (g.multiply("y", h, c), g.multiply("z", c, h)):
        network = values(g, y, lambda p: np.maximum(h_of(p), 0))
        assert [v.is_relu for v in network.nodes if isinstance(v, PiecewiseLinear)] == [
            True
        ]


def test_a_comparison_of_two_tensors():
    g, x, h = graph()
    z = g.matmul("z", x, W[::-1])
    c = g.compare("c", h, z, less=True, strict=False)
    values(g, g.choose("m", c, h, z), lambda p: np.minimum(h_of(p), p @ W[::-1]))
    twice = g.choose("y", c, g.add("s", [h, z]), g.scale("t", z, 2.0))
    values(
        g, twice,
        lambda p: np.where(h_of(p) <= p @ W[::-1], h_of(p) + p @ W[::-1], 2 * p @ W[::-1]),
    )  # fmt: skip


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("less", [False, True])
def test_jumps_take_the_right_side(strict, less):
    g = TensorGraph()
    x = g.input("x", (1, 3), 0)
    c = g.compare("c", x, np.array([0.0, 1.0, -1.0]), less, strict)
    for condition, turned in ((c, False), (g.negation("not", c), True)):
        y = g.choose("y", condition, g.scale("s", x, 2.0, 1.0), np.array([5.0, 6.0, 7.0]))

        def expected(p, turned=turned):
            d = p - np.array([0.0, 1.0, -1.0])
            d = -d if less else d
            holds = (d > 0) if strict else (d >= 0)
            return np.where(holds ^ turned, 2 * p + 1, np.array([5.0, 6.0, 7.0]))

        network = g.builder.build([y.handle])
        points = np.vstack([POINTS, [[0.0, 1.0, -1.0]]])
        assert np.abs(network.evaluate(points) - expected(points)).max() <= 1e-12


def test_a_comparison_that_broadcasts():
    g, x, _ = graph()
    first = g.rearrange("first", [x], np.array([[0]]), batch=0)
    c = g.step("c", first)
    y = g.choose("y", c, g.add("a", [first, np.arange(3.0)[None]]), np.zeros((1, 3)))
    values(g, y, lambda p: np.where(p[:, :1] >= 0, p[:, :1] + np.arange(3.0), 0.0))


def test_what_is_no_function_of_the_comparison():
    g, x, h = graph()
    c = g.step("c", h)
    other = g.matmul("z", x, W[::-1])
    with pytest.raises(ValueError, match="'y' chooses by a comparison.*no affine function"):
        g.choose("y", c, other, np.array(0.0))
    with pytest.raises(ValueError, match="no comparison"):
        g.choose("y", h, h, other)
    close = g.scale("close", h, np.array([1.0, 1.0, 1.0, 1.0]), 0.0)
    off = g.add("off", [close, g.scale("tiny", other, 1e-9)])
    with pytest.raises(ValueError, match="no affine function"):
        g.choose("y", c, off, np.array(0.0))
