r"""`boxes`: linear bounds on a cover of the input box by small ones, and the union of all.

How the cover is made is told in :mod:`pyomo_relu.bounds.box_covers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np

from pyomo_relu.base.progress import Interruptible
from pyomo_relu.bounds.bounds import Bounds, as_bounds
from pyomo_relu.bounds.box_covers import SETTINGS, Arrays, BoxCovers
from pyomo_relu.bounds.lp import from_crown
from pyomo_relu.network import Network


def cover_roots(
    network: Network,
    lower: np.ndarray,
    upper: np.ndarray,
    start: tuple[Arrays, Arrays],
    clock: Interruptible,
    *,
    count: int = 1024,
    rules: Sequence[str] = ("adaptive",),
    executor: Executor | None = None,
) -> tuple[Arrays, Arrays, np.ndarray]:
    """Bounds by boxes over several input boxes of one network.

    Parameters
    ----------
    lower, upper : (R, n_inputs) arrays
    start : (lows, highs)
        Bounds of every node over each input box, (R, size) arrays.
    clock, count, rules, executor
        See :func:`boxes`.

    Returns
    -------
    lows, highs : lists of (R, size) arrays
    boxes : (R,) int array
        How many there are in each cover.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, but is {count}.")
    width = 2 * (network.n_inputs + sum(node.size for node in network.nodes))
    step = max(1, SETTINGS.numbers // (width * count))
    lows, highs = ([np.array(a) for a in side] for side in start)
    boxes_of = np.zeros(len(lower), dtype=int)
    for k in range(0, len(lower), step):
        some = slice(k, k + step)
        own = [a[some] for a in start[0]], [a[some] for a in start[1]]
        args = network, lower[some], upper[some], own, rules, clock, executor
        cover = BoxCovers(*args)
        if not cover.watched:
            continue
        if cover.begin(lower[some], upper[some], max(1, count // SETTINGS.first)):
            cover.refine(count)
        if not len(cover):
            break
        which = np.flatnonzero(cover.wanted)
        found = [[a[which] for a in side] for side in cover.union()]
        for a, b in zip(lows, found[0]):
            a[k + which] = np.maximum(a[k + which], b)
        for a, b in zip(highs, found[1]):
            a[k + which] = np.minimum(a[k + which], b)
        boxes_of[k + which] = cover.counts[which]
    return lows, highs, boxes_of


def boxes(
    network: Network,
    lower: np.ndarray,
    upper: np.ndarray,
    start: Bounds | None = None,
    *,
    count: int = 1024,
    rules: Sequence[str] = ("adaptive",),
    time_limit: float | None = None,
    executor: Executor | None = None,
) -> Bounds:
    """Bounds by linear propagation over a partition of the input box; few inputs.

    Parameters
    ----------
    network : Network
    lower, upper : (n_inputs,) arrays
    start : Bounds, optional
        Valid bounds to start from; ``crown`` otherwise.
    count : int
        How many boxes to end with, about.
    rules : sequence of str
        Slope rules to intersect in each box; one is enough where boxes are small.
    time_limit : float, optional
        Seconds; the last complete partition counts.
    executor : concurrent.futures.Executor, optional
        Where to bound the boxes; here if left out.
    """
    clock = Interruptible(time_limit)
    start = from_crown(network, lower, upper, start)
    known = [a[None] for a in start.lower], [a[None] for a in start.upper]
    lows, highs, n = cover_roots(
        network, lower[None], upper[None], known, clock, count=count, rules=rules,
        executor=executor
    )  # fmt: skip
    details = {"boxes": int(n[0]), **clock.details()}
    return as_bounds(network, lows, highs, "boxes", clock, start, **details)
