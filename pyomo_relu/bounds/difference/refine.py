"""The proof over a whole box: halved where the bound of the difference is largest."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pyomo_relu.bounds.bounds import Bounds
from pyomo_relu.bounds.crown import crown_arrays
from pyomo_relu.bounds.difference.network import Proof
from pyomo_relu.bounds.difference.proof import Difference, Differences
from pyomo_relu.network import Network


@dataclass(frozen=True)
class ProofSettings:
    """How long a proof goes on.

    Attributes
    ----------
    near_enough : float
        A bound is good where it is at most this many times the largest error that was found.
    boxes : int
        Boxes that are bounded at most.
    together : int
        Boxes that are halved in one step.
    entries : int
        Gains of units that are held at once: boxes times outputs times the widest layer.
    samples : int
        Points at which errors are looked for first.
    rounds, kept : int
        So often are the worst points, so many for each output, moved a little.
    moves : (float, float)
        How far they are moved first and last, as a share of the box.
    """

    near_enough: float = 1.2
    boxes: int = 2000
    together: int = 48
    entries: int = 2**21
    samples: int = 1500
    rounds: int = 6
    kept: int = 16
    moves: tuple[float, float] = (0.1, 1e-3)


SETTINGS = ProofSettings()


def largest_found(
    true: Network,
    curves: Network,
    low: np.ndarray,
    high: np.ndarray,
    rounds: int | None = None,
) -> np.ndarray:
    """The largest error of each output at points of the box, (n_outputs,): what a proof
    can't go below.

    Random points first; then the worst are moved, less and less, ``rounds`` times.
    """
    rounds = SETTINGS.rounds if rounds is None else rounds
    rng = np.random.default_rng(0)

    def errors(x: np.ndarray) -> np.ndarray:
        return abs(true.evaluate(x) - curves.evaluate(x))

    x = low + (high - low) * rng.random((SETTINGS.samples, len(low)))
    found = errors(x)
    best = found.max(axis=0)
    for reach in np.geomspace(*SETTINGS.moves, rounds):
        worst = np.unique(np.argsort(-found, axis=0)[: SETTINGS.kept])
        centers = np.repeat(x[worst], 8, axis=0)
        moved = centers + reach * (high - low) * rng.normal(size=centers.shape)
        moved = np.clip(moved, low, high)
        x = np.vstack([x[worst], moved])
        found = errors(x)
        best = np.maximum(best, found.max(axis=0))
    return best


@dataclass
class _Leaves:
    """Boxes that cover the box, and what was proved over each."""

    lower: np.ndarray
    upper: np.ndarray
    low: np.ndarray
    high: np.ndarray
    steep: np.ndarray = field(repr=False)

    def take(self, some: np.ndarray) -> _Leaves:
        return _Leaves(*(getattr(self, name)[some] for name in self.__dataclass_fields__))

    def joined(self, other: _Leaves) -> _Leaves:
        return _Leaves(
            *(
                np.concatenate([getattr(self, name), getattr(other, name)])
                for name in self.__dataclass_fields__
            )
        )


def over_box(differences: Differences, bounds: Bounds) -> Difference:
    """The difference over one box, by its bounds alone."""
    return differences([a[None] for a in bounds.lower], [a[None] for a in bounds.upper])


def proof(differences: Differences, bounds: Bounds, boxes: int | None = None) -> Proof:
    """Bounds of the difference of two networks over the box of ``bounds``.

    Parameters
    ----------
    differences : Differences
    bounds : Bounds
        Of the true network.
    boxes : int, optional
        Boxes that are bounded at most.
    """
    lower, upper = bounds.input_box
    most = SETTINGS.boxes if boxes is None else boxes
    whole = over_box(differences, bounds)
    leaves = _Leaves(lower[None], upper[None], whole.low, whole.high, whole.steep)
    count = 1
    goal = largest_found(differences.true, differences.curves, lower, upper)
    goal = np.maximum(SETTINGS.near_enough * goal, 1e-300)
    while count + 2 <= most:
        ratio = (np.maximum(-leaves.low, leaves.high) / goal).max(axis=1)
        wide = np.asarray((leaves.lower < leaves.upper).any(axis=1))
        order = np.argsort(-ratio, kind="stable")
        some = order[: min(SETTINGS.together, (most - count) // 2)]
        some = some[(ratio[some] > 1.0) & wide[some]]
        if not some.size:
            break
        new = _halves(differences, bounds, leaves.take(some), goal)
        rest = np.ones(len(ratio), dtype=bool)
        rest[some] = False
        leaves = leaves.take(rest).joined(new)
        count += 2 * len(some)
    return Proof(leaves.low.min(axis=0), leaves.high.max(axis=0), count)


def _halves(
    differences: Differences, bounds: Bounds, leaves: _Leaves, goal: np.ndarray
) -> _Leaves:
    """Both halves of each box, across the input that the difference depends on most."""
    gain = (leaves.steep / goal[:, None]).max(axis=1) * (leaves.upper - leaves.lower)
    k = np.argmax(gain + 1e-12 * (leaves.upper - leaves.lower), axis=1)
    rows = np.arange(len(k))
    middle = 0.5 * (leaves.lower[rows, k] + leaves.upper[rows, k])
    left, right = leaves.upper.copy(), leaves.lower.copy()
    left[rows, k] = right[rows, k] = middle
    lower, upper = np.vstack([leaves.lower, right]), np.vstack([left, leaves.upper])
    network = differences.true
    widest = max(node.size for node in network.nodes)
    step = max(1, SETTINGS.entries // (widest * (network.n_outputs + 1)))
    parts = []
    start = [a[None] for a in bounds.lower], [a[None] for a in bounds.upper]
    for first in range(0, len(lower), step):
        some = slice(first, first + step)
        lows, highs = crown_arrays(
            network, lower[some], upper[some], start, rules=("adaptive",)
        )
        parts.append(differences(lows, highs))
    low, high, steep = (
        np.concatenate([getattr(p, name) for p in parts])
        for name in ("low", "high", "steep")
    )
    both = np.tile(rows, 2)
    return _Leaves(
        lower,
        upper,
        np.maximum(low, leaves.low[both]),
        np.minimum(high, leaves.high[both]),
        steep,
    )
