"""Verdicts on networks with smooth units, against fine grids, and a file of each format."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.network import NetworkBuilder
from pyomo_relu.verification import output_bounds, read_vnnlib, verify
from tests.harness.random_networks import SMOOTH, random_network

SIDE = np.linspace(-1.0, 1.0, 301)
GRID = np.stack(np.meshgrid(SIDE, SIDE), axis=-1).reshape(-1, 2)
BOX = -np.ones(2), np.ones(2)


def check_verdicts(seed, methods):
    """A limit a little above the largest value holds; one a little below doesn't."""
    rng = np.random.default_rng(seed)
    names = [str(name) for name in rng.choice(SMOOTH, 2)]
    network = random_network(rng, widths=(6, 5), activations=names)
    values = network.evaluate(GRID)[:, 0]
    span = float(np.ptp(values)) + 1e-3
    best = float(values.max())
    for limit, status in ((best + 0.02 * span, "robust"), (best - 0.01 * span, None)):
        found = verify(network, BOX, output_bounds([-1e3], [limit]), methods=methods)
        assert found.status == (status or "counterexample"), (seed, names)
        if status is None:
            assert network.evaluate(found.counterexample)[0] > limit


@pytest.mark.parametrize("seed", range(2))
def test_verdicts(seed):
    check_verdicts(seed, ("bounds", "splitting"))


def test_verdicts_by_relu_global():
    check_verdicts(1, ("relu_global",))


@pytest.mark.slow
def test_many_verdicts():
    for seed in range(100, 200):
        check_verdicts(seed, ("attack", "bounds", "splitting", "mip"))


def test_many_inputs_by_bounds():
    """As the sigmoid and tanh networks of ERAN: pixels, and a small ball."""
    rng = np.random.default_rng(0)
    for name in ("sigmoid", "tanh"):
        b = NetworkBuilder()
        h = b.input("image", (100,))
        for k, size in enumerate((30, 30)):
            n = b.nodes[h].size
            h = b.affine(f"dense_{k}", [(h, rng.normal(size=(size, n)) / np.sqrt(n))])
            h = b.smooth(f"{name}_{k}", h, name)
        network = b.build([b.affine("out", [(h, rng.normal(size=(1, 30)) / 5.0)])])
        image = rng.uniform(0, 1, 100)
        y = float(network.evaluate(image)[0])
        ball = np.maximum(image - 0.02, 0.0), np.minimum(image + 0.02, 1.0)
        found = verify(network, ball, output_bounds([y - 0.3], [y + 0.3]), time_limit=600)
        assert found.status == "robust", name
        x = rng.uniform(*ball, (2000, 100))
        assert (abs(network.evaluate(x)[:, 0] - y) <= 0.3).all()


PROPERTY = """\
(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-const Y_0 Real)
(assert (>= X_0 -1.0))
(assert (<= X_0 1.0))
(assert (>= X_1 -1.0))
(assert (<= X_1 1.0))
(assert (>= Y_0 {limit}))
"""


def test_an_onnx_file_and_a_vnnlib_file(tmp_path):
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(2)
    weights = {
        "a": rng.normal(size=(2, 8)).astype(np.float32),
        "b": rng.normal(size=(8, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["X", "a"], ["h"]),
        helper.make_node("Tanh", ["h"], ["t"]),
        helper.make_node("MatMul", ["t", "b"], ["s"]),
        helper.make_node("Sigmoid", ["s"], ["Y"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size])
        for name, size in (("X", 2), ("Y", 1))
    ]
    tensors = [numpy_helper.from_array(w, k) for k, w in weights.items()]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    values = 1 / (1 + np.exp(-np.tanh(GRID @ weights["a"]) @ weights["b"]))
    for shift, status in ((0.01, "robust"), (-0.01, "counterexample")):
        text = PROPERTY.format(limit=float(values.max()) + shift)
        (tmp_path / "p.vnnlib").write_text(text)
        (case,) = read_vnnlib(tmp_path / "p.vnnlib").cases
        assert verify(str(path), (case.lower, case.upper), case.property).status == status
