r"""Simple recurrent layers over a fixed number of steps, written out step by step.

With the state :math:`h_0` (zero, if none is given), the step :math:`t` is

.. math:: h_t = \varphi(W x_t + U h_{t-1} + b),

one affine node and one activation, for a ReLU as exact as a dense layer. GRU and LSTM multiply
gates with states, and a product of two variables is none of the primitives of a network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pyomo_relu.readers.moves import move
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Tensor, Value

#: Why GRU and LSTM are refused.
GATED = (
    "it multiplies gates with states, and a network of pieces and smooth units has no "
    "product of two variables. Train a simple recurrent layer with relu or tanh, or a "
    "dense or convolutional network on a window of past inputs, instead"
)


@dataclass(frozen=True)
class Cell:
    """What each step computes.

    Attributes
    ----------
    kernel : (n_inputs, units) array
    recurrent : (units, units) array
    bias : (units,) array or float
    activation : callable
        From (graph, name, tensor) to a tensor.
    """

    kernel: np.ndarray
    recurrent: np.ndarray
    bias: np.ndarray | float
    activation: Callable[[TensorGraph, str, Tensor], Tensor]

    def step(self, graph: TensorGraph, name: str, x: Tensor, h: Value | None) -> Tensor:
        """The state after one step, (1, units), from (1, n_inputs) and (1, units)."""
        total = graph.matmul(f"{name}_input", x, self.kernel, self.bias)
        if isinstance(h, Tensor):
            turned = graph.matmul(f"{name}_state", h, self.recurrent)
            total = graph.add(f"{name}_sum", [total, turned])
        elif h is not None:
            total = graph.scale(f"{name}_sum", total, 1.0, np.asarray(h) @ self.recurrent)
        return self.activation(graph, name, total)


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
    cells: Sequence[Cell],
    states: Sequence[Value | None],
    backwards: bool = False,
) -> tuple[list[Tensor], list[Tensor]]:
    """Run cells, each on the states of the one before, over all steps.

    Parameters
    ----------
    steps : sequence of Tensor of shape (1, n_inputs)
        In the order of time.
    cells : sequence of Cell
    states : sequence of (1, units) arrays or tensors, or None
        What each cell begins with; None is zero.
    backwards : bool
        The last step is taken first.

    Returns
    -------
    outputs : list of Tensor of shape (1, units)
        The states of the last cell, in the order of time.
    states : list of Tensor
        The last state of each cell.
    """
    held: list[Value | None] = list(states)
    order = range(len(steps))
    found: dict[int, Tensor] = {}
    for t in reversed(order) if backwards else order:
        x = steps[t]
        for k, cell in enumerate(cells):
            label = f"{name}_{t}" if len(cells) == 1 else f"{name}_{k}_{t}"
            x = cell.step(graph, label, x, held[k])
            held[k] = x
        found[t] = x
    last = [h for h in held if isinstance(h, Tensor)]
    return [found[t] for t in order], last


def stacked(graph: TensorGraph, name: str, parts: Sequence[Tensor], axis: int) -> Tensor:
    """Tensors (1, units) along a new axis."""
    [made] = move(graph, name, parts, lambda codes: [np.stack(codes, axis)])
    assert isinstance(made, Tensor)
    return made
