"""Operators that only move entries, run by their own framework on positions.

A reshape, slice, gather, split, tile or concatenation doesn't look at values. Run on
integer codes that say which entry is where, the framework's own implementation tells
what it does with every attribute, and nothing has to be written a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pyomo_relu.network.limits import TooLargeError
from pyomo_relu.readers.affine_graph import AffineGraph
from pyomo_relu.readers.values import Tensor, Value

Mover = Callable[[list[np.ndarray]], Sequence[np.ndarray]]


class MixedSamplesError(ValueError):
    """An operator moves entries of one sample into another one."""


def move(
    graph: AffineGraph,
    name: str,
    values: Sequence[Value],
    function: Mover,
    samples: int | None = None,
) -> list[Value]:
    """Apply ``function``, which moves entries, to tensors and constants.

    Parameters
    ----------
    values : sequence of Tensor or array
    function : callable
        From int64 arrays of the shapes of ``values`` to a sequence of int64 arrays; an
        entry -1 that it adds itself means the constant 0.
    samples : int, optional
        How many samples along the dynamic batch axis the function is run on, where it
        must run on any number; its errors are raised. Without it the function may know
        that there is one: it is run on two, and on one where it fails.

    Raises
    ------
    MixedSamplesError
        If it mixes samples along a dynamic batch axis. That is found by running it on
        several samples, whose codes must come out alike; where some of the tensors have
        lost their batch axis, only one sample can be run.
    """
    tensors = [v for v in values if isinstance(v, Tensor)]
    results = _moved_codes(name, values, tensors, function, samples)
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


def _moved_codes(
    name: str,
    values: Sequence[Value],
    tensors: list[Tensor],
    function: Mover,
    samples: int | None,
) -> list[tuple[np.ndarray, int | None]]:
    """What the function makes of the codes of one sample, and where its batch axis is."""
    total = sum(x.size for x in tensors)

    def run(n: int) -> list[np.ndarray]:
        return [np.asarray(codes) for codes in function(_codes(values, total, n))]

    if samples is not None:
        return [_one_sample(name, codes, total, samples) for codes in run(samples)]
    if all(x.batch is None for x in tensors):
        return [(codes, None) for codes in run(1)]
    if all(x.batch is not None for x in tensors):
        try:
            doubled = run(2)
        except TooLargeError:
            raise
        except Exception:
            pass  # its arguments hold the number of samples, which is 1 here
        else:
            return [_one_sample(name, codes, total, 2) for codes in doubled]
    return [(codes, _kept_axis(tensors, codes)) for codes in run(1)]


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


def _one_sample(
    name: str, codes: np.ndarray, total: int, samples: int
) -> tuple[np.ndarray, int]:
    """The codes of the first of several samples, and the axis that tells them apart."""
    for axis, length in enumerate(codes.shape):
        if length != samples:
            continue
        first = np.take(codes, [0], axis=axis)
        shift = total * np.arange(samples).reshape((-1,) + (1,) * (codes.ndim - axis - 1))
        if np.array_equal(np.where(first >= 0, first + shift, first), codes):
            return first, axis
    raise MixedSamplesError(
        f"layer '{name}' mixes samples along the batch axis; a network is read for one "
        "sample at a time."
    )


def _kept_axis(tensors: Sequence[Tensor], codes: np.ndarray) -> int | None:
    """The batch axis where the result has as many axes as the tensors, else None."""
    batch = next(x.batch for x in tensors if x.batch is not None)
    same = all(len(x.shape) == codes.ndim and x.batch in (None, batch) for x in tensors)
    return batch if same and codes.shape[batch] == 1 else None


def concatenate(
    graph: AffineGraph, name: str, values: Sequence[Value], axis: int
) -> Tensor:
    """Join tensors and constants along ``axis``."""
    [joined] = move(graph, name, values, lambda codes: [np.concatenate(codes, axis)])
    assert isinstance(joined, Tensor)
    return joined
