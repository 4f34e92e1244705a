"""Random models of random layers, per framework, against the framework itself.

No difference may be silent: a model is either read and agrees, or it is refused.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from pyomo_relu.readers import read_network

SLOW = 200


def seeds(quick: int):
    """A few seeds in the default run, many in the slow one."""
    return [
        *range(quick),
        *[pytest.param(s, marks=pytest.mark.slow) for s in range(quick, SLOW)],
    ]


def close(got, expected, tolerance: float) -> None:
    assert got.shape == expected.shape
    assert np.isfinite(expected).all()
    scale = max(1.0, float(np.abs(expected).max()))
    assert np.abs(got - expected).max() <= tolerance * scale


# -------------------------------------------------------------------------------- ONNX
class OnnxMaker:
    """A random graph; values are (name, shape), a dynamic batch axis first."""

    def __init__(self, rng):
        from onnx import helper

        self.rng, self.make = rng, helper.make_node
        self.nodes, self.constants = [], {}
        self.opset = int(rng.choice([13, 15, 17]))

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def weight(self, *shape):
        return self.constant((self.rng.normal(size=shape) / 2).astype(np.float32))

    def node(self, operator, inputs, shape, **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(self.make(operator, inputs, [name], **attributes))
        return name, shape

    def activation(self, x, shape):
        rng = self.rng
        kind = rng.choice(
            ["Relu", "LeakyRelu", "PRelu", "Clip", "Abs", "HardSigmoid", "Max", "Min", "Sign",
             "ThresholdedRelu", "Neg"]
        )  # fmt: skip
        if kind == "PRelu":
            return self.node(
                kind, [x, self.weight(shape[0], *[1] * (len(shape) - 1))], shape
            )
        if kind == "Clip":
            low = self.constant(np.float32(-rng.random())) if rng.random() < 0.7 else ""
            high = self.constant(np.float32(rng.random() + 0.1))
            return self.node(kind, [x, low, high], shape)
        if kind in ("Max", "Min"):
            return self.node(kind, [x, self.weight(*shape[-1:])], shape)
        if kind == "Sign":
            y, _ = self.node("Relu", [x], shape)  # exactly 0 often: the tie matters
            y, _ = self.node("Sign", [y], shape)
            return self.node("Sub", [x, y], shape)
        attributes = {
            "LeakyRelu": {"alpha": float(rng.uniform(-0.5, 1.5))},
            "HardSigmoid": {
                "alpha": float(rng.uniform(0.1, 1)),
                "beta": float(rng.random()),
            },
            "ThresholdedRelu": {"alpha": float(rng.uniform(0.1, 1))},
        }.get(str(kind), {})
        return self.node(str(kind), [x], shape, **attributes)

    def spatial(self, x, shape):
        rng = self.rng
        channels, *lengths = shape
        kind = rng.choice(["Conv", "ConvTranspose", "MaxPool", "AveragePool", "Batch"])
        if kind == "Batch":
            inputs = [x, *[self.weight(channels) for _ in range(3)]]
            inputs.append(self.constant((rng.random(channels) + 0.1).astype(np.float32)))
            return self.node("BatchNormalization", inputs, shape)
        kernel = [int(rng.integers(1, min(n, 3) + 1)) for n in lengths]
        strides = [int(rng.integers(1, 3)) for _ in kernel]
        if kind != "Conv":  # SAME with gaps: no runtime agrees on it, refused
            strides = [min(s, k) for s, k in zip(strides, kernel)]
        attributes = {"strides": strides}
        if rng.random() < 0.3:
            attributes["auto_pad"] = str(rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID"]))
        else:
            attributes["pads"] = [int(rng.integers(0, k)) for k in kernel * 2]
        if kind in ("MaxPool", "AveragePool"):
            attributes["kernel_shape"] = kernel
            if "pads" in attributes:
                attributes["ceil_mode"] = int(rng.integers(2))
            if kind == "AveragePool":
                attributes["count_include_pad"] = int(rng.integers(2))
            return self.node(str(kind), [x], self.shape_after(kind, shape, [], attributes),
                             **attributes)  # fmt: skip
        groups = channels if rng.random() < 0.3 else 1
        filters = groups * int(rng.integers(1, 3))
        if kind == "Conv":
            if "auto_pad" not in attributes:
                attributes["dilations"] = [
                    2 if rng.random() < 0.3 and 2 * (k - 1) < n else 1
                    for k, n in zip(kernel, lengths)
                ]
            w = self.weight(filters, channels // groups, *kernel)
        else:
            w = self.weight(channels, filters // groups, *kernel)
        inputs = [x, w] + ([self.weight(filters)] if rng.random() < 0.7 else [])
        attributes["group"] = groups
        after = self.shape_after(kind, shape, inputs[1:], attributes)
        return self.node(str(kind), inputs, after, **attributes)

    def shape_after(self, kind, shape, names, attributes):
        """What onnxruntime makes of the shape."""
        import onnxruntime

        from tests.readers.onnx_models import model

        made = model(
            [self.make(str(kind), ["x", *names], ["y"], **attributes)],
            {"x": (1, *shape)},
            ["y"],
            {n: self.constants[n] for n in names},
            self.opset,
        )
        session = onnxruntime.InferenceSession(made.SerializeToString())
        [y] = session.run(None, {"x": np.zeros((1, *shape), np.float32)})
        return y.shape[1:]

    def step(self, x, shape):
        rng = self.rng
        choice = rng.random()
        n = int(np.prod(shape))
        if len(shape) > 1 and choice < 0.45 and min(shape) > 0:
            return self.spatial(x, shape)
        if choice < 0.6:
            return self.activation(x, shape)
        if choice < 0.65 and len(shape) > 1:
            perm = [0, *[int(k) + 1 for k in rng.permutation(len(shape))]]
            return self.node(
                "Transpose", [x], tuple(shape[p - 1] for p in perm[1:]), perm=perm
            )
        if choice < 0.7 and shape[-1] > 1:
            k = int(rng.integers(1, shape[-1]))
            ends = [self.constant(np.array([v])) for v in (k, 2**31 - 1, -1)]
            after = (*shape[:-1], shape[-1] - k)
            y, _ = self.node("Slice", [x, *ends], after)
            return self.node("Concat", [y, x], (*shape[:-1], 2 * shape[-1] - k), axis=-1)
        if choice < 0.75:
            y, _ = self.activation(x, shape)
            return self.node(str(rng.choice(["Add", "Sub", "Max", "Min"])), [x, y], shape)
        if choice < 0.8:
            kind = str(rng.choice(["Add", "Sub", "Mul", "Div"]))
            c = self.constant((rng.random(shape[-1:]) + 0.5).astype(np.float32))
            return self.node(kind, [x, c], shape)
        if choice < 0.85 and len(shape) > 1:
            kind = str(rng.choice(["ReduceMean", "ReduceMax"]))
            axis = int(rng.integers(len(shape)))
            after = tuple(1 if k == axis else s for k, s in enumerate(shape))
            return self.node(kind, [x], after, axes=[axis + 1])
        m = int(rng.integers(1, 6))
        if rng.random() < 0.5:
            return self.node("MatMul", [x, self.weight(shape[-1], m)], (*shape[:-1], m))
        target = self.constant(np.array([0, -1]))
        flat, _ = self.node("Reshape", [x, target], (n,))
        return self.node("Gemm", [flat, self.weight(m, n), self.weight(m)], (m,), transB=1)


def random_onnx(rng: np.random.Generator):
    """A random ONNX model."""
    from tests.readers.onnx_models import model

    maker = OnnxMaker(rng)
    shape = tuple(int(n) for n in rng.integers(2, 6, size=rng.integers(1, 4)))
    name, current = "x", shape
    for _ in range(int(rng.integers(2, 8))):
        if not 0 < int(np.prod(current)) < 400:
            break
        name, current = maker.step(name, current)
    batch = "N" if rng.random() < 0.7 else 1
    return model(
        maker.nodes, {"x": (batch, *shape)}, [name], maker.constants, maker.opset,
        listed=bool(rng.integers(2)),
    )  # fmt: skip


@pytest.mark.parametrize("seed", seeds(25))
def test_onnx(seed):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from tests.readers.onnx_models import difference

    rng = np.random.default_rng(seed)
    made = random_onnx(rng)
    network = read_network(made)
    try:
        worst = difference(made, network, rng, points=3, batch=3)
    except Exception as error:
        if type(error).__module__.startswith("onnxruntime"):
            pytest.skip(f"onnxruntime can't run this model: {error}")
        raise
    assert worst < 1e-5


# ----------------------------------------------------------------------------- PyTorch
def _torch_layer(torch, rng, shape):
    nn = torch.nn
    activations = [
        nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(float(rng.uniform(0, 1))), nn.PReLU(),
        nn.Hardtanh(-float(rng.random()), 1.0), nn.Hardsigmoid(), nn.Softshrink(0.2),
        nn.Dropout(0.3), nn.Threshold(0.1, float(rng.choice([0.1, -0.3]))),
    ]  # fmt: skip
    choice = rng.random()
    if choice < 0.35:
        return activations[int(rng.integers(len(activations)))]
    if len(shape) == 1:
        if choice < 0.5:
            return nn.BatchNorm1d(shape[0])
        return nn.Linear(shape[0], int(rng.integers(1, 7)), bias=bool(rng.integers(2)))
    channels, *lengths = shape
    rank = len(lengths)
    k = int(rng.integers(1, min(3, *lengths) + 1))
    stride, pad = int(rng.integers(1, 3)), int(rng.integers(0, k // 2 + 1))
    if choice < 0.6:
        groups = channels if rng.random() < 0.3 else 1
        kind = getattr(nn, f"Conv{rank}d")
        mode = "zeros" if rng.random() < 0.7 else str(rng.choice(["replicate", "circular"]))
        return kind(channels, 2 * groups, k, stride, pad, groups=groups, padding_mode=mode,
                    bias=bool(rng.integers(2)))  # fmt: skip
    if choice < 0.65:
        return getattr(nn, f"ConvTranspose{rank}d")(channels, 2, k, stride, pad)
    if choice < 0.75:
        ceil = bool(rng.integers(2))
        return getattr(nn, f"MaxPool{rank}d")(k, stride, pad, ceil_mode=ceil)
    if choice < 0.85:
        ceil, count = (bool(v) for v in rng.integers(2, size=2))
        return getattr(nn, f"AvgPool{rank}d")(k, stride, pad, ceil, count)
    if choice < 0.9:
        return getattr(nn, f"BatchNorm{rank}d")(channels)
    return nn.Flatten()


@pytest.mark.parametrize("seed", seeds(25))
def test_torch(seed):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(2, 7, size=rng.integers(1, 4)))

    class Block(nn.Module):
        def __init__(self, inner, kind):
            super().__init__()
            self.inner, self.kind = inner, kind

        def forward(self, x):
            y = self.inner(x)
            if self.kind == 0:
                return torch.cat([x, y], dim=1)
            if self.kind == 1:
                return x + 0.5 * y
            return torch.maximum(x, y) - y.abs()

    layers = []
    current = (2, *shape)
    for _ in range(int(rng.integers(2, 8))):
        layer = _torch_layer(torch, rng, current[1:])
        layer.double()
        after = tuple(layer.eval()(torch.zeros(current, dtype=torch.float64)).shape)
        if not 0 < int(np.prod(after)) < 800:
            break
        if after == current and rng.random() < 0.3:
            layer = Block(layer, int(rng.integers(3)))
            after = tuple(layer(torch.zeros(current, dtype=torch.float64)).shape)
        layers.append(layer)
        current = after
    module = nn.Sequential(*layers, nn.Identity()).double()
    module.train()
    with torch.no_grad():  # batch normalizations get statistics of their own
        module(torch.randn((4, *shape), dtype=torch.float64))
    network = read_network(module, input_shape=shape)
    x = rng.normal(size=(4, *shape))
    with torch.no_grad():
        expected = module.eval()(torch.tensor(x)).numpy().reshape(4, -1)
    close(network.evaluate(x), expected, 1e-12)


# ------------------------------------------------------------------------ scikit-learn
def _scaler(rng, n: int, depth: int = 0):
    from sklearn.compose import ColumnTransformer
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import (
        MaxAbsScaler,
        MinMaxScaler,
        RobustScaler,
        StandardScaler,
    )

    flags = [bool(v) for v in rng.integers(2, size=2)]
    choices = [
        StandardScaler(with_mean=flags[0], with_std=flags[1]),
        MinMaxScaler((-1.0, 2.0), clip=flags[0]),
        RobustScaler(with_centering=flags[0], with_scaling=flags[1]),
        MaxAbsScaler(),
        PCA(int(rng.integers(1, n + 1)), whiten=flags[0]),
        "passthrough",
    ]
    kind = int(rng.integers(len(choices) + (2 if depth == 0 else 0)))
    if kind < len(choices):
        return choices[kind]
    if kind == len(choices):
        return make_pipeline(_scaler(rng, n, 1), _scaler(rng, 1, 1))
    cut = int(rng.integers(1, n))
    order = [int(k) for k in rng.permutation(n)]
    parts = [
        ("a", _scaler(rng, cut, 1), order[:cut]),
        ("b", _scaler(rng, n - cut, 1), order[cut:]),
    ]
    if flags[0]:
        parts[1] = ("b", "drop", order[cut:])
    return ColumnTransformer(parts)


@pytest.mark.parametrize("seed", seeds(15))
def test_sklearn(seed):
    pytest.importorskip("sklearn")
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline

    rng = np.random.default_rng(seed)
    n, outputs = int(rng.integers(2, 6)), int(rng.integers(1, 4))
    x = rng.normal(size=(40, n)) * rng.uniform(0.1, 10, n) + rng.normal(size=n) * 5
    options = {
        "hidden_layer_sizes": tuple(int(k) for k in rng.integers(2, 8, rng.integers(1, 4))),
        "max_iter": 5,
        "random_state": seed,
    }
    classify = rng.random() < 0.3
    if classify:
        y = rng.integers(0, outputs + 1, 40)
        model = MLPClassifier(**options)
    else:
        y = rng.normal(size=(40, outputs)) * 3 + 1
        model = MLPRegressor(**options)
        if rng.random() < 0.5:
            model = TransformedTargetRegressor(model, transformer=_scaler(rng, 1, 1))
            if model.transformer == "passthrough":
                model.transformer = None
    for _ in range(int(rng.integers(0, 3))):
        model = make_pipeline(_scaler(rng, 2 if hasattr(model, "steps") else n, 0), model)
        break
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(x, y)
    points = np.vstack([x, x * 2 - x.mean(0)])
    if classify:
        network = read_network(model, logits=True)
        logits = network.evaluate(points)
        p = model.predict_proba(points)
        if network.n_outputs == 1:
            close(1 / (1 + np.exp(-logits[:, 0])), p[:, 1], 1e-12)
        else:
            e = np.exp(logits - logits.max(1, keepdims=True))
            close(e / e.sum(1, keepdims=True), p, 1e-12)
    else:
        got = read_network(model).evaluate(points)
        close(got, model.predict(points).reshape(got.shape), 1e-12)
