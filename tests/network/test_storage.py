"""Saving and loading: bit for bit, and clear about everything else."""

from __future__ import annotations

import json
import tracemalloc
import zipfile

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given

from pyomo_relu.network import Affine, Input, Network, NetworkBuilder, storage
from pyomo_relu.network import activations as act
from pyomo_relu.network.limits import TooLargeError
from pyomo_relu.network.nodes import arrays_of
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
        x, y = arrays_of(p), arrays_of(q)
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


def rewritten(path, change, version=None):
    """Apply ``change`` to the description and the arrays of a saved network."""
    with np.load(path) as data:
        arrays = dict(data)
    header = json.loads(str(arrays.pop("header")))
    change(header, arrays)
    if version == 1:
        header.update(version=1)
        del header["fingerprint"], header["digest"]
    elif version == 2:
        header["digest"] = storage._digest(header)
    np.savez(path, header=np.array(json.dumps(header)), **arrays)


def nothing(header, arrays):
    """A change that changes nothing."""


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "change",
    [
        lambda h, a: h["nodes"].pop(),
        lambda h, a: h["nodes"][1].pop("shape"),
        lambda h, a: h["nodes"][1].update(kind="other"),
        lambda h, a: h["nodes"][1].update(sources=[7]),
        lambda h, a: h["nodes"][1].update(sources=[0, 0]),
        lambda h, a: h["nodes"][1].update(sources=[1]),
        lambda h, a: h["nodes"][1].update(sources=[-1]),
        lambda h, a: h["nodes"][1].update(shape=[5]),
        lambda h, a: h["nodes"][1].update(shape=[-3]),
        lambda h, a: h["nodes"][1].update(shape=["3"]),
        lambda h, a: h["nodes"][1].update(name=1),
        lambda h, a: h["nodes"][1].update(columns=[3]),
        lambda h, a: h["nodes"][1].update(sparse=[1]),
        lambda h, a: h["nodes"][2].update(shape=[1]),
        lambda h, a: h["nodes"][2].update(name="x"),
        lambda h, a: h["nodes"][2].update(function=[]),
        lambda h, a: h.update(outputs=[9]),
        lambda h, a: h.update(outputs=[]),
        lambda h, a: h.update(outputs=[True]),
        lambda h, a: h.update(outputs=3),
        lambda h, a: h.update(inputs=[1]),
        lambda h, a: h.update(inputs=[0, 0]),
        lambda h, a: h.update(nodes={}),
        lambda h, a: h.update(input_names=[1, 2]),
        lambda h, a: h.pop("inputs"),
        lambda h, a: a.pop("1.w0"),
        lambda h, a: a.update({"1.w0": np.ones((2, 2))}),
        lambda h, a: a.update({"1.w0": np.ones((3, 2), dtype=np.float32)}),
        lambda h, a: a.update({"1.w0": np.ones((3, 2), dtype=complex)}),
        lambda h, a: a.update({"1.w0": np.full((3, 2), np.nan)}),
        lambda h, a: a.update({"1.bias": np.ones(7)}),
        lambda h, a: a.update({"1.bias": np.array(["a", "b", "c"])}),
        lambda h, a: a.update({"1.bias": np.array([1, 2, None])}),
        lambda h, a: a.update({"2.slopes": np.ones((3, 5))}),
        lambda h, a: a.update({"2.slopes": np.ones((1, 2))}),  # no relu any more
        lambda h, a: a.update({"2.slopes": np.ones((2, 2))}),
        lambda h, a: a.update({"2.breakpoints": np.ones(1)}),
    ],
)
def test_inconsistent_contents(tmp_path, change, version):
    path = tmp_path / "n.npz"
    he_network(0, [2, 3, 1]).save(path)
    rewritten(path, change, version)
    with pytest.raises(ValueError, match="n.npz. is not a network"):
        Network.load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda h, a: a["1.w0"].__setitem__((0, 0), 7.0),
        lambda h, a: a["3.bias"].__setitem__(0, 7.0),
        lambda h, a: h["nodes"][1].update(name="other"),
        lambda h, a: h.update(input_names=["b", "a"]),
        lambda h, a: h.pop("fingerprint"),
        lambda h, a: h.pop("digest"),
        lambda h, a: h.update(version="1"),
        lambda h, a: h.update(version=True),
    ],
)
def test_what_was_changed_after_saving_is_refused(tmp_path, change):
    path = tmp_path / "n.npz"
    he_network(0, [2, 3, 1]).save(path)
    rewritten(path, nothing)
    Network.load(path)
    rewritten(path, change)
    with pytest.raises(ValueError, match="is damaged"):
        Network.load(path)


def test_files_without_a_fingerprint_are_read(tmp_path):
    network = he_network(0, [2, 3, 1])
    network.save(tmp_path / "n.npz")
    rewritten(tmp_path / "n.npz", nothing, version=1)
    identical(network, Network.load(tmp_path / "n.npz"))


def sparse_network():
    """An affine layer with a CSR matrix, three entries in a row, and a max pool."""
    b = NetworkBuilder()
    x = b.input("x", (300,))
    band = sp.diags_array([1.0, 2.0, 3.0], offsets=[0, 1, 2], shape=(300, 300))
    a = b.affine("a", [(x, band.tocsr())])
    return b.build([b.max("m", a, np.arange(300).reshape(100, 3))])


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("key", ["1.w0.indptr", "1.w0.indices", "2.indptr", "2.indices"])
@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.__setitem__(slice(50, 51), 2**30),
        lambda v: v.__setitem__(slice(50, None), -1),
        lambda v: v.__setitem__(0, -1),
        lambda v: v.__setitem__(-1, 2**31 - 1),
        lambda v: v[:-1],
        lambda v: np.append(v, v[-1]),
        lambda v: v.astype(float),
        lambda v: v.astype(bool),
        lambda v: v.astype(np.uint32),
        lambda v: v[None],
    ],
)
def test_index_arrays_are_checked_before_use(tmp_path, change, key, version):
    path = tmp_path / "n.npz"
    sparse_network().save(path)

    def damage(header, arrays):
        assert key in arrays
        changed = change(arrays[key])
        arrays[key] = arrays[key] if changed is None else changed

    rewritten(path, damage, version)
    with pytest.raises(ValueError, match="is damaged"):
        Network.load(path).evaluate(np.ones(300))


def test_rows_of_sparse_weights_are_sorted_and_without_repetition(tmp_path):
    path = tmp_path / "n.npz"
    for order in ([1, 0, 2], [0, 0, 2]):
        sparse_network().save(path)

        def damage(header, arrays, order=order):
            arrays["1.w0.indices"][:3] = arrays["1.w0.indices"][:3][order]

        rewritten(path, damage, 1)
        with pytest.raises(ValueError, match="unsorted or repeated"):
            Network.load(path)


def test_every_network_has_its_sparse_weights_sorted():
    parts = np.array([1.0, 2.0, 3.0]), np.array([2, 0, 0]), np.array([0, 3])
    affine = Affine("a", (1,), (0,), (sp.csr_array(parts, shape=(1, 3)),), np.zeros(1))
    network = Network([Input("x", (3,)), affine], [1])
    assert network.nodes[1].weights[0].indices.tolist() == [0, 2]
    assert network.evaluate([1.0, 10.0, 100.0]).tolist() == [105.0]


def test_byte_order_and_memory_layout_of_another_machine(tmp_path):
    network = he_network(0, [2, 3, 1])
    network.save(tmp_path / "n.npz")

    def turned(header, arrays):
        for key in arrays:
            arrays[key] = np.asfortranarray(arrays[key]).astype(">f8")

    rewritten(tmp_path / "n.npz", turned)
    identical(network, Network.load(tmp_path / "n.npz"))


def array_header(shape, descr="<f8"):
    """The bytes of an array that declares ``shape`` and holds eight bytes."""
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).ljust(117)
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(8)


@pytest.mark.parametrize(
    "member",
    [
        array_header((10**13,)),
        array_header((2**62, 2**62)),
        array_header((-1,)),
        array_header((0,)),  # less than it holds
        array_header((1,), "|O"),
        array_header((1,), "<M8[s]"),
        array_header((1,), "V8"),
        b"(" * 100,
        array_header((1,)).replace(b"NUMPY", b"LUMPY"),
        array_header((1,)).replace(b"\x01\x00", b"\x09\x00"),
        array_header((1,)).replace(b"'descr'", b"(((((('"),
    ],
)
def test_arrays_that_are_not_what_they_declare(tmp_path, member):
    path = tmp_path / "n.npz"
    he_network(0, [2, 3, 1]).save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("extra.npy", member)
    with pytest.raises(ValueError, match="is damaged"):
        Network.load(path)


def test_archives_of_zeros_are_refused_before_they_are_unpacked(tmp_path):
    path = tmp_path / "n.npz"
    he_network(0, [2, 3, 1]).save(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("extra.npy", "w") as member:
            member.write(array_header((2**21 + 1,)))
            member.write(bytes(2**24))
    assert path.stat().st_size < 1e5
    tracemalloc.start()
    with pytest.raises(TooLargeError, match="max_memory="):
        Network.load(path, max_memory=2e7)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_declared_sizes_count(tmp_path):
    b = NetworkBuilder()
    x = b.input("x", (10**6, 10**4))
    pick = sp.csr_array(([1.0], ([0], [5])), shape=(1, 10**10))
    b.build([b.affine("a", [(x, pick)])]).save(tmp_path / "n.npz")
    with pytest.raises(TooLargeError, match="layer 'x' of shape"):
        Network.load(tmp_path / "n.npz")
    assert Network.load(tmp_path / "n.npz", max_memory=1e13).n_inputs == 10**10
    for wrong in (0, -1, float("nan"), "1", True):
        with pytest.raises(ValueError, match="max_memory"):
            Network.load(tmp_path / "n.npz", max_memory=wrong)
