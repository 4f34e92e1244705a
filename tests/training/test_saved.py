"""Damaged files of trained classifiers and of bounds: read, or refused by name."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from pyomo_relu import Bounds, compute_bounds
from pyomo_relu.training import BinaryNetClassifier, OneVsOneBinarizedEnsemble
from tests.harness.mutations import mutated_array, mutated_bytes, mutated_json
from tests.harness.random_networks import he_network
from tests.harness.reading_worker import fault

QUICK, MANY = 60, 3000
NETWORK = he_network(0, [3, 4, 2])
BOX = -np.ones(3), np.ones(3)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The bytes of each kind of file, and how it is read and used."""
    folder = tmp_path_factory.mktemp("saved")
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (30, 4))
    one = BinaryNetClassifier((2,), time_limit=None, node_limit=10).fit(
        x, rng.integers(0, 2, 30)
    )
    many = OneVsOneBinarizedEnsemble(time_limit=None, node_limit=10).fit(
        x, rng.integers(0, 3, 30)
    )
    bounds = compute_bounds(NETWORK, *BOX)
    found = {}
    for name, source, use in [
        ("classifier", one, lambda p: BinaryNetClassifier.load(p).predict(x)),
        ("ensemble", many, lambda p: OneVsOneBinarizedEnsemble.load(p).predict(x)),
        ("bounds", bounds, lambda p: Bounds.load(p, NETWORK, *BOX)),
    ]:
        source.save(folder / "whole.npz")
        use(folder / "whole.npz")
        found[name] = (folder / "whole.npz").read_bytes(), use
    return found


def damaged(rng: np.random.Generator, data: bytes) -> bytes:
    """Bytes changed, or the text and the arrays of an archive that is whole."""
    if rng.random() < 0.5:
        return mutated_bytes(rng, data)
    with np.load(io.BytesIO(data)) as found:
        arrays = dict(found)
    for key, array in arrays.items():
        if key == "about" and rng.random() < 0.7:
            about = mutated_json(rng, json.loads(str(array)))
            arrays[key] = np.array(json.dumps(about))
        elif rng.random() < 0.2:
            arrays[key] = mutated_array(rng, array)
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def check(files, kind, seeds, folder):
    data, use = files[kind]
    path = folder / "damaged.npz"
    refused = 0
    for seed in seeds:
        path.write_bytes(damaged(np.random.default_rng(seed), data))
        try:
            use(path)
        except Exception as error:
            assert fault(error) == "", (kind, seed, repr(error))
            refused += 1
    assert refused > len(seeds) // 3


@pytest.mark.parametrize("kind", ["classifier", "ensemble", "bounds"])
def test_damaged_files(files, kind, tmp_path):
    check(files, kind, range(QUICK), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classifier", "ensemble", "bounds"])
def test_many_damaged_files(files, kind, tmp_path):
    check(files, kind, range(QUICK, QUICK + MANY), tmp_path)
