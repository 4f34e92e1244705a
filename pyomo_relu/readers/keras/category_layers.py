"""Layers of categories: tables that are looked up by inputs that are integers, and bins."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyomo_relu.readers.categories import looked_up, tabulated, with_neighbours
from pyomo_relu.readers.keras.describing import as_numpy, refuse
from pyomo_relu.readers.keras.registration import LAYERS
from pyomo_relu.readers.reader_tables import enter
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Tensor


def categories(graph: TensorGraph, name: str, x: Tensor, n: int) -> Tensor:
    """Which of the integers 0, ..., n - 1 each entry is; all 0 for other integers."""
    grid = np.arange(-1.0, n + 1.0)
    return looked_up(graph, name, x, grid, np.eye(n + 2)[:, 1:-1])


@enter(LAYERS, "Embedding")
def embedding(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    """The row of a table for each integer, exact at 0, ..., ``input_dim - 1``."""
    table = np.asarray(as_numpy(layer.embeddings), dtype=float)
    return looked_up(graph, name, x, np.arange(float(len(table))), table)


@enter(LAYERS, "CategoryEncoding")
def category_encoding(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    """One column for each integer below ``num_tokens``: one-hot, any of several, or a count."""
    if layer.sparse:
        raise refuse(layer, "returns a sparse tensor; build it with sparse=False.")
    n = int(layer.num_tokens)
    grid = np.arange(float(n))
    hot = looked_up(graph, f"{name}_tokens", x, grid, np.eye(n))
    return _encoded(graph, name, layer, x, hot, layer.output_mode)


def _encoded(
    graph: TensorGraph, name: str, layer: Any, x: Tensor, hot: Tensor, mode: str
) -> Tensor:
    r"""One-hot columns (\*x.shape, n) as a layer of categories returns them."""
    if mode == "one_hot":
        shape = [1, *list(layer.compute_output_shape(x.shape))[1:]]
        return graph.reshape(hot, shape, name)
    if mode not in ("multi_hot", "count"):
        raise refuse(layer, f"has output_mode='{mode}', which is not supported.")
    if len(x.shape) < 2:
        return hot
    kind = "max" if mode == "multi_hot" else "sum"
    return graph.reduce(name, hot, [len(x.shape) - 1], kind, False)


@enter(LAYERS, "IntegerLookup")
def integer_lookup(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    """What the layer itself gives at each integer of its vocabulary, and between."""
    if layer.sparse or layer.output_mode not in ("int", "one_hot"):
        raise refuse(
            layer, f"has output_mode='{layer.output_mode}'; only int and one_hot are read."
        )
    vocabulary = [v for v in layer.get_vocabulary() if not isinstance(v, str)]
    if layer.num_oov_indices > 1:
        raise refuse(layer, "hashes integers that it doesn't know.")
    known = np.asarray(vocabulary, dtype=float)
    # Without a place for the unknown, the layer raises an error at other integers.
    grid = with_neighbours(known) if layer.num_oov_indices else np.unique(known)
    rows = np.asarray(as_numpy(layer(grid.astype(np.int64)[:, None])), dtype=float)
    made = looked_up(graph, name, x, grid, rows.reshape(len(grid), -1))
    shape = [1, *list(layer.compute_output_shape(x.shape))[1:]]
    return graph.reshape(made, shape, name)


@enter(LAYERS, "Discretization")
def discretization(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    """The number of the bin of each entry, or one column for each bin: steps."""
    mode = layer.output_mode
    if layer.sparse or mode not in ("int", "one_hot"):
        raise refuse(layer, f"has output_mode='{mode}'; only int and one_hot are read.")
    edges = np.asarray(layer.bin_boundaries, dtype=float)
    n = x.size
    bins = np.arange(len(edges) + 1.0)[:, None] if mode == "int" else np.eye(len(edges) + 1)
    size = bins.shape[1]
    base, changes = np.tile(bins[0], n), []
    for k in range(n):
        change = np.zeros((len(edges), n, size))
        change[:, k] = np.diff(bins, axis=0)
        changes.append(change.reshape(len(edges), n * size))
    # A bin begins at its edge; before the first one there is another one.
    grid = np.concatenate([edges[:1] - 1.0, edges])
    flat = graph.reshape(x, (1, n), name)
    made = tabulated(graph, name, flat, [grid] * n, base, changes, jumps=True)
    shape = [1, *list(layer.compute_output_shape(x.shape))[1:]]
    return graph.reshape(Tensor(made.handle, made.shape, x.batch), shape, name)
