"""ONNX graphs: constants folded, everything else walked; against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper

from pyomo_relu.readers.onnx import read_onnx, register_onnx_operator
from tests.paths import shared_data
from tests.readers.onnx_models import agree, difference, f32, model, single

RNG = np.random.default_rng(0)
node = helper.make_node


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("attributes", [{}, {"alpha": 0.5, "beta": 2.0}])
def test_gemm_attributes(trans_a, trans_b, attributes):
    b = f32(RNG, 5, 3) if trans_b else f32(RNG, 3, 5)
    shape = (3, 1) if trans_a else (1, 3)
    made = single(
        "Gemm",
        shape,
        b,
        f32(RNG, 5),
        dynamic=False,
        transA=trans_a,
        transB=trans_b,
        **attributes,
    )
    agree(made)


def test_gemm_without_bias_with_scalar_bias_and_with_a_constant_first():
    agree(single("Gemm", (3,), f32(RNG, 3, 5)), batch=4)
    agree(single("Gemm", (3,), f32(RNG, 3, 5), np.float32(1.5)), batch=4)
    n = [node("Gemm", ["a", "x", "c"], ["y"], transB=1, alpha=2.0)]
    made = model(n, {"x": (2, 3)}, ["y"], {"a": f32(RNG, 4, 3), "c": f32(RNG, 4, 2)})
    agree(made)


@pytest.mark.parametrize(
    "x_shape, w_shape, left",
    [
        (("N", 3), (3, 5), True),
        (("N", 2, 3), (3, 5), True),
        (("N", 4, 2, 3), (4, 3, 5), True),
        (("N", 2, 3), (4, 2), False),
        ((3,), (3, 5), True),
        ((3,), (3,), True),
        ((3,), (5, 3), False),
        ((2, 3), (3,), True),
        ((3, 2), (3,), False),
        ((3,), (4, 3, 5), True),
        ((1, 2, 3), (4, 3, 5), True),
        ((4, 2, 3), (3, 5), True),
        ((3, 4), (5, 2, 3), False),
    ],
)
def test_matmul_of_any_rank_on_either_side(x_shape, w_shape, left):
    order = ["x", "w"] if left else ["w", "x"]
    made = model(
        [node("MatMul", order, ["y"])], {"x": x_shape}, ["y"], {"w": f32(RNG, *w_shape)}
    )
    agree(made, batch=3 if x_shape[0] == "N" else 1)


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 1), (1, 2, 3), (4, 2, 3)])
def test_constants_broadcast(operator, shape):
    c = f32(RNG, *shape) + np.float32(3)
    agree(single(operator, (1, 2, 3), c, dynamic=False))
    if operator != "Div":
        n = [node(operator, ["c", "x"], ["y"])]
        agree(model(n, {"x": (1, 2, 3)}, ["y"], {"c": c}))


@pytest.mark.parametrize("operator", ["Add", "Sub", "Sum", "Mean", "Max", "Min"])
def test_two_tensors_broadcast(operator):
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Slice", ["x", "s", "e", "ax"], ["b"]),
        node(operator, ["a", "b"], ["y"]),
    ]
    constants = {
        "w": f32(RNG, 3, 5),
        "s": np.array([1]),
        "e": np.array([2]),
        "ax": np.array([1]),
    }
    agree(model(nodes, {"x": ("N", 3)}, ["y"], constants), batch=4)


def test_max_and_min_of_several_tensors_and_constants():
    for operator in ("Max", "Min"):
        nodes = [
            node("MatMul", ["x", "w"], ["a"]),
            node(operator, ["a", "c", "x", "d"], ["y"]),
        ]
        constants = {"w": f32(RNG, 3, 3), "c": f32(RNG, 3), "d": np.float32(0.1)}
        agree(model(nodes, {"x": ("N", 3)}, ["y"], constants), batch=4)


ACTIVATIONS = [
    ("Relu", {}, []),
    ("LeakyRelu", {}, []),
    ("LeakyRelu", {"alpha": 0.3}, []),
    ("PRelu", {}, [np.array([0.1, -0.2, 1.5], np.float32)]),
    ("PRelu", {}, [np.array([0.3], np.float32)]),
    ("Clip", {}, [np.float32(-0.5), np.float32(0.7)]),
    ("Clip", {}, [np.float32(0), np.float32(0.7)]),
    ("Clip", {}, [None, np.float32(0.7)]),
    ("Clip", {}, [np.float32(0.2)]),
    ("Clip", {}, []),
    ("Abs", {}, []),
    ("Neg", {}, []),
    ("Sign", {}, []),
    ("HardSigmoid", {}, []),
    ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.4}, []),
    ("ThresholdedRelu", {"alpha": 0.5}, []),
    ("Identity", {}, []),
    ("Dropout", {}, []),
    ("Max", {}, [np.array([0.5, -1, 0], np.float32)]),
    ("Min", {}, [np.float32(0.25)]),
    ("Cast", {"to": TensorProto.FLOAT}, []),
]


@pytest.mark.parametrize("operator, attributes, constants", ACTIVATIONS)
def test_activations(operator, attributes, constants):
    agree(single(operator, (2, 3), *constants, **attributes), batch=3)


def test_attribute_forms_of_old_opsets():
    agree(single("Clip", (3,), opset=7, min=-0.5, max=0.25), batch=2)
    agree(single("Clip", (3,), opset=7, max=0.25), batch=2)
    agree(single("Squeeze", (1, 3), opset=7, axes=[1]), batch=2)
    agree(single("Unsqueeze", (3,), opset=7, axes=[1]), batch=2)
    agree(single("Pad", (3,), opset=7, pads=[0, 1, 0, 2], value=0.5), batch=2)
    agree(single("Slice", (5,), opset=7, starts=[1], ends=[-1], axes=[1]), batch=2)
    agree(single("Split", (5,), opset=7, axis=1, split=[2, 3], n_outputs=2), batch=2)
    agree(single("Dropout", (5,), opset=7), batch=2)
    agree(single("ReduceSum", (5,), opset=7, axes=[1]), batch=2)


I = np.array  # noqa: E741
MOVES = [
    ("Flatten", {}, []),
    ("Flatten", {"axis": 2}, []),
    ("Reshape", {}, [I([0, -1])]),
    ("Reshape", {}, [I([-1, 24])]),
    ("Reshape", {}, [I([0, 4, 6])]),
    ("Transpose", {"perm": [0, 3, 1, 2]}, []),
    ("Unsqueeze", {}, [I([1, -1])]),
    ("Slice", {}, [I([3, 0]), I([-5, 3]), I([3, 2]), I([-1, 2])]),
    ("Gather", {"axis": 2}, [I([2, 0, -1])]),
    ("Gather", {"axis": 1}, [I(1)]),
    ("Gather", {"axis": 3}, [I([[0, 1], [3, 2]])]),
    ("Pad", {}, [I([0, 0, 1, 2, 0, 0, 0, 1]), np.float32(0.5)]),
    ("Pad", {"mode": "reflect"}, [I([0, 0, 1, 2, 0, 0, 0, 1])]),
    ("Pad", {"mode": "edge"}, [I([0, 0, 1, 2, 0, 0, 0, 1])]),
    ("Pad", {}, [I([0, 0, -1, 0, 0, 0, 1, -2])]),
    ("Tile", {}, [I([1, 2, 1, 3])]),
    ("ReduceMean", {"axes": [2, 3]}, []),
    ("ReduceMax", {"axes": [1], "keepdims": 0}, []),
    ("ReduceMin", {"axes": [-1]}, []),
    ("ReduceSum", {"keepdims": 0}, [I([1, 3])]),
    ("Where", None, []),
]


@pytest.mark.parametrize("operator, attributes, constants", MOVES)
def test_moves_and_reductions(operator, attributes, constants):
    if operator == "Where":
        n = [node("Where", ["c", "x", "d"], ["y"])]
        c = {"c": RNG.random((2, 3, 4)) < 0.5, "d": np.float32(0.5)}
        agree(model(n, {"x": ("N", 2, 3, 4)}, ["y"], c), batch=3)
        return
    agree(single(operator, (2, 3, 4), *constants, **attributes), batch=3)


def test_squeeze_without_axes_keeps_the_batch_axis():
    nodes = [node("Squeeze", ["x"], ["s"]), node("ReduceMax", ["s"], ["y"], axes=[1])]
    agree(model(nodes, {"x": ("N", 1, 3, 1)}, ["y"]), batch=3)


def test_split_concat_and_expand():
    nodes = [
        node("Split", ["x", "parts"], ["a", "b", "c"], axis=1),
        node("Relu", ["b"], ["rb"]),
        node("Concat", ["c", "k", "rb", "a", "rb"], ["y"], axis=-1),
    ]
    # a constant can't share the batch axis, so the batch is one sample here
    constants = {"parts": np.array([2, 1, 3]), "k": f32(RNG, 1, 2)}
    agree(model(nodes, {"x": (1, 6)}, ["y"], constants))
    nodes[2] = node("Concat", ["c", "rb", "a", "rb"], ["y"], axis=-1)
    agree(model(nodes, {"x": ("N", 6)}, ["y"], {"parts": np.array([2, 1, 3])}), batch=3)
    agree(single("Expand", (1, 3), np.array([1, 2, 3])), batch=2)


def test_reshape_with_allowzero_and_zero():
    agree(single("Reshape", (2, 3), np.array([0, 0, 1, 3]), opset=14), batch=2)
    agree(single("Reshape", (2, 3), np.array([-1, 6]), opset=14, allowzero=1), batch=2)


def test_shape_arithmetic_is_folded():
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Unsqueeze", ["n", "zeros"], ["n1"]),
        node("Concat", ["n1", "minus"], ["target"], axis=0),
        node("Relu", ["x"], ["r"]),
        node("Reshape", ["r", "target"], ["f"]),
        node("Constant", [], ["k"], value_float=2.0),
        node("Mul", ["k", "w"], ["w2"]),
        node("MatMul", ["f", "w2"], ["y"]),
    ]
    constants = {
        "zero": np.array(0),
        "zeros": np.array([0]),
        "minus": np.array([-1]),
        "w": f32(RNG, 6, 4),
    }
    agree(model(nodes, {"x": ("N", 2, 3)}, ["y"], constants), batch=3)


def test_several_inputs_outputs_listed_initializers_and_repeated_outputs():
    nodes = [
        node("MatMul", ["a", "w"], ["h"]),
        node("Add", ["h", "b"], ["s"]),
        node("Relu", ["s"], ["r"]),
        node("Neg", ["r"], ["m"]),
    ]
    made = model(
        nodes,
        {"a": ("N", 3), "b": ("N", 4)},
        ["r", "m", "s"],
        {"w": f32(RNG, 3, 4)},
        listed=True,
    )
    agree(made, batch=3)
    network = read_onnx(
        made, input_names=list("abcdefg"), output_names=[f"y{k}" for k in range(12)]
    )
    assert network.input_names == tuple("abcdefg")
    assert [network.nodes[i].name for i in network.inputs] == ["a", "b"]


def test_any_input_rank():
    for shape in [(4,), (1, 4), ("N", 4), (2, 4), (1, 1, 1, 4), ("N", 2, 2, 4)]:
        n = [node("MatMul", ["x", "w"], ["h"]), node("Relu", ["h"], ["y"])]
        made = model(n, {"x": shape}, ["y"], {"w": f32(RNG, 4, 3)})
        agree(made, batch=3 if shape[0] == "N" else 1)
    assert read_onnx(made).nodes[0].shape == (2, 2, 4)


def test_same_input_twice():
    n = [node("Add", ["x", "x"], ["h"]), node("Max", ["h", "x"], ["y"])]
    agree(model(n, {"x": ("N", 3)}, ["y"]), batch=2)


@pytest.mark.parametrize("head", ["Softmax", "LogSoftmax", "Sigmoid", "ArgMax"])
def test_heads_need_logits(head):
    attributes = {} if head == "Sigmoid" else {"axis": 1}
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node(head, ["h"], ["p"], **attributes),
        node("Identity", ["p"], ["y"]),
    ]
    w = f32(RNG, 3, 4)
    made = model(nodes[:2], {"x": ("N", 3)}, ["p"], {"w": w})
    made.graph.output[0].type.tensor_type.elem_type = 7 if head == "ArgMax" else 1
    if head == "Sigmoid":  # a unit, unless it is taken off
        agree(made)
    else:
        with pytest.raises(ValueError, match=f"{head} .*logits=True"):
            read_onnx(made)
    x = np.array([0.3, -1.0, 2.0])
    assert np.allclose(read_onnx(made, logits=True).evaluate(x), x @ w)
    inside = (
        model([*nodes[:2], node("Relu", ["p"], ["y"])], {"x": ("N", 3)}, ["y"], {"w": w})
        if head != "ArgMax"
        else None
    )
    if head == "Sigmoid":
        agree(inside)
        assert len(read_onnx(inside, logits=True).smooth_layers) == 1
    elif inside is not None:
        with pytest.raises(ValueError, match=f"{head} is followed by Relu"):
            read_onnx(inside, logits=True)


@pytest.mark.parametrize(
    "operator, attributes, message",
    [
        ("Sin", {}, "Sin .*not piecewise linear"),
        ("Log", {}, "Log .*not piecewise linear"),
        ("Det", {}, "Det .*not supported.*register_onnx_operator"),
    ],
)
def test_unsupported_operators_are_refused_by_name(operator, attributes, message):
    shape = (3, 3) if operator == "Det" else (3,)
    with pytest.raises(ValueError, match=message):
        read_onnx(single(operator, shape, **attributes))


def test_ties_are_those_of_onnx():
    # relu is exactly 0 on half of the points, where sign, > and >= differ
    w = {"w": f32(RNG, 3, 4), "zero": np.float32(0), "one": np.float32(1)}
    first = [node("MatMul", ["x", "w"], ["h"]), node("Relu", ["h"], ["r"])]
    for operator in ("Sign", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"):
        if operator == "Sign":
            nodes = [*first, node("Sign", ["r"], ["y"])]
        else:
            nodes = [
                *first,
                node(operator, ["r", "zero"], ["b"]),
                node("Not", ["b"], ["nb"]),
                node("Cast", ["nb"], ["y"], to=1),
            ]
        agree(model(nodes, {"x": ("N", 3)}, ["y"], w), batch=20)
    nodes = [
        *first,
        node("Add", ["r", "one"], ["s"]),
        node("ThresholdedRelu", ["s"], ["y"], alpha=1.0),
    ]
    agree(model(nodes, {"x": ("N", 3)}, ["y"], w), batch=20)


def test_products_of_tensors_are_refused():
    for operator, message in [
        ("Div", "divisor"),
        ("MatMul", "both depend"),
    ]:
        n = [node(operator, ["x", "x"], ["y"])]
        with pytest.raises(ValueError, match=message):
            read_onnx(model(n, {"x": (3, 3)}, ["y"]))


def test_the_batch_axis_is_not_mixed():
    cases = [
        single("ReduceMean", (3,), axes=[0]),
        single("Gather", (3,), np.array([0]), axis=0),
        single("Tile", (3,), np.array([2, 1])),
        single(
            "Slice", (3,), np.array([-1]), np.array([-9]), np.array([0]), np.array([-1])
        ),
        model([node("Concat", ["x", "x"], ["y"], axis=0)], {"x": ("N", 3)}, ["y"]),
        model(
            [
                node("Transpose", ["x"], ["t"], perm=[1, 0]),
                node("MatMul", ["t", "w"], ["y"]),
            ],
            {"x": ("N", 3)},
            ["y"],
            {"w": f32(RNG, 1, 2)},
        ),
    ]
    for made in cases:
        with pytest.raises(ValueError, match="batch axis"):
            read_onnx(made)


def test_unknown_lengths_and_random_nodes_are_refused():
    with pytest.raises(ValueError, match="axis 1 of the input 'x'"):
        read_onnx(model([node("Relu", ["x"], ["y"])], {"x": ("N", "M")}, ["y"]))
    n = [
        node("RandomNormal", [], ["r"], shape=[1, 3]),
        node("Add", ["x", "r"], ["y"]),
    ]
    with pytest.raises(ValueError, match="RandomNormal"):
        read_onnx(model(n, {"x": (1, 3)}, ["y"]))


def test_old_opset_and_foreign_files_are_refused(tmp_path):
    made = single("Relu", (3,))
    made.opset_import[0].version = 6
    with pytest.raises(ValueError, match="opset 6"):
        read_onnx(made)
    good = single("Gemm", (30,), f32(RNG, 30, 20)).SerializeToString()
    for k, content in enumerate([b"", b"not a model at all", good[: len(good) // 2]]):
        path = tmp_path / f"bad{k}.onnx"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"bad{k}.onnx"):
            read_onnx(path)
    with pytest.raises(FileNotFoundError, match="missing.onnx"):
        read_onnx(tmp_path / "missing.onnx")


def test_a_name_that_is_no_text_is_refused(tmp_path):
    """Whatever protobuf makes of it: an error of its own, or bytes."""
    made = single("Gemm", (30,), f32(RNG, 30, 20)).SerializeToString()
    path = tmp_path / "damaged.onnx"
    path.write_bytes(made.replace(b"Gemm", b"Ge\xe1m"))
    with pytest.raises(ValueError, match="damaged.onnx' is not an ONNX model, or it is"):
        read_onnx(path)


def test_external_data_beside_the_file(tmp_path):
    import onnx

    made = single("Gemm", (30,), f32(RNG, 30, 20))
    path = tmp_path / "outside.onnx"
    onnx.save(
        made, path, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    network = read_onnx(path)
    assert network.n_outputs == 20
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ValueError, match="outside.onnx"):
        read_onnx(path)


def test_a_user_teaches_an_operator():
    n = [node("Doubled", ["x"], ["y"], domain="my.domain")]
    made = model(n, {"x": ("N", 3)}, ["y"], domains=["my.domain"])
    with pytest.raises(ValueError, match="my.domain.Doubled"):
        read_onnx(made)

    @register_onnx_operator("Doubled", domain="my.domain")
    def doubled(node):
        return node.graph.scale(node.name, node.tensor(0), 2.0)

    assert np.array_equal(read_onnx(made).evaluate([1.0, 2.0, 3.0]), [2.0, 4.0, 6.0])


@pytest.mark.parametrize(
    "name, inputs, neurons",
    [
        ("verification/test/test_nano.onnx", 1, 1),
        ("verification/test/test_small.onnx", 1, 4),
        ("verification/acasxu/ACASXU_run2a_1_1_batch_2000.onnx", 5, 300),
        ("verification/cartpole/cartpole.onnx", 4, 128),
        ("verification/mnistfc/mnist-net_256x2.onnx", 784, 512),
        ("gurobi_ml/mnist_model.onnx", 784, 100),
        ("omlt_models/gemm_transB.onnx", 2, 2),
        ("omlt_models/gemm_not_transB.onnx", 2, 2),
        ("omlt_models/convx1_gemmx1.onnx", 49, 1),
        ("omlt_models/keras_conv_7x7_relu.onnx", 49, 36),
    ],
)
def test_real_files(name, inputs, neurons):
    import onnx

    path = shared_data(name)
    network = read_onnx(path)
    assert (network.n_inputs, network.n_neurons) == (inputs, neurons)
    made = onnx.load(path)
    assert difference(made, network, np.random.default_rng(0), spread=1.0) < 1e-5


def test_the_bias_of_a_real_convolution_is_kept():
    import onnx

    path = shared_data("omlt_models/convx1_gemmx1.onnx")
    made = onnx.load(path)
    last = made.graph.node[-1]
    assert last.op_type == "Relu"  # and 0 on most inputs, so it would hide a difference
    made.graph.output[0].name = last.input[0]
    del made.graph.node[-1]
    network = read_onnx(made)
    assert difference(made, network, np.random.default_rng(0), spread=1.0) < 1e-5
    assert abs(network.evaluate(np.zeros(49))[0]) > 1e-3


def test_model_functions_are_inlined():
    import onnx

    body = [
        node("Constant", [], ["two"], value_float=2.0),
        node("Mul", ["a", "two"], ["m"]),
        node("Relu", ["m"], ["b"]),
    ]
    opset = helper.make_opsetid("", 13)
    own = helper.make_function("own", "Twice", ["a"], ["b"], body, [opset])
    made = model([node("Twice", ["x"], ["y"], domain="own")], {"x": ("N", 3)}, ["y"])
    made.opset_import.append(helper.make_opsetid("own", 1))
    made.functions.append(own)
    assert isinstance(made, onnx.ModelProto)
    agree(made, batch=2)


def test_real_file_with_a_log_softmax():
    import onnx

    path = shared_data("omlt_models/gemm.onnx")
    with pytest.raises(ValueError, match="LogSoftmax"):
        read_onnx(path)
    made = onnx.load(path)
    head = made.graph.node[-1]
    made.graph.output[0].name = head.input[0]
    del made.graph.node[-1]
    network = read_onnx(path, logits=True)
    assert difference(made, network, np.random.default_rng(0)) < 1e-5
