"""ONNX convolutions and poolings with all their attributes, against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import helper

from pyomo_relu.readers.onnx import read_onnx
from tests.readers.onnx_models import agree, difference, f32, model, single

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"strides": [2, 1]},
        {"pads": [1, 0, 2, 3]},
        {"dilations": [2, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 3]},
        {"auto_pad": "SAME_LOWER"},
        {"auto_pad": "VALID"},
        {"kernel_shape": [3, 2], "strides": [2, 2], "dilations": [2, 1]},
    ],
)
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_conv(attributes, groups):
    kernel, bias = f32(RNG, 4, 4 // groups, 3, 2), f32(RNG, 4)
    agree(single("Conv", (4, 7, 6), kernel, bias, group=groups, **attributes), batch=2)
    agree(single("Conv", (4, 7, 6), kernel, group=groups, **attributes), batch=2)


def test_conv_of_one_and_three_axes():
    agree(single("Conv", (2, 9), f32(RNG, 3, 2, 4), f32(RNG, 3), pads=[1, 2]), batch=2)
    agree(single("Conv", (2, 4, 5, 3), f32(RNG, 3, 2, 2, 2, 2), strides=[2, 1, 1]))


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"strides": [2, 3]},
        {"strides": [2, 3], "pads": [1, 0, 1, 2]},
        {"strides": [2, 3], "output_padding": [1, 2]},
        {"dilations": [2, 1]},
        {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
        {"strides": [2, 2], "auto_pad": "SAME_LOWER"},
        {"strides": [2, 2], "output_shape": [8, 8]},
        {"strides": [2, 2], "output_shape": [8, 9], "auto_pad": "SAME_UPPER"},
        {"auto_pad": "VALID", "strides": [2, 2]},
    ],
)
@pytest.mark.parametrize("groups", [1, 2])
def test_conv_transpose(attributes, groups):
    kernel, bias = f32(RNG, 4, 6 // groups, 3, 3), f32(RNG, 6)
    made = single("ConvTranspose", (4, 4, 4), kernel, bias, group=groups, **attributes)
    agree(made, batch=2)


POOLS = [
    {"kernel_shape": [2, 3]},
    {"kernel_shape": [2, 2], "strides": [2, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [2, 3], "pads": [1, 1, 1, 0]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "dilations": [2, 3]},
    {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "VALID"},
    {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER"},
]


@pytest.mark.parametrize("attributes", POOLS)
@pytest.mark.parametrize("opset", [12, 19, 22])
def test_max_pool(attributes, opset):
    agree(single("MaxPool", (2, 7, 8), opset=opset, **attributes), batch=2)


@pytest.mark.parametrize("attributes", POOLS)
@pytest.mark.parametrize("count", [0, 1])
def test_average_pool(attributes, count):
    opset = 19 if "dilations" in attributes else 11
    made = single(
        "AveragePool", (2, 7, 8), opset=opset, count_include_pad=count, **attributes
    )
    agree(made, batch=2)


@pytest.mark.parametrize("operator", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_pools(operator):
    agree(single(operator, (2, 5, 4)), batch=2)
    agree(single(operator, (2, 5)), batch=2)


@pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 4, 5)])
@pytest.mark.parametrize("opset", [7, 9, 15])
def test_batch_normalization(shape, opset):
    scale, shift, mean = (f32(RNG, 3) for _ in range(3))
    variance = np.abs(f32(RNG, 3)) + np.float32(0.1)
    made = single(
        "BatchNormalization", shape, scale, shift, mean, variance, opset=opset, epsilon=1e-3
    )
    agree(made, batch=2)


def test_refusals():
    kernel = f32(RNG, 4, 2, 3, 3)
    with pytest.raises(ValueError, match="ONNX operator Conv|layer 'y0'"):
        read_onnx(single("Conv", (3, 7, 7), kernel))
    with pytest.raises(ValueError, match="positions of the maxima"):
        read_onnx(single("MaxPool", (2, 7, 7), n_outputs=2, kernel_shape=[2, 2]))
    statistics = [np.ones(3, np.float32)] * 4
    with pytest.raises(ValueError, match="training_mode"):
        read_onnx(
            single("BatchNormalization", (3,), *statistics, opset=15, training_mode=1)
        )


def _conv_model(side: int, filters: int, same: bool):
    pads = {"pads": [1, 1, 1, 1]} if same else {}
    inner = side if same else side - 4
    nodes = [
        helper.make_node("Conv", ["x", "k1", "b1"], ["c1"], **pads),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "k2", "b2"], ["c2"], **pads),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("MaxPool", ["r2"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["m"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["y"]),
    ]
    constants = {
        "k1": 0.1 * f32(RNG, filters, 1, 3, 3),
        "b1": f32(RNG, filters),
        "k2": 0.1 * f32(RNG, filters, filters, 3, 3),
        "b2": f32(RNG, filters),
        "w": 0.1 * f32(RNG, filters * (inner // 2) ** 2, 10),
        "b": f32(RNG, 10),
    }
    return model(nodes, {"x": ("N", 1, side, side)}, ["y"], constants)


def test_small_network_of_convolutions():
    agree(_conv_model(10, 4, True), batch=2)
    agree(_conv_model(10, 4, False), batch=2)


@pytest.mark.slow
def test_large_convolutions_stay_sparse():
    import resource

    made = _conv_model(28, 32, True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    network = read_onnx(made)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # kB
    assert difference(made, network, np.random.default_rng(0), points=2) < 1e-5
