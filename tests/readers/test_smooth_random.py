"""Random networks with smooth units agree with their frameworks; some, and many as slow tests."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from pyomo_relu.readers import read_network


def torch_module(rng):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    makers = [
        nn.Sigmoid, nn.Tanh, nn.Softplus, nn.SiLU, nn.GELU, lambda: nn.GELU("tanh"), nn.Mish,
        nn.ReLU, nn.SELU, nn.Softsign, nn.LogSigmoid, nn.Hardswish, nn.Tanhshrink,
        lambda: nn.ELU(float(rng.uniform(0.2, 2))), lambda: nn.CELU(float(rng.uniform(0.2, 2))),
        lambda: nn.Softplus(beta=float(rng.uniform(0.5, 3))),
    ]  # fmt: skip
    sizes = rng.integers(1, 8, int(rng.integers(2, 5))).tolist()
    parts = []
    for a, b in zip(sizes, sizes[1:]):
        parts += [nn.Linear(a, b), makers[int(rng.integers(len(makers)))]()]
    if rng.random() < 0.7:
        parts.append(nn.Linear(sizes[-1], 2))
    return nn.Sequential(*parts).eval(), sizes[0]


def check_torch(seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    module, n = torch_module(rng)
    for kind, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        module = module.to(kind)
        x = torch.as_tensor(rng.normal(0, 3, (50, n)), dtype=kind)
        y = module(x).detach().double().numpy()
        found = read_network(module).evaluate(x.double().numpy())
        assert abs(found - y).max() <= tolerance * (1.0 + abs(y).max()), seed


def check_sklearn(seed):
    sklearn = pytest.importorskip("sklearn.neural_network")
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(30, 3)), rng.normal(size=(30, 2))
    model = sklearn.MLPRegressor(
        hidden_layer_sizes=tuple(rng.integers(1, 9, int(rng.integers(1, 4))).tolist()),
        activation=str(rng.choice(["logistic", "tanh"])),
        max_iter=3,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(x, y)
    found = read_network(model).evaluate(5 * x)
    expected = model.predict(5 * x)
    assert abs(found - expected).max() <= 1e-12 * (1.0 + abs(expected).max()), seed


OPERATORS = {
    "Sigmoid": {}, "Tanh": {}, "Softplus": {}, "Elu": {"alpha": 0.6}, "Selu": {}, "Mish": {},
    "Celu": {"alpha": 1.7}, "Softsign": {}, "Atan": {}, "Erf": {}, "HardSwish": {},
    "Gelu": {}, "Relu": {},
}  # fmt: skip


def check_onnx(seed):
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    rng, h = np.random.default_rng(seed), onnx.helper
    sizes = rng.integers(1, 8, int(rng.integers(2, 5))).tolist()
    nodes, weights, last = [], [], "x"
    for k, (a, b) in enumerate(zip(sizes, sizes[1:])):
        w = rng.normal(size=(a, b)).astype(np.float32)
        weights.append(onnx.numpy_helper.from_array(w, f"w{k}"))
        operator = str(rng.choice(list(OPERATORS)))
        nodes.append(h.make_node("MatMul", [last, f"w{k}"], [f"h{k}"]))
        nodes.append(h.make_node(operator, [f"h{k}"], [f"y{k}"], **OPERATORS[operator]))
        last = f"y{k}"
    ends = [
        h.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", size])
        for name, size in (("x", sizes[0]), (last, sizes[-1]))
    ]
    graph = h.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 20)])
    model.ir_version = 9
    x = rng.normal(0, 2, (50, sizes[0])).astype(np.float32)
    y = runtime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    found = read_network(model).evaluate(x)
    assert abs(found - y).max() <= 1e-5 * (1.0 + abs(y).max()), seed


def check_keras(seed):
    keras = pytest.importorskip("keras")
    rng = np.random.default_rng(seed)
    names = ["sigmoid", "tanh", "softplus", "silu", "gelu", "elu", "selu", "mish", "relu"]
    names += ["softsign", "log_sigmoid", "celu", "hard_silu", "tanh_shrink"]
    keras.utils.set_random_seed(seed)
    sizes = rng.integers(1, 8, int(rng.integers(1, 4))).tolist()
    layers = [keras.layers.Dense(n, activation=str(rng.choice(names))) for n in sizes]
    model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(2)])
    x = rng.normal(0, 2, (50, 3)).astype(np.float32)
    y = np.asarray(model(x))
    assert abs(read_network(model).evaluate(x) - y).max() <= 1e-5 * (1.0 + abs(y).max()), (
        seed
    )


CHECKS = {"torch": check_torch, "sklearn": check_sklearn, "onnx": check_onnx}
CHECKS["keras"] = check_keras


@pytest.mark.parametrize("framework", list(CHECKS))
def test_some_random_networks(framework):
    for seed in range(4):
        CHECKS[framework](seed)


@pytest.mark.slow
@pytest.mark.parametrize("framework", list(CHECKS))
def test_many_random_networks(framework):
    for seed in range(100, 600):
        CHECKS[framework](seed)
