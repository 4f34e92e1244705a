r"""Outer loops over the weights of points and over the robust radius.

`tune_fit` raises :math:`F_\tau(c, r)` of
:class:`~pyomo_relu.differentiable.ValidationMargin` by projected gradient steps that are
halved until it rises. `largest_radius` solves :math:`z(r) = t_0` by Newton's method.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.differentiable.validation import ValidationFit, ValidationMargin
from pyomo_relu.steps.ascent import Ascent, AscentSettings, Callback
from pyomo_relu.steps.margin import MarginFit, MarginProgram
from pyomo_relu.steps.projection import class_costs

LEARNED = ("costs", "radius")

#: The share of ``max_radius`` that the radius moves in a step of 1. It was chosen by hand,
#: like the three numbers below.
RADIUS_SHARE = 0.1

#: A derivative in the radius below this counts as 0, a gradient in the costs below
#: ``SHORTEST`` too; a move by less than ``SHORTEST`` is none.
FLAT, SHORTEST = 1e-9, 1e-10

#: The decimals to which two validation margins of the history are compared.
DECIMALS = 9


@dataclass(frozen=True)
class TuneFit:
    """Weights of points and a radius, and the network trained with them.

    ``costs``, ``radius`` and ``network`` are of the iteration with the largest
    validation margin, the last of several.

    Attributes
    ----------
    costs : (n,) array
    radius : float
    network : MarginFit
    history : list of dict
        For each iteration ``value``, ``margin`` (of the trained network, on the points
        for validation), ``costs``, ``radius``, ``seconds`` and ``network``.
    status : str
        Why it ended.
    """

    costs: np.ndarray
    radius: float
    network: MarginFit
    history: list[dict[str, Any]] = field(repr=False)
    status: str

    def predict(self, x: Any) -> np.ndarray:
        """Labels -1 and 1, (N,)."""
        return np.where(self.network.scores(x) >= 0, 1.0, -1.0)


@dataclass
class _Weights(Ascent[tuple[np.ndarray, float], ValidationFit]):
    """Costs on their simplex and a radius in its range.

    Attributes
    ----------
    total, low : float
        The sum of the costs, and the least one.
    top : float
        The largest radius.
    """

    model: ValidationMargin
    features: np.ndarray
    others: np.ndarray
    learn: Collection[str]
    total: float
    low: float
    top: float

    settings = AscentSettings(trials=7)

    def direction(
        self, point: tuple[np.ndarray, float], fit: ValidationFit
    ) -> tuple[np.ndarray, float]:
        costs, radius = np.zeros(self.model.n), 0.0
        if "costs" in self.learn:
            costs = fit.cost_gradient - fit.cost_gradient.mean()
            costs /= max(float(np.linalg.norm(costs)), SHORTEST)
        if "radius" in self.learn and abs(fit.radius_gradient) > FLAT:
            radius = float(np.sign(fit.radius_gradient))
        return costs, radius

    def moved(
        self, point: tuple[np.ndarray, float], direction: Any, step: float
    ) -> tuple[np.ndarray, float] | None:
        (costs, radius), (slope, sign) = point, direction
        moved = costs
        if "costs" in self.learn:
            size = step * self.total / np.sqrt(self.model.n)
            moved = on_simplex(costs + size * slope, self.total, self.low)
        wide = radius + RADIUS_SHARE * step * self.top * sign
        wide = float(np.clip(wide, 0.0, self.top))
        near = max(np.abs(moved - costs).max(), abs(wide - radius)) < SHORTEST
        return None if near else (moved, wide)

    def train(
        self,
        point: tuple[np.ndarray, float],
        fit: ValidationFit | None,
        deadline: Deadline,
    ) -> ValidationFit:
        return self.model.fit(self.features, self.others, *point, start=fit)

    def entry(self, point: tuple[np.ndarray, float], fit: ValidationFit) -> dict[str, Any]:
        costs, radius = point
        return {
            "value": fit.value,
            "margin": fit.margin,
            "costs": costs,
            "radius": radius,
            "network": fit.trained,
        }


def tune_fit(
    x: Any,
    y: Any,
    x_validation: Any,
    y_validation: Any,
    *,
    learn: Collection[str] = LEARNED,
    hidden: int = 2,
    cost: float = 2.0,
    costs: Any = None,
    validation_cost: float = 2.0,
    radius: float = 0.0,
    max_radius: float | None = None,
    tilt: float = 1.0,
    floor: float = 0.01,
    iterations: int = 10,
    step: float = 0.5,
    time_limit: float | None = None,
    callback: Callback | None = None,
) -> TuneFit:
    """Learn weights of points and a robust radius from points for validation.

    Every iteration solves two mixed-integer programs to proven optimality, the larger
    with ``(n + m) * hidden`` binaries.

    Parameters
    ----------
    x, y : (n, d) array, (n,) array
        For training; labels -1 and 1. Biases lie in [-1, 1], so center the features.
    x_validation, y_validation : (m, d) array, (m,) array
    learn : collection of {'costs', 'radius'}
    hidden : int
    cost : float
        The sum of the costs, which is kept; at first half of it for each class.
    costs : (n,) array, optional
        The first costs instead.
    validation_cost : float
        The sum of the costs of validation, half of it for each class.
    radius, max_radius : float
        The first and the largest radius; by default half the largest distance of two
        points, at which every neuron is constant.
    tilt : float
        See :class:`~pyomo_relu.differentiable.ValidationMargin`.
    floor : float
        The least cost of a point, relative to the mean.
    iterations : int
    step : float
        The first step, relative to the norm of equal costs; ten times that is relative
        to ``max_radius``.
    time_limit : float, optional
        Seconds; the best so far is returned.
    callback : callable, optional
        Called with each entry of the history; a true value ends the search.

    Raises
    ------
    ValueError
        For labels, shapes and options that don't fit.
    """
    features, others = (np.asarray(a, dtype=float) for a in (x, x_validation))
    labels, marks = (np.asarray(a, dtype=float).reshape(-1) for a in (y, y_validation))
    wrong = set(learn) - set(LEARNED)
    if wrong or not learn:
        raise ValueError(f"learn takes {', '.join(LEARNED)}, not {sorted(wrong)}.")
    if step <= 0 or iterations < 0 or not 0 < floor < 1:
        raise ValueError(
            "step must be positive, iterations at least 0, and floor between 0 and 1."
        )
    n = len(labels)
    if features.shape[:1] != (n,) or others.shape != (len(marks), features.shape[1]):
        raise ValueError("x must be (n, d) and x_validation (m, d), with a label per row.")
    top = _separation(features) if max_radius is None else float(max_radius)
    if not 0 <= radius <= top:
        raise ValueError(f"radius must be between 0 and max_radius, {top:g}.")
    c = class_costs(labels, cost) if costs is None else np.array(costs, dtype=float)
    total, start = float(c.sum()), (c, float(radius))
    model = ValidationMargin(
        labels,
        marks,
        features.shape[1],
        validation_costs=class_costs(marks, validation_cost),
        hidden=hidden,
        tilt=tilt,
    )
    deadline = Deadline(time_limit)
    weights = _Weights(model, features, others, learn, total, floor * total / n, top)
    _, _, history, status = weights.run(
        start,
        weights.train(start, None, deadline),
        iterations=iterations,
        step=step,
        deadline=deadline,
        callback=callback,
    )
    chosen = max(history, key=lambda h: (round(h["margin"], DECIMALS), h["value"]))
    return TuneFit(chosen["costs"], chosen["radius"], chosen["network"], history, status)


def on_simplex(point: np.ndarray, total: float, low: float) -> np.ndarray:
    """The nearest point with entries of at least ``low`` and the sum ``total``."""
    high = np.sort(point - low)[::-1]
    rest = total - low * len(point)
    levels = (np.cumsum(high) - rest) / np.arange(1, len(point) + 1)
    last = np.flatnonzero(high > levels)[-1]
    return low + np.maximum(point - low - levels[last], 0.0)


def _separation(x: np.ndarray) -> float:
    """Half the largest distance of two points, in the maximum norm."""
    return float(np.ptp(x, axis=0).max(initial=0.0)) / 2.0


def largest_radius(
    x: Any,
    y: Any,
    margin: float,
    *,
    hidden: int = 2,
    costs: Any = None,
    tolerance: float = 1e-7,
) -> tuple[float, MarginFit | None]:
    r"""The largest robust radius at which training still reaches a margin.

    The value :math:`z(r)` is nonincreasing, and Lipschitz with the number of features.
    Newton's steps use :math:`\partial z / \partial r = -\sum \pi \|W_l\|_1`; where they
    leave the bracket it is halved.

    Parameters
    ----------
    x, y : (n, d) array, (n,) array
    margin : float
        Positive; of the value, so less slacks if there are costs.
    hidden : int
    costs : (n,) array, optional
        What slacks cost; by default every point must be right.
    tolerance : float
        How far the radius and the margin may be off.

    Returns
    -------
    radius : float
        At it the margin is reached. Infinite if a constant network does.
    fit : MarginFit or None
        The network trained with this radius; None if it is infinite.

    Raises
    ------
    ValueError
        If the margin isn't positive, or isn't reached at radius 0.
    """
    if margin <= 0:
        raise ValueError("the margin must be positive.")
    features = np.asarray(x, dtype=float)
    training = MarginProgram(y, features.shape[1], hidden=hidden, soft=costs is not None)
    low, best = 0.0, training.fit(features, costs)
    if best.value < margin:
        raise ValueError(
            f"training reaches the value {best.value:.6g}, below the margin {margin:g}."
        )
    # Farther than that every neuron is constant on the points.
    high = _separation(features) * (1 + 1e-9) + 1e-9
    if training.fit(features, costs, high).value >= margin:
        return np.inf, None
    while high - low > tolerance and best.value - margin > tolerance:
        slope = -best.radius_gradient
        away = low + (best.value - margin) / slope if slope > 0 else high
        # Half a tolerance short of the root, so that a step on a straight line counts.
        away = max(away - 0.5 * tolerance / max(slope, 1.0), low + 0.25 * tolerance)
        radius = away if away < high else 0.5 * (low + high)
        trial = training.fit(features, costs, radius, start=best.point)
        if trial.value >= margin:
            low, best = radius, trial
        else:
            high = radius
    return low, best
