r"""Straight-through gradients: a quick network to begin with, and a baseline.

Latent weights are clipped to their box and rounded, steps are hard in the forward pass and
a clipped line in the backward pass. With bits as targets the logistic loss of every score
is lowered, which makes each output bit right by itself; with losses on scores it is their
squared hinge at the margin of the programs. All of it is NumPy in float64, so a seed gives
one network.

After Thorbjarnarson and Yorke-Smith, PLoS ONE 18(2), 2023, whose baseline has the hinge, a
constant rate and the same width of the backward line in every layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from pyomo_relu.base.progress import progress
from pyomo_relu.steps.adam import Adam
from pyomo_relu.steps.step_network import StepNetwork, activations_of
from pyomo_relu.training.losses import BIT_LOSSES, out_bound
from pyomo_relu.training.task import (
    NEAR,
    Task,
    Training,
    constant_network,
    ended,
    only_soft,
)


@dataclass(frozen=True)
class GradientSettings:
    """The numbers that steer the training.

    Those without a place were chosen by hand. "Digits" are three draws of 1,348 images of
    scikit-learn to train and 449 to test, 20 hidden step neurons, weights in {-1, 0, 1};
    the mean test accuracies were taken on a busy machine, which they don't depend on.

    Attributes
    ----------
    steps : int
        Steps of Adam; with 4,000 digits have 91.3 %, with 8,000 92.9 %.
    epochs : (int, int)
        No fewer and no more passes over the points than these. The second one ends early
        what few points don't need.
    every : int
        Steps between two looks at the loss.
    batch : int
        Points in a step.
    rate : float
        Adam's first rate in units of a parameter's box; it falls to 0 along a cosine.
        With 0.02 digits have 0.3 % more after 4,000 steps.
    width : float
        Half the width of the backward line in units of the mean norm of the layer's
        inputs times the bound of the weights. 1/4 gives 1.7 % less on digits.
    sharpness : float
        The logistic loss sees scores in units of the mean norm of the last layer's inputs
        times the bound of the weights, times this. With 3 more output bits are wrong on
        digits, 17 instead of 14 % of the points, at the same accuracy.
    """

    steps: int = 8000
    epochs: tuple[int, int] = (10, 1000)
    every: int = 200
    batch: int = 64
    rate: float = 1e-2
    width: float = 0.5
    sharpness: float = 5.0


SETTINGS = GradientSettings()


def straight_through(task: Task, start: StepNetwork | None = None) -> Training:
    """Train with straight-through gradients; keep the network of the smallest loss.

    Parameters
    ----------
    task : Task
    start : StepNetwork, optional
        The latent weights begin there instead of at random.

    Raises
    ------
    ValueError
        With ``robust=``, or a loss that must fit every point.
    """
    only_soft(task.loss, "ste")
    if task.family.robust is not None:
        raise ValueError("method='ste' has no robust training; use another method.")
    clock, latent = task.clock(), _Latent(task, start)
    best = min(
        (constant_network(task), *([] if start is None else [start])), key=task.value
    )
    n, history = len(task.data.x), list[dict[str, Any]]()
    batch = min(SETTINGS.batch, n)
    each = math.ceil(n / batch)
    few, many = SETTINGS.epochs
    steps = min(max(SETTINGS.steps, few * each), many * each)
    with progress(steps, "straight-through gradients", "step") as bar:
        for done in range(steps):
            if done % SETTINGS.every == 0:
                best = _look(task, latent, best, done, history)
                bar.update(SETTINGS.every)
                if task.value(best) <= task.floor() + NEAR:
                    break
            if clock.expired():
                break
            if done % each == 0:
                order = task.rng.permutation(n)
            some = order[done % each * batch :][:batch]
            latent.step(some, 0.5 * (1.0 + math.cos(math.pi * done / steps)))
    best = _look(task, latent, best, steps, history)
    return ended(task, best, clock.expired(), history)


def _look(
    task: Task, latent: _Latent, best: StepNetwork, done: int, history: list
) -> StepNetwork:
    """The better one of the present network and the best so far."""
    network = latent.network()
    loss = task.value(network)
    history.append({"step": done, "loss": loss})
    return network if loss < task.value(best) else best


class _Latent:
    """Latent weights and biases, and their steps."""

    def __init__(self, task: Task, start: StepNetwork | None) -> None:
        self.task, family, rng = task, task.family, task.rng
        self.data = task.data
        self.share = self.data.count / self.data.count.mean()
        bound, sizes = family.bound, family.sizes(self.data.x.shape[1])
        norms = [math.sqrt(float((self.data.x**2).sum(axis=1).mean())) or 1.0]
        on = 1.0 if family.activation == "sign" else 0.5
        norms += [math.sqrt(on * n) for n in family.hidden]
        #: The size of a sum of each layer.
        self.units = [bound * norm for norm in norms]
        self.weights, self.biases = [], []
        values = self.data.x
        for k, (i, o) in enumerate(zip(sizes, sizes[1:])):
            if start is None:
                w, b = rng.uniform(-bound, bound, (o, i)), np.zeros(o)
                if k < len(family.hidden):  # every neuron begins with half of the points
                    b = -np.median(values @ self._hard(w).T, axis=0)
            else:
                w, b = start.weights[k].copy(), start.biases[k].copy()
            self.weights.append(w)
            self.biases.append(self._tied(b))
            if start is None:
                pre = values @ self._hard(w).T + self._hard_bias(b)
                values = activations_of(pre >= 0, family.activation)
        rates = [SETTINGS.rate * bound] * len(norms)
        rates += [SETTINGS.rate * unit for unit in self.units]
        self.adam = Adam([*self.weights, *self.biases], rates)
        self.score_scale = SETTINGS.sharpness / self.units[-1]
        if task.loss.name not in BIT_LOSSES:
            self.score_scale = 2.0 / out_bound(family, self.data)

    def _tied(self, b: np.ndarray) -> np.ndarray:
        """Biases, or their slopes, as the family ties them."""
        kind = self.task.family.thresholds
        if kind == "layer":
            return np.full_like(b, b.mean())
        return b if kind == "neuron" else np.zeros_like(b)

    def _hard(self, w: np.ndarray) -> np.ndarray:
        return np.round(w) if self.task.family.integer else w

    def _hard_bias(self, b: np.ndarray) -> np.ndarray:
        return np.round(b) if self.task.family.integer_bias else b

    def network(self) -> StepNetwork:
        """The hard network."""
        family = self.task.family
        layers = [family.projected(w, b) for w, b in zip(self.weights, self.biases)]
        weights, biases = zip(*layers)
        return StepNetwork(weights, biases, family.activation)

    def step(self, some: np.ndarray, factor: float) -> None:
        """One step with some of the points."""
        values = [self.data.x[some]]
        hard = [self._hard(w) for w in self.weights]
        pres = []
        for w, b in zip(hard, self.biases):
            pres.append(values[-1] @ w.T + self._hard_bias(b))
            values.append(activations_of(pres[-1] >= 0, self.task.family.activation))
        slope = self._slope(some, pres[-1])
        height = 2.0 if self.task.family.activation == "sign" else 1.0
        slopes_w, slopes_b = [], []
        for k in range(len(hard) - 1, -1, -1):
            slopes_w.append(slope.T @ values[k])
            slopes_b.append(self._tied(slope.sum(axis=0)))
            if k:
                width = SETTINGS.width * self.units[k - 1]
                line = (np.abs(pres[k - 1]) <= width) * (0.5 * height / width)
                slope = (slope @ hard[k]) * line
        self.adam.step([*slopes_w[::-1], *slopes_b[::-1]], factor)
        bound, limit = self.task.family.bound, self.task.family.bias_limit
        for w in self.weights:
            np.clip(w, -bound, bound, out=w)
        if limit is not None:
            for b in self.biases:
                np.clip(b, -limit, limit, out=b)

    def _slope(self, some: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Derivatives of the mean loss in the scores."""
        signs = 2.0 * self.data.bits[some] - 1.0
        signed, scale = signs * scores * self.score_scale, self.score_scale
        if self.task.loss.name in BIT_LOSSES:
            each = expit(-signed)
        else:
            each = 2.0 * np.maximum(self.task.loss.margin - signed, 0.0)
        return -signs * each * (scale * self.share[some] / len(some))[:, None]
