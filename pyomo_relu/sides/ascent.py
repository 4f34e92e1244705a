"""The ascent of slopes and multipliers, for many subproblems with fixed sides at once.

A projected Adam in single precision: whatever it finds gives a valid bound, which is
computed anew with its rounding error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

#: First step lengths of slopes, multipliers and further ones.
RATES = 0.15, 0.08, 0.1


@dataclass
class Sides:
    """What N subproblems fix, as (N, count) arrays.

    Attributes
    ----------
    fixed
        1 active, -1 inactive, 0 open.
    open
        Neurons that neither the sides nor the bounds decide.
    upper, const
        The chord above each open neuron; the slope of each decided one, and 0.
    """

    fixed: np.ndarray
    open: np.ndarray
    upper: np.ndarray
    const: np.ndarray

    def take(self, keep: np.ndarray) -> Sides:
        """The subproblems ``keep``."""
        return Sides(self.fixed[keep], self.open[keep], self.upper[keep], self.const[keep])


@dataclass
class Ascended:
    """Subproblems after an ascent.

    Attributes
    ----------
    value : (N,) array
        Valid lower bounds.
    alpha, beta, posts : (N, count) arrays
        The slopes and multipliers, and the coefficients of the activations.
    corners : (N, n_inputs) array
        Where the bounds are attained.
    extra : (N, extras) array
        Further multipliers.
    """

    value: np.ndarray
    alpha: np.ndarray
    beta: np.ndarray
    posts: np.ndarray
    corners: np.ndarray
    extra: np.ndarray


class Climbing(Protocol):
    """What is ascended: a bound in single precision, and its gradients."""

    def backward(self, sides: Sides, alpha, beta, extra=None, rigorous=True): ...

    def gradients(self, sides: Sides, slopes, posts, alpha, beta, extra): ...

    def valid_extra(self, extra: np.ndarray) -> np.ndarray: ...


def climb(
    fast: Climbing, sides: Sides, start, steps: int, surely: float, decay: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best slopes, multipliers and further multipliers met, as float64 arrays.

    Parameters
    ----------
    fast : ReluChain
        In single precision.
    sides : Sides
        In single precision.
    start : sequence of three (N, ...) arrays
    steps : int
    surely : float
        Subproblems whose bound exceeds this are left alone.
    decay : float
        The factor of step lengths after each step.
    """
    point = [v.astype(np.float32) for v in start]
    kept = [v.copy() for v in point]
    best = np.full(len(sides.fixed), -np.inf, np.float32)
    at = np.arange(len(best))  # those still ascended
    first, second = ([np.zeros_like(v) for v in point] for _ in range(2))
    for k in range(1, steps + 1):
        alpha, beta, extra = point
        value, slopes, posts = fast.backward(sides, alpha, beta, extra, rigorous=False)
        better = value > best[at]
        up = at[better]
        best[up] = value[better]
        for old, new in zip(kept, point):
            old[up] = new[better]
        if k == steps:
            break
        left = best[at] <= surely
        if not left.any():
            break
        if left.sum() < 0.75 * len(at):
            at, sides = at[left], sides.take(left)
            slopes, posts = slopes[left], posts[left]
            point, first, second = ([v[left] for v in a] for a in (point, first, second))
        gradients = fast.gradients(sides, slopes, posts, *point)
        moved = []
        for g, rate, old, m, v in zip(gradients, RATES, point, first, second):
            m *= 0.9
            m += 0.1 * g
            v *= 0.99
            v += 0.01 * g * g
            size = np.sqrt(v / (1.0 - 0.99**k)) + 1e-30
            moved.append(old + rate * decay**k / (1.0 - 0.9**k) * m / size)
        point = [
            np.clip(moved[0], 0.0, 1.0),
            np.maximum(moved[1], 0.0),
            fast.valid_extra(moved[2]),
        ]
    alpha, beta, extra = (v.astype(float) for v in kept)
    return alpha, beta, extra
