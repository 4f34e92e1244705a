"""Random expressions with products and powers agree with their frameworks."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from pyomo_relu.readers import read_network
from tests.readers.test_two_thousand_models import agree

#: Functions of one value that each framework has.
UNARY = ("sigmoid", "tanh", "relu", "square", "cube")


def expression(rng: np.random.Generator, leaves: Sequence[Any], ops: dict[str, Any]) -> Any:
    """A random expression of the leaves, half of whose operations are products."""
    values = list(leaves)
    for _ in range(int(rng.integers(2, 7))):
        a, b = (values[int(k)] for k in rng.integers(len(values), size=2))
        kind = rng.random()
        if kind < 0.5:
            found = ops["times"](a, b)
        elif kind < 0.65:
            found = ops["plus"](a, b)
        else:
            found = ops[str(rng.choice(UNARY))](a)
        # Products of products grow.
        values.append(ops["tanh"](found) if rng.random() < 0.3 else found)
    return ops["plus"](values[-1], values[-2])


def weights(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    n, units = int(rng.integers(1, 5)), int(rng.integers(1, 5))
    return tuple(rng.normal(0.0, 0.5, (n, units)).astype(np.float32) for _ in range(2))


def check_torch(seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    parts = weights(rng)
    state = int(rng.integers(2**31))
    ops = {
        "times": operator.mul, "plus": operator.add, "square": torch.square,
        "cube": lambda a: a**3, "sigmoid": torch.sigmoid, "tanh": torch.tanh,
        "relu": torch.relu,
    }  # fmt: skip

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = [torch.tensor(w).double() for w in parts]

        def forward(self, x):
            leaves = [x @ w for w in self.parts]
            return expression(np.random.default_rng(state), leaves, ops)

    x = rng.normal(size=(20, len(parts[0])))
    module = Module().eval()
    expected = module(torch.as_tensor(x)).numpy()
    found = read_network(module, input_shape=(len(parts[0]),)).evaluate(x)
    agree(found, expected, 1e-12, seed)


def check_keras(seed):
    keras = pytest.importorskip("keras")
    rng, o = np.random.default_rng(seed), keras.ops
    parts = weights(rng)
    ops = {
        "times": operator.mul, "plus": operator.add, "square": o.square,
        "cube": lambda a: a**3, "sigmoid": o.sigmoid, "tanh": o.tanh, "relu": o.relu,
    }  # fmt: skip
    x = keras.Input((len(parts[0]),), dtype="float64")
    leaves = [o.matmul(x, w.astype(float)) for w in parts]
    model = keras.Model(x, expression(rng, leaves, ops))
    points = rng.normal(size=(20, len(parts[0])))
    expected = np.asarray(model(points), dtype=float)
    agree(read_network(model).evaluate(points), expected, 1e-12, seed)


class OnnxNodes:
    """Writes nodes; values are their names."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make, self.nodes = make, []

    def __getitem__(self, name: str) -> Callable[..., str]:
        kinds = {"times": "Mul", "plus": "Add", "square": "Pow", "cube": "Pow"}
        more = {"square": ["two"], "cube": ["three"]}.get(name, [])

        def write(*values: str) -> str:
            out = f"v{len(self.nodes)}"
            kind = kinds.get(name, name.capitalize())
            self.nodes.append(self.make(kind, [*values, *more], [out]))
            return out

        return write


def check_onnx(seed):
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    h, rng = onnx.helper, np.random.default_rng(seed)
    parts = weights(rng)
    ops = OnnxNodes(h.make_node)
    leaves = []
    for k, _ in enumerate(parts):
        ops.nodes.append(h.make_node("MatMul", ["x", f"w{k}"], [f"leaf{k}"]))
        leaves.append(f"leaf{k}")
    last = expression(rng, leaves, ops)
    constants = {f"w{k}": w for k, w in enumerate(parts)}
    constants |= {"two": np.float32(2.0), "three": np.float32(3.0)}
    graph = h.make_graph(
        ops.nodes,
        "products",
        [h.make_tensor_value_info("x", 1, ["N", len(parts[0])])],
        [h.make_tensor_value_info(last, 1, None)],
        [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)])
    model.ir_version = 9
    x = rng.normal(size=(20, len(parts[0]))).astype(np.float32)
    [expected] = runtime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    # A head stays a unit where something computes with it.
    agree(read_network(model).evaluate(x.astype(float)), expected, 1e-5, seed)


CHECKS = {"torch": check_torch, "keras": check_keras, "onnx": check_onnx}


@pytest.mark.parametrize("framework", CHECKS)
def test_some_expressions(framework):
    for seed in range(4):
        CHECKS[framework](seed)


@pytest.mark.slow
@pytest.mark.parametrize("framework", CHECKS)
def test_many_expressions(framework):
    for seed in range(100, 500):
        CHECKS[framework](seed)
