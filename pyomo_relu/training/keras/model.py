"""`PenalizedModel`: a Keras model with penalties in its loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from pyomo_relu.training.keras.dense import call_numpy, dense_layers
from pyomo_relu.training.keras.intervals import check_layers, interval_bounds
from pyomo_relu.training.relaxation.penalties import (
    Penalty,
    box_ends,
    check_chain,
    check_penalties,
    values_of,
)


class PenalizedModel(keras.Model):
    """Trains a model with penalties; shares its weights.

    Compile and fit this one; then save and read the model that was given.

    Parameters
    ----------
    model : keras.Model
        For penalties on bounds a chain of Dense, convolution, batch normalization,
        pooling and ReLU layers.
    penalties : sequence of Penalty
    lower, upper : float or array_like, optional
        The box over which bounds are taken, in the units of the model's inputs.
    radius : float, optional
        Take bounds around each sample of a batch instead, within the box where one is
        given: for networks that will be verified.
    every : int
        Penalties are computed in each so many-th batch only, and count so many times as
        much there: for penalties that take longer than a step of training.

    Raises
    ------
    ValueError
        For a penalty on bounds with neither a box nor a radius, and for layers that
        have no interval rule.

    Examples
    --------
    >>> import keras                                                # doctest: +SKIP
    >>> net = keras.Sequential([keras.Input((2,)),
    ...     keras.layers.Dense(20, "relu"), keras.layers.Dense(1)])  # doctest: +SKIP
    >>> trainer = PenalizedModel(net, [BigMPenalty(1e-3)], -1, 1)   # doctest: +SKIP
    >>> trainer.compile("adam", "mse")                              # doctest: +SKIP
    >>> _ = trainer.fit(x, y)                                       # doctest: +SKIP
    """

    def __init__(
        self,
        model: keras.Model,
        penalties: Sequence[Penalty],
        lower: Any = None,
        upper: Any = None,
        *,
        radius: float | None = None,
        every: int = 1,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.model = model
        self.penalties = tuple(penalties)
        check_penalties(self.penalties, lower, upper, radius, every)
        self.radius, self.every = radius, every
        self.box = None
        if any(p.needs_bounds for p in self.penalties):
            check_layers(model)
        check_chain(self.penalties, model, dense_layers)
        if lower is not None:
            self.box = box_ends(lower, upper, model.input_shape[1:])
        self.trackers = {p.name: keras.metrics.Mean(p.name) for p in self.penalties}

    def call(self, x: Any, training: bool | None = None) -> Any:
        """The model's outputs."""
        return self.model(x, training=training)

    def boxes(self, x: Any) -> tuple[Any, ...]:
        """Lower and upper ends, (1, ...) for the box or (N, ...) around samples."""
        if self.radius is None:
            assert self.box is not None
            return tuple(ops.convert_to_tensor(a) for a in self.box)
        x = ops.cast(x, "float32")
        low, high = x - self.radius, x + self.radius
        if self.box is not None:
            low = ops.maximum(low, self.box[0])
            high = ops.maximum(ops.minimum(high, self.box[1]), low)
        return low, high

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The model's own loss and the penalties."""
        loss = super().compute_loss(
            x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training
        )
        if not self.penalties:
            return loss
        if self.every == 1:
            values, due = self._values(x), 1.0
        else:
            now = ops.equal(ops.mod(self.optimizer.iterations, self.every), 0)
            due = ops.cast(now, loss.dtype)
            none = [ops.zeros((), loss.dtype) for _ in self.penalties]
            values = ops.cond(now, lambda: self._values(x), lambda: none)
        for p, value in zip(self.penalties, values):
            self.trackers[p.name].update_state(value, sample_weight=due)
            loss = loss + p.weight * self.every * ops.cast(value, loss.dtype)
        return loss

    def _values(self, x: Any) -> list[Any]:
        """The penalties without their weights."""
        return [
            ops.convert_to_tensor(value)
            for value in values_of(
                self.penalties,
                self.model,
                self.boxes(x) if any(p.needs_bounds for p in self.penalties) else (),
                interval_bounds,
                dense_layers,
                ops=ops,
                kernels=[v for v in self.model.trainable_variables if len(v.shape) > 1],
                samples=x,
                call=call_numpy,
            )
        ]

    def compile(self, *args: Any, **options: Any) -> None:
        """As of any Keras model; without XLA where a penalty is computed in NumPy."""
        if any(p.needs_layers for p in self.penalties):
            if options.setdefault("jit_compile", False) is True:
                raise ValueError(
                    "LPGapPenalty is computed in NumPy, which XLA can't compile; leave "
                    "jit_compile=True out."
                )
            options["jit_compile"] = False
        super().compile(*args, **options)
