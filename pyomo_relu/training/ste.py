"""The baseline: gradients that pass straight through steps and rounding, in Keras.

Latent weights are clipped to their box and rounded, steps are hard in the forward pass
and a clipped line in the backward pass; squared hinge at the same margin as the
programs. After Thorbjarnarson and Yorke-Smith, PLoS ONE 18(2), 2023.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pyomo_relu.steps.step_network import StepNetwork
from pyomo_relu.training.exact import Task, Training, constant_network
from pyomo_relu.training.losses import out_bound

#: Steps of Adam, its rate, and how often the loss is looked at.
EPOCHS, RATE, EVERY = 2000, 1e-2, 50


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
    from pyomo_relu.training.exact import only_soft

    only_soft(task.loss, "ste")
    family = task.family
    if family.robust is not None:
        raise ValueError("method='ste' has no robust training; use another method.")
    keras.utils.set_random_seed(int(task.rng.integers(2**31 - 1)))
    clock = task.clock()
    model = _model(task, keras)
    sign = (2.0 * bits - 1.0).astype("float32")
    scale, margin = np.float32(2.0 / out_bound(family, task.data)), task.loss.margin

    def squared_hinge(y, scores):
        short = keras.ops.maximum(margin - y * scores * scale, 0.0)
        return keras.ops.mean(keras.ops.square(short))

    class Until(keras.callbacks.Callback):
        """Ends the training with the time limit."""

        def __init__(self, clock) -> None:
            super().__init__()
            self.clock = clock

        def on_train_batch_end(self, batch, logs=None) -> None:
            if self.clock.expired():
                self.model.stop_training = True

        on_epoch_end = on_train_batch_end

    decay = keras.optimizers.schedules.ExponentialDecay(RATE, 1000, 0.9)
    model.compile(keras.optimizers.Adam(decay), loss=squared_hinge)
    best = min((constant_network(task), _network(task, model)), key=task.value)
    loss = task.value(best)
    features = x.astype("float32")
    size = min(64, len(x))
    history: list[dict[str, Any]] = []
    for epoch in range(0, EPOCHS, EVERY):
        if clock.expired():
            break
        model.fit(
            features,
            sign,
            batch_size=size,
            epochs=EVERY,
            verbose=0,
            callbacks=[Until(clock)],
        )
        network = _network(task, model)
        now = task.value(network)
        if now < loss:
            best, loss = network, now
        history.append({"epoch": epoch + EVERY, "loss": now})
        if loss <= 1e-9:
            break
    if loss <= 1e-9:
        return Training(best, "optimal", loss, loss, 0, history)
    return Training(
        best, "time_limit" if clock.expired() else "feasible", loss, 0.0, 0, history
    )


def _model(task: Task, keras: Any) -> Any:
    family = task.family
    bound, hidden = family.bound, family.hidden
    limit = family.bias_bound

    def straight(hard, soft):
        return soft + keras.ops.stop_gradient(hard - soft)

    class Layer(keras.layers.Layer):
        def __init__(self, units: int, switch: bool) -> None:
            super().__init__()
            self.units, self.switch = units, switch

        def build(self, shape) -> None:
            start = keras.initializers.RandomUniform(-bound, bound)
            self.w = self.add_weight(shape=(shape[-1], self.units), initializer=start)
            n = {"neuron": self.units, "layer": 1, "none": 1}[family.thresholds]
            self.b = self.add_weight(
                shape=(n,),
                initializer="zeros",
                trainable=family.thresholds != "none",
            )

        def call(self, x):
            w = keras.ops.clip(self.w, -bound, bound)
            b = self.b if limit is None else keras.ops.clip(self.b, -limit, limit)
            if family.thresholds == "layer" and limit is None:
                b = keras.ops.clip(self.b, -bound, bound)
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
            *[Layer(n, True) for n in hidden],
            Layer(family.outputs, False),
        ]
    )


def _network(task: Task, model: Any) -> StepNetwork:
    """The hard network: clipped, rounded, in float64."""
    family = task.family
    weights, biases = [], []
    for layer in model.layers:
        w, b = (np.asarray(a, dtype=float) for a in (layer.w, layer.b))
        w = np.clip(w.T, -family.bound, family.bound)
        limit = family.bias_bound
        if limit is None and family.thresholds == "layer":
            limit = family.bound
        b = b if limit is None else np.clip(b, -limit, limit)
        weights.append(np.round(w) if family.integer else w)
        b = np.round(b) if family.integer_bias else b
        biases.append(np.broadcast_to(b, (len(w),)).copy())
    return StepNetwork(tuple(weights), tuple(biases), family.activation)
