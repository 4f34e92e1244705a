"""Saved Keras models: what opens, what is refused, and how long a convolution takes."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pyomo_relu.readers.keras import read_keras
from tests.paths import shared_data
from tests.readers.keras_support import assert_agrees, import_keras, randomize

READ = {
    "gurobi_ml/diabetes.keras": 40,
    "gurobi_ml/diabetes_v2.keras": 40,
    "omlt_models/keras_linear_131.keras": 0,
    "omlt_models/keras_linear_131_relu.keras": 3,
    "omlt_models/keras_linear_131_relu_output_activation.keras": 4,
    "omlt_models/keras_linear_2353.keras": 0,
    "omlt_models/big.keras": 301,
    "omlt_models/keras_linear_131_sigmoid.keras": 3,
    "omlt_models/keras_linear_131_sigmoid_output_activation.keras": 4,
    "omlt_models/keras_linear_131_sigmoid_softplus_output_activation.keras": 4,
}


@pytest.mark.parametrize("name", READ)
def test_shared_model_is_read(name):
    path = shared_data(name)
    keras = import_keras()
    network = read_keras(path)
    assert network.n_neurons == READ[name]
    model = keras.saving.load_model(path, compile=False)
    assert_agrees(model, network, np.random.default_rng(0), n=50)


def test_every_shared_keras_file_is_in_the_lists():
    folder = shared_data("omlt_models")
    found = {f"omlt_models/{p.name}" for p in folder.glob("*.keras")}
    assert found <= set(READ)


def test_keras_2_file_against_its_own_weights():
    path = shared_data("relumip_peaks/peaks_3x10.h5")
    import_keras()
    h5py = pytest.importorskip("h5py")
    network = read_keras(str(path))
    assert (network.n_inputs, network.n_outputs, network.n_neurons) == (2, 1, 30)
    weights = {}
    with h5py.File(path) as file:
        file["model_weights"].visititems(
            lambda key, item: (
                weights.update({key: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
    x = np.random.default_rng(0).uniform(-3, 3, size=(100, 2))
    y = x
    layers = sorted({k.split("/")[0] for k in weights})
    for layer in layers:
        mine = {k.split("/")[-1]: v for k, v in weights.items() if k.startswith(layer)}
        y = y @ mine["kernel:0"].astype(float) + mine["bias:0"]
        y = y if layer == layers[-1] else np.maximum(y, 0)
    np.testing.assert_allclose(network.evaluate(x), y, atol=1e-12)


def small_model(keras):
    K = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            K.Conv2D(3, 3, activation="relu"),
            K.Flatten(),
            K.LeakyReLU(negative_slope=0.1),
            K.Dense(2),
        ]
    )
    randomize(model, np.random.default_rng(0))
    return model


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".hdf5"])
def test_saved_and_read(tmp_path, suffix):
    keras = import_keras()
    model = small_model(keras)
    path = tmp_path / f"model{suffix}"
    model.save(path)
    assert read_keras(path).fingerprint == read_keras(model).fingerprint


def test_keras_2_convolution_keeps_its_input_shape(tmp_path):
    keras = import_keras()
    h5py = pytest.importorskip("h5py")
    model = small_model(keras)
    path = tmp_path / "old.h5"
    model.save(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        layers = config["config"]["layers"]
        del layers[0]
        layers[0]["config"]["batch_input_shape"] = [None, 6, 6, 2]
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.4.0"
    before = path.read_bytes()
    assert read_keras(path).fingerprint == read_keras(model).fingerprint
    assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_truncated_and_foreign_files(tmp_path, suffix):
    keras = import_keras()
    good = tmp_path / f"good{suffix}"
    small_model(keras).save(good)
    data = good.read_bytes()
    path = tmp_path / f"bad{suffix}"
    for size in (0, 5, 300, len(data) // 2, len(data) - 30):
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match="bad"):
            read_keras(path)
    middle = len(data) // 2
    path.write_bytes(b"hello, I am no model")
    with pytest.raises(ValueError, match="neither a .keras archive nor an HDF5 file"):
        read_keras(path)
    if suffix == ".keras":
        flipped = bytes(255 - b for b in data[middle : middle + 64])
        path.write_bytes(data[:middle] + flipped + data[middle + 64 :])
        with pytest.raises(ValueError, match="damaged"):
            read_keras(path)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "nothing")
        with pytest.raises(ValueError, match="not a Keras model"):
            read_keras(path)


def test_wrong_suffix_missing_file_and_folder(tmp_path):
    keras = import_keras()
    small_model(keras).save(tmp_path / "model.keras")
    (tmp_path / "model.keras").rename(tmp_path / "model.h5")
    with pytest.raises(ValueError, match="rename it so that it ends in .keras"):
        read_keras(tmp_path / "model.h5")
    with pytest.raises(FileNotFoundError, match="no file"):
        read_keras(tmp_path / "absent.keras")
    with pytest.raises(ValueError, match="is a folder"):
        read_keras(tmp_path)


def test_weights_without_a_model(tmp_path):
    keras = import_keras()
    small_model(keras).save_weights(tmp_path / "only.weights.h5")
    with pytest.raises(ValueError, match="weights only"):
        read_keras(tmp_path / "only.weights.h5")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_no_code_from_the_file_is_run(tmp_path, suffix):
    keras = import_keras()
    marker = tmp_path / "ran"
    text = str(marker)
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Lambda(lambda x: (open(text, "w").close(), x)[1], (2,)),
        ]
    )
    marker.unlink(missing_ok=True)
    path = tmp_path / f"lambda{suffix}"
    model.save(path)
    with pytest.raises(ValueError, match="safe mode is on"):
        read_keras(path)
    assert not marker.exists()


def test_unknown_layer_in_a_file(tmp_path):
    keras = import_keras()

    class Mine(keras.layers.Layer):
        def call(self, x):
            return x

    model = keras.Sequential([keras.Input((2,)), Mine()])
    model.save(tmp_path / "mine.keras")
    with pytest.raises(ValueError, match="register_keras_serializable"):
        read_keras(tmp_path / "mine.keras")


def test_import_of_the_reader_loads_no_framework():
    code = textwrap.dedent(
        """
        import sys
        import pyomo_relu.readers.keras
        assert not {"keras", "tensorflow", "h5py", "torch", "jax"} & set(sys.modules)
        """
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_another_backend_without_tensorflow():
    pytest.importorskip("torch", reason="torch is not installed")
    import_keras()
    code = textwrap.dedent(
        """
        import sys
        import keras, numpy as np
        from pyomo_relu.readers.keras import read_keras
        from tests.readers.keras_support import assert_agrees, randomize

        assert keras.config.backend() == "torch"
        K = keras.layers
        x = keras.Input((15, 11, 2))
        h = K.Conv2D(3, 3, padding="same", strides=2, activation="relu")(x)
        h = K.BatchNormalization()(K.AveragePooling2D(3, 2, padding="same")(h))
        h = K.LeakyReLU(0.3)(K.Conv2DTranspose(2, 3, strides=2, padding="same")(h))
        y = K.Dense(3, activation="hard_sigmoid")(K.Flatten()(h)) * 2.0
        model = keras.Model(x, y)
        rng = np.random.default_rng(0)
        randomize(model, rng)
        assert_agrees(model, read_keras(model), rng)
        assert "tensorflow" not in sys.modules
        """
    )
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "KERAS_BACKEND": "torch", "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_missing_keras_names_the_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(ImportError, match=r"pip install 'pyomo_relu\[keras\]'"):
        read_keras("model.keras")


def test_large_convolution_is_read_in_little_time_and_memory():
    keras = import_keras()
    K = keras.layers
    x = keras.Input((28, 28, 1))
    h = K.Conv2D(32, 3, activation="relu")(x)
    h = K.Conv2D(32, 3, activation="relu")(h)
    h = K.MaxPooling2D()(h)
    y = K.Dense(10)(K.Flatten()(h))
    model = keras.Model(x, y)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    network = read_keras(model)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024**2
    assert grown < 1.0  # GiB
    assert_agrees(model, network, np.random.default_rng(0), n=2)
