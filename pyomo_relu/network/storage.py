"""Networks in ``.npz`` files: arrays plus one JSON description; nothing is unpickled."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from pyomo_relu.lazy import sparse as sp
from pyomo_relu.network.network import Network, _arrays
from pyomo_relu.network.nodes import Affine, Input, Max, Node, PiecewiseLinear

FORMAT = "pyomo_relu.network"
VERSION = 1

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
        for key, array in _arrays(node).items():
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
    }
    with open(path, "wb") as file:
        np.savez_compressed(file, header=np.array(json.dumps(header)), **arrays)


def load_network(path: str | Path) -> Network:
    """Read a network from ``path``; see :meth:`Network.load`."""
    try:
        with np.load(path, allow_pickle=False) as data:
            header = json.loads(str(data["header"]))
            if header.get("format") != FORMAT:
                raise KeyError("format")
            newer = header["version"] > VERSION
            if not newer:
                nodes = [_node(e, i, data) for i, e in enumerate(header["nodes"])]
                network = Network(
                    nodes,
                    header["outputs"],
                    header["inputs"],
                    header["input_names"],
                    header["output_names"],
                )
                _check(network)
                return network
    except FileNotFoundError:
        raise
    except (*DAMAGE, ValueError) as e:
        raise ValueError(
            f"'{path}' is not a network saved by pyomo_relu, or it is damaged."
        ) from e
    raise ValueError(
        f"'{path}' was written by a newer version of pyomo_relu "
        f"(format {header['version']}); update the package."
    )


def _check(network: Network) -> None:
    """Raise ValueError where sizes don't fit or numbers aren't finite."""
    nodes = network.nodes
    for node in nodes:
        expected: dict[str, tuple[int, ...]] = {}
        if isinstance(node, Affine):
            expected["bias"] = (node.size,)
            for k, (s, w) in enumerate(zip(node.sources, node.weights, strict=True)):
                if w.shape != (node.size, nodes[s].size):
                    raise ValueError(f"weights {k} of '{node.name}'")
                if sp.issparse(w):
                    w.check_format(full_check=True)
        elif isinstance(node, PiecewiseLinear):
            n, k = node.breakpoints.shape
            expected["breakpoints"] = (nodes[node.source].size, k)
            expected["slopes"] = expected["intercepts"] = (n, k + 1)
        elif isinstance(node, Max):
            expected["indptr"] = (node.size + 1,)
            expected["indices"] = (int(node.indptr[-1]),)
            last = nodes[node.source].size
            if (np.diff(node.indptr) < 1).any() or not (
                (0 <= node.indices) & (node.indices < last)
            ).all():
                raise ValueError(f"groups of '{node.name}'")
        for key, array in _arrays(node).items():
            if array.shape != expected.get(key, array.shape):
                raise ValueError(f"shape of {key} of '{node.name}'")
            if not np.isfinite(array).all():
                raise ValueError(f"{key} of '{node.name}'")


def _node(entry: dict, i: int, data) -> Node:
    name, shape = entry["name"], tuple(entry["shape"])
    sources = tuple(entry["sources"])
    kind = entry["kind"]
    if kind == "input":
        return Input(name, shape)
    if kind == "affine":
        size = int(np.prod(shape, dtype=np.int64))
        matrices = []
        for k, (columns, sparse) in enumerate(zip(entry["columns"], entry["sparse"])):
            if sparse:
                parts = tuple(
                    data[f"{i}.w{k}.{part}"] for part in ("data", "indices", "indptr")
                )
                matrices.append(sp.csr_array(parts, shape=(size, columns)))
            else:
                matrices.append(data[f"{i}.w{k}"])
        return Affine(name, shape, sources, tuple(matrices), data[f"{i}.bias"])
    if kind == "piecewise":
        size = int(np.prod(shape, dtype=np.int64))
        arrays = [data[f"{i}.{key}"] for key in ("breakpoints", "slopes", "intercepts")]
        full = [np.broadcast_to(a, (size, a.shape[-1])) for a in arrays]
        return PiecewiseLinear(name, shape, sources[0], entry["function"], *full)
    if kind == "max":
        return Max(name, shape, sources[0], data[f"{i}.indptr"], data[f"{i}.indices"])
    raise KeyError(kind)
