r"""Penalties: what is added to the loss, each by its weight.

For interval bounds :math:`l \le z \le u` of each ReLU's pre-activation:

* :class:`StabilityLoss`, :math:`-\sum \tanh(1 + l u)`: the ReLU stability loss of Xiao,
  Tjeng, Shafiullah and Madry, arXiv 1809.03008, whose weight was 1e-4;
* :class:`BigMPenalty`, the sum of :math:`u - l` of unstable neurons;
* :class:`UnstablePenalty`, the sum of :math:`2 \min(-l, u) / (u - l)` of unstable
  neurons: 1 for a neuron that is centred at its breakpoint, 0 from where it is stable.

The last two serve the aims of Tsay, arXiv 2604.22746, who penalizes big-M constants and
unstable neurons as well; the forms are our own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from pyomo_relu.training.keras.intervals import Interval


class Penalty(ABC):
    """One term of the loss; derive from it, and define ``value``.

    Parameters
    ----------
    weight : float
        Not negative.
    name : str, optional
        Under which its value is logged.
    """

    #: Whether ``value`` reads intervals.
    needs_bounds = True

    def __init__(self, weight: float, name: str | None = None) -> None:
        if not weight >= 0:
            raise ValueError(f"the weight of a penalty is not negative, but {weight} is.")
        self.weight = weight
        self.name = name or type(self).__name__

    @abstractmethod
    def value(self, model: keras.Model, intervals: Sequence[Interval]) -> Any:
        """The penalty without its weight, a scalar tensor.

        Parameters
        ----------
        model : keras.Model
        intervals : list of (lower, upper)
            As :func:`interval_bounds` returns them; empty without ``needs_bounds``.
        """


def _total(parts: list[Any], intervals: Sequence[Interval]) -> Any:
    """The sum over neurons, the mean over the boxes."""
    boxes = ops.cast(ops.shape(intervals[0][0])[0], "float32")
    return sum(ops.sum(p) for p in parts) / boxes


class L1Penalty(Penalty):
    """The sum of absolute weights, biases left out."""

    needs_bounds = False

    def value(self, model: keras.Model, intervals: Sequence[Interval]) -> Any:
        kernels = [v for v in model.trainable_variables if len(v.shape) > 1]
        return sum(ops.sum(ops.abs(v)) for v in kernels)


class StabilityLoss(Penalty):
    """The ReLU stability loss of Xiao et al.: minus the sum of ``tanh(1 + l u)``."""

    def __init__(self, weight: float = 1e-4, name: str | None = None) -> None:
        super().__init__(weight, name)

    def value(self, model: keras.Model, intervals: Sequence[Interval]) -> Any:
        return _total([-ops.tanh(1.0 + low * high) for low, high in intervals], intervals)


class BigMPenalty(Penalty):
    """The sum of the big-M constants ``u - l`` of unstable neurons."""

    def value(self, model: keras.Model, intervals: Sequence[Interval]) -> Any:
        parts = []
        for low, high in intervals:
            unstable = ops.logical_and(low < 0, high > 0)
            parts.append(ops.where(unstable, high - low, ops.zeros_like(low)))
        return _total(parts, intervals)


class UnstablePenalty(Penalty):
    """A smooth count of unstable neurons: ``2 min(-l, u) / (u - l)`` for each."""

    def value(self, model: keras.Model, intervals: Sequence[Interval]) -> Any:
        parts = []
        for low, high in intervals:
            inside = ops.relu(ops.minimum(-low, high))
            # The width is held: else widening the bounds would lower the count.
            width = ops.stop_gradient(ops.maximum(high - low, 1e-12))
            parts.append(2.0 * inside / width)
        return _total(parts, intervals)
