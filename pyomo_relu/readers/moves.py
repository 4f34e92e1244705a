"""Operators that only move entries, run by their own framework on positions.

A reshape, slice, gather, split, tile or concatenation doesn't look at values. Run on
integer codes that say which entry is where, the framework's own implementation tells
what it does with every attribute, and nothing has to be written a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pyomo_relu.network.limits import TooLargeError
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Tensor, Value

Mover = Callable[[list[np.ndarray]], Sequence[np.ndarray]]


def move(
    graph: TensorGraph, name: str, values: Sequence[Value], function: Mover
) -> list[Value]:
    """Apply ``function``, which moves entries, to tensors and constants.

    Parameters
    ----------
    values : sequence of Tensor or array
    function : callable
        From int64 arrays of the shapes of ``values`` to a sequence of int64 arrays; an
        entry -1 that it adds itself means the constant 0.

    Raises
    ------
    ValueError
        If it mixes samples along a dynamic batch axis. That is found by running it on
        two samples, whose codes must come out alike; where some of the tensors have lost
        their batch axis, only one sample can be run.
    """
    tensors = [v for v in values if isinstance(v, Tensor)]
    total = sum(x.size for x in tensors)
    if all(x.batch is None for x in tensors):
        results: list[tuple[np.ndarray, int | None]] = [
            (np.asarray(r), None) for r in function(_codes(values, total, 1))
        ]
    else:
        doubled = None
        if all(x.batch is not None for x in tensors):
            try:
                doubled = function(_codes(values, total, 2))
            except TooLargeError:
                raise
            except Exception:
                pass  # its arguments hold the number of samples, which is 1 here
        if doubled is None:
            results = [
                (np.asarray(r), _kept_axis(tensors, np.asarray(r)))
                for r in function(_codes(values, total, 1))
            ]
        else:
            results = [_one_sample(name, np.asarray(r), total) for r in doubled]
    constants = [
        np.asarray(v, dtype=float).ravel() for v in values if not isinstance(v, Tensor)
    ]
    table = np.concatenate([np.zeros(1), *constants])
    found: list[Value] = []
    for k, (codes, batch) in enumerate(results):
        if (codes < 0).all():
            found.append(table[-codes - 1])
        else:
            label = name if len(results) == 1 else f"{name}_{k}"
            found.append(graph.rearrange(label, tensors, codes, table, batch))
    return found


def _codes(values: Sequence[Value], total: int, samples: int) -> list[np.ndarray]:
    """One code array for each value; sample ``s`` of a tensor counts from ``s * total``."""
    codes, start, used = [], 0, 1
    for v in values:
        if isinstance(v, Tensor):
            index = v.index + start
            start += v.size
            if v.batch is not None:
                parts = [index + s * total for s in range(samples)]
                index = np.concatenate(parts, axis=v.batch)
            codes.append(index)
        else:
            size = int(np.size(v))
            codes.append(-1 - used - np.arange(size).reshape(np.shape(v)))
            used += size
    return codes


def _one_sample(name: str, codes: np.ndarray, total: int) -> tuple[np.ndarray, int]:
    """The codes of the first of two samples, and the axis that tells them apart."""
    for axis, length in enumerate(codes.shape):
        if length != 2:
            continue
        first, second = (np.take(codes, [s], axis=axis) for s in (0, 1))
        moved = np.where(first >= 0, first + total, first)
        if np.array_equal(moved, second):
            return first, axis
    raise ValueError(
        f"layer '{name}' mixes samples along the batch axis; a network is read for one "
        "sample at a time."
    )


def _kept_axis(tensors: Sequence[Tensor], codes: np.ndarray) -> int | None:
    """The batch axis where the result has as many axes as the tensors, else None."""
    batch = next(x.batch for x in tensors if x.batch is not None)
    same = all(len(x.shape) == codes.ndim and x.batch in (None, batch) for x in tensors)
    return batch if same and codes.shape[batch] == 1 else None


def concatenate(
    graph: TensorGraph, name: str, values: Sequence[Value], axis: int
) -> Tensor:
    """Join tensors and constants along ``axis``."""
    [joined] = move(graph, name, values, lambda codes: [np.concatenate(codes, axis)])
    assert isinstance(joined, Tensor)
    return joined
