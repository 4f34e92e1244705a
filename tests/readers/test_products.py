"""Products and powers of tensors, written with squares, agree with their frameworks."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.bounds import compute_bounds
from pyomo_relu.readers import read_network
from pyomo_relu.readers.products import power, product
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.whole_ranges import middle_and_radius

W = np.random.default_rng(0).normal(size=(3, 4))
V = np.random.default_rng(1).normal(size=(3, 4))


def graph():
    """Two tensors of four entries, affine functions of three inputs."""
    g = TensorGraph()
    x = g.input("x", (1, 3), batch=0)
    return g, g.matmul("a", x, W, 0.3), g.matmul("b", x, V, -0.2)


def values(x):
    return x @ W + 0.3, x @ V - 0.2


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


#: What is written and what NumPy makes of it; how many units are squares.
CASES = {
    "two": (lambda g, a, b: g.multiply("y", a, b), lambda a, b: a * b, 8),
    "itself": (lambda g, a, b: g.multiply("y", a, a), lambda a, b: a * a, 4),
    "lines of one": (
        lambda g, a, b: g.multiply("y", g.scale("c", a, 2.0, 1.0), g.scale("d", a, -3.0)),
        lambda a, b: (2.0 * a + 1.0) * -3.0 * a,
        4,
    ),
    "gate": (
        lambda g, a, b: g.multiply("y", a, g.smooth("s", b, "sigmoid")),
        lambda a, b: a * sigmoid(b),
        8,
    ),
    "gate of another scale": (
        lambda g, a, b: g.multiply(
            "y",
            g.scale("large", g.smooth("t", a, "tanh"), 1e5, 3e5),
            g.scale("small", g.smooth("s", b, "sigmoid"), 1e-3),
        ),
        lambda a, b: (1e5 * np.tanh(a) + 3e5) * 1e-3 * sigmoid(b),
        8,
    ),
    "one entry": (
        lambda g, a, b: g.multiply("y", a, g.reduce("m", b, [1], "mean", True)),
        lambda a, b: a * b.mean(axis=1, keepdims=True),
        8,
    ),
    "all pairs": (
        lambda g, a, b: g.reshape(
            g.multiply("y", g.reshape(a, (1, 4, 1)), g.reshape(b, (1, 1, 4))), (1, 16)
        ),
        lambda a, b: (a[:, :, None] * b[:, None, :]).reshape(-1, 16),
        32,
    ),
    **{
        f"power {n}": (
            lambda g, a, b, n=n: power(g, "y", a, n),
            lambda a, b, n=n: a**n,
            None,
        )
        for n in range(7)
    },
}


@pytest.mark.parametrize("case", CASES)
def test_products_are_exact_and_bounded(case):
    write, function, squares = CASES[case]
    g, a, b = graph()
    network = g.builder.build([write(g, a, b).handle])
    x = np.random.default_rng(2).uniform(-1, 1, (3000, 3))
    expected = np.broadcast_to(function(*values(x)), (len(x), network.n_outputs))
    found = network.evaluate(x)
    assert abs(found - expected).max() <= 1e-13 * (1.0 + abs(expected).max())
    if squares is not None:
        made = [n for n in network.smooth_layers if n.function.endswith("square")]
        assert sum(n.size for n in made) == squares
    for rung in ("interval", "crown", "alpha_crown", "lp"):
        bounds = compute_bounds(network, -1, 1, rung)
        low, high = (side[network.outputs[0]] for side in (bounds.lower, bounds.upper))
        assert (low <= found.min(axis=0)).all() and (found.max(axis=0) <= high).all()


def test_a_centred_factor_costs_interval_arithmetic_nothing():
    """``[0, 1] * [-1, 1]`` is [-1, 1], as if the product was a primitive."""
    g, a, b = graph()
    gate, state = g.smooth("s", a, "sigmoid"), g.smooth("t", b, "tanh")
    network = g.builder.build([g.multiply("y", gate, state).handle])
    bounds = compute_bounds(network, -1e4, 1e4, "interval")
    assert bounds.lower[-1] == pytest.approx(-np.ones(4))
    assert bounds.upper[-1] == pytest.approx(np.ones(4))


def test_scales_come_from_ranges():
    """Both factors are equally wide, so that the squares are as narrow as they can be."""
    g, a, b = graph()
    gate, state = g.smooth("s", a, "sigmoid"), g.smooth("t", b, "tanh")
    wide = g.scale("w", state, 50.0)
    network = g.builder.build([product(g, "y", gate, wide).handle])
    [sums] = [n for n in network.nodes if n.name == "y_sums"]
    largest = max(abs(w).max() for w in sums.weights)
    assert largest == pytest.approx(10.0)  # sqrt(100 / 1)
    found = g.ranges.of(wide.handle)
    assert middle_and_radius(found) == (pytest.approx(np.zeros(4)), pytest.approx(50.0))
    middle, radius = middle_and_radius(g.ranges.of(a.handle))
    assert not middle.any() and (radius == 1.0).all()  # unknown


def test_known_patterns_stay_what_they_are():
    g, a, b = graph()
    g.multiply("switched", a, g.step("c", a))
    g.multiply("silu", a, g.smooth("s", a, "sigmoid"))
    assert all(getattr(n, "function", "") != "square" for n in g.builder.nodes)


@pytest.mark.parametrize("exponent", [0.5, -1, 7, [2.0, 3.0]])
def test_other_powers_are_refused(exponent):
    g, a, _ = graph()
    with pytest.raises(ValueError, match="layer 'y' raises to the power.*from 0 to 6"):
        power(g, "y", a, exponent)


def test_squares_that_overflow_are_refused_by_name():
    g, a, _ = graph()
    network = g.builder.build([power(g, "y", a, 2).handle])
    with pytest.raises(ValueError, match="layer 'y' computes square"):
        compute_bounds(network, -1e200, 1e200, "interval")


def torch_functions():
    torch = pytest.importorskip("torch")
    return {
        "mul": lambda a, b: a * b + torch.square(a),
        "pow": lambda a, b: a**2 - b.pow(3),
        "glu": lambda a, b: torch.nn.functional.glu(torch.cat([a, b], -1)),
        "module": lambda a, b: torch.nn.GLU(1)(torch.cat([a, b], 1)),
        "highway": lambda a, b: (
            torch.sigmoid(b) * torch.tanh(a) + (1 - torch.sigmoid(b)) * a
        ),
    }


@pytest.mark.parametrize("name", ["mul", "pow", "glu", "module", "highway"])
def test_torch(name):
    torch = pytest.importorskip("torch")
    function = torch_functions()[name]

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = torch.nn.Linear(3, 4).double(), torch.nn.Linear(3, 4).double()

        def forward(self, x):
            return function(self.a(x), self.b(x))

    module = Module().eval()
    x = np.random.default_rng(0).normal(0, 3, (200, 3))
    y = module(torch.as_tensor(x)).detach().numpy()
    found = read_network(module, input_shape=(3,)).evaluate(x)
    assert abs(found - y).max() <= 1e-12 * (1.0 + abs(y).max())


def test_keras_multiplies_layers():
    keras = pytest.importorskip("keras")
    x = keras.Input((3,), dtype="float64")
    parts = [keras.layers.Dense(4, activation=f, dtype="float64")(x) for f in
             ("sigmoid", "tanh", "linear")]  # fmt: skip
    glu = keras.ops.glu(keras.layers.Dense(8, dtype="float64")(x))
    model = keras.Model(x, [keras.layers.Multiply(dtype="float64")(parts), glu])
    points = np.random.default_rng(0).normal(0, 2, (50, 3))
    expected = np.hstack([np.asarray(y) for y in model(points)])
    np.testing.assert_allclose(read_network(model).evaluate(points), expected, atol=1e-12)


def test_onnx():
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    h, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        h.make_node("MatMul", ["x", "w"], ["a"]),
        h.make_node("Mul", ["a", "x"], ["b"]),
        h.make_node("Pow", ["b", "two"], ["c"]),
        h.make_node("Pow", ["x", "three"], ["d"]),
        h.make_node("Add", ["c", "d"], ["y"]),
    ]
    constants = [
        onnx.numpy_helper.from_array(np.asarray(v, dtype=np.float32), name)
        for name, v in (("w", W[:, :3]), ("two", 2.0), ("three", [3.0]))
    ]
    ends = [h.make_tensor_value_info(k, kind, ["N", 3]) for k in "xy"]
    made = h.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    model = h.make_model(made, opset_imports=[h.make_opsetid("", 17)])
    model.ir_version = 9
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    [y] = runtime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    found = read_network(model).evaluate(x.astype(float))
    assert abs(found - y).max() <= 1e-5 * (1.0 + abs(y).max())


@pytest.mark.parametrize("options", [{"degree": 3}, {"degree": 2, "interaction_only": True},
                                     {"degree": (2, 4), "include_bias": False}])  # fmt: skip
def test_polynomial_features(options):
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 3)), rng.normal(size=(80, 2))
    parts = preprocessing.PolynomialFeatures(**options), LinearRegression()
    model = make_pipeline(*parts).fit(x, y)
    found = read_network(model).evaluate(x)
    np.testing.assert_allclose(found, model.predict(x), atol=1e-10)
