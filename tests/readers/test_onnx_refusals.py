"""ONNX models that can't be read: too large, broken, or at odds with themselves."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from pyomo_relu.network.limits import TooLargeError  # noqa: E402
from pyomo_relu.readers import read_network  # noqa: E402
from pyomo_relu.readers.onnx import read_onnx  # noqa: E402
from tests.readers.onnx_models import f32, model, single  # noqa: E402

RNG = np.random.default_rng(0)
node = helper.make_node
HUGE = 10**9


def one(*nodes, shape=(1, 4), constants=None, opset=13):
    """A model of nodes from x to y, the input of fixed shape."""
    return model(list(nodes), {"x": shape}, ["y"], constants, opset)


def doubling(n):
    """x joined with itself, n times over."""
    nodes = [node("Concat", [f"v{k}"] * 2, [f"v{k + 1}"], axis=1) for k in range(n)]
    nodes[0].input[:] = ["x", "x"]
    nodes[-1].output[:] = ["y"]
    return one(*nodes)


def nested_functions(n):
    """n functions, each of which calls the next one twice."""
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    functions = []
    for k in range(n):
        inner = ["Relu", ""] if k == n - 1 else [f"f{k + 1}", "f"]
        nodes = [
            node(inner[0], ["a"], ["b"], domain=inner[1]),
            node(inner[0], ["b"], ["c"], domain=inner[1]),
        ]
        functions.append(helper.make_function("f", f"f{k}", ["a"], ["c"], nodes, imports))
    made = model([node("f0", ["x"], ["y"], domain="f")], {"x": (1, 4)}, ["y"], opset=17)
    made.opset_import.append(imports[1])
    made.functions.extend(functions)
    return made


def constant(operator, *inputs, **attributes):
    """A model that adds the first entry of a constant that an operator makes."""
    names = [f"i{k}" for k in range(len(inputs))]
    given = dict(zip(names, map(np.asarray, inputs))) | {"zero": np.array([0])}
    return one(
        node(operator, names, ["c"], **attributes),
        node("Cast", ["c"], ["d"], to=1),
        node("Reshape", ["d", "minus"], ["e"]),
        node("Gather", ["e", "zero"], ["f"]),
        node("Add", ["x", "f"], ["y"]),
        constants=given | {"minus": np.array([-1])},
    )


WIDE = f32(RNG, 1, 100_000)
TOO_LARGE = {
    "ConstantOfShape": lambda: constant("ConstantOfShape", np.array([2 * HUGE])),
    "Expand of a constant": lambda: constant("Expand", np.float32(1), np.array([3, HUGE])),
    "Tile of a constant": lambda: constant("Tile", f32(RNG, 2), np.array([HUGE])),
    "Range": lambda: constant("Range", np.int64(0), np.int64(HUGE), np.int64(1)),
    "OneHot": lambda: constant("OneHot", np.array([1]), np.array(HUGE), f32(RNG, 2)),
    "outer product": lambda: constant("MatMul", WIDE.T, WIDE),
    "Add of a constant": lambda: constant("Add", WIDE.T, WIDE),
    "Expand": lambda: single("Expand", (4,), np.array([HUGE, 1, 4]), dynamic=False),
    "Tile": lambda: single("Tile", (4,), np.array([HUGE]), dynamic=False),
    "Pad": lambda: single("Pad", (4,), np.array([0, HUGE]), dynamic=False),
    "Pad of a sample": lambda: single("Pad", (4,), np.array([0, 0, 0, HUGE])),
    "Gather": lambda: one(
        node("ConstantOfShape", ["n"], ["i"], value=numpy_helper.from_array(np.array([0]))),
        node("Gather", ["x", "i"], ["y"], axis=1),
        constants={"n": np.array([10**7])},
    ),
    "Add": lambda: one(
        node("Add", ["x", "c"], ["y"]), shape=(30_000, 1), constants={"c": WIDE}
    ),
    "Mul": lambda: one(
        node("Mul", ["x", "c"], ["y"]), shape=(30_000, 1), constants={"c": WIDE}
    ),
    "Max": lambda: one(
        node("Max", ["x", "c"], ["y"]), shape=(30_000, 1), constants={"c": WIDE}
    ),
    "Where": lambda: one(
        node("Where", ["m", "x", "c"], ["y"]),
        shape=(30_000, 1),
        constants={"c": WIDE, "m": WIDE > 0},
    ),
    "MatMul": lambda: one(
        node("MatMul", ["x", "c"], ["y"]), shape=(30_000, 1), constants={"c": WIDE}
    ),
    "MatMul of many rows": lambda: one(
        node("MatMul", ["x", "c"], ["y"]),
        shape=(20_000, 300),
        constants={"c": f32(RNG, 300, 300)},
    ),
    "two tensors": lambda: one(
        node("Transpose", ["x"], ["t"], perm=[1, 0]),
        node("Add", ["x", "t"], ["y"]),
        shape=(1, 50_000),
    ),
    "an input": lambda: single("Relu", (HUGE,)),
    "Conv of padding": lambda: single("Conv", (1, 8), f32(RNG, 4, 1, 3), pads=[HUGE, HUGE]),
    "Conv of many channels": lambda: single("Conv", (64, 500, 500), f32(RNG, 64, 64, 3, 3)),
    "ConvTranspose": lambda: single(
        "ConvTranspose", (1, 2, 2), f32(RNG, 1, 1, 2, 2), strides=[10**5, 10**5]
    ),
    "MaxPool": lambda: single(
        "MaxPool", (1, 20_000), kernel_shape=[19_999], pads=[19_998, 19_998]
    ),
    "AveragePool": lambda: single("AveragePool", (1, 20_000), kernel_shape=[10_000]),
    "Concat, doubled": lambda: doubling(40),
    "functions, doubled": lambda: nested_functions(40),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_what_declares_too_much_is_refused_before_it_is_made(name, tmp_path):
    made = TOO_LARGE[name]()
    path = tmp_path / "n.onnx"
    path.write_bytes(made.SerializeToString())
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError, match=r"n.onnx': with .*max_memory="):
            # What is doubled again and again may be made up to the limit.
            read_onnx(path, max_memory=1e8 if "doubled" in name else None)
        assert tracemalloc.get_traced_memory()[1] < 1.5e8
    finally:
        tracemalloc.stop()


def test_the_limit_is_the_users(tmp_path):
    made = single("Gemm", (300,), f32(RNG, 300, 20))
    read_network(made)
    with pytest.raises(TooLargeError, match="operators"):
        read_network(made, max_memory=1e4)
    path = tmp_path / "n.onnx"
    onnx.save(made, path)
    with pytest.raises(TooLargeError, match="n.onnx"):
        read_network(path, max_memory=1e4)
    with pytest.raises(ValueError, match="max_memory"):
        read_network(path, max_memory=-1)


def test_a_few_of_many_entries_are_picked_without_a_dense_product():
    n = 200_000
    made = one(
        node("Gather", ["x", "i"], ["h"], axis=1),
        node("Gemm", ["h", "w"], ["y"]),
        shape=(1, n),
        constants={"i": np.array([5, n - 1]), "w": f32(RNG, 2, 1000)},
    )
    tracemalloc.start()
    network = read_network(made, check_reading=False)
    assert tracemalloc.get_traced_memory()[1] < 2e8
    tracemalloc.stop()
    assert len(network.nodes) == 2 and network.nodes[1].nonzeros == 2000


def attribute(operator, name, value):
    made = single(operator, (4,))
    made.graph.node[0].attribute.append(helper.make_attribute(name, value))
    return made


def typed(kind):
    made = single("Relu", (4,))
    made.graph.input[0].type.tensor_type.elem_type = kind
    return made


def weights(change, **fields):
    """A model whose weights are declared in another way than they are held."""
    made = single("Add", (4,), f32(RNG, 4))
    tensor = made.graph.initializer[0]
    change(tensor)
    return made


def twice():
    made = one(
        node("Relu", ["x"], ["h"]), node("Abs", ["x"], ["h"]), node("Relu", ["h"], ["y"])
    )
    return made


def unnamed():
    made = single("Relu", (4,))
    del made.graph.node[0].output[:]
    return made


BROKEN = {
    "MaxPool without kernel_shape": (lambda: single("MaxPool", (1, 8)), "kernel_shape"),
    "AveragePool without kernel_shape": (
        lambda: single("AveragePool", (1, 8)),
        "kernel_shape",
    ),
    "a kernel of no cells": (
        lambda: single("MaxPool", (1, 8), kernel_shape=[0]),
        "MaxPool|'y0'",
    ),
    "strides of 0": (
        lambda: single(
            "MaxPool", (1, 8), kernel_shape=[2], strides=[0], auto_pad="SAME_UPPER"
        ),
        "MaxPool|'y0'",
    ),
    "two strides on one axis": (
        lambda: single("MaxPool", (1, 8), kernel_shape=[2], strides=[1, 1]),
        "strides",
    ),
    "an attribute of a wrong type": (lambda: attribute("LeakyRelu", "alpha", "a"), "alpha"),
    "an attribute that is not known": (lambda: attribute("Relu", "alpha", 1.0), "alpha"),
    "shapes that don't broadcast": (
        lambda: single("Add", (4,), f32(RNG, 3)),
        r"'y0'.*broadcast.*\(1, 4\), \(3,\)",
    ),
    "a slope that doesn't broadcast": (
        lambda: single("PRelu", (4,), f32(RNG, 3)),
        "'y0'.*fit",
    ),
    "a bias that doesn't broadcast": (
        lambda: single("Gemm", (4,), f32(RNG, 4, 2), f32(RNG, 3)),
        "'y0'",
    ),
    "factors that don't match": (
        lambda: single("MatMul", (4,), f32(RNG, 5, 2)),
        "'y0'.*match",
    ),
    "an axis out of range": (
        lambda: single("Transpose", (4,), perm=[0, 5]),
        "Transpose|'y0'",
    ),
    "an axis below the range": (
        lambda: single("ReduceSum", (4,), np.array([-7])),
        "'y0'.*axis -7",
    ),
    "axes given twice": (lambda: single("Transpose", (4,), perm=[0, 0]), "Transpose|'y0'"),
    "an index out of range": (
        lambda: single("Gather", (4,), np.array([9]), axis=1),
        "Gather",
    ),
    "a reshape to another size": (
        lambda: single("Reshape", (4,), np.array([1, 7])),
        "Reshape",
    ),
    "a missing input": (lambda: single("Add", (4,)), "Add"),
    "an input left out": (lambda: single("Add", (4,), None), "Add"),
    "an input that nothing makes": (
        lambda: one(node("Add", ["x", "z"], ["y"])),
        "Add.*'z', which nothing",
    ),
    "a cycle": (
        lambda: one(
            node("Add", ["x", "b"], ["a"]),
            node("Relu", ["a"], ["b"]),
            node("Relu", ["b"], ["y"]),
        ),
        "Add.*'b', which nothing",
    ),
    "an operator without an output": (unnamed, "no output|y0"),
    "a value made twice": (twice, "'h'"),
    "an input of texts": (lambda: typed(TensorProto.STRING), "'x' has the type STRING"),
    "an input of unknown type": (lambda: typed(77), "'x' has the type 77"),
    "weights of an unknown type": (
        lambda: weights(lambda t: setattr(t, "data_type", 77)),
        "'c0'.*data type 77",
    ),
    "weights of texts": (
        lambda: weights(lambda t: t.CopyFrom(helper.make_tensor("c0", 8, [1], [b"a"]))),
        "'c0'.*STRING",
    ),
    "weights of fewer numbers than declared": (
        lambda: weights(lambda t: t.dims.append(HUGE // 10**3)),
        r"'c0'.*shape \(4, 1000000\)",
    ),
    "weights of a shape below 0": (
        lambda: weights(lambda t: (t.ClearField("dims"), t.dims.append(-1))),
        r"'c0'.*shape \(-1,\)",
    ),
    "weights in a file that was not read": (
        lambda: weights(
            lambda t: (t.ClearField("raw_data"), setattr(t, "data_location", 1)),
        ),
        "'c0'.*in another file",
    ),
    "an operator set of the future": (
        lambda: single("Relu", (4,), opset=9999),
        "Relu|opset",
    ),
    "a function that calls itself": (
        lambda: recursive(),
        "'f1' calls itself",
    ),
    "bounds of a clip as an array": (
        lambda: single("Clip", (4,), f32(RNG, 4)),
        "'y0'.*min",
    ),
    "a loop over constants": (lambda: looped(), "Loop"),
}


def recursive():
    made = nested_functions(2)
    made.functions[1].node[0].op_type, made.functions[1].node[0].domain = "f0", "f"
    return made


def looped():
    """A constant that is computed by a thousand million rounds of a loop."""
    body = helper.make_graph(
        [node("Identity", ["go"], ["on"]), node("Add", ["v", "v"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [1]),
        ],
    )
    return one(
        node("Loop", ["n", "", "s"], ["c"], body=body),
        node("Add", ["x", "c"], ["y"]),
        constants={"n": np.array(HUGE), "s": np.zeros(1, dtype=np.float32)},
    )


@pytest.mark.parametrize("name", BROKEN)
def test_broken_models_are_refused_by_name(name):
    make, message = BROKEN[name]
    with pytest.raises(ValueError, match=message) as refused:
        read_onnx(make())
    assert type(refused.value) is ValueError


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda e: e.update(location="../weights.bin"), "not in the folder"),
        (lambda e: e.update(location="/etc/hostname"), "not in the folder"),
        (lambda e: e.update(location="link.bin"), "not in the folder"),
        (lambda e: e.update(location=""), "not in the folder"),
        (lambda e: e.update(location="absent.bin"), "'absent.bin'.*missing"),
        (lambda e: e.update(offset="1000000"), "too short"),
        (lambda e: e.update(length="1000000"), "too short"),
        (lambda e: e.update(offset="-8"), "too short"),
        (lambda e: e.update(length="many"), "too short"),
        (lambda e: e.update(length="8"), "'c0'.*shape"),
    ],
)
def test_weights_in_other_files(tmp_path, change, message):
    folder = tmp_path / "model"
    folder.mkdir()
    path = folder / "n.onnx"
    made = single("Gemm", (30,), f32(RNG, 30, 20))
    onnx.save(made, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "weights.bin").write_bytes((folder / "w.bin").read_bytes())
    (folder / "link.bin").symlink_to(tmp_path / "weights.bin")
    assert read_onnx(path).n_outputs == 20
    made = onnx.load(path, load_external_data=False)
    tensor = made.graph.initializer[0]
    entries = {e.key: e.value for e in tensor.external_data}
    change(entries)
    del tensor.external_data[:]
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(made.SerializeToString())
    with pytest.raises(ValueError, match=f"n.onnx.*{message}"):
        read_onnx(path)


def test_folders_and_foreign_objects(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        read_onnx(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_onnx(tmp_path / "absent.onnx")
    with pytest.raises(TypeError, match="ModelProto"):
        read_onnx(3)
