"""`Terms`: the penalties of one model with their box and period, for any framework."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from pyomo_relu.training.relaxation.chain import DenseLayer, Interval, crown_bounds
from pyomo_relu.training.relaxation.penalties import Intervals, LPGapPenalty, Penalty


class Framework(NamedTuple):
    """What a training framework brings.

    Attributes
    ----------
    ops : namespace
        Functions of tensors under the names of ``keras.ops``.
    check : callable
        ``check(model)`` raises a ValueError where a layer has no interval rule.
    intervals : callable
        ``intervals(model, lower, upper)`` gives interval bounds of the pre-activations over
        boxes, and of the outputs.
    layers : callable
        ``layers(model)`` gives the chain of dense layers, or raises a ValueError.
    call : callable
        See :class:`~pyomo_relu.training.relaxation.penalties.Intervals`.
    like : callable
        ``like(array, tensor)`` gives the array as a tensor of the type, and on the device, of
        another.
    """

    ops: Any
    check: Callable[[Any], None]
    intervals: Callable[..., tuple[list[Interval], Interval]]
    layers: Callable[[Any], list[DenseLayer]]
    call: Callable[..., Any]
    like: Callable[[np.ndarray, Any], Any]


def _box(lower: Any, upper: Any, shape: Sequence[int] | None) -> list[np.ndarray]:
    """The ends of the box, of the shape of an input where that is known."""
    ends = [np.asarray(a, "float32") for a in (lower, upper)]
    if shape is not None:
        ends = [np.broadcast_to(a, shape) for a in ends]
    if not (ends[0] <= ends[1]).all():
        raise ValueError("the box is empty: an entry of lower is above upper.")
    return ends


class Terms:
    """The penalties of a model, checked, and their values at a batch.

    Parameters
    ----------
    framework : Framework
    model : keras.Model or torch.nn.Module
    penalties : sequence of Penalty
    lower, upper : float or array_like, optional
        The box over which bounds are taken, in the units of the model's inputs.
    radius : float, optional
        Take bounds around each sample of a batch instead, within the box where one is given.
    every : int
        Of so many batches one has penalties.
    shape : sequence of int, optional
        Of one input, where the model knows it: the box is then checked at once.

    Raises
    ------
    ValueError
        For penalties without different names, for a penalty on bounds with neither a box nor
        a radius, for an empty box, and for layers that a penalty can't read.
    """

    def __init__(
        self,
        framework: Framework,
        model: Any,
        penalties: Sequence[Penalty],
        lower: Any = None,
        upper: Any = None,
        *,
        radius: float | None = None,
        every: int = 1,
        shape: Sequence[int] | None = None,
    ) -> None:
        self.framework, self.model = framework, model
        self.penalties, self.radius, self.every = tuple(penalties), radius, every
        self._check(lower, upper)
        self._ends = None if lower is None else _box(lower, upper, shape)
        if self.needs_bounds:
            framework.check(model)
        if any(p.needs_chain for p in self.penalties):
            layers = framework.layers(model)
            for p in self.penalties:
                if isinstance(p, LPGapPenalty):
                    p.check(layers)

    def _check(self, lower: Any, upper: Any) -> None:
        """Refuse what doesn't fit together, whatever the model."""
        names = [p.name for p in self.penalties]
        if len(set(names)) < len(names):
            raise ValueError(f"penalties need different names, not {names}.")
        if (lower is None) != (upper is None):
            raise ValueError("give both lower= and upper=, or none of them.")
        if lower is None and self.radius is None and self.needs_bounds:
            raise ValueError(
                "penalties on bounds need a box: give lower= and upper=, or radius=."
            )
        if int(self.every) != self.every or self.every < 1:
            raise ValueError(f"every= is a whole number of at least 1, not {self.every!r}.")

    @property
    def needs_bounds(self) -> bool:
        """Whether a penalty reads bounds."""
        return any(p.needs_bounds for p in self.penalties)

    @property
    def needs_samples(self) -> bool:
        """Whether the inputs of a batch are read."""
        return self.needs_bounds or any(p.needs_layers for p in self.penalties)

    def boxes(self, x: Any) -> tuple[Any, ...]:
        """Lower and upper ends, (1, ...) for the box or (N, ...) around samples.

        Parameters
        ----------
        x : (N, ...) tensor
            The samples.
        """
        ops, box = self.framework.ops, None
        if self._ends is not None:
            rows = [np.array(np.broadcast_to(a, x.shape[1:]))[None] for a in self._ends]
            box = [self.framework.like(a, x) for a in rows]
        if self.radius is None:
            assert box is not None
            return box[0], box[1]
        low, high = x - self.radius, x + self.radius
        if box is not None:
            low = ops.maximum(low, box[0])
            # A sample outside of the box has a box that is a point.
            high = ops.maximum(ops.minimum(high, box[1]), low)
        return low, high

    def values(self, x: Any, kernels: Sequence[Any]) -> list[Any]:
        """The penalties without their weights, bounds being computed once for all.

        Parameters
        ----------
        x : (N, ...) tensor
            The inputs of a batch.
        kernels : sequence of tensors
            All trained weights but the biases.
        """
        ops, _, intervals, chain, call, _ = self.framework
        kinds = {p.bounds for p in self.penalties if p.needs_bounds}
        chained = any(p.needs_chain for p in self.penalties)
        layers = chain(self.model) if chained else []
        ends = self.boxes(x) if kinds else ()
        pairs: dict[str, list[Interval]] = {}
        if "interval" in kinds:
            pairs["interval"] = intervals(self.model, *ends)[0]
        if "crown" in kinds:
            pairs["crown"] = crown_bounds(ops, layers, *ends)[0]
        known = {
            "ops": ops, "kernels": kernels, "layers": layers, "samples": x, "call": call
        }  # fmt: skip
        return [
            p.value(
                self.model, Intervals(pairs[p.bounds] if p.needs_bounds else (), **known)
            )
            for p in self.penalties
        ]
