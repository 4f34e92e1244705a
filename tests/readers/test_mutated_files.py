"""Damaged files of every format: refused with a message of ours, or read.

Each of them is read in a process with limited memory, so that a crash, a hang, a foreign
error and memory taken for nothing all show. Bytes are changed blindly, and the structure
(JSON, protobuf fields, arrays, tokens) so that the file stays whole in its container.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from pyomo_relu.network import NetworkBuilder, activations
from pyomo_relu.network.storage import _digest
from tests.harness.mutations import (
    mutate_message,
    mutated_array,
    mutated_bytes,
    mutated_json,
)
from tests.harness.random_networks import random_network
from tests.harness.reading import Workers
from tests.readers.keras_support import randomize
from tests.readers.test_random_models import random_onnx

#: Files of each kind in the default share, and in the slow one.
QUICK, MANY = 30, 3000

#: From whole files to one that is damaged.
Change = Callable[[np.random.Generator, bytes], bytes]


def saved(save, suffix: str, folder: Path) -> bytes:
    """What ``save(path)`` writes."""
    path = folder / f"whole{suffix}"
    save(path)
    return path.read_bytes()


# ---------------------------------------------------------------------- .npz of our own
def npz_files(folder: Path) -> list[bytes]:
    rng = np.random.default_rng(0)
    b = NetworkBuilder()
    x = b.input("x", (1, 6, 6))
    h = b.piecewise("r", b.affine("h", [(x, np.eye(36))]), activations.relu())
    pool = b.max("p", h, np.arange(36).reshape(9, 4), (1, 3, 3))
    networks = [
        random_network(rng, widths=(6, 5), max_pool=True, residual=True),
        random_network(rng, widths=(40, 40), density=0.1, activations=("clip", "sign")),
        b.build([pool], input_names=[f"pixel {k}" for k in range(36)]),
    ]
    return [saved(n.save, ".npz", folder) for n in networks]


def changed_npz(rng: np.random.Generator, data: bytes) -> bytes:
    """Description and arrays changed, in an archive that is whole."""
    with np.load(io.BytesIO(data)) as found:
        arrays = dict(found)
    header = json.loads(str(arrays.pop("header")))
    if rng.random() < 0.5:
        header = mutated_json(rng, header)
    for _ in range(rng.integers(0, 3)):
        key = str(rng.choice(list(arrays)))
        arrays[key] = mutated_array(rng, arrays[key])
    if isinstance(header, dict):
        if rng.random() < 0.8:
            header["version"] = 1  # without a fingerprint the structure alone is checked
        else:
            header["digest"] = _digest(header)
    file = io.BytesIO()
    np.savez_compressed(file, header=np.array(json.dumps(header)), **arrays)
    return file.getvalue()


# -------------------------------------------------------------------------------- ONNX
def onnx_files(folder: Path) -> list[bytes]:
    return [
        random_onnx(np.random.default_rng(seed)).SerializeToString() for seed in range(40)
    ] + [_shapes().SerializeToString()]


def _shapes():
    """A model that computes its shapes, and constants of any size."""
    from onnx import helper

    from tests.readers.onnx_models import f32, model

    node, rng = helper.make_node, np.random.default_rng(0)
    nodes = [
        node("Conv", ["x", "k", "b"], ["c"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("Relu", ["c"], ["r"]),
        node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Pad", ["p", "pads"], ["q"]),
        node("Shape", ["q"], ["s"]),
        node("Gather", ["s", "first"], ["n"], axis=0),
        node("Concat", ["n", "rest"], ["shape"], axis=0),
        node("Reshape", ["q", "shape"], ["f"]),
        node("ConstantOfShape", ["width"], ["zeros"]),
        node("Range", ["from", "to", "by"], ["range"]),
        node("Add", ["zeros", "range"], ["shift"]),
        node("Add", ["f", "shift"], ["g"]),
        node("Expand", ["g", "more"], ["e"]),
        node("Tile", ["e", "times"], ["t"]),
        node("Gemm", ["t", "w", "v"], ["y"], transB=1),
    ]
    constants = {
        "k": f32(rng, 2, 1, 3, 3), "b": f32(rng, 2), "pads": np.array([0, 0, 0, 1] * 2),
        "first": np.array([0]), "rest": np.array([-1]), "width": np.array([16]),
        "from": np.float32(0), "to": np.float32(16), "by": np.float32(1),
        "more": np.array([1, 16]), "times": np.array([1, 2]), "w": f32(rng, 3, 32),
        "v": f32(rng, 3),
    }  # fmt: skip
    return model(nodes, {"x": (1, 1, 4, 4)}, ["y"], constants)


def changed_onnx(rng: np.random.Generator, data: bytes) -> bytes:
    """Fields of the protobuf messages changed."""
    import onnx

    model = onnx.ModelProto.FromString(data)
    mutate_message(rng, model if rng.random() < 0.2 else model.graph)
    return model.SerializeToString()


# ------------------------------------------------------------------------------- Keras
@cache
def _keras_models():
    import keras

    K = keras.layers
    x = keras.Input((6, 6, 1))
    h = K.Conv2D(2, 3, padding="same", activation="relu")(x)
    h = K.MaxPooling2D()(K.ZeroPadding2D(1)(K.BatchNormalization()(h)))
    h = K.Concatenate()([h, K.UpSampling2D(1)(h)])
    first = keras.Model(x, K.Dense(2)(K.ReLU(max_value=3.0)(K.Flatten()(h))))
    second = keras.Sequential(
        [
            keras.Input((5,)),
            K.Rescaling(0.5, 1.0),
            K.Dense(6, activation="leaky_relu"),
            K.RepeatVector(2),
            K.Permute((2, 1)),
            K.Reshape((4, 3)),
            K.Conv1D(2, 2, strides=1),
            K.GlobalAveragePooling1D(),
            K.PReLU(),
            K.Dense(2, activation="softmax"),
        ]
    )
    second = keras.Model(second.inputs, second.layers[-2].output)
    rng = np.random.default_rng(0)
    for model in (first, second):
        randomize(model, rng)
    return first, second


def keras_files(folder: Path) -> list[bytes]:
    return [saved(m.save, ".keras", folder) for m in _keras_models()]


def h5_files(folder: Path) -> list[bytes]:
    return [saved(m.save, ".h5", folder) for m in _keras_models()]


def changed_keras(rng: np.random.Generator, data: bytes) -> bytes:
    """The description or the weights changed, in an archive that is whole."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    if rng.random() < 0.75:
        config = json.loads(parts["config.json"])
        parts["config.json"] = json.dumps(mutated_json(rng, config)).encode()
    elif rng.random() < 0.5:
        weights = parts["model.weights.h5"]
        parts["model.weights.h5"] = changed_datasets(rng, weights)
    else:
        parts["model.weights.h5"] = mutated_bytes(rng, parts["model.weights.h5"])
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return file.getvalue()


def changed_h5(rng: np.random.Generator, data: bytes) -> bytes:
    """The description or the weights changed, in a file that is whole."""
    import h5py

    if rng.random() < 0.3:
        return changed_datasets(rng, data)
    file = io.BytesIO(data)
    with h5py.File(file, "r+") as opened:
        config = json.loads(opened.attrs["model_config"])
        opened.attrs["model_config"] = json.dumps(mutated_json(rng, config))
    return file.getvalue()


def changed_datasets(rng: np.random.Generator, data: bytes) -> bytes:
    """One dataset of an HDF5 file with other entries, another shape, or gone."""
    import h5py

    file = io.BytesIO(data)
    with h5py.File(file, "r+") as opened:
        names: list[str] = []
        opened.visititems(
            lambda name, item: names.append(name) if hasattr(item, "dtype") else None
        )
        name = str(rng.choice(sorted(names)))
        array = opened[name][()]
        del opened[name]
        kind = rng.integers(4)
        if kind == 0:
            opened.create_dataset(name, shape=(10**6, 10**6), chunks=(100, 100))
        elif kind == 1:
            opened[name] = h5py.ExternalLink("/nowhere.h5", "/x")
        elif kind == 2:
            opened[name] = mutated_array(rng, np.asarray(array))
    return file.getvalue()


# ----------------------------------------------------------------------------- VNN-LIB
def vnnlib_files(folder: Path) -> list[bytes]:
    text = """; a property
    (declare-const X_0 Real) (declare-fun X_1 () Real)
    (declare-const Y_0 Real) (declare-const Y_1 Real)
    (assert (>= X_0 -1)) (assert (<= X_0 1.5e0))
    (assert (and (>= X_1 0) (<= X_1 (/ 2 1))))
    (assert (<= (+ (* 2 Y_0) (- Y_1) 1) (- 3 X_0)))
    (assert (or (and (<= X_0 0) (>= Y_0 1)) (and (>= X_0 0) (<= Y_0 Y_1))
            (and (<= X_0 0) (= Y_1 4)) (and (or (<= Y_0 3) (<= Y_1 2)) (or (<= Y_0 1)))))
    (check-sat)
    """
    return [text.encode()]


def changed_vnnlib(rng: np.random.Generator, data: bytes) -> bytes:
    """Tokens dropped, doubled, exchanged, made other ones."""
    tokens = re.findall(r"[()]|[^\s()]+|\s+", data.decode())
    others = ["X_0", "Y_1", "X_99", "0", "1e400", "-1e-400", "and", "or", "<=", "=", "*"]
    others += ["(", ")", "()", "true", "false", "/", "not", "assert", "declare-const", "|"]
    for _ in range(rng.integers(1, 5)):
        at, other = (int(v) for v in rng.integers(len(tokens), size=2))
        kind = rng.integers(5)
        if kind == 0:
            del tokens[at]
        elif kind == 1:
            tokens[at] = tokens[other]
        elif kind == 2:
            tokens[at] = str(rng.choice(others))
        elif kind == 3:
            tokens[at:at] = tokens[min(at, other) : max(at, other)]
        else:
            tokens[at:at] = [tokens[other]] * int(rng.choice([1, 2, 3000]))
    return "".join(tokens).encode()


# ------------------------------------------------------------------------------- tests
#: By format: modules it needs, whole files, and the change of their structure.
FORMATS: dict[str, tuple[list[str], Callable[[Path], list[bytes]], Change]] = {
    ".npz": ([], npz_files, changed_npz),
    ".onnx": (["onnx", "onnxruntime"], onnx_files, changed_onnx),
    ".keras": (["keras", "h5py"], keras_files, changed_keras),
    ".h5": (["keras", "h5py"], h5_files, changed_h5),
    ".vnnlib": ([], vnnlib_files, changed_vnnlib),
}


def damaged_files(suffix: str, way: str, seeds: range, folder: Path):
    """(how it was made, contents) of files with damage of one way."""
    _, files, structure = FORMATS[suffix]
    whole = files(folder)
    change = mutated_bytes if way == "bytes" else structure
    for seed in seeds:
        rng = np.random.default_rng([seed, len(suffix), len(way)])
        k = int(rng.integers(len(whole)))
        yield (suffix, way, seed), change(rng, whole[k])


@pytest.fixture(scope="module")
def workers():
    started = Workers()
    yield started
    started.stop()


def check_damaged(workers: Workers, suffix: str, way: str, seeds: range, folder: Path):
    for module in FORMATS[suffix][0]:
        pytest.importorskip(module)
    ends = workers.check(damaged_files(suffix, way, seeds, folder), suffix, folder)
    # Most damage is seen; some files mean what they meant, or are whole in another way.
    assert ends["refused"] > len(seeds) // 3


@pytest.mark.parametrize("way", ["bytes", "structure"])
@pytest.mark.parametrize("suffix", FORMATS)
def test_damaged_files(tmp_path, workers, suffix, way):
    check_damaged(workers, suffix, way, range(QUICK), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("way", ["bytes", "structure"])
@pytest.mark.parametrize("suffix", FORMATS)
def test_many_damaged_files(tmp_path, workers, suffix, way):
    check_damaged(workers, suffix, way, range(QUICK, QUICK + MANY), tmp_path)


@pytest.mark.parametrize("suffix", FORMATS)
def test_whole_files_are_read(tmp_path, workers, suffix):
    for module in FORMATS[suffix][0]:
        pytest.importorskip(module)
    files = enumerate(FORMATS[suffix][1](tmp_path))
    assert set(workers.check(files, suffix, tmp_path)) == {"read"}
