r"""Dual norms of the first layer's weights, as numbers and as linear rows.

The largest change of :math:`w x` in a ball of radius :math:`r` is :math:`r\,\|w\|_*`. The
dual norms of 'linf' and 'l1' are linear. That of 'l2' is written by a tower of plane
norms, each by folding its angle in halves; the result is never below the norm, and above
it by less than :func:`excess`.

Source of the tower: Ben-Tal and Nemirovski, On polyhedral approximations of the
second-order cone, Mathematics of Operations Research 26(2), 2001.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pyomo_relu.training.encode import TrainingMIP

#: Norm of the ball and the norm of the weights that is its dual.
DUAL_NORMS = {"linf": "l1", "l1": "linf", "l2": "l2"}

#: Times the angle of a plane norm is folded in halves.
FOLDS = 6
_COSINE = math.cos(math.pi / 2 ** (FOLDS + 1))


def excess(count: int) -> float:
    """Relative bound of how far 'l2' of ``count`` weights is over-estimated.

    0.03 % for each doubling of the number of weights.
    """
    return _COSINE ** -_height(count) - 1.0


def _height(count: int) -> int:
    return math.ceil(math.log2(count)) if count > 1 else 0


def largest(dual: str, count: int, bound: float) -> float:
    """The largest norm of ``count`` weights in [-bound, bound]."""
    if dual == "l1":
        return bound * count
    if dual == "linf":
        return bound
    return bound * math.sqrt(count) * (1.0 + excess(count))


def dual_norm(weights: np.ndarray, norm: str) -> np.ndarray:
    """The dual of a ball's norm for each row of weights; 'l2' without over-estimation.

    Parameters
    ----------
    weights : (n, d) array
    norm : {'linf', 'l1', 'l2'}
        Of the ball.
    """
    dual, size = DUAL_NORMS[norm], np.abs(weights)
    if dual == "l1":
        return size.sum(axis=1)
    if dual == "linf":
        return size.max(axis=1, initial=0.0)
    return np.sqrt((size**2).sum(axis=1))


def _folded(a, b) -> list[tuple[np.ndarray, np.ndarray]]:
    """The point (|a|, |b|) and what it becomes, fold by fold; the last is near the axis."""
    found = [(np.abs(a), np.abs(b))]
    for k in range(1, FOLDS + 1):
        x, y = found[-1]
        c, s = math.cos(math.pi / 2 ** (k + 1)), math.sin(math.pi / 2 ** (k + 1))
        found.append((c * x + s * y, np.abs(c * y - s * x)))
    return found


def write_spread(mip: TrainingMIP, dual: str, radius: float) -> np.ndarray:
    """``radius`` times the dual norm of each first-layer neuron, as variables.

    Weights of dead inputs are 0 and left out.
    """
    alive = np.flatnonzero(~mip.dead)
    n, bound = mip.sizes[1], mip.family.bound
    most = radius * largest(dual, len(alive), bound)
    spread = mip.variables("spread", (n,), bounds=(0, most))
    weights = mip.w[0][:, alive]
    if dual == "l2" and len(alive) > 1:
        _write_tower(mip, weights, spread, radius)
        return spread
    count = len(alive) if dual == "l1" else 1
    size = mip.variables("size", (n, count), bounds=(0, bound))
    rows = []
    for j in range(n):
        for f, w in enumerate(weights[j]):
            a = size[j, f if dual == "l1" else 0]
            rows += [a >= w, a >= -w]
        rows.append(radius * sum(size[j]) == spread[j])
    mip.constraints("dual_norm", rows)

    def complete(network) -> None:
        magnitude = np.abs(network.weights[0][:, alive])
        if dual == "linf":
            magnitude = magnitude.max(axis=1, keepdims=True, initial=0.0)
        _set(size, magnitude)
        _set(spread, radius * magnitude.sum(axis=1))

    mip.completions.append(complete)
    return spread


def _write_tower(mip: TrainingMIP, weights, spread, radius: float) -> None:
    n, count = weights.shape
    factor, level = radius * (1.0 + excess(count)), 0
    terms = list(weights.T)
    while len(terms) > 1:
        parts = list(zip(terms[::2], terms[1::2], strict=False))
        x = mip.variables(f"fold_x{level}", (len(parts), FOLDS + 1, n), bounds=(0, None))
        y = mip.variables(f"fold_y{level}", (len(parts), FOLDS + 1, n), bounds=(0, None))
        rows = []
        for p, (a, b) in enumerate(parts):
            for j in range(n):
                rows += _fold_rows(a[j], b[j], x[p, :, j], y[p, :, j])
        mip.constraints(f"fold{level}", rows)
        terms = [x[p, FOLDS] for p in range(len(parts))] + terms[2 * len(parts) :]

        def complete(network, parts=parts, x=x, y=y) -> None:
            for p, (a, b) in enumerate(parts):
                folds = _folded(*(np.array([v.value or 0.0 for v in c]) for c in (a, b)))
                for k, (across, up) in enumerate(folds):
                    _set(x[p, k], across)
                    _set(y[p, k], up)

        mip.completions.append(complete)
        level += 1
    top = terms[0]
    mip.constraints("dual_norm", [factor * t == s for t, s in zip(top, spread)])
    mip.completions.append(
        lambda network: _set(spread, factor * np.array([t.value for t in top]))
    )


def _fold_rows(a, b, x, y) -> list:
    """Rows that make ``x[-1]`` at least the norm of (a, b) times a cosine near 1."""
    rows = [x[0] >= a, x[0] >= -a, y[0] >= b, y[0] >= -b]
    for k in range(1, FOLDS + 1):
        c, s = math.cos(math.pi / 2 ** (k + 1)), math.sin(math.pi / 2 ** (k + 1))
        rows += [
            x[k] == c * x[k - 1] + s * y[k - 1],
            y[k] >= c * y[k - 1] - s * x[k - 1],
            y[k] >= s * x[k - 1] - c * y[k - 1],
        ]
    rows.append(y[FOLDS] <= math.tan(math.pi / 2 ** (FOLDS + 1)) * x[FOLDS])
    return rows


def _set(variables, numbers) -> None:
    for v, x in zip(np.ravel(variables), np.ravel(numbers)):
        v.set_value(float(x), skip_validation=True)
