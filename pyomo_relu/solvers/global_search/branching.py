"""Where to split a box.

By effect, not by width: an input counts with its width times how fast it can move the
queries that hold the bound up (absolute weights of the neurons alive in the box). The
user's integer variables that the relaxation leaves fractional come first: on and off
change the problem more than any half of an input does.
"""

from __future__ import annotations

import numpy as np

from pyomo_relu.solvers.global_search.settings import BRANCHING


def input_scores(
    lower: np.ndarray, upper: np.ndarray, steep: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """How much each input may move the bound, (N, n).

    Parameters
    ----------
    lower, upper : (N, n) arrays
    steep : (N, S, n) array
        Absolute-weight gradients of the sides.
    weights : (N, S) or (S,) array
        How much each side counts.
    """
    weights = np.broadcast_to(weights, steep.shape[:2])
    return (upper - lower) * np.matmul(weights[:, None, :], steep)[:, 0]


def choose_input(
    lower: np.ndarray, upper: np.ndarray, scores: np.ndarray, integer: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The input to split and the point, for each box; -1 where none is wide enough.

    The split is in the middle, so every input that keeps being chosen shrinks to
    nothing: what the proof of convergence needs. An integer input splits between two
    integers; the point is then the lower child's upper bound.
    """
    width = upper - lower
    wide = np.where(integer, width >= 0.5, width > narrowest(lower, upper))
    least = BRANCHING.by_width * (1.0 + scores.max(axis=1))[:, None]
    score = np.where(wide, scores + least * width, -1.0)
    dim = np.argmax(score, axis=1)
    each = np.arange(len(lower))
    point = 0.5 * (lower + upper)[each, dim]
    point = np.where(integer[dim], np.floor(point), point)
    return np.where(wide.any(axis=1), dim, -1), point


def narrowest(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """The widths at which coordinates of boxes are not split any more."""
    size = np.maximum(1.0, np.maximum(abs(lower), abs(upper)))
    return BRANCHING.narrow * size


def most_fractional(values: np.ndarray, integer: np.ndarray) -> int:
    """The integer column farthest from an integer, -1 if all are integral."""
    if not len(values):
        return -1
    distance = np.where(integer, abs(values - np.round(values)), 0.0)
    j = int(np.argmax(distance))
    return j if distance[j] > BRANCHING.fractional else -1
