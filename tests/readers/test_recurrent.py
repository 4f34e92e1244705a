"""Simple recurrent layers agree with their frameworks."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.readers import read_network
from tests.readers.keras_support import assert_agrees, import_keras, randomize

KERAS = {
    "last": lambda L: L.SimpleRNN(3, activation="relu"),
    "all": lambda L: L.SimpleRNN(3, return_sequences=True, use_bias=False),
    "backwards": lambda L: L.SimpleRNN(
        3, activation="relu", go_backwards=True, return_sequences=True
    ),
    "states": lambda L: L.SimpleRNN(3, activation="sigmoid", return_state=True),
    "cells": lambda L: L.RNN(
        [L.SimpleRNNCell(2, activation="relu"), L.SimpleRNNCell(3)], return_state=True
    ),
    **{
        f"both {mode}": lambda L, mode=mode: L.Bidirectional(
            L.SimpleRNN(2, activation="relu", return_sequences=mode != "ave"),
            merge_mode=mode,
        )
        for mode in ("concat", "sum", "ave", None)
    },
}


@pytest.mark.parametrize("kind", KERAS)
def test_keras(kind):
    keras = import_keras()
    rng = np.random.default_rng(0)
    x = keras.Input((4, 2))
    model = keras.Model(x, KERAS[kind](keras.layers)(x))
    randomize(model, rng)
    assert_agrees(model, read_network(model), rng)


def test_keras_refuses_state_between_calls():
    keras = import_keras()
    x = keras.Input(batch_shape=(1, 4, 2))
    model = keras.Model(x, keras.layers.SimpleRNN(2, stateful=True)(x))
    with pytest.raises(ValueError, match="keeps its state"):
        read_network(model)


def torch_module(kind, nonlinearity):
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Chain(nn.Module):
        def __init__(self):
            super().__init__()
            options = {"nonlinearity": nonlinearity}
            self.rnn = nn.RNN(2, 3, num_layers=2, bidirectional=True, **options)
            self.one = nn.RNN(2, 3, batch_first=True, bias=False, **options)
            self.cell, self.head = nn.RNNCell(2, 3, **options), nn.Linear(3, 2)

        def forward(self, x):
            if kind == "two ways":
                return self.rnn(x.transpose(0, 1))[0].transpose(0, 1)
            if kind == "last states":
                return self.rnn(x.transpose(0, 1))[1].transpose(0, 1)
            if kind == "first state":
                begin = self.head(self.cell(x[:, 0]))[:, :1].expand(-1, 3)
                return self.one(x, begin.unsqueeze(0))[0][:, -1]
            return self.head(self.cell(x[:, 1], self.cell(x[:, 0])))

    return Chain().double().eval()


@pytest.mark.parametrize("kind", ["two ways", "last states", "first state", "cell"])
@pytest.mark.parametrize("nonlinearity", ["relu", "tanh"])
def test_torch(kind, nonlinearity):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = torch_module(kind, nonlinearity)
    x = np.random.default_rng(0).normal(size=(6, 4, 2))
    with torch.no_grad():
        expected = [module(torch.tensor(p[None])).numpy().reshape(-1) for p in x]
    found = read_network(module, input_shape=(4, 2)).evaluate(x)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def onnx_model(direction, layout, activation, **extra):
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    sides = 2 if direction == "bidirectional" else 1
    shape = [1, 4, 2] if layout else [4, 1, 2]
    constants = {
        "w": rng.normal(size=(sides, 3, 2)),
        "r": rng.normal(size=(sides, 3, 3)),
        "b": rng.normal(size=(sides, 6)),
        "h": rng.normal(size=(1, sides, 3) if layout else (sides, 1, 3)),
    }
    node = helper.make_node(
        "RNN", ["x", "w", "r", "b", "", "h"], ["y", "last"], hidden_size=3,
        direction=direction, layout=layout, activations=[activation] * sides, **extra,
    )  # fmt: skip
    graph = helper.make_graph(
        [node],
        "recurrent",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("y", "last")],
        [
            numpy_helper.from_array(v.astype(np.float32), name)
            for name, v in constants.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model, shape


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("layout", "activation"), [(0, "Relu"), (1, "Tanh")])
def test_onnx(direction, layout, activation):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    model, shape = onnx_model(direction, layout, activation)
    x = np.random.default_rng(1).normal(size=(5, *shape)).astype(np.float32)
    # onnxruntime knows the layout 0 only; the other one is the same with turned axes.
    known, _ = onnx_model(direction, 0, activation)
    session = runtime.InferenceSession(known.SerializeToString())
    rows = []
    for point in x:
        y, last = session.run(None, {"x": point.transpose(1, 0, 2) if layout else point})
        if layout:
            y, last = y.transpose(2, 0, 1, 3), last.transpose(1, 0, 2)
        rows.append(np.hstack([y.reshape(-1), last.reshape(-1)]))
    found = read_network(model).evaluate(x.reshape(len(x), -1).astype(float))
    np.testing.assert_allclose(found, rows, atol=1e-5)


def test_onnx_refuses_what_it_does_not_know():
    pytest.importorskip("onnx")
    for options, reason in (
        ({"activation": "Affine"}, "activations .* are not supported"),
        ({"activation": "Relu", "clip": 1.0}, "clip is not supported"),
    ):
        model, _ = onnx_model("forward", 0, **options)
        with pytest.raises(ValueError, match=reason):
            read_network(model)
