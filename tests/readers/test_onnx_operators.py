"""ONNX: operators of ai.onnx.ml, choices, branches, quantized weights, packed files."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from pyomo_relu.network import PiecewiseLinear  # noqa: E402
from pyomo_relu.readers import read_network  # noqa: E402
from tests.readers.onnx_models import agree, difference, f32, model, single  # noqa: E402

RNG = np.random.default_rng(0)
ML = "ai.onnx.ml"
node = helper.make_node


def learned(operator, shape, *constants, outputs=("y",), **attributes):
    """A model of one operator of ai.onnx.ml."""
    names = [f"c{k}" for k in range(len(constants))]
    made = node(operator, ["x", *names], list(outputs), domain=ML, **attributes)
    given = dict(zip(names, constants))
    return model([made], {"x": ("N", *shape)}, list(outputs), given, domains=(ML,))


@pytest.mark.parametrize(
    "made",
    [
        learned("Scaler", (3,), offset=[1.0, 2.0, -1.0], scale=[0.5, 3.0, 1.0]),
        learned("Scaler", (3,), offset=[1.5], scale=[0.5]),
        learned("ArrayFeatureExtractor", (4,), np.array([2, 0, 2])),
        learned("LinearRegressor", (3,), coefficients=[1.0, -2.0, 0.5], intercepts=[0.3]),
        learned("LinearRegressor", (2,), coefficients=[1.0, -2.0, 0.5, 3.0], targets=2),
    ],
    ids=lambda m: m.graph.node[0].op_type,
)
def test_operators_of_learning(made):
    agree(made, batch=2)


@pytest.mark.parametrize("zeros", [0, 1])
@pytest.mark.parametrize("categories", [[0, 1, 2], [7, 2, 3], [4]])
def test_one_hot_encoders_at_integers(zeros, categories):
    nodes = [
        node("OneHotEncoder", ["x"], ["h"], domain=ML, cats_int64s=categories, zeros=zeros),
        node("Flatten", ["h"], ["f"]),
        node("MatMul", ["f", "w"], ["z"]),
        node("Relu", ["z"], ["y"]),
    ]
    w = f32(RNG, 2 * len(categories), 5)
    made = model(nodes, {"x": ("N", 2)}, ["y"], {"w": w}, domains=(ML,))
    network = read_network(made)
    values = np.arange(-3.0, 12.0) if zeros else np.array(categories, dtype=float)
    points = np.array(np.meshgrid(values, values)).reshape(2, -1).T
    session = ort.InferenceSession(made.SerializeToString())
    [expected] = session.run(None, {"x": points.astype(np.float32)})
    assert np.abs(network.evaluate(points) - expected).max() <= 1e-5


def test_a_pipeline_as_converters_write_it():
    nodes = [
        node("ArrayFeatureExtractor", ["x", "codes"], ["a"], domain=ML),
        node("ArrayFeatureExtractor", ["x", "reals"], ["b"], domain=ML),
        node("OneHotEncoder", ["a"], ["h"], domain=ML, cats_int64s=[0, 1, 2], zeros=1),
        node("Reshape", ["h", "shape"], ["f"]),
        node("Scaler", ["b"], ["s"], domain=ML, offset=[1.0, 2.0], scale=[0.5, 0.25]),
        node("Concat", ["f", "s"], ["c"], axis=1),
        node("MatMul", ["c", "w"], ["z"]),
        node("Relu", ["z"], ["y"]),
    ]
    constants = {
        "codes": np.array([0]), "reals": np.array([1, 2]), "shape": np.array([-1, 3]),
        "w": f32(RNG, 5, 4),
    }  # fmt: skip
    made = model(nodes, {"x": ("N", 3)}, ["y"], constants, domains=(ML,))
    network = read_network(made)
    points = np.hstack([RNG.integers(0, 3, (20, 1)), RNG.normal(size=(20, 2))])
    session = ort.InferenceSession(made.SerializeToString())
    [expected] = session.run(None, {"x": points.astype(np.float32)})
    assert np.abs(network.evaluate(points) - expected).max() <= 1e-5


# ----------------------------------------------------------------------------- choices
def chosen(*nodes, constants=None, shape=(4,)):
    given = {"zero": np.float32(0), "one": np.float32(1), "tenth": np.float32(0.1)}
    return model(
        list(nodes), {"x": ("N", *shape)}, ["y"], {**given, **(constants or {})}, 13
    )


CHOICES = {
    "leaky_relu": chosen(
        node("Greater", ["x", "zero"], ["c"]),
        node("Mul", ["x", "tenth"], ["s"]),
        node("Where", ["c", "x", "s"], ["y"]),
    ),
    "relu": chosen(
        node("Greater", ["x", "zero"], ["c"]),
        node("Cast", ["c"], ["f"], to=TensorProto.FLOAT),
        node("Mul", ["x", "f"], ["y"]),
    ),
    "chosen": chosen(
        node("Less", ["x", "one"], ["c"]),
        node("Not", ["c"], ["n"]),
        node("Where", ["n", "one", "x"], ["y"]),
    ),
}


@pytest.mark.parametrize("name", CHOICES)
def test_choices_are_what_they_are(name):
    agree(CHOICES[name], batch=3)
    nodes = read_network(CHOICES[name]).nodes
    assert [v.function for v in nodes if isinstance(v, PiecewiseLinear)] == [name]


@pytest.mark.parametrize(
    "equation, shape, other",
    [("bi,ij->bj", (4,), (4, 3)), ("...ij,jk->...ik", (2, 3), (3, 2)),
     ("bij,bij->bij", (2, 2), None)],
)  # fmt: skip
def test_einsum(equation, shape, other):
    if other is None:
        made = model([node("Einsum", ["x", "x"], ["y"], equation=equation)],
                     {"x": (1, *shape)}, ["y"])  # fmt: skip
        with pytest.raises(ValueError, match="Einsum|multiplies 2 tensors"):
            read_network(made)
        return
    agree(single("Einsum", shape, f32(RNG, *other), equation=equation), batch=2)


@pytest.mark.parametrize(
    "transformation", ["asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel"]
)
@pytest.mark.parametrize("nearest", ["floor", "ceil", "round_prefer_floor"])
def test_resize(transformation, nearest):
    options = {
        "mode": "nearest",
        "coordinate_transformation_mode": transformation,
        "nearest_mode": nearest,
    }
    none = np.zeros(0, np.float32)
    scales = np.array([1, 1, 2, 1.5], np.float32)
    agree(single("Resize", (2, 3, 4), none, scales, **options), batch=2)
    sizes = np.array([1, 2, 5, 3], np.int64)
    agree(single("Resize", (1, 2, 3, 4), none, none, sizes, dynamic=False, **options))


# ---------------------------------------------------------------------------- branches
def with_if(condition, before=()):
    x_out = [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)]
    weight = numpy_helper.from_array(np.float32(3.0), "three")
    then = helper.make_graph([node("Relu", ["x"], ["t"])], "then", [], x_out)
    other_out = [helper.make_tensor_value_info("e", TensorProto.FLOAT, None)]
    parts = [node("Mul", ["x", "three"], ["m"]), node("Log", ["m"], ["e"])]
    other = helper.make_graph(parts, "else", [], other_out, [weight])
    nodes = [
        *before,
        node("If", ["c"], ["z"], then_branch=then, else_branch=other),
        node("Neg", ["z"], ["y"]),
    ]
    constants = {} if condition is None else {"c": np.array(condition)}
    return model(nodes, {"x": (1, 3)}, ["y"], constants)


def test_a_constant_if_is_its_branch():
    agree(with_if(True))
    before = [
        node("Shape", ["x"], ["s"]),
        node("Size", ["s"], ["n"]),
        node("Constant", [], ["two"], value_int=2),
        node("Equal", ["n", "two"], ["c"]),
    ]
    agree(with_if(None, before))
    with pytest.raises(ValueError, match="operator Log"):
        read_network(with_if(False))


def test_an_if_by_a_value_is_refused():
    before = [
        node("ReduceSum", ["x"], ["s"], keepdims=0),
        node("Constant", [], ["zero"], value_float=0.0),
        node("Greater", ["s", "zero"], ["c"]),
    ]
    with pytest.raises(ValueError, match="If"):
        read_network(with_if(None, before))


def test_dead_nodes_are_left_out():
    nodes = [
        node("Relu", ["x"], ["y"]),
        node("Log", ["x"], ["dead"]),
        node("Sqrt", ["dead"], ["deader"]),
    ]
    agree(model(nodes, {"x": ("N", 3)}, ["y"]))
    with pytest.raises(ValueError, match="Log"):
        read_network(model(nodes, {"x": ("N", 3)}, ["y", "dead"]))


# ------------------------------------------------------------------- quantized weights
@pytest.mark.parametrize("axis", [None, 1])
def test_weights_that_are_quantized(axis):
    quantized = RNG.integers(-100, 100, (3, 4)).astype(np.int8)
    scale = np.float32(0.05) if axis is None else np.abs(f32(RNG, 4))
    zero = np.int8(3) if axis is None else np.array([1, -2, 0, 5], np.int8)
    options = {} if axis is None else {"axis": axis}
    nodes = [
        node("DequantizeLinear", ["q", "s", "z"], ["w"], **options),
        node("MatMul", ["x", "w"], ["h"]),
        node("Relu", ["h"], ["y"]),
    ]
    constants = {"q": quantized, "s": scale, "z": zero}
    made = model(nodes, {"x": ("N", 3)}, ["y"], constants)
    # Where onnxruntime optimizes, it also rounds the other factor of such a product.
    plain = ort.SessionOptions()
    plain.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    x = f32(RNG, 20, 3)
    [expected] = ort.InferenceSession(made.SerializeToString(), plain).run(None, {"x": x})
    found = read_network(made).evaluate(x.astype(float))
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    both = [
        node("QuantizeLinear", ["x", "s", "z"], ["a"]),
        node("DequantizeLinear", ["a", "s", "z"], ["y"]),
    ]
    if axis is None:
        with pytest.raises(ValueError, match="QuantizeLinear.*rounds"):
            read_network(model(both, {"x": ("N", 3)}, ["y"], constants))


# ------------------------------------------------------------------------ packed files
def test_packed_files(tmp_path):
    made = single("Relu", (3,))
    path = tmp_path / "net.onnx.gz"
    path.write_bytes(gzip.compress(made.SerializeToString()))
    for source in (path, str(path)):
        network = read_network(source)
        assert difference(made, network, np.random.default_rng(0)) == 0.0
    path.write_bytes(gzip.compress(made.SerializeToString())[:-9])
    with pytest.raises(ValueError, match="truncated"):
        read_network(path)
    path.write_bytes(b"some text")
    with pytest.raises(ValueError, match="not a gzip file"):
        read_network(path)
    path.write_bytes(gzip.compress(b"\0" * 50_000_000))
    with pytest.raises(ValueError, match="max_memory"):
        read_network(path, max_memory=1e7)


def test_refusals_name_the_operator_and_the_remedy():
    text = learned("OneHotEncoder", (2,), cats_strings=["a", "b"])
    twice = model(
        [node("Neg", ["x"], ["n"]),
         node("OneHotEncoder", ["n"], ["y"], domain=ML, cats_int64s=[0, 1])],
        {"x": (1, 2)}, ["y"], domains=(ML,),
    )  # fmt: skip
    none = np.zeros(0, np.float32)
    linear = single(
        "Resize", (1, 2, 2), none, np.array([1, 1, 2, 2], np.float32), mode="linear"
    )
    cases = [
        (text, "OneHotEncoder.*categories are text"),
        (twice, "layer .y.*scaled or computed"),
        (linear, "Resize.*mode 'linear'.*nearest"),
        (learned("LinearRegressor", (2,), coefficients=[1.0, 2.0], post_transform="LOGISTIC"),
         "post_transform LOGISTIC"),
        (learned("Normalizer", (2,), norm="L2"), "ai.onnx.ml.Normalizer"),
        (chosen(node("Greater", ["x", "zero"], ["c"]), node("Neg", ["x"], ["n"]),
                node("ReduceMax", ["n"], ["s"], axes=[1]),
                node("Where", ["c", "s", "x"], ["y"])), "chooses by a comparison"),
    ]  # fmt: skip
    for made, message in cases:
        with pytest.raises(ValueError, match=message):
            read_network(made)
