"""Search for counterexamples by projected gradients: all starts and sets at once.

Memory is linear in the number of points: a forward pass and its gradient go over so many
of them at once as a pass may hold numbers, and only the rows of the sets asked for are
computed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.verification.margins import Margins
from pyomo_relu.verification.verify_settings import VERIFY


def attack(
    margins: Margins,
    sets: Sequence[int] | np.ndarray,
    *,
    restarts: int,
    steps: int,
    seed: int = 0,
    deadline: Deadline = NEVER,
    starts: np.ndarray | None = None,
    own: Sequence[np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Lower the margin of each set from many points of the region.

    Parameters
    ----------
    sets : sequence or array of int
        The unsafe sets to reach.
    restarts, steps : int
        Points for each set, and steps of each.
    deadline : Deadline
        It is looked at after each forward pass; the first one is made in any case.
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
    first = region.samples(restarts, np.random.default_rng(seed))
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
    margins: Margins, here: np.ndarray, which: np.ndarray, steps: int, deadline: Deadline
) -> tuple[np.ndarray, np.ndarray]:
    """The best points met from ``here`` (N, n) for the sets ``which`` (N,), and margins."""
    region = margins.region
    width = region.upper - region.lower
    best, kept = np.full(len(here), np.inf), here.copy()
    numbers = sum(node.size for node in margins.network.nodes)
    batch = max(1, VERIFY.pass_numbers // numbers)
    step, shrink = VERIFY.first_step, VERIFY.last_step ** (1.0 / max(steps, 1))
    for k in range(steps + 1):
        for a in range(0, len(here), batch):
            some = slice(a, a + batch)
            value, gradient = margins.gradient(here[some], which[some])
            better = value < best[some]
            best[some] = np.where(better, value, best[some])
            kept[some][better] = here[some][better]
            if deadline.expired():
                return kept, best
            # Signed steps for the first half; then steps along the gradient itself.
            if k < steps // 2:
                move = np.sign(gradient)
            else:
                move = gradient * width
                largest = abs(move).max(axis=1, keepdims=True)
                move = move / np.where(largest > 0, largest, 1.0)
            here[some] = region.project(here[some] - step * width * move)
        if best.min(initial=np.inf) < -VERIFY.clear:
            break
        step *= shrink
    return kept, best
