r"""Outer loops over the weights of points and over the robust radius.

`tune_fit` raises :math:`F_\tau(c, r)` of
:class:`~pyomo_relu.differentiable.ValidationMargin` by projected gradient steps that are
halved until it rises. `largest_radius` solves :math:`z(r) = t_0` by Newton's method.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pyomo_relu.differentiable.margin_training import MarginFit, MarginTraining
from pyomo_relu.differentiable.outer import GAIN, class_costs
from pyomo_relu.differentiable.validation import ValidationMargin

LEARNED = ("costs", "radius")


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

    def predict(self, x) -> np.ndarray:
        """Labels -1 and 1, (N,)."""
        return np.where(self.network.scores(x) >= 0, 1.0, -1.0)


def tune_fit(
    x,
    y,
    x_validation,
    y_validation,
    *,
    learn: Collection[str] = LEARNED,
    hidden: int = 2,
    cost: float = 2.0,
    costs=None,
    validation_cost: float = 2.0,
    radius: float = 0.0,
    max_radius: float | None = None,
    tilt: float = 1.0,
    floor: float = 0.01,
    iterations: int = 10,
    step: float = 0.5,
    time_limit: float | None = None,
    callback: Callable[[dict[str, Any]], Any] | None = None,
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
        points, at which every unit is constant.
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
    labels = np.asarray(y, dtype=float).reshape(-1)
    marks = np.asarray(y_validation, dtype=float).reshape(-1)
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
    total, r = float(c.sum()), float(radius)
    low = floor * total / n
    model = ValidationMargin(
        labels,
        marks,
        features.shape[1],
        validation_costs=class_costs(marks, validation_cost),
        hidden=hidden,
        tilt=tilt,
    )
    begin = time.perf_counter()
    best = model.fit(features, others, c, r)
    history: list[dict[str, Any]] = []

    def record() -> bool:
        history.append(
            {
                "value": best.value,
                "margin": best.margin,
                "costs": c,
                "radius": r,
                "seconds": time.perf_counter() - begin,
                "network": best.trained,
            }
        )
        return bool(callback(history[-1])) if callback else False

    def late() -> bool:
        return time_limit is not None and time.perf_counter() - begin > time_limit

    stopped, status = record(), "iterations"
    for _ in range(iterations):
        if stopped:
            status = "callback"
            break
        slope_c, slope_r = np.zeros(n), 0.0
        if "costs" in learn:
            slope_c = best.cost_gradient - best.cost_gradient.mean()
            slope_c /= max(float(np.linalg.norm(slope_c)), 1e-10)
        if "radius" in learn and abs(best.radius_gradient) > 1e-9:
            slope_r = float(np.sign(best.radius_gradient))
        found = None
        for _ in range(7):
            if late():
                break
            moved = c
            if "costs" in learn:
                moved = on_simplex(c + step * total / np.sqrt(n) * slope_c, total, low)
            wide = float(np.clip(r + 0.1 * step * top * slope_r, 0.0, top))
            if max(np.abs(moved - c).max(), abs(wide - r)) < 1e-10:
                break
            trial = model.fit(features, others, moved, wide, start=best)
            if trial.value > best.value + GAIN:
                found = moved, wide, trial
                break
            step *= 0.5
        if found is None:
            status = "time limit" if late() else "no ascent"
            break
        c, r, best = found
        step = min(1.5 * step, 1.0)
        stopped = record()
    chosen = max(history, key=lambda h: (round(h["margin"], 9), h["value"]))
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
    x,
    y,
    margin: float,
    *,
    hidden: int = 2,
    costs=None,
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
        Of slacks; by default every point must be right.
    tolerance : float
        Of the radius and of the margin.

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
    training = MarginTraining(y, features.shape[1], hidden=hidden, soft=costs is not None)
    low, best = 0.0, training.fit(features, costs)
    if best.value < margin:
        raise ValueError(
            f"training reaches the value {best.value:.6g}, below the margin {margin:g}."
        )
    # Farther than that every unit is constant on the points.
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
