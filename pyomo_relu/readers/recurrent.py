r"""Recurrent layers over a fixed number of steps, written out step by step.

With the state :math:`h_0` (zero, if none is given), the step :math:`t` of a simple cell is

.. math:: h_t = \varphi(W x_t + U h_{t-1} + b),

one affine node and one activation, for a ReLU as exact as a dense layer. GRU and LSTM
multiply gates with states: :mod:`pyomo_relu.readers.gated`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pyomo_relu.readers.moves import move
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Tensor, Value

#: From (graph, name, tensor) to a tensor.
Activation = Callable[[TensorGraph, str, Tensor], Tensor]

#: A state before a step: a tensor or a constant (1, units); None is zero.
State = Value | None


class RecurrentCell(Protocol):
    """What each step computes."""

    @property
    def n_states(self) -> int:
        """How many states are passed on; the first one is the output."""

    def step(
        self, graph: TensorGraph, name: str, x: Tensor, states: Sequence[State]
    ) -> list[Tensor]:
        """The states (1, units) after one step from (1, n_inputs) and those before."""


@dataclass(frozen=True)
class Cell:
    """A simple cell.

    Attributes
    ----------
    kernel : (n_inputs, units) array
    recurrent : (units, units) array
    bias : (units,) array or float
    activation : callable
    """

    kernel: np.ndarray
    recurrent: np.ndarray
    bias: np.ndarray | float
    activation: Activation

    n_states = 1

    def step(
        self, graph: TensorGraph, name: str, x: Tensor, states: Sequence[State]
    ) -> list[Tensor]:
        """The state after one step."""
        weights = self.kernel, self.recurrent, self.bias
        return [self.activation(graph, name, weighted(graph, name, x, states[0], *weights))]


def weighted(
    graph: TensorGraph,
    name: str,
    x: Tensor,
    h: State,
    kernel: np.ndarray,
    recurrent: np.ndarray,
    bias: np.ndarray | float,
) -> Tensor:
    """``x @ kernel + h @ recurrent + bias``, a tensor (1, units)."""
    total = graph.matmul(f"{name}_input", x, kernel, bias)
    if isinstance(h, Tensor):
        turned = graph.matmul(f"{name}_state", h, recurrent)
        return graph.add(f"{name}_sum", [total, turned])
    if h is not None:
        return graph.scale(f"{name}_sum", total, 1.0, np.asarray(h) @ recurrent)
    return total


def steps_of(graph: TensorGraph, name: str, x: Tensor, axis: int) -> list[Tensor]:
    """The tensors (1, n_inputs) of each step, which are counted along an axis of three."""
    if len(x.shape) != 3 or x.shape[1 - axis] != 1 or x.batch not in (None, 1 - axis):
        raise ValueError(
            f"layer '{name}' needs an input of steps and features of one sample; it has "
            f"the shape {x.shape}."
        )
    batch = None if x.batch is None else 0
    parts = [np.take(x.index, t, axis=axis) for t in range(x.shape[axis])]
    return [
        graph.rearrange(f"{name}_step_{t}", [x], part, batch=batch)
        for t, part in enumerate(parts)
    ]


def unrolled(
    graph: TensorGraph,
    name: str,
    steps: Sequence[Tensor],
    cells: Sequence[RecurrentCell],
    states: Sequence[Sequence[State]] | None = None,
    backwards: bool = False,
) -> tuple[list[Tensor], list[list[Tensor]]]:
    """Run cells, each on the outputs of the one before, over all steps.

    Parameters
    ----------
    steps : sequence of Tensor of shape (1, n_inputs)
        In the order of time.
    cells : sequence of cells
    states : sequence of sequences of states, optional
        What each cell begins with; zero by default.
    backwards : bool
        The last step is taken first.

    Returns
    -------
    outputs : list of Tensor of shape (1, units)
        The outputs of the last cell, in the order of time.
    states : list of lists of Tensor
        The last states of each cell.
    """
    held: list[Sequence[State]]
    held = [[None] * cell.n_states for cell in cells] if states is None else list(states)
    last: list[list[Tensor]] = [[] for _ in cells]
    order = range(len(steps))
    found: dict[int, Tensor] = {}
    for t in reversed(order) if backwards else order:
        x = steps[t]
        for k, cell in enumerate(cells):
            label = f"{name}_{t}" if len(cells) == 1 else f"{name}_{k}_{t}"
            held[k] = last[k] = cell.step(graph, label, x, held[k])
            x = last[k][0]
        found[t] = x
    return [found[t] for t in order], last


def stacked(graph: TensorGraph, name: str, parts: Sequence[Tensor], axis: int) -> Tensor:
    """Tensors (1, units) along a new axis."""
    [made] = move(graph, name, parts, lambda codes: [np.stack(codes, axis)])
    assert isinstance(made, Tensor)
    return made
