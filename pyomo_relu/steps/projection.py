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

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.steps.ascent import Ascent, Callback
from pyomo_relu.steps.margin import MarginFit, MarginProgram
from pyomo_relu.steps.step_network import StepNetwork

#: A gradient along the sphere shorter than this counts as 0. It was chosen by hand.
SHORTEST = 1e-10


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

    def scores(self, x: Any) -> np.ndarray:
        """Scores (N,), positive for the label 1."""
        return self.network.scores(self.transform(x))

    def predict(self, x: Any) -> np.ndarray:
        """Labels -1 and 1, (N,)."""
        return np.where(self.scores(x) >= 0, 1.0, -1.0)

    def transform(self, x: Any) -> np.ndarray:
        """The features that the network sees, (N, k)."""
        return (np.asarray(x, dtype=float) - self.center) @ self.projection

    def step_network(self) -> StepNetwork:
        """Projection and network as one :class:`~pyomo_relu.training.StepNetwork`."""
        w = self.network.weights[0] @ self.projection.T
        b = self.network.biases[0] - w @ self.center
        return StepNetwork((w, self.network.weights[1]), (b, self.network.biases[1]))


@dataclass
class _ProjectionAscent(Ascent[np.ndarray, MarginFit]):
    """Projections of norm 1, which move on the sphere."""

    training: MarginProgram
    features: np.ndarray
    costs: Any
    radius: float

    def direction(self, point: np.ndarray, fit: MarginFit) -> np.ndarray | None:
        gradient = self.features.T @ fit.x_gradient
        gradient -= (gradient * point).sum() * point
        return None if np.linalg.norm(gradient) < SHORTEST else gradient

    def moved(self, point: np.ndarray, direction: np.ndarray, step: float) -> np.ndarray:
        moved = point + step * direction / np.linalg.norm(direction)
        return moved / np.linalg.norm(moved)

    def train(
        self, point: np.ndarray, fit: MarginFit | None, deadline: Deadline
    ) -> MarginFit:
        seen = self.features @ point
        return self.training.fit(seen, self.costs, self.radius, time_limit=deadline.limit)

    def entry(self, point: np.ndarray, fit: MarginFit) -> dict[str, Any]:
        return {
            "value": fit.value,
            "margin": fit.margin,
            "projection": point,
            "network": fit,
        }


def implicit_fit(
    x: Any,
    y: Any,
    *,
    components: int = 2,
    hidden: int = 2,
    cost: float | None = 4.0,
    costs: Any = None,
    radius: float = 0.0,
    iterations: int = 20,
    step: float = 0.3,
    projection: Any = None,
    center: bool = True,
    time_limit: float | None = None,
    first_limit: float | None = None,
    seed: int = 0,
    callback: Callback | None = None,
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
    start = _first(projection, (features.shape[1], components), seed)
    if step <= 0 or iterations < 0:
        raise ValueError("step must be positive and iterations at least 0.")
    if costs is None and cost is not None:
        costs = class_costs(labels, cost)
    training = MarginProgram(labels, components, hidden=hidden, soft=costs is not None)
    deadline = Deadline(time_limit)
    ascent = _ProjectionAscent(training, features, costs, radius)
    fit = ascent.train(start, None, Deadline(first_limit))
    point, fit, history, status = ascent.run(
        start, fit, iterations=iterations, step=step, deadline=deadline, callback=callback
    )
    return ImplicitFit(point, shift, fit, history, status)


def _first(projection: Any, shape: tuple[int, int], seed: int) -> np.ndarray:
    """The first projection, on the sphere; random where none is given."""
    if projection is None:
        projection = np.random.default_rng(seed).standard_normal(shape)
    found = np.array(projection, dtype=float)
    if found.shape != shape or not np.linalg.norm(found) > 0:
        raise ValueError(f"projection must be a nonzero {shape} array.")
    return found / np.linalg.norm(found)


def class_costs(
    labels: np.ndarray, total: float, weight: np.ndarray | None = None
) -> np.ndarray:
    """Costs of the points that sum to ``total``, half of it for each class.

    Within a class they are in proportion to the weights, equal without any.
    """
    each = np.ones(len(labels)) if weight is None else np.asarray(weight, dtype=float)
    of_class = {c: each[labels == c].sum() for c in (-1.0, 1.0)}
    return np.array([0.5 * total * w / of_class[c] for c, w in zip(labels, each)])
