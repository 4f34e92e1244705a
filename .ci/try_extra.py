"""One extra alone: read a network with it, embed it, solve, compare with the source."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyomo.environ as pyo

import pyomo_relu
from pyomo_relu import ReLUNetBlock
from pyomo_relu.network import activations

FRAMEWORKS = {
    "keras": "tensorflow",
    "onnx": "onnx",
    "torch": "torch",
    "sklearn": "sklearn",
    "plot": "matplotlib",
}


def weights() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    shapes = [(2, 8), (8, 8), (8, 1)]
    return [(rng.normal(size=s), rng.normal(size=s[1])) for s in shapes]


def saved() -> object:
    """A network built by hand, saved as .npz and read again."""
    builder = pyomo_relu.NetworkBuilder()
    node = builder.input("x", (2,))
    layers = weights()
    for k, (w, b) in enumerate(layers):
        node = builder.affine(f"dense_{k}", [(node, w.T)], b)
        if k + 1 < len(layers):
            node = builder.piecewise(f"relu_{k}", node, activations.relu())
    path = Path(tempfile.mkdtemp()) / "net.npz"
    builder.build([node]).save(path)
    return path


def keras() -> object:
    import keras

    model = keras.Sequential([keras.layers.Input((2,))])
    model.add(keras.layers.Dense(8, activation="relu"))
    model.add(keras.layers.Dense(1))
    return model


def onnx() -> object:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    (w, b), (w2, b2) = weights()[0], weights()[2]
    arrays = {"w": w, "b": b, "w2": w2, "b2": b2}
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w", "b"], ["h"]),
            helper.make_node("Relu", ["h"], ["a"]),
            helper.make_node("Gemm", ["a", "w2", "b2"], ["y"]),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
        [numpy_helper.from_array(a.astype(np.float32), n) for n, a in arrays.items()],
    )
    path = Path(tempfile.mkdtemp()) / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def torch() -> object:
    import torch

    return torch.nn.Sequential(
        torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1)
    )


def sklearn() -> object:
    from sklearn.neural_network import MLPRegressor

    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (200, 2))
    net = MLPRegressor(hidden_layer_sizes=(8,), max_iter=50, random_state=0)
    return net.fit(x, x[:, 0] * x[:, 1])


extra = sys.argv[1]
for name, module in FRAMEWORKS.items():
    found = importlib.util.find_spec(module) is not None
    if extra == "none":
        assert not found, f"{module} came along without being asked for"
    elif name == extra:
        assert found, f"the extra {extra} does not install {module}"
source = {"none": saved, "plot": saved}.get(extra) or globals()[extra]
model = pyo.ConcreteModel()
model.x = pyo.Var(range(2), bounds=(-1, 1))
options = {"input_shape": (2,)} if extra == "torch" else {}
model.net = ReLUNetBlock(network=source(), inputs=[model.x[0], model.x[1]], **options)
model.value = pyo.Objective(expr=next(iter(model.net.outputs.values())), sense=pyo.maximize)
for solver in ("appsi_highs", "relu_highs", "relu_global"):
    pyo.SolverFactory(solver).solve(model)
    print(f"{extra}, {solver}: {pyo.value(model.value):.6f}, error {model.net.error():.1e}")
    assert model.net.error() < 1e-5
