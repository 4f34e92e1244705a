"""The one ascent of slopes and multipliers: a projected Adam, for many problems at once.

Any slope of a line below a graph, and any multiplier that is not negative, gives a valid
bound. So what is found here is only a proposal, in whatever precision: whoever asked for
it computes its bound anew, with its rounding error.

Source: Kingma and Ba, arXiv 1412.6980 (Adam); Xu et al., arXiv 2011.13824 (slopes of
linear bounds); Wang et al., arXiv 2103.06624 (multipliers of sides).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pyomo_relu.base.deadline import NEVER, Deadline


@dataclass(frozen=True)
class Pace:
    """What steers an ascent, but for the number of its steps.

    Attributes
    ----------
    rates : tuple of float
        The lengths of the first steps, one for each array of a point, in that array's
        own unit (a slope of ReLU and a share of a span reach from 0 to 1).
    shrink : float
        The factor of all lengths after each step.
    mean, square : float
        The shares of the old mean gradient and of the old mean squared gradient that a
        step keeps: Adam's beta 1 and beta 2.
    look : int
        The steps between two looks at which problems are decided and whether the
        problems still gain.
    crowd : float
        Decided problems leave the batch once the others are less than this share of it.
    stall : float
        The ascent ends where all problems together gain less than this share of their
        bounds between two looks. A single problem gains in leaps while steps are long:
        its pause says nothing.
    patience : int
        No ascent stalls before this step: the first steps may gain nothing.
    """

    rates: tuple[float, ...]
    shrink: float
    mean: float = 0.7
    square: float = 0.9
    look: int = 1
    crowd: float = 1.0
    stall: float = 0.0
    patience: int = 8


class Problems(Protocol):
    """N problems whose bounds are ascended, and their gradients."""

    def bounds(self, point: Sequence[np.ndarray]) -> np.ndarray:
        """The bounds (N,) at a point; what their gradients need is remembered."""

    def gradients(self, point: Sequence[np.ndarray]) -> list[np.ndarray]:
        """New arrays, in the shapes of the point whose bounds were asked last."""

    def keep(self, left: np.ndarray) -> None:
        """Go on with these problems only, given as (N,) bool."""

    def project(self, point: Sequence[np.ndarray]) -> None:
        """Move a point to where it is valid, in place."""


def ascend(
    problems: Problems,
    start: Sequence[np.ndarray],
    steps: int,
    pace: Pace,
    goal: np.ndarray | float = np.inf,
    deadline: Deadline = NEVER,
) -> list[np.ndarray]:
    """The best points met, one for each problem.

    Parameters
    ----------
    problems : Problems
    start : sequence of (N, ...) arrays
        The first point, in the precision of the ascent.
    steps : int
        How many points are tried at most, the first one included.
    pace : Pace
    goal : float or (N,) array
        A problem whose bound reaches it is decided.
    deadline : Deadline
        The first point is tried in any case.
    """
    point, kept = [np.array(v) for v in start], [np.array(v) for v in start]
    mean, square = ([np.zeros_like(v) for v in point] for _ in range(2))
    best = np.full(len(point[0]), -np.inf, point[0].dtype)
    at = np.arange(len(best))  # the problems that are still ascended
    goal, total = np.broadcast_to(goal, best.shape), -np.inf
    for k in range(1, steps + 1):
        value = problems.bounds(point)
        better = value > best[at]
        best[at[better]] = value[better]
        for old, new in zip(kept, point):
            old[at[better]] = new[better]
        if k == steps or deadline.expired():
            break
        if k % pace.look == 0:
            total, before = float(best.sum()), total
            if k > pace.patience and total - before < pace.stall * (abs(total) + 1e-12):
                break
            left = best[at] < goal[at]
            if not left.any():
                break
            if left.sum() < pace.crowd * len(at):
                at = at[left]
                problems.keep(left)
                point, mean, square = ([v[left] for v in a] for a in (point, mean, square))
        rise = problems.gradients(point)
        length = pace.shrink**k * math.sqrt(1.0 - pace.square**k) / (1.0 - pace.mean**k)
        for rate, x, g, m, v in zip(pace.rates, point, rise, mean, square):
            _step(x, g, m, v, pace, rate * length)
        problems.project(point)
    return kept


def _step(
    x: np.ndarray, g: np.ndarray, m: np.ndarray, v: np.ndarray, pace: Pace, length: float
) -> None:
    """Move ``x`` along the gradient ``g`` and keep its moments, all in place."""
    m *= pace.mean
    m += (1.0 - pace.mean) * g
    g *= g
    v *= pace.square
    g *= 1.0 - pace.square
    v += g
    step = np.sqrt(v)
    step += 1e-30
    np.divide(m, step, out=step)
    step *= length
    x += step
