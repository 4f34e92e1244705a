"""Search for counterexamples by projected gradients: all starts and sets at once."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from pyomo_relu.applications.margins import Margins

#: First step as a share of the region's width; it shrinks to a hundredth of that.
FIRST_STEP = 0.25


def attack(
    margins: Margins,
    sets: Sequence[int] | np.ndarray,
    *,
    restarts: int = 16,
    steps: int = 40,
    seed: int = 0,
    deadline: float = np.inf,
    starts: np.ndarray | None = None,
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
        Of ``time.perf_counter()``.
    starts : (N, n_inputs) array, optional
        Points to begin with besides random ones.

    Returns
    -------
    points : (len(sets), n_inputs) array
        The best point for each set.
    values : (len(sets),) array
        Its margin; not positive at a counterexample.
    """
    region = margins.region
    rng = np.random.default_rng(seed)
    width = region.upper - region.lower
    first = region.samples(restarts, rng)
    if starts is not None and len(starts):
        first = np.vstack([region.project(np.atleast_2d(starts)), first])
    here = np.tile(first, (len(sets), 1))
    which = np.repeat(np.asarray(sets), len(first))
    best, kept = np.full(len(here), np.inf), here.copy()
    step, shrink = FIRST_STEP, 0.01 ** (1.0 / max(steps, 1))
    for k in range(steps + 1):
        value, gradient = margins.gradient(here, which)
        better = value < best
        best[better], kept[better] = value[better], here[better]
        # A margin well below zero survives the rounding of other programs.
        if k == steps or time.perf_counter() > deadline or best.min() < -1e-3:
            break
        # Signed steps for the first half; then steps along the gradient itself.
        if k < steps // 2:
            move = np.sign(gradient)
        else:
            move = gradient * width
            largest = abs(move).max(axis=1, keepdims=True)
            move = move / np.where(largest > 0, largest, 1.0)
        here = region.project(here - step * width * move)
        step *= shrink
    values, points = best.reshape(len(sets), -1), kept.reshape(len(sets), len(first), -1)
    first_of = values.argmin(axis=1)
    at = np.arange(len(sets))
    return points[at, first_of], values[at, first_of]
