"""What a reader passes from operator to operator while it reads a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Tensor:
    """A value that depends on the network's inputs.

    Attributes
    ----------
    handle : int
        The builder's node whose entries these are, in C order.
    shape : tuple of int
        The shape in the source framework, a dynamic batch axis with length 1.
    batch : int or None
        Where the dynamic batch axis is; None where there is none.
    """

    handle: int
    shape: tuple[int, ...]
    batch: int | None = None

    @property
    def size(self) -> int:
        """How many entries the tensor has."""
        return prod(self.shape)

    @property
    def index(self) -> np.ndarray:
        """The position of each entry in the flat vector, an array of this shape."""
        return np.arange(self.size, dtype=np.int64).reshape(self.shape)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape without the batch axis, or without a leading axis of length 1."""
        if self.batch is not None:
            return self.shape[: self.batch] + self.shape[self.batch + 1 :]
        return self.shape[1:] if len(self.shape) > 1 and self.shape[0] == 1 else self.shape


Value = Tensor | np.ndarray


@dataclass(frozen=True)
class Head:
    """What a smooth head, such as a softmax, made of a tensor of the network.

    With ``logits=True`` a model is read up to it: it may only be an output, maybe under
    another shape. Whatever computes with it is refused.

    Attributes
    ----------
    logits : Tensor
        What the head reads.
    function : str
        Its name in the framework.
    layer : str
        How errors name the layer that it belongs to.
    run : Any
        What the check of the reading needs of it; each reader has its own.
    unit : Tensor or None
        What the head makes of its input, where that is a unit of the network (a sigmoid):
        what computes with it, and an output without ``logits=True``, reads this.
    """

    logits: Tensor
    function: str
    layer: str
    run: Any = None
    unit: Tensor | None = None


_KNOWN_HEADS = {
    "softmax": "softmax",
    "logsoftmax": "softmax",
    "sigmoid": "sigmoid",
    "logsigmoid": "sigmoid",
}


def head_of(values: Sequence[Any]) -> str | None:
    """What a network remembers of the heads that were taken off its outputs.

    A softmax counts where it is one over all outputs, a sigmoid of any.
    """
    if len(values) != 1 or not isinstance(values[0], Head):
        return None
    [head] = values
    known = _KNOWN_HEADS.get(head.function.lower().replace("_", ""))
    if known == "softmax" and sum(n > 1 for n in head.logits.shape) > 1:
        return None  # a softmax for each part of the outputs
    return known


@dataclass(frozen=True)
class Call:
    """A part of the source that can be run by itself, for the check of the reading.

    Attributes
    ----------
    layer : str
        How errors name it.
    run : callable
        From an (N, size of source) array to an (N, size of result) array.
    source, result : int
        The nodes of the builder that it reads and makes.
    """

    layer: str
    run: Callable[[np.ndarray], np.ndarray]
    source: int
    result: int
