"""Linear rows for the largest change of a neuron's pre-activation in a ball of inputs."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from pyomo_relu.steps.step_network import StepNetwork
from pyomo_relu.training.norms import FOLDS, excess, largest
from pyomo_relu.training.writer import ModelWriter, values_of

#: The angles by which a point of the plane is turned, fold by fold.
_ANGLES = [math.pi / 2 ** (k + 1) for k in range(1, FOLDS + 1)]


def write_spread(
    mip: ModelWriter, weights: np.ndarray, bound: float, dual: str, radius: float
) -> np.ndarray:
    """``radius`` times the dual norm of each neuron's weights, as variables.

    Parameters
    ----------
    mip : ModelWriter
    weights : (neurons, inputs) array of variables
        In [-bound, bound].
    bound : float
    dual : {'l1', 'linf', 'l2'}
    radius : float
    """
    n, inputs = weights.shape
    most = radius * largest(dual, inputs, bound)
    spread = mip.variables("spread", (n,), bounds=(0, most))
    if dual == "l2" and inputs > 1:
        _write_tower(mip, weights, spread, radius)
        return spread
    count = inputs if dual == "l1" else 1
    size = mip.variables("size", (n, count), bounds=(0, bound))
    rows = []
    for j in range(n):
        for f, w in enumerate(weights[j]):
            a = size[j, f if dual == "l1" else 0]
            rows += [a >= w, a >= -w]
        rows.append(radius * sum(size[j]) == spread[j])
    mip.constraints("dual_norm", rows)

    def sizes(network: StepNetwork) -> np.ndarray:
        found = np.abs(values_of(weights))
        return found if dual == "l1" else found.max(axis=1, keepdims=True, initial=0.0)

    mip.follow(size, sizes)
    mip.follow(spread, lambda network: radius * values_of(size).sum(axis=1))
    return spread


def _write_tower(
    mip: ModelWriter, weights: np.ndarray, spread: np.ndarray, radius: float
) -> None:
    """Norms of pairs of columns, of pairs of these norms, and so on."""
    n, count = weights.shape
    factor, level, terms = radius * (1.0 + excess(count)), 0, list(weights.T)
    while len(terms) > 1:
        pairs = np.array(list(zip(terms[::2], terms[1::2], strict=False)), dtype=object)
        shape = (len(pairs), FOLDS + 1, n)
        x = mip.variables(f"fold_x{level}", shape, bounds=(0, None))
        y = mip.variables(f"fold_y{level}", shape, bounds=(0, None))
        rows = []
        for (a, b), across, up in zip(pairs, x, y):
            for j in range(n):
                rows += _fold_rows(a[j], b[j], across[:, j], up[:, j])
        mip.constraints(f"fold{level}", rows)
        for part, variables in enumerate((x, y)):
            mip.follow(variables, partial(_fold_values, pairs, part))
        terms = [*x[:, FOLDS], *terms[2 * len(pairs) :]]
        level += 1
    top = terms[0]
    mip.constraints("dual_norm", [factor * t == s for t, s in zip(top, spread)])
    mip.follow(spread, lambda network: factor * values_of(top))


def _fold_values(pairs: np.ndarray, part: int, network: StepNetwork) -> np.ndarray:
    return _folded(values_of(pairs))[part]


def _folded(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the points (pairs, 2, n) and what they become, fold by fold."""
    x, y = np.abs(pairs[:, 0]), np.abs(pairs[:, 1])
    across, up = [x], [y]
    for angle in _ANGLES:
        c, s = math.cos(angle), math.sin(angle)
        x, y = c * x + s * y, np.abs(c * y - s * x)
        across.append(x)
        up.append(y)
    return np.stack(across, axis=1), np.stack(up, axis=1)


def _fold_rows(a: Any, b: Any, x: np.ndarray, y: np.ndarray) -> list[Any]:
    """Rows that make ``x[-1]`` at least the norm of (a, b) times a cosine near 1."""
    rows = [x[0] >= a, x[0] >= -a, y[0] >= b, y[0] >= -b]
    for k, angle in enumerate(_ANGLES, 1):
        c, s = math.cos(angle), math.sin(angle)
        rows += [
            x[k] == c * x[k - 1] + s * y[k - 1],
            y[k] >= c * y[k - 1] - s * x[k - 1],
            y[k] >= s * x[k - 1] - c * y[k - 1],
        ]
    rows.append(y[FOLDS] <= math.tan(_ANGLES[-1]) * x[FOLDS])
    return rows
