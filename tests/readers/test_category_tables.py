"""Tables and one-hot columns of inputs that are integers, at every category."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pyomo_relu.readers import read_network
from tests.readers.keras_support import import_keras, predicted, randomize

KERAS = {
    "Embedding": (2, lambda L, o, x: L.Embedding(4, 3)(x), range(4)),
    "one_hot": (
        1,
        lambda L, o, x: L.CategoryEncoding(4, output_mode="one_hot")(x),
        range(4),
    ),
    "multi_hot": (2, lambda L, o, x: L.CategoryEncoding(4)(x), range(4)),
    "count": (
        3,
        lambda L, o, x: L.CategoryEncoding(3, output_mode="count")(x),
        range(3),
    ),
    "ops.one_hot": (2, lambda L, o, x: o.one_hot(x, 3), range(-1, 4)),
    "ids": (2, lambda L, o, x: L.IntegerLookup(vocabulary=[2, 5])(x), [1, 2, 3, 5, 9]),
    "lookup": (
        1,
        lambda L, o, x: L.IntegerLookup(vocabulary=[7, 3, 4], output_mode="one_hot")(x),
        range(2, 10),
    ),
    "cast": (2, lambda L, o, x: L.Embedding(4, 2)(o.cast(x[:, ::-1], "int32")), range(4)),
}


@pytest.mark.parametrize("kind", KERAS)
@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_keras_at_every_category(kind, dtype):
    keras = import_keras()
    n, build, values = KERAS[kind]
    if dtype == "float32" and kind in ("ids", "lookup", "ops.one_hot", "multi_hot"):
        pytest.skip("Keras wants integers here")
    x = keras.Input((n,), dtype=dtype)
    h = keras.layers.Flatten()(build(keras.layers, keras.ops, x))
    model = keras.Model(x, keras.layers.Dense(2)(keras.ops.cast(h, "float32")))
    randomize(model, np.random.default_rng(0))
    points = np.array(list(itertools.product(values, repeat=n)))
    found = read_network(model).evaluate(points.astype(float))
    np.testing.assert_allclose(found, predicted(model, [points]), atol=1e-5)


def test_keras_bins_are_steps_everywhere():
    keras = import_keras()
    edges = [-0.5, 0.25, 1.0]
    points = np.linspace(-2, 2, 33)[:, None]  # the edges too
    for mode in ("int", "one_hot"):
        x = keras.Input((1,))
        model = keras.Model(
            x, keras.layers.Discretization(bin_boundaries=edges, output_mode=mode)(x)
        )
        found = read_network(model).evaluate(points)
        np.testing.assert_array_equal(found, predicted(model, [points]))


def refused(build):
    keras = import_keras()
    x = keras.Input((2,))
    with pytest.raises(ValueError) as error:
        read_network(keras.Model(x, build(keras.layers, keras.ops, x)))
    return str(error.value)


def test_keras_refuses_what_is_computed():
    text = refused(lambda L, o, x: L.Embedding(4, 2, name="table")(2.0 * x))
    assert "'table'" in text and "looks up what was scaled or computed" in text
    text = refused(lambda L, o, x: o.cast(o.cast(o.relu(x), "int32"), "float32"))
    assert "cuts off the fractions of what is computed" in text
    # A number whose fraction is cut off is no category.
    text = refused(lambda L, o, x: 0.5 * o.cast(o.cast(x, "int32"), "float32"))
    assert "cuts off the fractions of input 0" in text and "declare" in text


def test_keras_integers_are_numbers_too():
    keras = import_keras()
    x, y = keras.Input((2,), dtype="int64"), keras.Input((1,))
    h = keras.layers.Concatenate()([keras.ops.cast(x, "float32"), y])
    model = keras.Model([x, y], keras.layers.Dense(2, activation="relu")(h))
    rng = np.random.default_rng(0)
    points = [rng.integers(-9, 9, (10, 2)), rng.normal(size=(10, 1))]
    found = read_network(model).evaluate(np.hstack(points))
    np.testing.assert_allclose(found, predicted(model, points), atol=1e-5)


def test_torch_at_every_category():
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.head = nn.Embedding(4, 2), nn.Linear(6, 2)

        def forward(self, x):
            kinds = nn.functional.one_hot(x[:, 1].long(), 3).to(x.dtype)
            return self.head(torch.cat([self.table(x[:, 0].long()), kinds, x[:, 2:]], 1))

    points = np.array([[*p, 0.3] for p in itertools.product(range(4), range(3))])
    module = Mixed().double()
    with torch.no_grad():
        expected = module(torch.tensor(points)).numpy()
    network = read_network(module, input_shape=(3,))
    np.testing.assert_allclose(network.evaluate(points), expected, atol=1e-12)

    plain = nn.Sequential(nn.Embedding(4, 3), nn.Flatten(), nn.Linear(6, 1)).double()
    points = np.array(list(itertools.product(range(4), repeat=2)))
    exported = torch.export.export(plain, (torch.zeros(1, 2, dtype=torch.int64),))
    with torch.no_grad():
        expected = plain(torch.tensor(points)).numpy()
    for source, options in ((plain, {"input_shape": (2,)}), (exported, {})):
        found = read_network(source, **options).evaluate(points.astype(float))
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_torch_refuses():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    for module, shape, reason in (
        (nn.Embedding(4, 3, max_norm=1.0), (2,), "max_norm"),
        (nn.EmbeddingBag(4, 3), (2,), "an Embedding and a sum or mean"),
        (nn.LayerNorm(2), (2,), "standard deviation of its own input"),
    ):
        with pytest.raises(ValueError, match=reason):
            read_network(module, input_shape=shape)


def gather_model(kind):
    from onnx import TensorProto, helper, numpy_helper

    integers = TensorProto.INT64 if kind != "cast" else TensorProto.FLOAT
    table = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    constants = {"t": table, "d": np.array(4), "v": np.array([-1, 2], np.float32)}
    nodes = {
        "gather": [helper.make_node("Gather", ["t", "x"], ["y"])],
        "cast": [
            helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
            helper.make_node("Gather", ["t", "i"], ["y"]),
        ],
        "one hot": [helper.make_node("OneHot", ["x", "d", "v"], ["y"])],
    }
    graph = helper.make_graph(
        nodes[kind],
        "table",
        [helper.make_tensor_value_info("x", integers, ["N", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model, np.float32 if kind == "cast" else np.int64


@pytest.mark.parametrize("kind", ["gather", "cast", "one hot"])
def test_onnx_at_every_category(kind):
    pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    model, dtype = gather_model(kind)
    points = np.array(list(itertools.product(range(4), repeat=2)))
    [expected] = ReferenceEvaluator(model).run(None, {"x": points.astype(dtype)})
    found = read_network(model).evaluate(points.astype(float))
    np.testing.assert_allclose(found, expected.reshape(len(points), -1), atol=1e-6)
