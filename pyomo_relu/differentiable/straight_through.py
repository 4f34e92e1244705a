"""The baseline of :func:`implicit_fit`: gradients that pass straight through steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyomo_relu.steps.adam import Adam

#: The margin of the hinge loss. It was chosen by hand.
MARGIN = 0.5


def straight_through_fit(
    x: Any,
    y: Any,
    *,
    components: int = 2,
    hidden: int = 2,
    iterations: int = 300,
    rate: float = 0.02,
    projection: Any = None,
    seed: int = 0,
) -> list[tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray, float]]]:
    """The baseline: projection and network trained together by straight-through steps.

    The step's derivative is taken as 1 on [-1, 1], the loss is the hinge with margin
    1/2, the method Adam; weights stay in [-1, 1] and the projection on the sphere.

    Returns
    -------
    list of (projection, (w, b, v, v0))
        The state before each iteration and after the last.
    """
    rng = np.random.default_rng(seed)
    features, labels = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    d = features.shape[1]
    p = rng.standard_normal((d, components)) if projection is None else np.array(projection)
    state = [
        p / np.linalg.norm(p),
        rng.uniform(-1, 1, (hidden, components)),
        np.zeros(hidden),
        rng.uniform(-1, 1, hidden),
        np.zeros(1),
    ]
    adam, found = Adam(state, [rate] * len(state)), []
    for _ in range(iterations + 1):
        p, w, b, v, v0 = (s.copy() for s in state)
        found.append((p, (w, b, v, float(v0[0]))))
        adam.step(_slopes(features, labels, state))
        for s in state[1:]:
            np.clip(s, -1.0, 1.0, out=s)
        state[0] /= np.linalg.norm(state[0])
    return found


def _slopes(
    features: np.ndarray, labels: np.ndarray, state: list[np.ndarray]
) -> list[np.ndarray]:
    """Derivatives of the hinge loss in projection, weights and biases."""
    p, w, b, v, v0 = state
    z = features @ p
    pre = z @ w.T + b
    on = (pre >= 0).astype(float)
    short = labels * (on @ v + v0) < MARGIN
    out = np.where(short, -labels, 0.0) / len(labels)
    back = out[:, None] * v * (np.abs(pre) <= 1)
    return [
        features.T @ (back @ w),
        back.T @ z,
        back.sum(axis=0),
        on.T @ out,
        np.array([out.sum()]),
    ]
