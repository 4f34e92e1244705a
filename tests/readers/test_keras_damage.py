"""Keras files that declare too much, point elsewhere, or hold something else."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile

import numpy as np
import pytest

from pyomo_relu.network.limits import TooLargeError
from pyomo_relu.readers import read_network
from pyomo_relu.readers.keras import read_keras
from tests.readers.keras_support import import_keras

HUGE = 10**9


@pytest.fixture(scope="module")
def whole():
    """The bytes of a small model in both formats."""
    keras = import_keras()
    pytest.importorskip("h5py")
    K = keras.layers
    layers = [keras.Input((4, 4, 1)), K.Conv2D(2, 3, activation="relu", name="conv2d")]
    layers += [K.ZeroPadding2D(1), K.Flatten(), K.RepeatVector(2), K.Flatten(), K.Dense(3)]
    # Names of our own: Keras numbers its names through the whole process.
    return keras.Sequential(layers, name="sequential")


def saved(model, path, change=None, weights=None):
    """Save a model; change its description (a dict), or its weights (an HDF5 file)."""
    import h5py

    model.save(path)
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            if change is not None:
                change(config["config"]["layers"])
            file.attrs["model_config"] = json.dumps(config)
            if weights is not None:
                weights(file, "model_weights/conv2d/sequential/conv2d")
        return path
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    if change is not None:
        config = json.loads(parts["config.json"])
        change(config["config"]["layers"])
        parts["config.json"] = json.dumps(config).encode()
    if weights is not None:
        file = io.BytesIO(parts["model.weights.h5"])
        with h5py.File(file, "r+") as opened:
            weights(opened, "layers/conv2d/vars")
        parts["model.weights.h5"] = file.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return path


def setting(kind, **values):
    """Change the settings of the last layer of a kind."""

    def change(layers):
        layer = next(x for x in reversed(layers) if x["class_name"] == kind)
        layer["config"].update(values)

    return change


def rebuilt(*changes):
    """Several changes, and no note of the shapes that layers were built with."""

    def change(layers):
        for one in changes:
            one(layers)
        for layer in layers:
            layer.pop("build_config", None)

    return change


TOO_LARGE = {
    "Dense": rebuilt(setting("Dense", units=HUGE)),
    "Conv2D": rebuilt(setting("Conv2D", filters=HUGE)),
    "a window of any size": rebuilt(
        setting("InputLayer", batch_shape=[None, 40_000, 40_000, 1])
    ),
    "RepeatVector": rebuilt(setting("RepeatVector", n=HUGE)),
    "ZeroPadding2D": rebuilt(
        setting("ZeroPadding2D", padding=[[HUGE, HUGE], [HUGE, HUGE]]),
        setting("RepeatVector", n=1),
    ),
}


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", TOO_LARGE)
def test_what_declares_too_much_is_refused(whole, tmp_path, name, suffix):
    path = saved(whole, tmp_path / f"m{suffix}", TOO_LARGE[name])
    original = import_keras().layers.Layer.add_weight
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError, match=r"m\..*': with .*max_memory="):
            read_keras(path)
        assert tracemalloc.get_traced_memory()[1] < 1e8
    finally:
        tracemalloc.stop()
    assert import_keras().layers.Layer.add_weight is original


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_layers_without_weights_count(tmp_path, suffix):
    keras = import_keras()
    model = keras.Sequential([keras.Input((4,)), keras.layers.RepeatVector(2)])
    change = rebuilt(setting("RepeatVector", n=HUGE))
    path = saved(model, tmp_path / f"m{suffix}", change)
    with pytest.raises(TooLargeError, match="with layer 'repeat_vector.*max_memory="):
        read_keras(path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_the_limit_is_the_users(whole, tmp_path, suffix):
    path = saved(whole, tmp_path / f"m{suffix}")
    assert read_network(path).n_outputs == 3
    with pytest.raises(TooLargeError, match="max_memory="):
        read_network(path, max_memory=1e3)
    with pytest.raises(ValueError, match="max_memory"):
        read_network(path, max_memory=0)
    with pytest.raises(ValueError, match="max_memory= is for files"):
        read_network(whole, max_memory=1e9)


def test_an_archive_of_zeros(whole, tmp_path):
    path = saved(whole, tmp_path / "m.keras")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(10**7))
    assert read_keras(path).n_outputs == 3
    with pytest.raises(TooLargeError, match="parts of the archive"):
        read_keras(path, max_memory=5e6)
    with zipfile.ZipFile(path, "a") as archive:
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("config.json", b"{}")
    with pytest.raises(ValueError, match="twice"):
        read_keras(path)


def never_written(file, place):
    del file[f"{place}/{min(file[place])}"]
    file.create_dataset(f"{place}/0", shape=(10**5, 10**5), chunks=(100, 100))


def not_written(file, place):
    key = f"{place}/{min(file[place])}"
    shape = file[key].shape
    del file[key]
    file.create_dataset(key, shape=shape, chunks=shape, dtype="f4")


def linked(make):
    def change(file, place):
        import h5py

        file[f"{place}/extra"] = make(h5py)

    return change


def looped(file, place):
    file[f"{place}/again"] = file[place]


def elsewhere(file, place):
    file.create_dataset(f"{place}/extra", (4,), external=[("/etc/passwd", 0, 32)])


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(
    "change, message",
    [
        (never_written, "max_memory="),
        (not_written, "holds no data"),
        (
            linked(lambda h5py: h5py.ExternalLink("/etc/passwd", "/x")),
            "link to another place",
        ),
        (linked(lambda h5py: h5py.SoftLink("/nowhere")), "link to another place"),
        (looped, "into itself"),
        (elsewhere, "in another file"),
    ],
)
def test_weights_that_are_not_in_the_file(whole, tmp_path, change, message, suffix):
    path = saved(whole, tmp_path / f"m{suffix}", weights=change)
    with pytest.raises(ValueError, match=rf"m\..*{message}"):
        read_keras(path)


def test_a_file_of_a_layer(whole, tmp_path):
    path = tmp_path / "m.keras"
    import_keras().saving.save_model(whole, path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    parts["config.json"] = json.dumps(config["config"]["layers"][1]).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    with pytest.raises(ValueError, match="m.keras' (holds a Conv2D|.safe mode is on)"):
        read_keras(path)


def test_weights_of_other_shapes(whole, tmp_path):
    def shorter(file, place):
        key = f"{place}/{min(file[place])}"
        array = np.asarray(file[key][()])
        del file[key]
        file[key] = array[..., :1]

    path = saved(whole, tmp_path / "m.keras", weights=shorter)
    with pytest.raises(ValueError, match="Keras can't load"):
        read_keras(path)
