r"""Chains of dense layers, and their CROWN bounds with gradients.

The recipe of :mod:`pyomo_relu.bounds.crown` with its adaptive slopes, written in operations
of a training framework, so that bounds have gradients by the weights. The bounds of a layer
are the tighter ones of CROWN and of interval arithmetic over the layer before it. Computed in
the precision of the weights and without outward rounding: made for training, not for
proofs.

Source: Zhang et al., arXiv 1811.00866 (CROWN), eq. 7.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Interval = tuple[Any, Any]


@dataclass(frozen=True)
class Activation:
    """A function of each entry that doesn't decrease.

    Attributes
    ----------
    function : callable
    slope : float or None
        For a ReLU the slope below 0, from 0 to 1; None for any other function, which is
        bounded by its values at the ends.
    breaks : bool
        Whether a change of its piece at 0 counts: its pre-activations are bounded for
        penalties.
    """

    function: Callable[[Any], Any]
    slope: float | None = None
    breaks: bool = True


@dataclass(frozen=True)
class DenseLayer:
    """``z = x W + b``, and the activation of ``z``.

    Attributes
    ----------
    weight : (n_in, n_out) tensor
    bias : (n_out,) tensor
    activation : Activation or None
        None for the outputs.
    """

    weight: Any
    bias: Any
    activation: Activation | None


@dataclass(frozen=True)
class _Lines:
    """``lower * z + below <= f(z) <= upper * z + above``, (N, n) tensors."""

    lower: Any
    below: Any
    upper: Any
    above: Any


def _lines(ops: Any, activation: Activation, low: Any, high: Any) -> _Lines:
    zero, one = ops.zeros_like(low), ops.ones_like(low)
    if activation.slope is None:
        return _Lines(zero, activation.function(low), zero, activation.function(high))
    flat = one * activation.slope
    undecided = ops.logical_and(low < 0, high > 0)
    # Decided neurons divide by 1: their quotient is not used, but must have a gradient.
    width = ops.where(undecided, high - low, one)
    chord = ops.where(
        undecided, (high - flat * low) / width, ops.where(low >= 0, one, flat)
    )
    above = ops.where(undecided, high - chord * high, zero)
    lower = ops.where(
        undecided, ops.where(high > -low, one, flat), ops.where(low >= 0, one, flat)
    )
    return _Lines(lower, zero, chord, above)


def _backward(
    ops: Any, layers: Sequence[DenseLayer], lines: Sequence[_Lines], low: Any, high: Any
) -> Interval:
    """Bounds (N, n_out) of the last layer's pre-activations over the boxes."""
    last = layers[-1]
    rows = ops.swapaxes(last.weight, 0, 1)[None]
    # Upper bounds are the lower bounds of the negative rows.
    rows = ops.concatenate([rows, -rows], axis=1)
    const = ops.concatenate([last.bias, -last.bias], axis=0)[None]
    for layer, line in zip(reversed(layers[:-1]), reversed(lines)):
        positive = ops.relu(rows)
        negative = rows - positive
        const = const + ops.sum(
            positive * line.below[:, None] + negative * line.above[:, None], axis=-1
        )
        rows = positive * line.lower[:, None] + negative * line.upper[:, None]
        const = const + ops.sum(rows * layer.bias, axis=-1)
        rows = ops.matmul(rows, ops.swapaxes(layer.weight, 0, 1))
    center, radius = 0.5 * (low + high)[:, None], 0.5 * (high - low)[:, None]
    const = const + ops.sum(rows * center - ops.abs(rows) * radius, axis=-1)
    count = last.bias.shape[0]
    return const[:, :count], -const[:, count:]


def crown_bounds(
    ops: Any, layers: Sequence[DenseLayer], low: Any, high: Any
) -> tuple[list[Interval], Interval]:
    """CROWN bounds of all pre-activations that count, and of the outputs.

    Parameters
    ----------
    ops : namespace
        Of functions of tensors, see :mod:`pyomo_relu.training.relaxation.arithmetic`.
    layers : sequence of DenseLayer
    low, high : (N, n_inputs) tensors
        The boxes.

    Returns
    -------
    preactivations : list of (lower, upper)
        One pair of (N, n) tensors for each activation with a breakpoint.
    outputs : (lower, upper)
    """
    found: list[Interval] = []
    lines: list[_Lines] = []
    reach = low, high
    for k, layer in enumerate(layers):
        middle = ops.matmul(0.5 * (reach[0] + reach[1]), layer.weight) + layer.bias
        radius = ops.matmul(0.5 * (reach[1] - reach[0]), ops.abs(layer.weight))
        z = middle - radius, middle + radius
        if k > 0:
            below, above = _backward(ops, layers[: k + 1], lines, low, high)
            z = ops.maximum(z[0], below), ops.minimum(z[1], above)
        if layer.activation is None:
            return found, z
        if layer.activation.breaks:
            found.append(z)
        lines.append(_lines(ops, layer.activation, *z))
        reach = layer.activation.function(z[0]), layer.activation.function(z[1])
    return found, reach


class ChainBuilder:
    """Folds affine layers that follow each other into one.

    Parameters
    ----------
    ops : namespace
    """

    def __init__(self, ops: Any) -> None:
        self.ops = ops
        self.layers: list[DenseLayer] = []
        self._open: tuple[Any, Any] | None = None

    def affine(self, weight: Any, bias: Any) -> None:
        """Add ``x W + b``; ``weight`` is (n_in, n_out)."""
        if self._open is not None:
            before, shift = self._open
            bias = self.ops.matmul(shift, weight) + bias
            weight = self.ops.matmul(before, weight)
        self._open = weight, bias

    def scale(self, factor: Any, shift: Any, size: int) -> None:
        """Add ``factor * x + shift``, entry by entry, on ``size`` entries."""
        if self._open is None:
            weight = self.ops.eye(size) * factor
            self._open = weight, self.ops.zeros_like(weight[0]) + shift
        else:
            self._open = self._open[0] * factor, self._open[1] * factor + shift

    def activation(self, activation: Activation, size: int) -> None:
        """Close the layer with an activation on ``size`` entries."""
        if self._open is None:
            self.scale(1.0, 0.0, size)
        assert self._open is not None
        self.layers.append(DenseLayer(*self._open, activation))
        self._open = None

    def close(self) -> list[DenseLayer]:
        """The layers; the last one has no activation unless the model ends with one."""
        if self._open is not None:
            self.layers.append(DenseLayer(*self._open, None))
        self._open = None
        return self.layers
