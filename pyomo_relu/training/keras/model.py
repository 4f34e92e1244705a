"""`PenalizedModel`: a Keras model with penalties in its loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from pyomo_relu.training.keras.intervals import Interval, check_layers, interval_bounds
from pyomo_relu.training.keras.penalties import Penalty


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
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.model = model
        self.penalties = tuple(penalties)
        names = [p.name for p in self.penalties]
        if len(set(names)) < len(names):
            raise ValueError(f"penalties need different names, not {names}.")
        self.radius = radius
        self.box = None
        if (lower is None) != (upper is None):
            raise ValueError("give both lower= and upper=, or none of them.")
        if any(p.needs_bounds for p in self.penalties):
            if lower is None and radius is None:
                raise ValueError(
                    "penalties on bounds need a box: give lower= and upper=, or radius=."
                )
            check_layers(model)
        if lower is not None:
            shape = model.input_shape[1:]
            ends = [
                np.broadcast_to(np.asarray(a, "float32"), shape) for a in (lower, upper)
            ]
            if (ends[0] > ends[1]).any():
                raise ValueError("the box is empty: an entry of lower is above upper.")
            self.box = tuple(np.array(a)[None] for a in ends)
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
        intervals: list[Interval] = []
        if any(p.needs_bounds for p in self.penalties):
            intervals, _ = interval_bounds(self.model, *self.boxes(x))
        for p in self.penalties:
            value = p.value(self.model, intervals)
            self.trackers[p.name].update_state(value)
            loss = loss + p.weight * value
        return loss
