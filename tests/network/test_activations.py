"""The activations by name, against their formulas."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.network import NetworkBuilder
from pyomo_relu.network import activations as act

X = np.concatenate([np.linspace(-8.0, 8.0, 641), [0.0, -0.0, 6.0, 3.0, -3.0, 1.0, -1.0]])

FORMULAS = {
    "relu": lambda x: np.maximum(x, 0.0),
    "leaky_relu": lambda x: np.where(x >= 0, x, 0.2 * x),
    "relu6": lambda x: np.minimum(np.maximum(x, 0.0), 6.0),
    "clip": lambda x: np.clip(x, -1.0, 1.0),
    "hard_tanh": lambda x: np.clip(x, -1.0, 1.0),
    "hard_sigmoid": lambda x: np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    "abs": np.abs,
    "step": lambda x: (x >= 0).astype(float),
    "sign": lambda x: np.where(x >= 0, 1.0, -1.0),
}


def apply(pieces, x, size=1):
    builder = NetworkBuilder()
    last = builder.piecewise("phi", builder.input("x", (size,)), pieces)
    network = builder.build([last])
    return network, network.evaluate(np.reshape(x, (-1, size)))


def test_every_name_has_a_formula():
    assert set(FORMULAS) == set(act.ACTIVATIONS)


@pytest.mark.parametrize("name", sorted(act.ACTIVATIONS))
def test_formula(name):
    network, y = apply(act.ACTIVATIONS[name](), X)
    assert y[:, 0] == pytest.approx(FORMULAS[name](X), abs=1e-15)
    assert network.nodes[1].is_continuous == (name not in ("step", "sign"))


def test_exact_where_the_bounds_rely_on_it():
    for name in ("relu", "abs", "step", "sign"):
        assert (apply(act.ACTIVATIONS[name](), X)[1][:, 0] == FORMULAS[name](X)).all()


@pytest.mark.parametrize(
    "options, name",
    [
        ({}, "relu"),
        ({"negative_slope": 0.1}, "leaky_relu"),
        ({"threshold": 1.0}, "threshold_relu"),
        ({"max_value": 2.0}, "clipped_relu"),
        ({"max_value": 2.0, "negative_slope": 0.1}, "general_relu"),
        ({"max_value": 2.0, "threshold": 1.0, "negative_slope": 0.1}, "general_relu"),
        ({"max_value": 1.0, "threshold": 1.0}, "general_relu"),
    ],
)
def test_general_relu(options, name):
    """Keras: max_value, else x, else negative_slope * (x - threshold)."""
    top, slope = options.get("max_value", np.inf), options.get("negative_slope", 0.0)
    low = options.get("threshold", 0.0)
    expected = np.where(X >= top, top, np.where(X >= low, X, slope * (X - low)))
    network, y = apply(act.relu(**options), X)
    assert network.nodes[1].function == name
    assert y[:, 0] == pytest.approx(expected, abs=1e-15)
    assert network.nodes[1].is_continuous == (low == 0.0)


def test_parameters_by_neuron():
    slopes = np.array([0.0, 0.5, 2.0])
    x = np.tile(X[:, None], 3)
    assert apply(act.leaky_relu(slopes), x, 3)[1] == pytest.approx(
        np.where(x >= 0, x, slopes * x)
    )
    low, high = np.array([-1.0, 0.0, 2.0]), np.array([1.0, 3.0, 2.5])
    assert apply(act.clip(low, high), x, 3)[1] == pytest.approx(np.clip(x, low, high))
    top = np.array([1.0, 2.0, 5.0])
    assert apply(act.relu(max_value=top), x, 3)[1] == pytest.approx(np.clip(x, 0.0, top))


def test_hard_sigmoid_of_older_keras():
    y = apply(act.hard_sigmoid(0.2, 0.5), X)[1][:, 0]
    assert y == pytest.approx(np.clip(0.2 * X + 0.5, 0.0, 1.0), abs=1e-15)


def test_errors():
    with pytest.raises(ValueError, match="max_value below its threshold"):
        act.relu(max_value=-1.0)
    with pytest.raises(ValueError, match="max_value below its threshold"):
        act.relu(max_value=[1.0, 0.5], threshold=[0.0, 0.7])
    with pytest.raises(ValueError, match="clip needs low < high"):
        act.clip(1.0, 1.0)
