"""Networks in ``.npz`` files: arrays plus one JSON description; nothing is unpickled.

The description holds the fingerprint of the network and a digest of itself. A file is
believed only where both are right, and its arrays are used only after
:mod:`~pyomo_relu.network.soundness` has checked them.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network.archive import DamagedError, read_arrays
from pyomo_relu.network.limits import ENTRY, TooLargeError, memory_limit, need
from pyomo_relu.network.nodes import (
    Affine,
    Input,
    Max,
    Node,
    PiecewiseLinear,
    Smooth,
    arrays_of,
)
from pyomo_relu.network.smooth_functions import check_parameter, smooth_function
from pyomo_relu.network.soundness import (
    check_csr,
    check_indices,
    check_numbers,
    check_pieces,
    check_pointers,
)

if TYPE_CHECKING:
    from pyomo_relu.network.network import Network

FORMAT = "pyomo_relu.network"

#: Version 1 had neither fingerprint nor digest; its files are read if the rest is sound.
VERSION = 2

#: What reading a file that is none of ours, or is damaged, may raise.
DAMAGE = (
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    OSError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


def save_network(network: Network, path: str | Path) -> None:
    """Write ``network`` to ``path``; see :meth:`Network.save`."""
    arrays: dict[str, Any] = {}
    described = []
    for i, node in enumerate(network.nodes):
        entry: dict = {
            "kind": node.kind,
            "name": node.name,
            "shape": node.shape,
            "sources": node.sources,
        }
        if isinstance(node, Affine):
            entry["columns"] = [int(w.shape[1]) for w in node.weights]
            entry["sparse"] = [bool(sp.issparse(w)) for w in node.weights]
        elif isinstance(node, PiecewiseLinear):
            entry["function"] = node.function
        elif isinstance(node, Smooth):
            entry["function"], entry["alpha"] = node.function, node.parameter
        for key, array in arrays_of(node).items():
            if isinstance(node, PiecewiseLinear) and array.strides[:1] == (0,):
                array = array[:1]  # one function for all neurons: keep one row
            arrays[f"{i}.{key}"] = array
        described.append(entry)
    header = {
        "format": FORMAT,
        "version": VERSION,
        "nodes": described,
        "inputs": network.inputs,
        "outputs": network.outputs,
        "input_names": network.input_names,
        "output_names": network.output_names,
        "fingerprint": network.fingerprint,
    }
    if network.head is not None:
        header["head"] = network.head
    header["digest"] = _digest(header)
    with open(path, "wb") as file:
        np.savez_compressed(file, header=np.array(json.dumps(header)), **arrays)


def _digest(header: dict[str, Any]) -> str:
    """A digest of the description, itself left out: names, shapes, fingerprint."""
    rest = {k: v for k, v in header.items() if k != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def load_network(
    kind: type[Network], path: str | Path, max_memory: float | None = None
) -> Network:
    """Read a network from ``path``; see :meth:`Network.load`."""
    with memory_limit(f"'{path}'", max_memory):
        try:
            arrays = read_arrays(path)
            header = _header(arrays)
            newer = header["version"] > VERSION
            if not newer:
                return _network(kind, header, arrays)
        except (TooLargeError, FileNotFoundError, PermissionError):
            raise
        except (*DAMAGE, ValueError) as e:
            reason = f": {e}" if isinstance(e, ValueError) else ""
            raise ValueError(
                f"'{path}' is not a network saved by pyomo_relu, or it is damaged{reason}. "
                "Save it again from the model it came from."
            ) from e
    raise ValueError(
        f"'{path}' was written by a newer version of pyomo_relu "
        f"(format {header['version']}); update the package."
    )


def _header(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The description, once its format and its digest are right."""
    text = arrays.get("header")
    if text is None or text.shape != () or text.dtype.kind != "U":
        raise DamagedError("it has no description")
    header = json.loads(str(text))
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise DamagedError("its description is another one")
    version = _integer(header.get("version"), "version")
    if version == VERSION and header.get("digest") != _digest(header):
        raise DamagedError("its description was changed after it was saved")
    return header


def _network(
    make: type[Network], header: dict[str, Any], arrays: dict[str, np.ndarray]
) -> Network:
    """The network that a description and its arrays make, all of them checked."""
    nodes: list[Node] = []
    entries = header["nodes"]
    if not isinstance(entries, list):
        raise DamagedError("it has no list of layers")
    for i, entry in enumerate(entries):
        nodes.append(_node(entry, i, nodes, arrays))
    if len({n.name for n in nodes}) < len(nodes):
        raise DamagedError("two layers have one name")
    network = make(nodes, *_ends(header, nodes))
    if header["version"] > 1 and network.fingerprint != header["fingerprint"]:
        raise DamagedError("its weights were changed after they were saved")
    return network.with_head(header.get("head"))


def _ends(header: dict[str, Any], nodes: list[Node]) -> tuple[Any, ...]:
    """Outputs and inputs of a network, and the names of their entries."""
    outputs, inputs = (
        _positions(header[key], len(nodes), key) for key in ("outputs", "inputs")
    )
    if sorted(inputs) != [i for i, n in enumerate(nodes) if isinstance(n, Input)]:
        raise DamagedError("its inputs are not its input layers")
    if not outputs:
        raise DamagedError("it has no outputs")
    names = [header[key] for key in ("input_names", "output_names")]
    if any(n is not None and not _all(n, str) for n in names):
        raise DamagedError("its names are no text")
    return outputs, inputs, *names


def _node(
    entry: Any, i: int, before: Sequence[Node], arrays: dict[str, np.ndarray]
) -> Node:
    """Layer ``i``, which reads layers ``before`` it; no array is used unchecked."""
    name, kind = entry["name"], entry["kind"]
    if not isinstance(name, str) or not _all(entry["shape"], int):
        raise DamagedError(f"layer {i} has no name or no shape")
    shape = tuple(entry["shape"])
    size = prod(shape)
    if min(shape, default=1) < 0:
        raise DamagedError(f"layer '{name}' has the shape {shape}")
    need(f"layer '{name}' of shape {shape}", passing=ENTRY * size)
    sources = _positions(entry["sources"], i, f"sources of layer '{name}'")
    wanted = {"input": 0, "piecewise": 1, "smooth": 1, "max": 1}.get(
        kind, max(1, len(sources))
    )
    if len(sources) != wanted:
        raise DamagedError(f"layer '{name}' reads {len(sources)} layers")
    what = f"layer '{name}'"
    sizes = [before[s].size for s in sources]
    if kind == "input":
        return Input(name, shape)
    if kind == "affine":
        bias = arrays[f"{i}.bias"]
        check_numbers(bias, (size,), f"{what}, bias")
        weights = _weights(entry, i, size, sizes, arrays)
        return Affine(name, shape, sources, weights, bias)
    if kind in ("piecewise", "smooth"):
        if size != sizes[0]:
            raise DamagedError(f"{what} has {size} neurons for {sizes[0]} entries")
        if kind == "smooth":
            return _smooth(entry, shape, sources[0])
        return _piecewise(entry, i, shape, sources[0], arrays)
    if kind == "max":
        indptr, indices = arrays[f"{i}.indptr"], arrays[f"{i}.indices"]
        check_indices(indices, sizes[0], f"{what}, indices")
        check_pointers(indptr, size, len(indices), f"{what}, indptr")
        if (np.diff(indptr) < 1).any():
            raise DamagedError(f"{what} is a maximum over no entries")
        return Max(name, shape, sources[0], indptr, indices)
    raise DamagedError(f"{what} is of the unknown kind {kind!r}")


def _weights(
    entry: dict, i: int, size: int, sizes: list[int], arrays: dict[str, np.ndarray]
) -> tuple:
    """The matrices of an affine layer."""
    columns, sparse = entry["columns"], entry["sparse"]
    if columns != sizes or not _all(sparse, bool) or len(sparse) != len(sizes):
        raise DamagedError(f"layer '{entry['name']}' has weights for other layers")
    found = []
    for k, n in enumerate(sizes):
        what, key = f"layer '{entry['name']}', weights {k}", f"{i}.w{k}"
        if sparse[k]:
            data, indices = arrays[f"{key}.data"], arrays[f"{key}.indices"]
            indptr = arrays[f"{key}.indptr"]
            check_csr(data, indices, indptr, (size, n), what)
            found.append(sp.csr_array((data, indices, indptr), shape=(size, n)))
        else:
            check_numbers(arrays[key], (size, n), what)
            found.append(arrays[key])
    return tuple(found)


def _piecewise(
    entry: dict,
    i: int,
    shape: tuple[int, ...],
    source: int,
    arrays: dict[str, np.ndarray],
) -> Node:
    """An activation layer; what has one row serves all neurons."""
    name, function = entry["name"], entry["function"]
    t, a, c = (arrays[f"{i}.{key}"] for key in ("breakpoints", "slopes", "intercepts"))
    check_pieces(t, a, c, f"layer '{name}'")
    size, parts = prod(shape), (t, a, c)
    if not isinstance(function, str) or any(len(p) not in (1, size) for p in parts):
        raise DamagedError(f"layer '{name}' has functions for other neurons")
    full = [np.broadcast_to(p, (size, p.shape[1])) for p in parts]
    node = PiecewiseLinear(name, shape, source, function, *full)
    if function == "relu" and size and not node.is_relu:
        raise DamagedError(f"layer '{name}' is called relu, but is another function")
    return node


def _smooth(entry: dict, shape: tuple[int, ...], source: int) -> Node:
    """A layer of smooth units; a function that this version doesn't know is refused."""
    name, function, alpha = entry["name"], entry["function"], entry["alpha"]
    if not isinstance(function, str) or type(alpha) is not float:
        raise DamagedError(f"layer '{name}' has no function")
    alpha = check_parameter(smooth_function(function), alpha)
    return Smooth(name, shape, source, function, alpha)


def _integer(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise DamagedError(f"its {what} is no integer")
    return value


def _all(values: Any, kind: type) -> bool:
    """Whether this is a list of nothing but ``kind``; a bool is no int."""
    return isinstance(values, list) and all(type(v) is kind for v in values)


def _positions(values: Any, limit: int, what: str) -> tuple[int, ...]:
    """A list of positions below ``limit``."""
    if not _all(values, int) or any(not 0 <= v < limit for v in values):
        raise DamagedError(f"its {what} are not positions of layers before")
    return tuple(values)
