r"""Backpropagation through an exactly trained network: a projection learned in front of it.

.. math::
    \max_{\|P\|_F = 1}\ z(XP), \qquad
    \frac{\partial z}{\partial P} = X^\top \frac{\partial z}{\partial (XP)},

where :math:`z` is the optimum of :class:`MarginTraining`. Each step trains the step
network to proven optimality, takes the envelope formula, moves :math:`P` along it on the
sphere, and halves the step until the optimum rises. So the objective rises monotonically,
which no gradient method that trains both together can promise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import Deadline, TimeUp
from pyomo_relu.differentiable.margin_training import MarginFit, MarginTraining

#: The least gain that counts as one.
GAIN = 1e-7


@dataclass(frozen=True)
class ImplicitFit:
    """A projection and the network trained behind it.

    Attributes
    ----------
    projection : (d, k) array
        Of Frobenius norm 1.
    center : (d,) array
        Subtracted first.
    network : MarginFit
    history : list of dict
        For each iteration ``value``, ``margin``, ``seconds``, ``projection`` and the
        ``network``; the first is the fixed projection.
    status : str
        Why it ended.
    """

    projection: np.ndarray
    center: np.ndarray
    network: MarginFit
    history: list[dict[str, Any]] = field(repr=False)
    status: str

    def scores(self, x) -> np.ndarray:
        """Scores (N,), positive for the label 1."""
        return self.network.scores(self.transform(x))

    def predict(self, x) -> np.ndarray:
        """Labels -1 and 1, (N,)."""
        return np.where(self.scores(x) >= 0, 1.0, -1.0)

    def transform(self, x) -> np.ndarray:
        """The features that the network sees, (N, k)."""
        return (np.asarray(x, dtype=float) - self.center) @ self.projection

    def step_network(self):
        """Projection and network as one :class:`~pyomo_relu.training.StepNetwork`."""
        from pyomo_relu.training.step_network import StepNetwork

        w = self.network.weights[0] @ self.projection.T
        b = self.network.biases[0] - w @ self.center
        return StepNetwork((w, self.network.weights[1]), (b, self.network.biases[1]))


def implicit_fit(
    x,
    y,
    *,
    components: int = 2,
    hidden: int = 2,
    cost: float | None = 4.0,
    costs=None,
    radius: float = 0.0,
    iterations: int = 20,
    step: float = 0.3,
    projection=None,
    center: bool = True,
    time_limit: float | None = None,
    first_limit: float | None = None,
    seed: int = 0,
    callback: Callable[[dict[str, Any]], Any] | None = None,
) -> ImplicitFit:
    """Learn a projection by gradients through the exact training of a step network.

    Parameters
    ----------
    x : (n, d) array
        A few dozen points at most: every iteration solves a mixed-integer program with
        ``n * hidden`` binaries, some iterations several.
    y : (n,) array
        Labels -1 and 1.
    components : int
        Columns of the projection.
    hidden : int
    cost : float or None
        Total cost of falling short of the margin, divided equally among the classes;
        None to require every point. With at most 1 the margin is worth nothing.
    costs : (n,) array, optional
        The cost of each point instead.
    radius : float
        Robust radius in the projected features.
    iterations : int
    step : float
        First step on the unit sphere.
    projection : (d, components) array, optional
        Where to start; by default random.
    center : bool
        Subtract the mean of ``x``, so that biases in [-1, 1] suffice.
    time_limit : float, optional
        Seconds; the best projection so far is returned. The first program is solved to its
        end in any case, each of the others has what is left.
    first_limit : float, optional
        Seconds of the first program.
    seed : int
    callback : callable, optional
        Called with each entry of the history; a true value ends the search.

    Raises
    ------
    ValueError
        For labels, shapes and options that don't fit.
    TimeUp
        If the first program is not solved within ``first_limit``.
    """
    features, labels = np.asarray(x, dtype=float), np.asarray(y, dtype=float).reshape(-1)
    if features.ndim != 2 or len(features) != len(labels):
        raise ValueError("x must be (n, d) with one label for each row.")
    shift = features.mean(axis=0) if center else np.zeros(features.shape[1])
    features = features - shift
    if projection is None:
        rng = np.random.default_rng(seed)
        projection = rng.standard_normal((features.shape[1], components))
    p = np.array(projection, dtype=float)
    if p.shape != (features.shape[1], components) or not np.linalg.norm(p) > 0:
        raise ValueError(
            f"projection must be a nonzero {(features.shape[1], components)} array."
        )
    if step <= 0 or iterations < 0:
        raise ValueError("step must be positive and iterations at least 0.")
    p /= np.linalg.norm(p)
    if costs is None and cost is not None:
        costs = class_costs(labels, cost)
    training = MarginTraining(labels, components, hidden=hidden, soft=costs is not None)
    deadline = Deadline(time_limit)

    def train(projection: np.ndarray, limit: float | None) -> MarginFit:
        limit = None if limit == np.inf else limit
        return training.fit(features @ projection, costs, radius, time_limit=limit)

    best = train(p, first_limit)
    history: list[dict[str, Any]] = []

    def record() -> bool:
        history.append(
            {
                "value": best.value,
                "margin": best.margin,
                "seconds": deadline.elapsed,
                "projection": p,
                "network": best,
            }
        )
        return bool(callback(history[-1])) if callback else False

    stopped, status = record(), "iterations"
    for _ in range(iterations):
        if stopped:
            status = "callback"
            break
        gradient = features.T @ best.x_gradient
        gradient -= (gradient * p).sum() * p  # along the sphere
        size = np.linalg.norm(gradient)
        if size < 1e-10:
            status = "gradient 0"
            break
        found = None
        for _ in range(6):
            moved = p + step * gradient / size
            moved /= np.linalg.norm(moved)
            try:
                deadline.check()
                trial = train(moved, deadline.left())
            except TimeUp:
                break
            if trial.value > best.value + GAIN:
                found = moved, trial
                break
            step *= 0.5
        if found is None:
            status = "time limit" if deadline.expired() else "no ascent"
            break
        p, best = found
        step = min(1.5 * step, 1.0)
        stopped = record()
    return ImplicitFit(p, shift, best, history, status)


def class_costs(labels: np.ndarray, total: float) -> np.ndarray:
    """Costs of the points that sum to ``total``, half of it for each class."""
    count = {c: max(int((labels == c).sum()), 1) for c in (-1.0, 1.0)}
    return np.array([0.5 * total / count[c] for c in labels])


def straight_through_fit(
    x,
    y,
    *,
    components: int = 2,
    hidden: int = 2,
    iterations: int = 300,
    rate: float = 0.02,
    projection=None,
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
    first, second = ([np.zeros_like(s) for s in state] for _ in range(2))
    found = []
    for k in range(1, iterations + 2):
        p, w, b, v, v0 = (s.copy() for s in state)
        found.append((p, (w, b, v, float(v0[0]))))
        z = features @ p
        pre = z @ w.T + b
        on = (pre >= 0).astype(float)
        short = labels * (on @ v + v0) < 0.5
        out = np.where(short, -labels, 0.0) / len(labels)
        back = out[:, None] * v * (np.abs(pre) <= 1)
        slopes = [
            features.T @ (back @ w),
            back.T @ z,
            back.sum(axis=0),
            on.T @ out,
            np.array([out.sum()]),
        ]
        for s, g, m1, m2 in zip(state, slopes, first, second):
            m1 *= 0.9
            m1 += 0.1 * g
            m2 *= 0.999
            m2 += 0.001 * g * g
            s -= rate * (m1 / (1 - 0.9**k)) / (np.sqrt(m2 / (1 - 0.999**k)) + 1e-8)
        for s in state[1:]:
            np.clip(s, -1.0, 1.0, out=s)
        state[0] /= np.linalg.norm(state[0])
    return found
