"""Search for counterexamples by projected gradients: all starts and sets at once.

Memory is linear in the number of points: a forward pass and its gradient go over so many
of them at once as :data:`NUMBERS` allows, and only the rows of the sets asked for are
computed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from pyomo_relu.verification.margins import Margins

#: First step as a share of the region's width; it shrinks to a hundredth of that.
FIRST_STEP = 0.25

#: Numbers that the activations of one forward pass may hold (32 MiB; the gradient takes
#: as much again). Larger passes are not quicker.
NUMBERS = 2**22


def attack(
    margins: Margins,
    sets: Sequence[int] | np.ndarray,
    *,
    restarts: int = 16,
    steps: int = 40,
    seed: int = 0,
    deadline: float = np.inf,
    starts: np.ndarray | None = None,
    own: Sequence[np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Lower the margin of each set from many points of the region.

    Parameters
    ----------
    margins : Margins
    sets : sequence or array of int
        The unsafe sets to reach.
    restarts, steps : int
        Points for each set, and steps of each.
    seed : int
    deadline : float
        Of ``time.perf_counter()``. It is looked at after each forward pass; the first
        one is made in any case.
    starts : (N, n_inputs) array, optional
        Points to begin with besides random ones, for every set.
    own : sequence of (N, n_inputs) arrays, optional
        The same, for each set alone.

    Returns
    -------
    points : (len(sets), n_inputs) array
        The best point for each set.
    values : (len(sets),) array
        Its margin; not positive at a counterexample, and infinite where the time was
        over before the set was looked at.
    """
    region, sets = margins.region, np.asarray(sets, dtype=int)
    part = margins if len(sets) == margins.n_sets else margins.only(sets)
    local = sets if part is margins else np.arange(len(sets))
    rng = np.random.default_rng(seed)
    first = region.samples(restarts, rng)
    if starts is not None and len(starts):
        first = np.vstack([region.project(np.atleast_2d(starts)), first])
    if own is None:
        here, counts = np.tile(first, (len(sets), 1)), np.full(len(sets), len(first))
    else:
        parts = [np.vstack([region.project(np.atleast_2d(x)), first]) for x in own]
        here, counts = np.vstack(parts), np.array([len(x) for x in parts])
    kept, best = _descend(part, here, np.repeat(local, counts), steps, deadline)
    begins = np.cumsum([0, *counts[:-1]])
    chosen = [a + int(best[a : a + n].argmin()) for a, n in zip(begins, counts)]
    return kept[chosen], best[chosen]


def _descend(
    margins: Margins, here: np.ndarray, which: np.ndarray, steps: int, deadline: float
) -> tuple[np.ndarray, np.ndarray]:
    """The best points met from ``here`` (N, n) for the sets ``which`` (N,), and margins."""
    region = margins.region
    width = region.upper - region.lower
    best, kept = np.full(len(here), np.inf), here.copy()
    batch = max(1, NUMBERS // sum(node.size for node in margins.network.nodes))
    step, shrink = FIRST_STEP, 0.01 ** (1.0 / max(steps, 1))
    for k in range(steps + 1):
        for a in range(0, len(here), batch):
            some = slice(a, a + batch)
            value, gradient = margins.gradient(here[some], which[some])
            better = value < best[some]
            best[some] = np.where(better, value, best[some])
            kept[some][better] = here[some][better]
            if time.perf_counter() > deadline:
                return kept, best
            # Signed steps for the first half; then steps along the gradient itself.
            if k < steps // 2:
                move = np.sign(gradient)
            else:
                move = gradient * width
                largest = abs(move).max(axis=1, keepdims=True)
                move = move / np.where(largest > 0, largest, 1.0)
            here[some] = region.project(here[some] - step * width * move)
        # A margin well below zero survives the rounding of other programs.
        if best.min(initial=np.inf) < -1e-3:
            break
        step *= shrink
    return kept, best
