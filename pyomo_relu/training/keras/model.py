"""`PenalizedModel`: a Keras model with penalties in its loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from pyomo_relu.training.keras.dense import call_numpy, dense_layers
from pyomo_relu.training.keras.intervals import check_layers, interval_bounds
from pyomo_relu.training.relaxation.penalties import Penalty
from pyomo_relu.training.relaxation.terms import Framework, Terms

FRAMEWORK = Framework(
    ops,
    check_layers,
    interval_bounds,
    dense_layers,
    call_numpy,
    lambda array, x: ops.convert_to_tensor(array, x.dtype),
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
        self.terms = Terms(
            FRAMEWORK,
            model,
            penalties,
            lower,
            upper,
            radius=radius,
            every=every,
            shape=None if lower is None else model.input_shape[1:],
        )
        self.trackers = {p.name: keras.metrics.Mean(p.name) for p in self.terms.penalties}

    def call(self, x: Any, training: bool | None = None) -> Any:
        """The model's outputs."""
        return self.model(x, training=training)

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
        penalties, every = self.terms.penalties, self.terms.every
        if not penalties:
            return loss
        if every == 1:
            values, due = self._values(x), 1.0
        else:
            now = ops.equal(ops.mod(self.optimizer.iterations, every), 0)
            due = ops.cast(now, loss.dtype)
            none = [ops.zeros((), loss.dtype) for _ in penalties]
            values = ops.cond(now, lambda: self._values(x), lambda: none)
        for p, value in zip(penalties, values):
            self.trackers[p.name].update_state(value, sample_weight=due)
            loss = loss + p.weight * every * ops.cast(value, loss.dtype)
        return loss

    def _values(self, x: Any) -> list[Any]:
        """The penalties without their weights."""
        kernels = [v for v in self.model.trainable_variables if len(v.shape) > 1]
        x = ops.cast(x, "float32") if self.terms.needs_samples else x
        return [ops.convert_to_tensor(value) for value in self.terms.values(x, kernels)]

    def compile(self, *args: Any, **options: Any) -> None:
        """As of any Keras model; without XLA where a penalty is computed in NumPy."""
        if any(p.needs_layers for p in self.terms.penalties):
            if options.setdefault("jit_compile", False) is True:
                raise ValueError(
                    "LPGapPenalty is computed in NumPy, which XLA can't compile; leave "
                    "jit_compile=True out."
                )
            options["jit_compile"] = False
        super().compile(*args, **options)
