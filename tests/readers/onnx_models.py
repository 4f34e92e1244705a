"""Small ONNX graphs for tests, and the comparison with onnxruntime."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from pyomo_relu.readers.onnx import read_onnx

KINDS = {np.dtype("float32"): TensorProto.FLOAT, np.dtype("int64"): TensorProto.INT64}


def model(nodes, inputs, outputs, constants=None, opset=13, listed=False, domains=()):
    """A model of float32 inputs {name: shape}; outputs by name, of any shape."""
    initializers = [
        numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()
    ]
    infos = [
        helper.make_tensor_value_info(k, TensorProto.FLOAT, list(shape))
        for k, shape in inputs.items()
    ]
    if listed:
        infos += [
            helper.make_tensor_value_info(i.name, i.data_type, list(i.dims))
            for i in initializers
        ]
    results = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs]
    graph = helper.make_graph(nodes, "test", infos, results, initializers)
    imports = [helper.make_opsetid("", opset)] + [
        helper.make_opsetid(d, 1) for d in domains
    ]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def f32(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def difference(made, network, rng, points: int = 5, batch: int = 1, spread=2.0) -> float:
    """Largest difference from onnxruntime, relative to the largest output (at least 1)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        made.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    worst = 0.0
    for _ in range(points):
        feeds, flat = {}, []
        for entry in session.get_inputs():
            shape = [d if isinstance(d, int) else batch for d in entry.shape]
            value = rng.uniform(-spread, spread, shape).astype(np.float32)
            feeds[entry.name] = value
            dynamic = bool(shape) and not isinstance(entry.shape[0], int)
            flat.append(value.reshape(batch if dynamic else 1, -1))
        found = session.run(None, feeds)
        rows = len(flat[0])
        expected = np.hstack([np.asarray(y, dtype=float).reshape(rows, -1) for y in found])
        got = network.evaluate(np.hstack(flat))
        assert got.shape == expected.shape
        scale = max(1.0, float(np.abs(expected).max()))
        worst = max(worst, float(np.abs(got - expected).max()) / scale)
    return worst


def agree(made, batch: int = 1, **options) -> None:
    """Assert that the network read from ``made`` is what onnxruntime computes."""
    network = read_onnx(made, **options)
    assert difference(made, network, np.random.default_rng(1), batch=batch) < 1e-5


def single(operator, shape, *constants, opset=13, dynamic=True, n_outputs=1, **attributes):
    """A model of one operator on one input, with constants after it."""
    names = [f"c{k}" for k in range(len(constants))]
    given = {n: c for n, c in zip(names, constants) if c is not None}
    outputs = [f"y{k}" for k in range(n_outputs)]
    inputs = ["x"] + [n if n in given else "" for n in names]
    node = helper.make_node(operator, inputs, outputs, **attributes)
    full = ("N", *shape) if dynamic else tuple(shape)
    return model([node], {"x": full}, outputs, given, opset)
