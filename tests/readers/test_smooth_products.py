"""Products that are smooth units, as exporters write SiLU, GELU and Mish."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.readers import read_network


def products():
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    root = 2.0**0.5
    return {
        "silu": lambda h: h * torch.sigmoid(h),
        "swish": lambda h: torch.sigmoid(1.702 * h) * h,
        "negative": lambda h: -2.0 * h * (3.0 * torch.sigmoid(-h) - 1.0),
        "gelu": lambda h: 0.5 * h * (1.0 + torch.erf(h / root)),
        "erf": lambda h: h * torch.erf(h),
        "tanh": lambda h: h * torch.tanh(0.5 * h),
        "mish": lambda h: h * torch.tanh(f.softplus(h)),
        "gelu_tanh": lambda h: (
            0.5 * h * (1.0 + torch.tanh((2.0 / torch.pi) ** 0.5 * (h + 0.044715 * h**3)))
        ),
        "gelu_by_h*h*h": lambda h: (
            h
            * 0.5
            * (torch.tanh((2.0 / torch.pi) ** 0.5 * h * (1.0 + 0.044715 * h * h)) + 1.0)
        ),
        "steep": lambda h: (
            h * torch.tanh((2.0 / torch.pi) ** 0.5 * (2.0 * h + 0.35772 * (h * h * h)))
        ),
    }


NAMES = [
    "silu",
    "swish",
    "negative",
    "gelu",
    "erf",
    "tanh",
    "mish",
    "gelu_tanh",
    "gelu_by_h*h*h",
    "steep",
]


def module_of(function):
    torch = pytest.importorskip("torch")

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.inner = torch.nn.Linear(3, 5).double()

        def forward(self, x):
            return function(self.inner(x))

    return Module().eval()


@pytest.mark.parametrize("name", NAMES)
def test_products_are_units(name):
    torch = pytest.importorskip("torch")
    module = module_of(products()[name])
    network = read_network(module, input_shape=(3,))
    x = np.random.default_rng(0).normal(0, 3, (200, 3))
    y = module(torch.as_tensor(x)).detach().numpy()
    np.testing.assert_allclose(network.evaluate(x), y, atol=1e-12, rtol=1e-12)
    assert len(network.smooth_layers) == 1


@pytest.mark.parametrize(("double", "units"), [(True, 4), (False, 1)])
def test_rounded_constants_of_gelu_count_in_single_precision_only(double, units):
    """In double precision what is written is another function than GELU by tanh."""
    torch = pytest.importorskip("torch")
    module = module_of(
        lambda h: 0.5 * h * (1.0 + torch.tanh(0.79788456 * (h + 0.044715 * h**3)))
    )
    module = module if double else module.float()
    network = read_network(module, input_shape=(3,))
    x = np.random.default_rng(0).normal(0, 3, (200, 3))
    dtype = torch.float64 if double else torch.float32
    y = module(torch.as_tensor(x, dtype=dtype)).detach().numpy()
    near = 1e-12 if double else 1e-5
    np.testing.assert_allclose(network.evaluate(x), y, atol=near, rtol=near)
    assert len(network.smooth_layers) == units


def test_other_products_are_squares():
    torch = pytest.importorskip("torch")
    for function in (
        lambda h: h * torch.sigmoid(h + 1.0),
        lambda h: h * torch.sigmoid(h.flip(-1)),
        lambda h: h * torch.exp(h),
        lambda h: (h + 1.0) * torch.tanh(h),
    ):
        network = read_network(module_of(function), input_shape=(3,))
        assert "square" in [node.function for node in network.smooth_layers]


def test_silu_in_onnx():
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    h, float32 = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [h.make_node("Sigmoid", ["x"], ["s"]), h.make_node("Mul", ["x", "s"], ["y"])]
    x, y = (h.make_tensor_value_info(k, float32, ["N", 4]) for k in "xy")
    graph = h.make_graph(nodes, "g", [x], [y])
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)])
    model.ir_version = 8
    assert [n.function for n in read_network(model).smooth_layers] == ["silu"]
    assert [n.function for n in read_network(model, logits=True).smooth_layers] == ["silu"]
