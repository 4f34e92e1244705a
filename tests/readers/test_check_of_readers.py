"""What a reader gets wrong is refused, naming the layer; nothing of the model is touched."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.readers import read_network
from tests.readers.keras_support import import_keras


# ------------------------------------------------------------------------------ PyTorch
def test_torch(monkeypatch):
    torch = pytest.importorskip("torch")
    from pyomo_relu.readers.torch import functions
    from pyomo_relu.readers.torch.function_tables import FUNCTIONS, MODULES

    nn = torch.nn
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(), nn.Linear(8, 2))

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.act, self.last = plain

        def forward(self, x):
            return self.last(self.act(self.first(x)))

    def wrong(graph, name, x, *rest, **options):
        return functions.leaky_relu(graph, name, x, 0.5)

    monkeypatch.setitem(FUNCTIONS, "leaky_relu", wrong)
    monkeypatch.setitem(MODULES, "LeakyReLU", lambda g, n, layer, x: wrong(g, n, x))
    for module, layer in ((plain, "'1'"), (Own(), "'act'")):
        with pytest.raises(ValueError, match=f"its layer {layer} .LeakyReLU.*check_read"):
            read_network(module, input_shape=(4,))
        read_network(module, input_shape=(4,), check_reading=False)


def test_torch_modules_are_left_as_they_were():
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(
                nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.ReLU(inplace=True)
            )
            self.frozen = nn.BatchNorm1d(6).eval()
            self.calls, self.seen = 0, []
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            self.count += 1
            self.last = x
            return self.frozen(self.layers(x))

    module = Counting()
    module(torch.randn(5, 3)).sum().backward()
    keys = set(vars(module))
    state = {k: v.clone() for k, v in module.state_dict().items()}
    grads = [p.grad.clone() for p in module.parameters()]
    last, generator = module.last, torch.random.get_rng_state()
    read_network(module, input_shape=(3,))
    assert module.training and not module.frozen.training
    assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())
    for p, g in zip(module.parameters(), grads):
        assert torch.equal(p.grad, g) and p.requires_grad and p.dtype == torch.float32
    assert set(vars(module)) == keys and module.calls == 1 and module.last is last
    assert torch.equal(generator, torch.random.get_rng_state())
    assert torch.is_grad_enabled()
    module(torch.randn(5, 3)).sum().backward()  # still trains


def test_a_state_in_a_torch_module_is_refused():
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Buffered(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("n", torch.zeros(()))

        def forward(self, x):
            self.n += 1
            return torch.relu(x) * self.n

    class Counted(nn.Module):
        n = 0

        def forward(self, x):
            self.n += 1
            return torch.relu(x) * self.n

    for check_reading in (True, False):
        with pytest.raises(ValueError, match="changes its tensor 'n' in each call"):
            read_network(Buffered(), input_shape=(3,), check_reading=check_reading)
        with pytest.raises(ValueError, match="something else in each call"):
            read_network(Counted(), input_shape=(3,), check_reading=check_reading)


def test_what_a_trace_can_not_see():
    """The export runs on stand-ins for tensors, of another type; the check sees that."""
    torch = pytest.importorskip("torch")

    class Exact(torch.nn.Module):
        def forward(self, x):
            return torch.relu(x) if type(x) is torch.Tensor else x

    with pytest.raises(ValueError, match="its layers, one after the other, give"):
        read_network(Exact(), input_shape=(3,))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_torch_in_each_precision(dtype):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    for seed in range(5):
        torch.manual_seed(seed)
        layers = [nn.Linear(6, 30)]
        for _ in range(4):
            layers += [nn.LeakyReLU(0.1), nn.BatchNorm1d(30), nn.Linear(30, 30)]
        read_network(nn.Sequential(*layers).to(getattr(torch, dtype)))


def test_a_normalization_that_undoes_itself():
    """Mean and offset cancel, so the rounding is that of numbers far larger."""
    torch = pytest.importorskip("torch")
    nn = torch.nn
    for seed in range(5):
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Linear(4, 9), nn.BatchNorm1d(9), nn.ReLU())
        with torch.no_grad():
            norm = module[1]
            norm.running_mean.fill_(1e4)
            norm.bias.fill_(1e4)
            norm.weight.copy_((norm.running_var + norm.eps).sqrt())
        read_network(module)


def test_torch_errors_name_the_layer_and_the_remedy():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    plain = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    with pytest.raises(ValueError, match="'0' .Linear. is quantized.*before it"):
        read_network(torch.ao.quantization.quantize_dynamic(plain, {nn.Linear}))
    for shape in (
        (None,),
        (None, 4),
        ("4",),
        (4.5,),
        (0,),
        (True,),
        "abc",
        2.5,
        [[4], [None]],
    ):
        with pytest.raises(ValueError, match="input_shape="):
            read_network(plain, input_shape=shape)
    with pytest.raises(ValueError, match="2 shapes, but the module has 1"):
        read_network(plain, input_shape=[(4,), (4,)])
    with pytest.raises(ValueError, match="layer '0'.*shapes"):
        read_network(plain, input_shape=(5,))
    with pytest.raises(ValueError, match="weight of .*'0' .LazyLinear. has no shape yet"):
        read_network(nn.Sequential(nn.LazyLinear(3)), input_shape=(4,))
    with pytest.raises(ValueError, match="weight of .*complex64"):
        read_network(nn.Sequential(nn.Linear(4, 2, dtype=torch.complex64)))
    with pytest.raises(ValueError, match="dtype float8_e4m3fn is not known"):
        read_network(nn.Sequential(nn.Linear(4, 2).to(torch.float8_e4m3fn)))
    with pytest.raises(ValueError, match="meta device"):
        read_network(nn.Sequential(nn.Linear(4, 2, device="meta")))

    class TwoInputs(nn.Module):
        def forward(self, x, z):
            return x + z

    with pytest.raises(ValueError, match="can't be called on inputs.*missing 1 required"):
        read_network(TwoInputs(), input_shape=(3,))


# -------------------------------------------------------------------------------- Keras
def test_keras(monkeypatch):
    keras = import_keras()
    from pyomo_relu.readers.keras.registration import LAYERS

    K = keras.layers
    inner = keras.Sequential([keras.Input((4,)), K.Dense(5), K.LeakyReLU(name="leaky")])
    x = keras.Input((4,))
    plain = keras.Model(x, K.Dense(2)(K.LeakyReLU(name="leaky")(K.Dense(6)(x))))
    nested = keras.Model(x, K.Dense(2)(inner(x)))

    def wrong(graph, name, layer, x):
        return graph.leaky(name, x, 0.7)

    monkeypatch.setitem(LAYERS, "LeakyReLU", wrong)
    for model in (plain, nested):
        with pytest.raises(ValueError, match="its layer 'leaky' .LeakyReLU.*check_reading"):
            read_network(model)
        read_network(model, check_reading=False)


def test_keras_models_are_left_as_they_were():
    keras = import_keras()
    K = keras.layers
    x = keras.Input((4,))
    h = K.BatchNormalization()(K.Dense(5, activity_regularizer="l2")(x))
    model = keras.Model(x, K.Dense(2)(K.Dropout(0.5, seed=1)(h)))
    model(np.ones((3, 4), "float32"))
    losses = [float(v) for v in model.losses]
    weights = [np.array(v) for v in model.variables]
    read_network(model)
    assert [float(v) for v in model.losses] == losses
    for v, w in zip(model.variables, weights):
        assert np.array_equal(np.array(v), w)


# ------------------------------------------------------------------------- scikit-learn
def test_sklearn(monkeypatch):
    pytest.importorskip("sklearn")
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import RobustScaler, StandardScaler

    from pyomo_relu.readers.sklearn import transformers

    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3)) * [1.0, 1e4, 1e-4] + [0.0, 3e5, 1.0]
    y = x @ [1.0, 1e-4, 1e4]
    net = MLPRegressor(hidden_layer_sizes=(8,), max_iter=5, random_state=0)
    model = make_pipeline(StandardScaler(), RobustScaler(), net).fit(x, y)
    scaler = StandardScaler(copy=False).fit(x)
    target = StandardScaler().fit(y[:, None])
    read_network(model)
    plain = read_network(net, input_scaler=scaler, output_scaler=target)

    def wrong(graph, name, estimator, v):
        return graph.standardize(name, v, estimator.mean_ * 1.1, 1.0 / estimator.scale_)

    monkeypatch.setitem(transformers.TRANSFORMERS, "StandardScaler", wrong)
    with pytest.raises(ValueError, match="its step 'standardscaler' .StandardScaler"):
        read_network(model)
    with pytest.raises(ValueError, match="its step 'input_scaler' .StandardScaler"):
        read_network(net, input_scaler=scaler)
    options = dict(input_scaler=scaler, output_scaler=target, check_reading=False)
    assert read_network(net, **options).fingerprint != plain.fingerprint


def test_sklearn_errors_name_the_estimator():
    pytest.importorskip("sklearn")
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import (
        MaxAbsScaler,
        MinMaxScaler,
        RobustScaler,
        StandardScaler,
    )

    fitted = LinearRegression().fit(np.eye(3), [1.0, 2.0, 4.0])
    unfitted = [StandardScaler(), MinMaxScaler(), RobustScaler(), MaxAbsScaler(), PCA()]
    for scaler in unfitted:
        kind = type(scaler).__name__
        for option in ("input_scaler", "output_scaler"):
            with pytest.raises(ValueError, match=f"estimator {kind} is not fitted; call"):
                read_network(fitted, **{option: scaler})
    estimators = [MLPRegressor(), MLPClassifier(), LinearRegression(), LogisticRegression()]
    for estimator in [*estimators, make_pipeline(StandardScaler(), MLPRegressor())]:
        with pytest.raises(ValueError, match="is not fitted; call"):
            read_network(estimator, logits=True)
    pipeline = make_pipeline(StandardScaler(), LinearRegression())
    pipeline.fit(np.random.default_rng(0).normal(size=(9, 3)), np.arange(9.0))
    pipeline.steps[1] = ("last", LinearRegression())
    with pytest.raises(ValueError, match="LinearRegression is not fitted"):
        read_network(pipeline)
    damaged = StandardScaler().fit(np.eye(3))
    damaged.scale_ = np.ones(2)
    with pytest.raises(ValueError, match="StandardScaler can't be read"):
        read_network(fitted, input_scaler=damaged)
    for pair in ((0.0, "one"), (None, 1.0), ({}, 1.0)):
        with pytest.raises(ValueError, match="input_scaler"):
            read_network(fitted, input_scaler=pair)


# --------------------------------------------------------------------------------- ONNX
def test_onnx(monkeypatch, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import helper

    from pyomo_relu.readers.onnx.node import OPERATORS
    from tests.readers.onnx_models import f32, model

    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], name="first"),
        helper.make_node("LeakyRelu", ["h"], ["r"], name="leaky", alpha=0.1),
        helper.make_node("MatMul", ["r", "v"], ["z"]),
        helper.make_node("Softmax", ["z"], ["p"], axis=1),
    ]
    constants = {"w": f32(rng, 4, 6), "b": f32(rng, 6), "v": f32(rng, 6, 2)}
    made = model(nodes, {"x": ("N", 4)}, ["p"], constants)
    path = tmp_path / "net.onnx"
    onnx.save(made, path)
    read_network(made, logits=True)
    read_network(path, logits=True)

    def wrong(node):
        return node.graph.leaky(node.name, node.inputs[0], 0.4)

    monkeypatch.setitem(OPERATORS, ("", "LeakyRelu"), wrong)
    for source in (made, path):
        with pytest.raises(ValueError, match="operator LeakyRelu .node 'leaky'"):
            read_network(source, logits=True)
        read_network(source, logits=True, check_reading=False)


def test_onnx_where_the_runtime_is_missing_or_can_not_run_the_model(monkeypatch):
    pytest.importorskip("onnx")
    from onnx import helper

    from pyomo_relu.readers.onnx import running
    from tests.readers.onnx_models import model

    made = model([helper.make_node("Relu", ["x"], ["y"])], {"x": ("N", 3)}, ["y"])

    def fail(*args):
        raise RuntimeError("no kernel")

    monkeypatch.setattr(running, "_session", fail)
    assert read_network(made).n_neurons == 3
    monkeypatch.setattr(running.importlib.util, "find_spec", lambda name: None)
    assert read_network(made).n_neurons == 3
