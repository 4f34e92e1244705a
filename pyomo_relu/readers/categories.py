"""Features that take few values, as continuous functions through what they mean there.

A table says what a feature makes of each of its values :math:`c_0 < c_1 < ...`. It becomes

.. math:: y(x) = y(c_0) + \\sum_{i \\ge 1} (y(c_i) - y(c_{i-1}))
          \\min(\\max(\\tfrac{x - c_{i-1}}{c_i - c_{i-1}}, 0), 1),

which is exact at the values, and constant beyond them. Between two of them it is linear, so
that a feature of two values costs no binary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network.limits import need
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Tensor


def with_neighbours(categories: np.ndarray) -> np.ndarray:
    """Integers and those next to them, where a function of integers has no category."""
    return np.unique(np.concatenate([categories - 1.0, categories, categories + 1.0]))


def tabulated(
    graph: TensorGraph,
    name: str,
    x: Tensor,
    grids: Sequence[np.ndarray],
    base: np.ndarray,
    changes: Sequence[np.ndarray],
    jumps: bool = False,
) -> Tensor:
    """The sum over features of the curve through the values on the grid of each.

    Parameters
    ----------
    x : Tensor of shape (1, n)
    grids : sequence of n arrays
        The values that each feature may take, ascending.
    base : (size,) array
        What all features together make of the first values of their grids.
    changes : sequence of n arrays (len(grid) - 1, size)
        How that changes from each value of a feature to its next one.
    jumps : bool
        A feature changes at once where it reaches a value, instead of on the way to it.

    Returns
    -------
    Tensor of shape (1, size)
    """
    columns, low, high, kept = [], [], [], []
    for column, (grid, change) in enumerate(zip(grids, changes)):
        for i in np.flatnonzero(change.any(axis=1)):
            columns.append(column)
            low.append(grid[i])
            high.append(grid[i + 1])
            kept.append(change[i])
    if not kept:
        return graph.matmul(name, x, np.zeros((x.size, len(base))), base)
    below, above, weights = np.array(low), np.array(high), np.array(kept)
    places = np.array([columns], dtype=np.int64)
    spread = graph.rearrange(f"{name}_features", [x], places, batch=x.batch)
    if jumps:
        rows = len(columns)
        values = np.tile([0.0, 1.0], (rows, 1))
        pieces = ("step", above[:, None], np.zeros((rows, 2)), values)
        steps = graph.piecewise(f"{name}_steps", spread, pieces)
        return graph.matmul(name, steps, weights, base)
    ramps = graph.clip(f"{name}_ramps", spread, below, above)
    weights = weights / (above - below)[:, None]
    moved = graph.scale(f"{name}_started", ramps, 1.0, -below)
    w = sp.csr_array(weights.T)
    return graph.affine(name, [(moved, w)], base, (1, len(base)), x.batch)


def looked_up(
    graph: TensorGraph, name: str, x: Tensor, grid: np.ndarray, rows: np.ndarray
) -> Tensor:
    r"""The row of a table for each entry of a tensor of integers, along a new last axis.

    Exact at the values of the grid, which are all that the source takes there.

    Parameters
    ----------
    x : Tensor
        Its entries are inputs of the model.
    grid : (n,) array
        The integers that have a row, ascending.
    rows : (n, size) array

    Returns
    -------
    Tensor of shape (\*x.shape, size)

    Raises
    ------
    ValueError
        If an entry was computed: between the values of the grid the network means nothing.
    """
    for origin in graph.origins(x.handle):
        if origin < 0:
            raise ValueError(
                f"layer '{name}' looks up what was scaled or computed; its input has to be "
                "an input of the model, one of its categories."
            )
        graph.admit(int(origin), grid)
    size = rows.shape[1]
    need(f"the table of layer '{name}'", passing=8.0 * x.size * rows.size)
    flat = graph.reshape(x, (1, x.size), name)
    found = []
    for k in range(x.size):
        label = name if x.size == 1 else f"{name}_{k}"
        entry = flat
        if x.size > 1:
            entry = graph.rearrange(f"{label}_entry", [x], np.array([[k]]))
        found.append(
            tabulated(graph, label, entry, [grid], rows[0], [np.diff(rows, axis=0)])
        )
    codes = np.arange(x.size * size).reshape(*x.shape, size)
    return graph.rearrange(name, found, codes, batch=x.batch)
