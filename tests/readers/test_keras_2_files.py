"""Files of Keras 2: read, compared with what Keras 2 computed, or refused by name."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pyomo_relu.readers.keras import UnsupportedLayerError, read_keras
from tests.readers.keras_support import import_keras

FOLDER = Path(__file__).parent / "keras_2"


@pytest.fixture
def files(tmp_path):
    import_keras()
    h5 = tmp_path / "model.h5"
    h5.write_bytes(gzip.decompress((FOLDER / "model.h5.gz").read_bytes()))
    return {".keras": FOLDER / "model.keras", ".h5": h5}


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_what_keras_2_computed(files, suffix):
    points = np.load(FOLDER / "points.npz")
    network = read_keras(files[suffix])
    found = network.evaluate(points["x"].astype(float))
    np.testing.assert_allclose(found, points["y"], atol=1e-5)


def changed(files, tmp_path, change):
    """The archive with another description."""
    path = tmp_path / "changed.keras"
    with zipfile.ZipFile(files[".keras"]) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "config.json":
                config = json.loads(data)
                change({layer["name"]: layer for layer in config["config"]["layers"]})
                data = json.dumps(config).encode()
            new.writestr(name, data)
    return path


def other_class(kind):
    def change(layers):
        layers["leaky_re_lu"]["class_name"] = kind

    return change


def other_function(layers):
    layers["tf.nn.relu"]["config"]["function"] = "io.read_file"


def other_option(layers):
    layers["first"]["config"]["unheard_of"] = 1


def other_shape(layers):
    layers["first"]["config"]["units"] = 3


def a_call_that_is_none(layers):
    layers["tf.nn.relu"]["inbound_nodes"][0][1] = 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_class("TFSMLayer"), "TFSMLayer.* is not supported"),
        (other_class("Lambda"), "may run any code"),
        (other_class("Nonsense"), "has no counterpart in Keras 3"),
        (other_function, "runs the TensorFlow function tf.io.read_file"),
        (other_option, "layer 'first' .Dense. can't be made by Keras 3"),
        (other_shape, "a weight of layer 'first' has the shape"),
        (a_call_that_is_none, "read what no layer makes"),
    ],
)
def test_refused_by_name(files, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        read_keras(changed(files, tmp_path, change))


def test_weights_that_are_missing_or_of_another_layer(files, tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(files[".h5"], "r+") as file:
        weights = file["model_weights"]
        weights.attrs["layer_names"] = [
            n for n in weights.attrs["layer_names"] if n != "second"
        ]
    with pytest.raises(ValueError, match="the file has no weights for .*second"):
        read_keras(files[".h5"])
    with h5py.File(files[".h5"], "r+") as file:
        weights = file["model_weights"]
        weights.attrs["layer_names"] = [*weights.attrs["layer_names"], "second"]
        weights["second"].attrs["weight_names"] = ["second/bias:0", "second/bias:0"]
    with pytest.raises(ValueError, match="the layer 'second' has the weights"):
        read_keras(files[".h5"])


def test_layers_without_a_counterpart_are_named(files, tmp_path):
    path = changed(files, tmp_path, other_class("LocallyConnected1D"))
    with pytest.raises(UnsupportedLayerError, match="save it as ONNX"):
        read_keras(path)
