"""Callbacks: magnitude pruning by a schedule, and a record of bounds."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from pyomo_relu.training.keras.intervals import check_layers, interval_bounds


class MagnitudePruning(keras.callbacks.Callback):
    """Sets the smallest weights to zero, more and more of them, and keeps them there.

    The share of zeros rises from ``initial`` to ``final`` as
    ``final + (initial - final) (1 - (step - begin) / (end - begin))^power``.

    Parameters
    ----------
    final : float
        Share of zeros at the end, in [0, 1).
    begin, end : int
        Training steps (batches) between which it rises.
    initial : float
    power : float
    frequency : int
        Steps between two updates of what is zero.
    last_layer : bool
        Whether the last layer with weights is pruned, too.

    Attributes
    ----------
    masks : dict from str to array
        By the path of each weight, 1 where it is kept.

    Source: Zhu and Gupta, "To prune, or not to prune", arXiv 1710.01878.
    """

    def __init__(
        self,
        final: float,
        begin: int,
        end: int,
        *,
        initial: float = 0.0,
        power: float = 3.0,
        frequency: int = 10,
        last_layer: bool = False,
    ) -> None:
        super().__init__()
        if not 0.0 <= initial <= final < 1.0:
            raise ValueError(
                f"pruning needs 0 <= initial <= final < 1, not {initial} and {final}."
            )
        if not 0 <= begin < end or frequency < 1:
            raise ValueError("pruning needs 0 <= begin < end, and frequency of at least 1.")
        self.final, self.initial, self.power = final, initial, power
        self.begin, self.end, self.frequency = begin, end, frequency
        self.last_layer = last_layer
        self.step = 0
        self.masks: dict[str, np.ndarray] = {}

    def sparsity(self, step: int) -> float:
        """The share of zeros that the schedule asks for after ``step`` batches."""
        if step < self.begin:
            return 0.0
        done = min((step - self.begin) / (self.end - self.begin), 1.0)
        return self.final + (self.initial - self.final) * (1.0 - done) ** self.power

    def _kernels(self) -> list[Any]:
        found = [v for v in self.model.trainable_variables if len(v.shape) > 1]
        return found if self.last_layer else found[:-1]

    def on_train_begin(self, logs: Any = None) -> None:
        """Count the steps anew."""
        self.step = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Update what is zero where it is time, and set it to zero."""
        self.step += 1
        due = (self.step - self.begin) % self.frequency == 0 or self.step == self.end
        self._prune(due and self.begin <= self.step <= self.end)

    def _prune(self, update: bool) -> None:
        share = self.sparsity(self.step)
        for v in self._kernels():
            w = np.array(keras.ops.convert_to_numpy(v))
            if update:
                mask = np.ones(w.size, dtype=w.dtype)
                # Zeros stay zero: they are the smallest.
                mask[np.argsort(abs(w).ravel(), kind="stable")[: int(share * w.size)]] = 0
                self.masks[v.path] = mask.reshape(w.shape)
            if v.path in self.masks:
                v.assign(w * self.masks[v.path])


class BoundsHistory(keras.callbacks.Callback):
    """Logs ``stable`` and ``big_m`` after each epoch, by interval bounds over a box.

    ``stable`` is the share of ReLU neurons that keep their sign, ``big_m`` the mean of
    ``u - l`` of the others.

    Parameters
    ----------
    lower, upper : float or array_like
        The box, in the units of the model's inputs.
    """

    def __init__(self, lower: Any, upper: Any) -> None:
        super().__init__()
        self.lower, self.upper = lower, upper

    def on_train_begin(self, logs: Any = None) -> None:
        """Refuse a model without interval rules before the work begins."""
        check_layers(self._network())

    def _network(self) -> keras.Model:
        from pyomo_relu.training.keras.model import PenalizedModel

        model = self.model
        return model.model if isinstance(model, PenalizedModel) else model

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Add the two numbers to the logs."""
        model = self._network()
        shape = model.input_shape[1:]
        ends = [
            np.broadcast_to(np.asarray(a, "float32"), shape)[None]
            for a in (self.lower, self.upper)
        ]
        found, _ = interval_bounds(model, *ends)
        low, high = (
            np.concatenate([keras.ops.convert_to_numpy(b[k]).ravel() for b in found])
            for k in (0, 1)
        )
        unstable = (low < 0) & (high > 0)
        if logs is not None:
            logs["stable"] = float(1.0 - unstable.mean())
            logs["big_m"] = float((high - low)[unstable].mean()) if unstable.any() else 0.0
