"""Two thousand random models for each of Keras, PyTorch and ONNX, none wrong in silence.

Each fourth one is of each kind: a graph of layers of all sorts, a chain with smooth units, a
recurrent network, tables of integers among numbers. Agreement is to 1e-12 in float64, 1e-5
in float32, relative to the largest output.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

from pyomo_relu.readers import read_network
from tests.readers import test_keras_random, test_random_models, test_smooth_random
from tests.readers.keras_support import assert_agrees, import_keras, randomize

MODELS = int(os.environ.get("PYOMO_RELU_MODELS", 2000))
FIRST = 10_000

SMOOTH = ["sigmoid", "tanh", "softplus", "silu", "gelu", "elu", "selu", "mish", "softsign"]


def agree(found, expected, tolerance, seed) -> None:
    assert found.shape == expected.shape, seed
    scale = 1.0 + np.abs(expected).max()
    assert np.abs(found - expected).max() <= tolerance * scale, seed


# ------------------------------------------------------------------------------- Keras
def keras_graph(seed):
    keras = import_keras()
    grown = test_keras_random.RandomModel(keras, seed)
    # TensorFlow rounds the square root in GELU to float32, whatever the model computes in.
    every = [*test_keras_random.ACTIVATIONS, *SMOOTH]
    every.remove("gelu")
    grown.activation = lambda: grown.pick(*every)
    model = grown.build()
    randomize(model, grown.rng)
    assert_agrees(model, read_network(model), grown.rng, n=4)


def keras_recurrent(seed):
    keras = import_keras()
    rng, L = np.random.default_rng(seed), keras.layers
    d = {"dtype": "float64"}
    steps, features = rng.integers(1, 5, 2).tolist()
    x = h = keras.Input((steps, features), **d)
    for _ in range(int(rng.integers(1, 3))):
        options = {
            "activation": str(rng.choice(["relu", "tanh", "sigmoid", "softplus"])),
            "return_sequences": bool(rng.integers(2)),
            "go_backwards": bool(rng.integers(2)),
            "use_bias": bool(rng.integers(2)),
        }
        both = rng.random() < 0.3
        options["go_backwards"] &= not both  # Keras turns the second one itself
        kind = str(rng.choice(["SimpleRNN", "GRU", "LSTM"]))
        if kind == "GRU":
            options["reset_after"] = bool(rng.integers(2))
        layer = getattr(L, kind)(int(rng.integers(1, 4)), **options, **d)
        if both:
            layer = L.Bidirectional(
                layer, merge_mode=str(rng.choice(["concat", "sum"])), **d
            )
        h = layer(h)
        if len(h.shape) < 3:
            break
    h = L.Flatten(**d)(h)
    model = keras.Model(x, L.Dense(2, **d)(h))
    randomize(model, rng)
    assert_agrees(model, read_network(model), rng, n=4)


def keras_tables(seed):
    keras = import_keras()
    rng, L = np.random.default_rng(seed), keras.layers
    n, m, several = (int(v) for v in rng.integers(2, 6, 3))
    c, x = keras.Input((several,), dtype="int32"), keras.Input((m,))
    kind = int(rng.integers(4))
    if kind == 0:
        h = L.Flatten()(L.Embedding(n, int(rng.integers(1, 4)))(c))
    elif kind == 1:
        mode = str(rng.choice(["multi_hot", "count"]))
        h = L.CategoryEncoding(n, output_mode=mode)(c)
    elif kind == 2:
        h = L.Flatten()(keras.ops.one_hot(c, n))
    else:
        h = L.GlobalAveragePooling1D()(L.Embedding(n, 3)(c))
    h = L.Dense(4, activation=str(rng.choice(["relu", *SMOOTH])))(L.Concatenate()([h, x]))
    model = keras.Model([c, x], L.Dense(2)(h))
    randomize(model, rng)
    points = [rng.integers(0, n, (8, several)), rng.normal(size=(8, m)).astype("float32")]
    expected = np.asarray(model(points), dtype=float)
    agree(read_network(model).evaluate(np.hstack(points)), expected, 1e-5, seed)


# ----------------------------------------------------------------------------- PyTorch
def _torch_agrees(module, shape, points, seed):
    import torch

    with torch.no_grad():
        rows = [module(torch.as_tensor(p[None])).numpy().reshape(-1) for p in points]
    flat = points.reshape(len(points), -1).astype(float)
    found = read_network(module, input_shape=shape).evaluate(flat)
    agree(found, np.array(rows), 1e-12, seed)


def torch_recurrent(seed):
    torch = pytest.importorskip("torch")
    nn, rng = torch.nn, np.random.default_rng(seed)
    torch.manual_seed(seed)
    steps, features, units = rng.integers(1, 5, 3).tolist()
    first, kind = bool(rng.integers(2)), str(rng.choice(["RNN", "GRU", "LSTM"]))
    options = {
        "bidirectional": bool(rng.integers(2)),
        "num_layers": int(rng.integers(1, 3)),
        "bias": bool(rng.integers(2)),
        "batch_first": first,
    }
    if kind == "RNN":
        options["nonlinearity"] = str(rng.choice(["relu", "tanh"]))
    last, sides = bool(rng.integers(2)), 2 if options["bidirectional"] else 1

    class Chain(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = getattr(nn, kind)(features, units, **options)
            self.head = nn.Linear(units * sides, 2)

        def forward(self, x):
            y, h = self.rnn(x if first else x.transpose(0, 1))
            h = h[1] if kind == "LSTM" else h
            y = y if first else y.transpose(0, 1)
            return self.head(y[:, -1]) if last else torch.cat([y.flatten(1), h[-1]], 1)

    points = rng.normal(size=(6, steps, features))
    _torch_agrees(Chain().double().eval(), (steps, features), points, seed)


def torch_tables(seed):
    torch = pytest.importorskip("torch")
    nn, rng = torch.nn, np.random.default_rng(seed)
    torch.manual_seed(seed)
    n, several, size = (int(v) for v in rng.integers(2, 6, 3))
    activation = [nn.ReLU, nn.Tanh, nn.SiLU, nn.GELU, nn.Sigmoid][int(rng.integers(5))]
    parts = [nn.Embedding(n, size), nn.Flatten(), nn.Linear(several * size, 4)]
    module = nn.Sequential(*parts, activation(), nn.Linear(4, 2)).double().eval()
    points = rng.integers(0, n, (8, several))
    _torch_agrees(module, (several,), points, seed)


def torch_graph(seed):
    if seed % 8 < 4:
        test_random_models.test_torch(seed)
    else:
        pytest.importorskip("torch")
        from tests.readers import test_torch_random

        test_torch_random.read_or_refused(seed)


# -------------------------------------------------------------------------------- ONNX
def _onnx_agrees(nodes, constants, shape, kind, points, outputs, seed):
    runtime = pytest.importorskip("onnxruntime")
    from onnx import helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        "random",
        [helper.make_tensor_value_info("x", kind, ["N", *shape])],
        [helper.make_tensor_value_info(name, 1, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    found = runtime.InferenceSession(model.SerializeToString()).run(None, {"x": points})
    rows = np.hstack([np.asarray(v, float).reshape(len(points), -1) for v in found])
    flat = points.reshape(len(points), -1).astype(float)
    agree(read_network(model).evaluate(flat), rows, 1e-5, seed)


def onnx_recurrent(seed):
    onnx = pytest.importorskip("onnx")
    rng, make = np.random.default_rng(seed), onnx.helper.make_node
    steps, features, units = rng.integers(1, 5, 3).tolist()
    direction = str(rng.choice(["forward", "reverse", "bidirectional"]))
    sides = 2 if direction == "bidirectional" else 1
    kind = str(rng.choice(["RNN", "GRU", "LSTM"]))
    gates, functions = {"RNN": (1, 1), "GRU": (3, 2), "LSTM": (4, 3)}[kind]
    options = {"linear_before_reset": int(rng.integers(2))} if kind == "GRU" else {}

    def weights(*shape):
        return rng.normal(size=shape).astype(np.float32)

    n = gates * units
    constants = {"w": weights(sides, n, features), "r": weights(sides, n, units)}
    inputs = ["turned", "w", "r"]
    if rng.random() < 0.7:
        constants["b"] = weights(sides, 2 * n)
        inputs.append("b")
    names = [str(n) for n in rng.choice(["Relu", "Tanh", "Sigmoid"], sides * functions)]
    nodes = [
        make("Transpose", ["x"], ["turned"], perm=[1, 0, 2]),
        make(kind, inputs, ["steps", "last"], hidden_size=units, direction=direction,
             activations=names, **options),
        make("Transpose", ["steps"], ["y"], perm=[2, 0, 1, 3]),
        make("Transpose", ["last"], ["z"], perm=[1, 0, 2]),
    ]  # fmt: skip
    points = weights(6, steps, features)
    _onnx_agrees(nodes, constants, (steps, features), 1, points, ("y", "z"), seed)


def onnx_tables(seed):
    onnx = pytest.importorskip("onnx")
    rng, make = np.random.default_rng(seed), onnx.helper.make_node
    n, several, size = (int(v) for v in rng.integers(2, 6, 3))
    constants = {
        "t": rng.normal(size=(n, size)).astype(np.float32),
        "w": rng.normal(size=(size, 3)).astype(np.float32),
        "d": np.array(n),
        "v": np.array([0, 1], np.float32),
    }
    operator = str(rng.choice(["Relu", "Tanh", "Softplus", "Abs"]))
    nodes = [make("Gather", ["t", "x"], ["h"])]
    if rng.random() < 0.4:
        nodes = [make("OneHot", ["x", "d", "v"], ["o"]), make("MatMul", ["o", "t"], ["h"])]
    nodes += [make("MatMul", ["h", "w"], ["g"]), make(operator, ["g"], ["y"])]
    points = rng.integers(0, n, (8, several))
    _onnx_agrees(nodes, constants, (several,), 7, points, ("y",), seed)


def onnx_graph(seed):
    try:
        test_random_models.test_onnx(seed)
    except pytest.skip.Exception:
        pass  # onnxruntime itself can't run a few of these


KINDS = {
    "keras": (keras_graph, test_smooth_random.check_keras, keras_recurrent, keras_tables),
    "torch": (torch_graph, test_smooth_random.check_torch, torch_recurrent, torch_tables),
    "onnx": (onnx_graph, test_smooth_random.check_onnx, onnx_recurrent, onnx_tables),
}


def check(framework: str, seeds) -> int:
    """How many models of these seeds agreed; the first that doesn't is an error."""
    done = 0
    for seed in seeds:
        try:
            KINDS[framework][seed % 4](seed)
        except Exception as error:
            raise AssertionError(
                f"{framework}, seed {seed}, {done} agreed before"
            ) from error
        done += 1
    return done


@pytest.mark.slow
@pytest.mark.parametrize("framework", list(KINDS))
def test_two_thousand_models(framework):
    pytest.importorskip(framework)
    assert check(framework, range(FIRST, FIRST + MODELS)) == MODELS


@pytest.mark.parametrize("framework", list(KINDS))
def test_some_tables_and_recurrent_networks(framework):
    pytest.importorskip(framework)
    assert check(framework, (2, 3, 6, 7)) == 4
