"""read_network: one entry for every source."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from pyomo_relu.network import NetworkBuilder, activations
from pyomo_relu.readers import read_network
from tests.paths import shared_data


def network(**names):
    b = NetworkBuilder()
    x = b.input("x", (2,))
    h = b.affine("h", [(x, [[1.0, -1.0], [2.0, 0.5], [0.0, 1.0]])], [0.0, 1.0, -1.0])
    r = b.piecewise("relu", h, activations.relu())
    return b.build([b.affine("y", [(r, [[1.0, 2.0, 3.0]])])], **names)


def test_a_network_is_returned_as_it_is():
    net = network()
    assert read_network(net) is net
    named = read_network(net, input_names=["a", "b"], output_names=["y"])
    assert (named.input_names, named.output_names) == (("a", "b"), ("y",))
    assert read_network(named, input_names=["c", "d"]).output_names == ("y",)
    with pytest.raises(ValueError, match="3 input names were given for 2 inputs"):
        read_network(net, input_names=["a", "b", "c"])


def test_saved_networks(tmp_path):
    net = network(input_names=["a", "b"])
    net.save(tmp_path / "net.npz")
    for path in (tmp_path / "net.npz", str(tmp_path / "net.npz")):
        loaded = read_network(path, output_scaler=(1.0, 2.0))
        assert loaded.input_names == ("a", "b")
        x = np.array([0.3, -0.2])
        assert np.allclose(loaded.evaluate(x), 2 * net.evaluate(x) + 1)


def test_unknown_options_and_sources_are_refused(tmp_path):
    net = network()
    with pytest.raises(ValueError, match="no option 'input_shape' for Network"):
        read_network(net, input_shape=(2,))
    with pytest.raises(ValueError, match="no option 'logit'"):
        read_network(net, logit=True)
    for source in (3.0, None, [net], {"a": 1}, np.eye(2)):
        with pytest.raises(TypeError, match="can't read a"):
            read_network(source)
    with pytest.raises(FileNotFoundError, match="absent.keras"):
        read_network(tmp_path / "absent.keras")
    for name, message in [
        ("a.txt", "none of the suffixes"),
        ("a.pkl", "pickle"),
        ("a.pth", "weights alone"),
        ("a.npz", "not a network saved by"),
    ]:
        (tmp_path / name).write_bytes(b"some text")
        with pytest.raises(ValueError, match=message):
            read_network(tmp_path / name)


def test_no_framework_is_imported_before_it_is_needed(tmp_path):
    network().save(tmp_path / "net.npz")
    code = (
        "import sys\n"
        "from pyomo_relu.readers import read_network\n"
        f"read_network({str(tmp_path / 'net.npz')!r}, input_scaler=(1.0, 2.0))\n"
        "found = {'keras', 'tensorflow', 'onnx', 'torch', 'sklearn'} & set(sys.modules)\n"
        "assert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)


def test_a_missing_framework_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    (tmp_path / "a.onnx").write_bytes(b"")
    with pytest.raises(ImportError, match=r"pip install 'pyomo_relu\[onnx\]'"):
        read_network(tmp_path / "a.onnx")


def test_each_framework_is_recognized():
    x = np.array([[0.5, -1.0, 2.0]])
    found = 0
    try:
        from onnx import helper

        from tests.readers.onnx_models import model

        made = model([helper.make_node("Relu", ["x"], ["y"])], {"x": ("N", 3)}, ["y"])
        assert np.allclose(read_network(made).evaluate(x), np.maximum(x, 0))
        found += 1
    except ImportError:
        pass
    try:
        from torch import nn

        assert np.allclose(
            read_network(nn.ReLU(), input_shape=(3,)).evaluate(x), np.maximum(x, 0)
        )
        found += 1
    except ImportError:
        pass
    try:
        from sklearn.linear_model import LinearRegression

        fitted = LinearRegression().fit(np.eye(3), [1.0, 2.0, 4.0])
        assert np.allclose(read_network(fitted).evaluate(x), fitted.predict(x))
        found += 1
    except ImportError:
        pass
    if not found:
        pytest.skip("none of onnx, torch, sklearn is installed")


@pytest.mark.slow
def test_keras_models_and_files():
    keras = pytest.importorskip("keras")
    path = shared_data("omlt_models/keras_linear_131_relu.keras")
    a, b = read_network(path), read_network(keras.models.load_model(path))
    assert a.fingerprint == b.fingerprint
    scaled = read_network(path, input_scaler=(1.0, 2.0), input_names=["t"])
    assert np.allclose(scaled.evaluate([0.4]), a.evaluate([-0.3]))
    assert scaled.input_names == ("t",)
    with pytest.raises(ValueError, match="no option 'input_shape'"):
        read_network(path, input_shape=(1,))


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "n.npz")
    with pytest.raises(ValueError, match="is a pipe"):
        read_network(tmp_path / "n.npz")
