"""The baseline: gradients that pass straight through steps and rounding, in Keras.

Latent weights are clipped to their box and rounded, steps are hard in the forward pass
and a clipped line in the backward pass; squared hinge at the same margin as the
programs. After Thorbjarnarson and Yorke-Smith, PLoS ONE 18(2), 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.steps.step_network import StepNetwork
from pyomo_relu.training.losses import out_bound
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
    """The numbers that steer the training; all were chosen by hand.

    Attributes
    ----------
    epochs : int
    every : int
        The number of epochs between two looks at the loss.
    batch : int
        The number of points in a step.
    rate : float
        Adam's first rate.
    decay, decay_steps : float, int
        The factor of the rate after so many steps.
    """

    epochs: int = 2000
    every: int = 50
    batch: int = 64
    rate: float = 1e-2
    decay: float = 0.9
    decay_steps: int = 1000


SETTINGS = GradientSettings()


def straight_through(task: Task, x: np.ndarray, bits: np.ndarray) -> Training:
    """Train with straight-through gradients; keep the network of the smallest loss.

    Raises
    ------
    ValueError
        With ``robust=``, or a loss that must fit every point.
    ImportError
        If Keras is missing.
    """
    from pyomo_relu.steps.keras_layers import keras

    only_soft(task.loss, "ste")
    if task.family.robust is not None:
        raise ValueError("method='ste' has no robust training; use another method.")
    keras.utils.set_random_seed(int(task.rng.integers(2**31 - 1)))
    clock = task.clock()
    model = _model(task, keras)
    _compile(task, model, keras)
    best = min((constant_network(task), _network(task, model)), key=task.value)
    data = x.astype("float32"), (2.0 * bits - 1.0).astype("float32")
    options = {
        "batch_size": min(SETTINGS.batch, len(x)),
        "epochs": SETTINGS.every,
        "verbose": 0,
        "callbacks": [_until(clock, keras)],
    }
    history: list[dict[str, Any]] = []
    for epoch in range(SETTINGS.every, SETTINGS.epochs + 1, SETTINGS.every):
        if clock.expired():
            break
        model.fit(*data, **options)
        network = _network(task, model)
        best = min((best, network), key=task.value)
        history.append({"epoch": epoch, "loss": task.value(network)})
        if task.value(best) <= NEAR:
            break
    return ended(task, best, clock.expired(), history)


def _compile(task: Task, model: Any, keras: Any) -> None:
    """Squared hinge at the margin of the programs, by Adam."""
    scale = np.float32(2.0 / out_bound(task.family, task.data))

    def squared_hinge(y: Any, scores: Any) -> Any:
        short = keras.ops.maximum(task.loss.margin - y * scores * scale, 0.0)
        return keras.ops.mean(keras.ops.square(short))

    rate = keras.optimizers.schedules.ExponentialDecay(
        SETTINGS.rate, SETTINGS.decay_steps, SETTINGS.decay
    )
    model.compile(keras.optimizers.Adam(rate), loss=squared_hinge)


def _until(clock: Deadline, keras: Any) -> Any:
    """A callback that ends the training with the time limit."""

    class Until(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if clock.expired():
                self.model.stop_training = True

        on_epoch_end = on_train_batch_end

    return Until()


def _model(task: Task, keras: Any) -> Any:
    family = task.family
    bound, limit = family.bound, family.bias_limit

    def straight(hard: Any, soft: Any) -> Any:
        return soft + keras.ops.stop_gradient(hard - soft)

    class Layer(keras.layers.Layer):
        def __init__(self, units: int, switch: bool) -> None:
            super().__init__()
            self.units, self.switch = units, switch

        def build(self, shape: tuple[Any, ...]) -> None:
            start = keras.initializers.RandomUniform(-bound, bound)
            self.w = self.add_weight(shape=(shape[-1], self.units), initializer=start)
            n = {"neuron": self.units, "layer": 1, "none": 1}[family.thresholds]
            self.b = self.add_weight(
                shape=(n,),
                initializer="zeros",
                trainable=family.thresholds != "none",
            )

        def call(self, x: Any) -> Any:
            w = keras.ops.clip(self.w, -bound, bound)
            b = self.b if limit is None else keras.ops.clip(self.b, -limit, limit)
            w = straight(keras.ops.round(w), w) if family.integer else w
            b = straight(keras.ops.round(b), b) if family.integer_bias else b
            pre = keras.ops.matmul(x, w) + b
            if not self.switch:
                return pre
            on = keras.ops.cast(pre >= 0, pre.dtype)
            soft = keras.ops.clip((pre + 1.0) / 2.0, 0.0, 1.0)
            u = straight(on, soft)
            return u if family.activation == "step" else 2.0 * u - 1.0

    return keras.Sequential(
        [
            keras.Input((task.data.x.shape[1],)),
            *[Layer(n, True) for n in family.hidden],
            Layer(family.outputs, False),
        ]
    )


def _network(task: Task, model: Any) -> StepNetwork:
    """The hard network: clipped, rounded, in float64."""
    weights, biases = [], []
    for layer in model.layers:
        w, b = (np.asarray(a, dtype=float) for a in (layer.w, layer.b))
        w, b = task.family.projected(w.T, b)
        weights.append(w)
        biases.append(np.broadcast_to(b, (len(w),)).copy())
    return StepNetwork(tuple(weights), tuple(biases), task.family.activation)
