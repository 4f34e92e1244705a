"""GRU and LSTM, written out over their steps, agree with their frameworks."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.bounds import compute_bounds
from pyomo_relu.readers import read_network
from tests.readers.keras_support import assert_agrees, import_keras, randomize

KERAS = {
    "lstm": lambda L: L.LSTM(3),
    "backwards": lambda L: L.LSTM(3, return_sequences=True, go_backwards=True),
    "states": lambda L: L.LSTM(3, return_state=True, unit_forget_bias=False),
    "pieces": lambda L: L.LSTM(
        3, activation="relu", recurrent_activation="hard_sigmoid", use_bias=False
    ),
    "gru": lambda L: L.GRU(3, return_sequences=True),
    "reset before": lambda L: L.GRU(3, reset_after=False, return_state=True),
    "no bias": lambda L: L.GRU(3, use_bias=False, go_backwards=True),
    "neither": lambda L: L.GRU(3, use_bias=False, reset_after=False),
    "cells": lambda L: L.RNN([L.LSTMCell(2), L.GRUCell(3)], return_state=True),
    "both": lambda L: L.Bidirectional(L.LSTM(2, return_sequences=True)),
    "product": lambda L: L.Bidirectional(L.GRU(2), merge_mode="mul"),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KERAS)
def test_keras(kind, dtype):
    keras = import_keras()
    rng = np.random.default_rng(0)
    before = keras.config.floatx()
    keras.config.set_floatx(dtype)
    try:
        x = keras.Input((4, 2))
        model = keras.Model(x, KERAS[kind](keras.layers)(x))
    finally:
        keras.config.set_floatx(before)
    randomize(model, rng)
    assert_agrees(model, read_network(model), rng)


def test_stacked_layers_in_keras():
    keras = import_keras()
    rng = np.random.default_rng(1)
    x = keras.Input((3, 2))
    h = keras.layers.LSTM(3, return_sequences=True)(x)
    model = keras.Model(x, keras.layers.Dense(1)(keras.layers.GRU(2)(h)))
    randomize(model, rng)
    assert_agrees(model, read_network(model), rng)


REFUSED = {
    "between calls": (lambda L: L.LSTM(2, stateful=True), "keeps its state"),
    "convolutions": (lambda L: L.ConvLSTM1D(2, 2), "gates that are convolutions"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_keras_refuses(kind):
    keras = import_keras()
    make, reason = REFUSED[kind]
    shape = (1, 4, 3, 2) if kind == "convolutions" else (1, 4, 2)
    x = keras.Input(batch_shape=shape)
    model = keras.Model(x, make(keras.layers)(x))
    with pytest.raises(ValueError, match=reason):
        read_network(model)


def test_masks_and_first_states_of_keras_are_refused():
    keras = import_keras()
    layers = keras.layers
    x, h = keras.Input((4, 2)), keras.Input((3,))
    for y in (
        layers.LSTM(3)(layers.Masking()(x)),
        layers.GRU(3)(x, initial_state=h),
    ):
        with pytest.raises(ValueError, match="mask|initial_state"):
            read_network(keras.Model([x, h], y))


def test_an_unknown_number_of_steps_is_refused():
    keras = import_keras()
    x = keras.Input((None, 2))
    with pytest.raises(ValueError, match="'x'|shape"):
        read_network(keras.Model(x, keras.layers.GRU(2)(x)))


def torch_module(kind, name):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    layer, cell = getattr(nn, name), getattr(nn, f"{name}Cell")
    options = {
        "two ways": {"num_layers": 2, "bidirectional": True},
        "projection": {"batch_first": True, "proj_size": 2},
        "first state": {"batch_first": True, "bias": False},
    }

    class Chain(nn.Module):
        def __init__(self):
            super().__init__()
            if kind == "cell":
                self.cell, self.head = cell(2, 3), nn.Linear(3, 2)
            else:
                self.layer = layer(2, 3, **options.get(kind, options["two ways"]))

        def forward(self, x):
            if kind == "two ways":
                return self.layer(x.transpose(0, 1))[0].transpose(0, 1)
            if kind == "last states":
                last = self.layer(x.transpose(0, 1))[1]
                last = torch.cat(last) if name == "LSTM" else last
                return last.transpose(0, 1)
            if kind == "first state":
                begin = x[:, 0].sum(-1)[:, None, None].expand(-1, 1, 3).transpose(0, 1)
                begin = (begin, 0.5 * begin) if name == "LSTM" else begin
                return self.layer(x, begin)[0][:, -1]
            if kind == "projection":
                return self.layer(x)[0]
            h = self.cell(x[:, 1], self.cell(x[:, 0]))
            return self.head(h[0] if name == "LSTM" else h)

    return Chain().double().eval()


TORCH = [
    *((kind, name) for kind in ("two ways", "last states", "cell") for name in ("GRU", "LSTM")),
    ("first state", "GRU"),
    ("first state", "LSTM"),
    ("projection", "LSTM"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), TORCH)
def test_torch(kind, name):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = torch_module(kind, name)
    x = np.random.default_rng(0).normal(size=(6, 4, 2))
    with torch.no_grad():
        expected = [module(torch.tensor(p[None])).numpy().reshape(-1) for p in x]
    found = read_network(module, input_shape=(4, 2)).evaluate(x)
    np.testing.assert_allclose(found, expected, atol=1e-12)


#: Gates of each operator, its states, and its activations by default.
ONNX = {"GRU": (3, 1, ["Sigmoid", "Tanh"]), "LSTM": (4, 2, ["Sigmoid", "Tanh", "Tanh"])}


def onnx_model(operator, direction, options=(), peepholes=False, starts=True):
    onnx = pytest.importorskip("onnx")
    h, rng = onnx.helper, np.random.default_rng(0)
    gates, states, activations = ONNX[operator]
    sides = 2 if direction == "bidirectional" else 1
    constants = {
        "w": rng.normal(size=(sides, gates * 3, 2)),
        "r": rng.normal(size=(sides, gates * 3, 3)),
        "b": rng.normal(size=(sides, 2 * gates * 3)),
    }
    inputs = ["x", "w", "r", "b", ""]
    for s in range(states):
        constants[f"s{s}"] = rng.normal(size=(sides, 1, 3))
        inputs.append(f"s{s}" if starts else "")
    if peepholes:
        constants["p"] = rng.normal(size=(sides, 9))
        inputs.append("p")
    names = ["y", *(f"last{s}" for s in range(states))]
    node = h.make_node(
        operator, inputs, names, hidden_size=3, direction=direction,
        activations=activations * sides, **dict(options),
    )  # fmt: skip
    graph = h.make_graph(
        [node],
        "gated",
        [h.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [4, 1, 2])],
        [h.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names],
        [
            onnx.numpy_helper.from_array(v.astype(np.float32), name)
            for name, v in constants.items()
            if name in inputs
        ],
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)])
    model.ir_version = 9
    return model


def onnx_difference(model):
    runtime = pytest.importorskip("onnxruntime")
    x = np.random.default_rng(1).normal(size=(5, 4, 1, 2)).astype(np.float32)
    session = runtime.InferenceSession(model.SerializeToString())
    rows = [
        np.hstack([v.reshape(-1) for v in session.run(None, {"x": point})]) for point in x
    ]
    found = read_network(model).evaluate(x.reshape(len(x), -1).astype(float))
    return abs(found - rows).max()


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("operator", ONNX)
def test_onnx(operator, direction):
    assert onnx_difference(onnx_model(operator, direction)) <= 1e-5


def test_options_of_onnx():
    assert onnx_difference(onnx_model("LSTM", "bidirectional", peepholes=True)) <= 1e-5
    for starts in (True, False):
        after = onnx_model("GRU", "reverse", {"linear_before_reset": 1}, starts=starts)
        assert onnx_difference(after) <= 1e-5
        assert onnx_difference(onnx_model("LSTM", "forward", starts=starts)) <= 1e-5


def test_onnx_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="input_forget=1 is not supported"):
        read_network(onnx_model("LSTM", "forward", {"input_forget": 1}))
    with pytest.raises(ValueError, match="clip is not supported"):
        read_network(onnx_model("GRU", "forward", {"clip": 1.0}))


def last_output(name, steps):
    """The last output of a random layer of three units, of two inputs in each step."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layer = getattr(torch.nn, name)(2, 3, batch_first=True).double().eval()

    class Last(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x)[0][:, -1]

    return read_network(Last(), input_shape=(steps, 2))


@pytest.mark.parametrize("name", ["GRU", "LSTM"])
def test_intervals_grow_with_the_horizon_only(name):
    """Squares of squares would be beyond float64 after 16 steps of a GRU."""
    network = last_output(name, 30)
    bounds = compute_bounds(network, -1, 1, "interval")
    # A GRU grows by at most two with each step, an LSTM is a gate times tanh.
    assert max(abs(bounds.lower[-1]).max(), abs(bounds.upper[-1]).max()) <= 2.0 * 30 + 1


@pytest.mark.parametrize("name", ["GRU", "LSTM"])
@pytest.mark.parametrize("rung", ["interval", "crown", "alpha_crown"])
def test_bounds_hold_over_the_box(name, rung):
    """Also of a long horizon, over which the states stay within what their gates allow."""
    network = last_output(name, 6)
    rng = np.random.default_rng(0)
    found = compute_bounds(network, -1, 1, rung)
    x = rng.choice([-1.0, -0.3, 0.4, 1.0], (4000, network.n_inputs))
    values = network.activations(x)
    for low, high, y in zip(found.lower, found.upper, values):
        assert (low <= y).all() and (y <= high).all()
