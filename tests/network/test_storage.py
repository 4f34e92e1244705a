"""Saving and loading: bit for bit, and clear about everything else."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given

from pyomo_relu.network import Network, NetworkBuilder
from pyomo_relu.network import activations as act
from pyomo_relu.network.network import _arrays
from tests.harness.random_networks import he_network, random_network
from tests.harness.strategies import networks


def identical(a, b):
    assert (a.inputs, a.outputs) == (b.inputs, b.outputs)
    assert (a.input_names, a.output_names) == (b.input_names, b.output_names)
    for p, q in zip(a.nodes, b.nodes, strict=True):
        assert (type(p), p.name, p.shape, p.sources) == (
            type(q),
            q.name,
            q.shape,
            q.sources,
        )
        assert getattr(p, "function", "") == getattr(q, "function", "")
        x, y = _arrays(p), _arrays(q)
        assert x.keys() == y.keys()
        for key in x:
            assert x[key].dtype == y[key].dtype
            assert x[key].tobytes() == y[key].tobytes()
    assert a.fingerprint == b.fingerprint


@given(network=networks())
def test_round_trip(tmp_path_factory, network):
    path = tmp_path_factory.mktemp("net") / "network.npz"
    network.save(path)
    identical(network, Network.load(path))


def test_names_and_shapes(tmp_path):
    b = NetworkBuilder()
    x, y = b.input("größe", (2, 3)), b.input("y", (1,))
    h = b.affine("h", [(x, np.ones((2, 6))), (y, np.ones((2, 1)))], shape=(2, 1))
    network = b.build(
        [b.piecewise("p", h, act.leaky_relu([0.1, 0.3]))],
        inputs=[y, x],
        input_names=list("abcdefg"),
        output_names=["H₂", "N2"],
    )
    network.save(tmp_path / "n.npz")
    identical(network, Network.load(str(tmp_path / "n.npz")))


def test_any_name_of_the_file(tmp_path):
    network = he_network(0, [2, 3, 1])
    network.save(tmp_path / "weights")
    identical(network, Network.load(tmp_path / "weights"))


def test_shared_functions_are_stored_once(tmp_path):
    network = he_network(0, [1, 50_000, 1])
    network.save(tmp_path / "n.npz")
    with np.load(tmp_path / "n.npz") as data:
        assert data["2.slopes"].shape == (1, 2)
    loaded = Network.load(tmp_path / "n.npz").nodes[2]
    assert loaded.slopes.shape == (50_000, 2)
    assert loaded.slopes.strides[0] == 0


def test_foreign_files(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("not a network")
    other = tmp_path / "other.npz"
    np.savez(other, a=np.ones(3))
    foreign = tmp_path / "foreign.npz"
    np.savez(foreign, header=np.array(json.dumps({"format": "something else"})))
    words = tmp_path / "words.npz"
    np.savez(words, header=np.array("no json"))
    listed = tmp_path / "listed.npz"
    np.savez(listed, header=np.array("[1, 2]"))
    array = tmp_path / "array.npy"
    np.save(array, np.ones(3))
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, header=np.array([{"a": 1}], dtype=object))
    empty = tmp_path / "empty.npz"
    empty.write_bytes(b"")
    for path in (text, other, foreign, words, listed, array, pickled, empty, tmp_path):
        with pytest.raises(ValueError, match="is not a network saved by pyomo_relu") as e:
            Network.load(path)
        assert path.name in str(e.value)
    with pytest.raises(FileNotFoundError, match="missing.npz"):
        Network.load(tmp_path / "missing.npz")


def test_newer_format(tmp_path):
    header = {"format": "pyomo_relu.network", "version": 99, "nodes": []}
    np.savez(tmp_path / "n.npz", header=np.array(json.dumps(header)))
    with pytest.raises(ValueError, match="newer version of pyomo_relu .*update"):
        Network.load(tmp_path / "n.npz")


def test_damaged_files(tmp_path):
    network = random_network(np.random.default_rng(0), widths=(20, 20), max_pool=True)
    path = tmp_path / "n.npz"
    network.save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="not a network|damaged"):
            Network.load(path)
    for at in range(0, len(whole), max(1, len(whole) // 120)):
        changed = bytearray(whole)
        changed[at] ^= 0xFF
        path.write_bytes(changed)
        try:
            loaded = Network.load(path)
        except ValueError:
            continue
        # Bytes of the archive that carry no data (dates, attributes) may change.
        assert loaded.fingerprint == network.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        lambda h, a: h["nodes"].pop(),
        lambda h, a: h["nodes"][1].pop("shape"),
        lambda h, a: h["nodes"][1].update(kind="other"),
        lambda h, a: h["nodes"][1].update(sources=[7]),
        lambda h, a: h["nodes"][1].update(shape=[5]),
        lambda h, a: h.update(outputs=[9]),
        lambda h, a: h.pop("inputs"),
        lambda h, a: a.pop("1.w0"),
        lambda h, a: a.update({"1.w0": np.ones((2, 2))}),
        lambda h, a: a.update({"1.w0": np.full((3, 2), np.nan)}),
        lambda h, a: a.update({"1.bias": np.ones(7)}),
        lambda h, a: a.update({"2.slopes": np.ones((3, 5))}),
    ],
)
def test_inconsistent_contents(tmp_path, change):
    path = tmp_path / "n.npz"
    he_network(0, [2, 3, 1]).save(path)
    with np.load(path) as data:
        arrays = dict(data)
    header = json.loads(str(arrays.pop("header")))
    change(header, arrays)
    np.savez(path, header=np.array(json.dumps(header)), **arrays)
    with pytest.raises(ValueError, match="n.npz. is not a network"):
        Network.load(path)
