r"""Penalties: what is added to the loss, each by its weight.

For bounds :math:`l \le z \le u` of each ReLU's pre-activation over the box:

* :class:`StabilityLoss`, :math:`-\sum \tanh(1 + l u)`: the ReLU stability loss of Xiao,
  Tjeng, Shafiullah and Madry, arXiv 1809.03008, whose weight was 1e-4;
* :class:`BoundWidthPenalty`, the mean of :math:`u - l`, and :class:`UnstablePenalty` with
  ``relative=False``, the mean of :math:`\min(-l, u)` of unstable neurons: the penalties on
  bounds of Tsay, arXiv 2604.22746;
* :class:`LPGapPenalty`, the gap of the linear relaxation at samples: Tsay's third;
* :class:`BigMPenalty`, the sum of :math:`u - l` of unstable neurons, and
  :class:`UnstablePenalty`, the sum of :math:`2 \min(-l, u) / (u - l)` of unstable neurons:
  1 for a neuron that is centred at its breakpoint, 0 from where it is stable. These forms
  are our own.

Bounds are those of interval arithmetic, or with ``bounds="crown"`` of CROWN. The same classes
serve Keras and PyTorch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pyomo_relu.training.relaxation.arithmetic import linearized
from pyomo_relu.training.relaxation.chain import DenseLayer, Interval
from pyomo_relu.training.relaxation.gap import SENSES, relaxation_gap

#: What Keras and PyTorch share: both packages export these.
__all__ = [
    "BigMPenalty",
    "BoundWidthPenalty",
    "L1Penalty",
    "L2Penalty",
    "LPGapPenalty",
    "Penalty",
    "StabilityLoss",
    "UnstablePenalty",
]

#: Ways to bound pre-activations while a network is trained.
BOUNDS = ("interval", "crown")


class Intervals(list[Interval]):
    """Pairs (lower, upper) of bounds, layer by layer, with what else penalties may read.

    Attributes
    ----------
    ops : namespace
        Functions of tensors under the names of ``keras.ops``.
    kernels : sequence of tensors
        All trained weights but the biases.
    layers : sequence of DenseLayer
        The chain of dense layers; only where a penalty has ``needs_layers``.
    samples : tensor
        The inputs of the batch.
    call : callable
        ``call(function, tensors)`` hands tensors to a function of NumPy arrays that returns
        a number and one array for each, and returns these as tensors.
    """

    def __init__(
        self,
        pairs: Sequence[Interval] = (),
        *,
        ops: Any = None,
        kernels: Sequence[Any] = (),
        layers: Sequence[DenseLayer] = (),
        samples: Any = None,
        call: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(pairs)
        self.ops, self.kernels, self.layers = ops, kernels, layers
        self.samples, self.call = samples, call


class Penalty(ABC):
    """One term of the loss; derive from it, and define ``value``.

    Parameters
    ----------
    weight : float
        Not negative.
    name : str, optional
        Under which its value is logged.
    bounds : {'interval', 'crown'}
        How pre-activations are bounded: CROWN's bounds are tighter in deep networks, cost
        more, and need a chain of dense layers.

    Raises
    ------
    ValueError
        For a negative weight, and for bounds that there are not.
    """

    #: Whether ``value`` reads intervals.
    needs_bounds = True
    #: Whether ``value`` reads layers and samples.
    needs_layers = False

    def __init__(
        self, weight: float, name: str | None = None, *, bounds: str = "interval"
    ) -> None:
        if not weight >= 0:
            raise ValueError(f"the weight of a penalty is not negative, but {weight} is.")
        if bounds not in BOUNDS:
            raise ValueError(f"bounds is 'interval' or 'crown', not {bounds!r}.")
        self.weight, self.bounds = weight, bounds
        self.name = name or type(self).__name__

    @property
    def needs_chain(self) -> bool:
        """Whether the model has to be a chain of dense layers."""
        return self.needs_layers or (self.needs_bounds and self.bounds == "crown")

    @abstractmethod
    def value(self, model: Any, intervals: Intervals) -> Any:
        """The penalty without its weight, a scalar tensor.

        Parameters
        ----------
        model : keras.Model or torch.nn.Module
        intervals : Intervals
            A list of (lower, upper), (N, ...) tensors for N boxes; empty without
            ``needs_bounds``. ``intervals.ops`` has the functions of tensors.
        """


def _total(ops: Any, parts: Sequence[Any]) -> Any:
    """The sum over neurons, the mean over the boxes."""
    return sum(ops.sum(ops.mean(p, axis=0)) for p in parts)


def _neurons(intervals: Sequence[Interval]) -> int:
    return sum(int(np.prod(low.shape[1:])) for low, _ in intervals)


class L1Penalty(Penalty):
    """The sum of absolute weights, biases left out."""

    needs_bounds = False

    def value(self, model: Any, intervals: Intervals) -> Any:
        ops = intervals.ops
        return sum(ops.sum(ops.abs(v)) for v in intervals.kernels)


class L2Penalty(Penalty):
    """The sum of squared weights, biases left out."""

    needs_bounds = False

    def value(self, model: Any, intervals: Intervals) -> Any:
        return sum(intervals.ops.sum(v * v) for v in intervals.kernels)


class StabilityLoss(Penalty):
    """The ReLU stability loss of Xiao et al.: minus the sum of ``tanh(1 + l u)``."""

    def __init__(
        self, weight: float = 1e-4, name: str | None = None, *, bounds: str = "interval"
    ) -> None:
        super().__init__(weight, name, bounds=bounds)

    def value(self, model: Any, intervals: Intervals) -> Any:
        ops = intervals.ops
        return _total(ops, [-ops.tanh(1.0 + low * high) for low, high in intervals])


class BigMPenalty(Penalty):
    """The sum of the big-M constants ``u - l`` of unstable neurons."""

    def value(self, model: Any, intervals: Intervals) -> Any:
        ops, parts = intervals.ops, []
        for low, high in intervals:
            unstable = ops.logical_and(low < 0, high > 0)
            parts.append(ops.where(unstable, high - low, ops.zeros_like(low)))
        return _total(ops, parts)


class BoundWidthPenalty(Penalty):
    """The mean of ``u - l`` over all neurons, stable ones too (Tsay)."""

    def value(self, model: Any, intervals: Intervals) -> Any:
        widths = [high - low for low, high in intervals]
        return _total(intervals.ops, widths) / _neurons(intervals)


class UnstablePenalty(Penalty):
    """A smooth count of unstable neurons: ``2 min(-l, u) / (u - l)`` for each.

    Parameters
    ----------
    weight, name, bounds
        As for :class:`Penalty`.
    relative : bool
        False for Tsay's form, the mean of ``min(-l, u)`` over all neurons.
    """

    def __init__(
        self,
        weight: float,
        name: str | None = None,
        *,
        bounds: str = "interval",
        relative: bool = True,
    ) -> None:
        super().__init__(weight, name, bounds=bounds)
        self.relative = relative

    def value(self, model: Any, intervals: Intervals) -> Any:
        ops, parts = intervals.ops, []
        for low, high in intervals:
            inside = ops.relu(ops.minimum(-low, high))
            if self.relative:
                # The width is held: else widening the bounds would lower the count.
                width = ops.stop_gradient(ops.maximum(high - low, 1e-12))
                inside = 2.0 * inside / width
            parts.append(inside)
        total = _total(ops, parts)
        return total if self.relative else total / _neurons(intervals)


class LPGapPenalty(Penalty):
    """The gap of the linear relaxation at samples of each batch (Tsay).

    With an input held at a sample, the relaxation still leaves an interval for the output.
    The penalty is the mean of its length, found by ascending the dual for all samples at
    once, in NumPy, with gradients from the multipliers
    (:mod:`pyomo_relu.training.relaxation.gap`). It needs a chain of dense layers with ReLU.

    Parameters
    ----------
    weight, name, bounds
        As for :class:`Penalty`; the bounds give the big-M constants.
    sense : {'both', 'min', 'max'}
        Which side of the network's own output counts: ``'min'`` for a network that will be
        minimized.
    samples : int
        How many samples of a batch are looked at, the first ones. Tsay takes 8.
    steps : int, optional
        Points of the ascent; 4 if left out. More come nearer to the linear program's value.
    hold_bounds : bool
        True for Tsay's gradient, in which the big-M constants are held; he adds a
        :class:`BoundWidthPenalty`. False for the total derivative.

    Raises
    ------
    ValueError
        For an unknown sense, and for fewer than one sample or step.
    """

    needs_layers = True

    def __init__(
        self,
        weight: float,
        name: str | None = None,
        *,
        bounds: str = "interval",
        sense: str = "both",
        samples: int = 8,
        steps: int | None = None,
        hold_bounds: bool = False,
    ) -> None:
        super().__init__(weight, name, bounds=bounds)
        if sense not in SENSES:
            raise ValueError(f"sense is one of {list(SENSES)}, not {sense!r}.")
        if samples < 1 or (steps is not None and steps < 1):
            raise ValueError("samples and steps are at least 1.")
        self.sense, self.samples, self.steps = sense, samples, steps
        self.hold_bounds = hold_bounds

    def check(self, layers: Sequence[DenseLayer]) -> None:
        """Raise a ValueError for a chain that isn't dense layers with ReLU."""
        *hidden, last = layers
        for k, layer in enumerate(hidden):
            if layer.activation is None or layer.activation.slope != 0.0:
                raise ValueError(
                    f"the activation of dense layer {k + 1} is no ReLU; LPGapPenalty needs "
                    "Dense layers with ReLU. Leave it out, or use BoundWidthPenalty."
                )
        if last.activation is not None:
            raise ValueError(
                "the last layer has an activation; LPGapPenalty needs a last dense "
                "layer without one. Leave it out, or use BoundWidthPenalty."
            )

    def value(self, model: Any, intervals: Intervals) -> Any:
        ops, layers = intervals.ops, intervals.layers
        each = len(layers), len(intervals)
        pairs = list(intervals)
        # Boxes of samples are cut with them; a box of all has one row.
        lows, highs = ([pair[side][: self.samples] for pair in pairs] for side in (0, 1))
        read = [*(layer.weight for layer in layers), *(layer.bias for layer in layers)]
        read += [*lows, *highs]
        x = intervals.samples[: self.samples]

        def numbers(*arrays: np.ndarray) -> list[np.ndarray]:
            n, m = each
            ends = np.cumsum([0, n, n, m, m])
            weights, biases, low, high = (arrays[a:b] for a, b in zip(ends, ends[1:]))
            found = relaxation_gap(
                [w.T for w in weights],
                biases,
                low,
                high,
                arrays[-1],
                self.sense,
                self.steps,
            )
            slopes = [w.T for w in found.weights] + found.biases + found.lows + found.highs
            return [np.asarray(found.value), *slopes]

        assert intervals.call is not None
        found = intervals.call(numbers, [*read, x])
        depends = 2 * len(layers) if self.hold_bounds else len(read)
        return linearized(ops, found[0], list(zip(read[:depends], found[1:])))
