"""Bounds of one network over many input boxes: in one batch where the rungs can do that.

The cheap rungs spend most of their time on the calls of NumPy, not on the numbers, so
bounding a hundred boxes at once costs little more than bounding one. Each box gets what
:func:`~pyomo_relu.bounds.compute_bounds` gives it alone, but for the last digits: larger
matrix products are rounded otherwise, and every rung is rounded outwards by more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pyomo_relu.base.progress import Interruptible
from pyomo_relu.bounds.bounds import Bounds
from pyomo_relu.bounds.boxes import boxes, cover_roots
from pyomo_relu.bounds.crown import check_rules, crown, crown_arrays, improved_interval
from pyomo_relu.bounds.interval import interval, meet, propagate
from pyomo_relu.bounds.ladder import RUNGS, Step, check_box, compute_bounds, read_steps
from pyomo_relu.bounds.linear import RULES
from pyomo_relu.bounds.lp import AT_LEAST_CROWN
from pyomo_relu.network import Network

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ManySettings:
    """What steers batches of boxes.

    Attributes
    ----------
    numbers : int
        So many entries of the widest node, over all boxes of a batch: what linear bounds
        make of it then fits into a core's cache. Measured on networks 3-10-10-1, 4-64-1 and
        5-20-20-1: twice as many boxes cost up to half as much again for each, and a
        quarter as many a fifth more.
    """

    numbers: int = 2**14


SETTINGS = ManySettings()

Arrays = list[np.ndarray]


@dataclass
class Many:
    """Bounds of every node over (N, n_inputs) boxes, as (N, size) arrays."""

    lows: Arrays
    highs: Arrays
    method: str
    details: list[dict[str, Any]] = field(default_factory=list)

    def part(self, some: slice) -> tuple[Arrays, Arrays]:
        """The bounds over some of the boxes."""
        return [a[some] for a in self.lows], [a[some] for a in self.highs]


def _batches(network: Network, count: int) -> list[slice]:
    widest = max(node.size for node in network.nodes)
    step = max(1, SETTINGS.numbers // widest)
    return [slice(k, k + step) for k in range(0, count, step)]


def _joined(parts: Sequence[tuple[Arrays, Arrays]], method: str) -> Many:
    lows, highs = (
        [np.concatenate(node) for node in zip(*(part[side] for part in parts))]
        for side in (0, 1)
    )
    return Many(lows, highs, method)


def _interval(
    network: Network, lower: np.ndarray, upper: np.ndarray, start: Many | None
) -> Many:
    found = _joined(
        [propagate(network, lower[s], upper[s]) for s in _batches(network, len(lower))],
        "interval",
    )
    if start is not None:
        pairs = [
            meet(*both) for both in zip(found.lows, found.highs, start.lows, start.highs)
        ]
        found = Many([a for a, _ in pairs], [b for _, b in pairs], "interval")
    return found


def _crown(
    network: Network,
    lower: np.ndarray,
    upper: np.ndarray,
    start: Many | None,
    *,
    rules: Sequence[str] = RULES,
) -> Many:
    check_rules(rules)
    parts = []
    for some in _batches(network, len(lower)):
        low, high = lower[some], upper[some]
        known = None if start is None else start.part(some)
        alone = np.arange(len(low))
        parts.append(crown_arrays(network, low, high, known, rules=rules, groups=alone))
    return _joined(parts, "crown")


def _improved_interval(
    network: Network, lower: np.ndarray, upper: np.ndarray, start: Many | None
) -> Many:
    found = _crown(network, lower, upper, start, rules=("constant",))
    found.method = "improved_interval"
    return found


def _boxes(
    network: Network,
    lower: np.ndarray,
    upper: np.ndarray,
    start: Many | None,
    *,
    time_limit: None = None,
    executor: None = None,
    **options: Any,
) -> Many:
    if start is None or start.method not in AT_LEAST_CROWN:
        start = _crown(network, lower, upper, start)
    clock = Interruptible()
    known = start.lows, start.highs
    lows, highs, counts = cover_roots(network, lower, upper, known, clock, **options)
    details = [{"boxes": n, **clock.details()} for n in counts.tolist()]
    return Many(lows, highs, "boxes", details)


#: Rungs that take many boxes at once: the rung itself, and what does it for all of them.
BATCHES: dict[str, tuple[Callable[..., Bounds], Callable[..., Many]]] = {
    "interval": (interval, _interval),
    "improved_interval": (improved_interval, _improved_interval),
    "crown": (crown, _crown),
    "boxes": (boxes, _boxes),
}


def _in_batches(steps: Sequence[tuple[str, dict]]) -> bool:
    """Whether all rungs take many boxes, and none has a limit or an executor of its own."""
    return all(
        name in BATCHES
        and RUNGS[name] is BATCHES[name][0]
        and options.get("time_limit") is None
        and options.get("executor") is None
        for name, options in steps
    )


def bounds_over_boxes(
    network: Network,
    lower: np.ndarray,
    upper: np.ndarray,
    method: Step | Sequence[Step] | None = None,
) -> list[Bounds]:
    """Bound every node of ``network`` over each of many input boxes.

    Parameters
    ----------
    network : Network
    lower, upper : (N, n_inputs) arrays
        The boxes, in the units of the network's inputs.
    method : optional
        As in :func:`~pyomo_relu.bounds.compute_bounds`. The rungs ``interval``,
        ``improved_interval``, ``crown`` and ``boxes`` bound all boxes in one batch, unless
        they have a time limit or an executor; for any other, one box follows another.

    Returns
    -------
    list of Bounds
        One for each box; each counts an equal share of a batch's time.

    Raises
    ------
    ValueError
        As :func:`~pyomo_relu.bounds.compute_bounds` does.
    """
    steps = read_steps(method, network)
    if len(lower) < 2 or not _in_batches(steps):
        return [compute_bounds(network, a, b, method) for a, b in zip(lower, upper)]
    for low, high in zip(lower, upper):
        check_box(network, low, high)
    clock, found = Interruptible(), None
    for name, options in steps:
        with clock.guard():
            found = BATCHES[name][1](network, lower, upper, found, **options)
        if clock.keyboard:
            if found is None:
                raise KeyboardInterrupt
            found.details = [{**clock.details()}] * len(lower)
        if clock.keyboard or any(d.get("keyboard") for d in found.details[:1]):
            logger.warning("bounds '%s' were interrupted; kept what was proved.", name)
            break
    assert found is not None
    return _each(network, found, len(lower), clock.elapsed / len(lower))


def _each(network: Network, found: Many, count: int, seconds: float) -> list[Bounds]:
    """The bounds over each box, in arrays of their own."""
    details = found.details or [{} for _ in range(count)]
    return [
        Bounds(
            network,
            tuple(np.array(a[k]) for a in found.lows),
            tuple(np.array(a[k]) for a in found.highs),
            found.method,
            seconds,
            "box",
            details[k],
        )
        for k in range(count)
    ]
