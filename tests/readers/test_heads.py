"""A network remembers the head that was taken off, and rows on classes ask for it."""

from __future__ import annotations

import json

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import NetworkBuilder, ReLUNetBlock, probability_at_least, read_network
from pyomo_relu.network import Network
from tests.readers.keras_support import import_keras

HEADS = ("softmax", "sigmoid")


def plain(head: str | None, outputs: int = 3) -> Network:
    b = NetworkBuilder()
    scores = b.affine("scores", [(b.input("x", (2,)), np.ones((outputs, 2)))])
    return b.build([scores]).with_head(head)


@pytest.mark.parametrize("head", HEADS)
def test_keras_and_torch(head):
    keras, torch = import_keras(), pytest.importorskip("torch")
    x = keras.Input((2,))
    model = keras.Model(x, keras.layers.Dense(3, activation=head)(x))
    assert read_network(model, logits=True).head == head
    last = {"softmax": torch.nn.LogSoftmax(1), "sigmoid": torch.nn.Sigmoid()}[head]
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), last)
    assert read_network(module, logits=True).head == head
    assert read_network(torch.nn.Linear(2, 3), logits=True).head is None


def test_a_softmax_for_each_part_of_the_outputs_is_none_of_all():
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Unflatten(1, (2, 2)), torch.nn.Softmax(2))
    assert read_network(module, input_shape=(4,), logits=True).head is None


def test_onnx():
    pytest.importorskip("onnx")
    from tests.readers.onnx_models import single

    made = single("Softmax", (3,), axis=-1)
    assert read_network(made, logits=True).head == "softmax"
    made = single("Sigmoid", (3,))
    assert read_network(made, logits=True).head == "sigmoid"
    assert read_network(made).head is None  # units, not a head that was taken off


@pytest.mark.parametrize("several", [False, True])
def test_sklearn(several):
    neural = pytest.importorskip("sklearn.neural_network")
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (30, 3)) if several else rng.integers(0, 3, 30)
    mlp = neural.MLPClassifier((3,), max_iter=2000, tol=1.0, random_state=0)
    model = make_pipeline(StandardScaler(), mlp).fit(rng.normal(size=(30, 2)), y)
    network = read_network(model, logits=True)
    assert network.head == ("sigmoid" if several else "softmax")


def test_what_keeps_it_and_what_does_not(tmp_path):
    network = plain("softmax")
    named = read_network(network, output_names=["a", "b", "c"])
    scaled = read_network(network, input_scaler=(1.0, 2.0))
    assert named.head == scaled.head == network.with_nodes(network.nodes).head == "softmax"
    assert read_network(network, output_scaler=(1.0, 2.0)).head is None
    assert network.fingerprint == plain(None).fingerprint
    network.save(tmp_path / "net.npz")
    assert Network.load(tmp_path / "net.npz").head == "softmax"
    with pytest.raises(ValueError, match="head='tanh' is none of"):
        plain("tanh")


def test_a_file_with_another_head_is_damaged(tmp_path):
    path = tmp_path / "net.npz"
    plain("softmax").save(path)
    arrays = dict(np.load(path))
    header = json.loads(str(arrays["header"]))
    arrays["header"] = np.array(json.dumps(header | {"head": "sigmoid"}))
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="damaged"):
        Network.load(path)


def block(head):
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-1, 1))
    m.net = ReLUNetBlock(network=plain(head), inputs=m.x)
    return m.net


def test_rows_of_the_wrong_head_are_refused():
    with pytest.raises(ValueError, match="say multilabel=True"):
        probability_at_least(block("sigmoid"), 1, 0.8, "safe")
    with pytest.raises(ValueError, match="multilabel=True is for sigmoids"):
        probability_at_least(block("softmax"), 1, 0.8, multilabel=True)
    probability_at_least(block("sigmoid"), 1, 0.8, multilabel=True)
    probability_at_least(block("softmax"), 1, 0.8, "safe")
    for multilabel in (False, True):  # unknown: as the user says
        probability_at_least(
            block(None), 1, 0.8, "exact" if multilabel else "safe", multilabel=multilabel
        )
