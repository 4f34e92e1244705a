"""Tightening node by node with solves for every neuron: what lp, rolling and mip share.

Each affine node starts from interval arithmetic on the bounds so far, met with the
start bounds. Then the neurons that are still on more than one piece are cut into
chunks of fixed size, and each chunk's solves tighten them.

Source: Tjeng, Xiao, Tedrake, arXiv 1711.07356 (progressive tightening); Fischetti and
Jo, Constraints 23(3), 2018, section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.base.progress import Interruptible
from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds.alpha_crown import threshold
from pyomo_relu.bounds.bounds import Bounds, as_bounds
from pyomo_relu.bounds.crown import crown_arrays, needed_rows
from pyomo_relu.bounds.interval import meet, propagate, reads_inputs_only
from pyomo_relu.bounds.parallel import run_chunks
from pyomo_relu.network import Network


@dataclass(frozen=True)
class Settings:
    """What steers the solves for every neuron; all numbers were chosen by hand.

    Attributes
    ----------
    chunk : int
        The neurons of one task of an executor; they never depend on the workers.
    samples : int
        The points of the box at which activations show how far neurons really go.
    attained : float
        A bound that a sample comes so near to, relative to its size, is not asked about.
    """

    chunk: int = 24
    samples: int = 512
    attained: float = 1e-7


SETTINGS = Settings()


@dataclass(frozen=True)
class LayerTask:
    """What all chunks of one node share.

    Attributes
    ----------
    node : int
    lows, highs : tuple of arrays
        Bounds of the nodes below, and of this one.
    rows : int array
        All rows of the node that are asked about.
    threshold : (size,) array
        The breakpoint whose side may be decided; NaN where there is none or several.
    seen_low, seen_high : (size,) arrays
        Smallest and largest sampled pre-activation.
    deadline : Deadline
        When to stop.
    options : dict
    """

    node: int
    lows: tuple[np.ndarray, ...]
    highs: tuple[np.ndarray, ...]
    rows: np.ndarray
    threshold: np.ndarray
    seen_low: np.ndarray
    seen_high: np.ndarray
    deadline: Deadline
    options: dict = field(default_factory=dict)

    def side(self, row: int, low: float, high: float) -> bool:
        """Whether bounds leave the neuron on one side of its threshold."""
        t = self.threshold[row]
        return bool(high <= t or low >= t)

    def attained(self, row: int, low: float, high: float) -> tuple[bool, bool]:
        """Whether a sample attains the lower and the upper bound already."""
        near_low, near_high = (SETTINGS.attained * (1 + abs(x)) for x in (low, high))
        return (
            bool(self.seen_low[row] <= low + near_low),
            bool(self.seen_high[row] >= high - near_high),
        )


def solve_rows(
    task: LayerTask,
    rows: np.ndarray,
    objective: Callable[[int], tuple[np.ndarray, float, float]],
    minimum: Callable[[np.ndarray, float], float | None],
) -> tuple[np.ndarray, np.ndarray, int]:
    """Bounds of some rows of a node by a solve for each side that is open.

    Parameters
    ----------
    task : LayerTask
    rows : int array
    objective : callable
        A row's coefficients over a model's columns, its constant, its noise.
    minimum : callable
        Gets coefficients ``c`` and a goal beyond which the side is decided (NaN: never);
        returns a valid lower bound of ``c x``, or None.

    Returns
    -------
    lower, upper : arrays
    solves : int
    """
    lower, upper = task.lows[task.node][rows], task.highs[task.node][rows]
    solves = 0
    for k, row in enumerate(rows):
        c, const, noise = objective(row)
        done = task.attained(row, lower[k], upper[k])
        # The upper side first: a neuron that stays below its breakpoint is decided.
        for sign, skip in ((-1.0, done[1]), (1.0, done[0])):
            if skip or task.side(row, lower[k], upper[k]):
                continue
            if task.deadline.expired():
                return lower, upper, solves
            value = minimum(sign * c, sign * (task.threshold[row] - const) + noise)
            solves += 1
            if value is None:
                continue
            bound = value + sign * const
            bound -= noise + 4.0 * EPS * (abs(const) + abs(value))
            if sign > 0:
                lower[k] = min(max(lower[k], bound), upper[k])
            else:
                upper[k] = max(min(upper[k], -bound), lower[k])
    return lower, upper, solves


def usable(
    start: Bounds | None, methods: Collection[str], lower: np.ndarray, upper: np.ndarray
) -> bool:
    """Whether ``start`` is by one of the methods, on this very box."""
    if start is None or start.method not in methods:
        return False
    return all(np.array_equal(a, b) for a, b in zip(start.input_box, (lower, upper)))


def sample_ranges(
    network: Network, lower: np.ndarray, upper: np.ndarray, count: int = SETTINGS.samples
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Smallest and largest value of every node's entries at points of the box.

    A neuron seen on both sides of its breakpoint is unstable: no solve can change that.
    """
    rng = np.random.default_rng(0)
    u = rng.random((count, len(lower)))
    u[: count // 2] = u[: count // 2].round()  # corners
    u[0] = 0.5
    values = network.activations(np.clip(lower + u * (upper - lower), lower, upper))
    return [v.min(axis=0) for v in values], [v.max(axis=0) for v in values]


def by_layers(
    network: Network,
    lower: np.ndarray,
    upper: np.ndarray,
    start: Bounds,
    method: str,
    chunk_function: Callable[[Network, str, LayerTask, np.ndarray], Any],
    clock: Interruptible,
    executor: Executor | None,
    options: dict[str, Any],
) -> Bounds:
    """Tighten every affine node in order.

    Parameters
    ----------
    chunk_function : callable
        Gets (network, token, task, rows of the chunk); returns lower bounds, upper
        bounds and the number of solves.
    only_stability : bool, among ``options``
        Leave out neurons that samples show on both sides.
    """
    begun = Deadline()
    lows: list[np.ndarray] = []
    highs: list[np.ndarray] = []
    readers = network.readers()
    seen_low, seen_high = sample_ranges(network, lower, upper)
    counts = {"solves": 0, "skipped": 0}

    def ask(i: int, low: np.ndarray, high: np.ndarray) -> None:
        if reads_inputs_only(network, i):
            return
        rows = needed_rows(network, i, readers[i], low[None], high[None])
        t = threshold(network, i, readers[i])
        if options.get("only_stability"):
            both = (seen_low[i] < t) & (t <= seen_high[i])
            counts["skipped"] += int(both[rows].sum())
            rows = rows[~both[rows]]
        if not len(rows) or clock.expired():
            return
        task = LayerTask(
            i,
            tuple(np.array(a) for a in [*lows, low]),
            tuple(np.array(a) for a in [*highs, high]),
            rows,
            t,
            seen_low[i],
            seen_high[i],
            clock,
            options,
        )
        chunks = [rows[k : k + SETTINGS.chunk] for k in range(0, len(rows), SETTINGS.chunk)]
        title = f"{method}: {network.nodes[i].name}"
        for k, (a, b, solves) in run_chunks(
            chunk_function, network, task, chunks, executor, clock, title
        ):
            counts["solves"] += solves
            low[chunks[k]], high[chunks[k]] = meet(low[chunks[k]], high[chunks[k]], a, b)
        clock.expired()

    given = start.lower, start.upper
    propagate(network, lower, upper, ask, start=given, lows=lows, highs=highs)
    if clock.details() or method != "lp":
        # What ran out of time sees the tighter layers below it at least through lines.
        lows, highs = crown_arrays(network, lower[None], upper[None], (lows, highs))
    return as_bounds(
        network, lows, highs, method, begun, start, **counts, **clock.details()
    )
