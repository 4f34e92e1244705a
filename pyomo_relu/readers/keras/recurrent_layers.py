"""SimpleRNN, GRU, LSTM, RNN of their cells, and Bidirectional, over a fixed number of steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pyomo_relu.readers.gated import Gru, Lstm, gates_of
from pyomo_relu.readers.keras.activation_functions import apply, as_unit
from pyomo_relu.readers.keras.describing import as_numpy, refuse
from pyomo_relu.readers.keras.originals import refuse_replaced
from pyomo_relu.readers.keras.registration import LAYERS, layer_reader
from pyomo_relu.readers.moves import move
from pyomo_relu.readers.reader_tables import enter
from pyomo_relu.readers.recurrent import (
    Activation,
    Cell,
    RecurrentCell,
    stacked,
    steps_of,
    unrolled,
)
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Tensor

_UNIT = "a state can't pass on what logits=True leaves out."


def _activation(cell: Any, function: Any) -> Activation:
    """One of the activations of a cell."""

    def activated(graph: TensorGraph, name: str, x: Tensor) -> Tensor:
        return as_unit(apply(graph, name, cell, x, function), _UNIT)

    return activated


def _simple(cell: Any) -> Cell:
    bias = as_numpy(cell.bias) if cell.bias is not None else 0.0
    kernels = as_numpy(cell.kernel), as_numpy(cell.recurrent_kernel)
    return Cell(*kernels, bias, _activation(cell, cell.activation))


def _gru(cell: Any) -> Gru:
    """Update, reset and candidate side by side; two rows of biases with ``reset_after``."""
    given = as_numpy(cell.bias) if cell.bias is not None else np.zeros(3 * cell.units)
    bias, of_state = given if given.ndim == 2 else (given, np.zeros(3 * cell.units))
    last = slice(2 * cell.units, None)
    bias = bias + np.where(np.arange(3 * cell.units) < 2 * cell.units, of_state, 0.0)
    gate = _activation(cell, cell.recurrent_activation)
    functions = [gate, gate, _activation(cell, cell.activation)]
    gates = gates_of(
        as_numpy(cell.kernel), as_numpy(cell.recurrent_kernel), bias, functions
    )
    z, r, candidate = gates
    return Gru(z, r, candidate, of_state[last] if cell.reset_after else None)


def _lstm(cell: Any) -> Lstm:
    """Input, forget, candidate and output side by side."""
    bias = as_numpy(cell.bias) if cell.bias is not None else 0.0
    gate = _activation(cell, cell.recurrent_activation)
    inner = _activation(cell, cell.activation)
    kernels = as_numpy(cell.kernel), as_numpy(cell.recurrent_kernel)
    i, f, candidate, o = gates_of(*kernels, bias, [gate, gate, inner, gate])
    return Lstm(i, f, candidate, o, inner)


#: By the classes of Keras' cells.
_CELLS: dict[str, Callable[[Any], RecurrentCell]] = {
    "SimpleRNNCell": _simple,
    "GRUCell": _gru,
    "LSTMCell": _lstm,
}


def _cells(layer: Any) -> list[RecurrentCell]:
    """The cells that a layer runs in each step."""
    import keras

    outer = layer.cell
    stack = type(outer) is keras.layers.StackedRNNCells
    found: list[RecurrentCell] = []
    for cell in outer.cells if stack else [outer]:
        name = type(cell).__name__
        if name not in _CELLS or type(cell) is not getattr(keras.layers, name):
            raise refuse(layer, f"has cells {name}, which are not known.")
        refuse_replaced(cell)
        found.append(_CELLS[name](cell))
    return found


def _run(
    graph: TensorGraph, name: str, layer: Any, x: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """The outputs of each step in the order in which they are made, and the last states."""
    if layer.stateful:
        raise refuse(layer, "keeps its state between calls; build it with stateful=False.")
    cells = _cells(layer)
    steps = steps_of(graph, name, x, 1)
    back = bool(layer.go_backwards)
    outputs, last = unrolled(graph, name, steps, cells, backwards=back)
    states = [state for own in last for state in own]
    return (outputs[::-1] if back else outputs), states


@enter(LAYERS, "SimpleRNN", "GRU", "LSTM", "RNN")
def recurrent(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Any:
    """The last state of the last cell, or all of them; with ``return_state`` the states too."""
    outputs, states = _run(graph, name, layer, x)
    result = outputs[-1]
    if layer.return_sequences:
        result = stacked(graph, f"{name}_steps", outputs, 1)
    return [result, *states] if layer.return_state else result


@enter(LAYERS, "Bidirectional")
def bidirectional(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Any:
    """Two recurrent layers, one of which starts at the end, and their outputs joined."""
    sides = [layer.forward_layer, layer.backward_layer]
    for side in sides:
        if layer_reader(side) is not LAYERS["RNN"]:
            raise refuse(layer, f"wraps a {type(side).__name__}, which is not supported.")
    runs = [_run(graph, f"{name}_{side.name}", side, x) for side in sides]
    (forward, first), (backward, second) = runs
    if layer.return_sequences:
        parts = [
            stacked(graph, f"{name}_{side.name}_steps", outputs, 1)
            for side, outputs in zip(sides, (forward, backward[::-1]))
        ]
    else:
        parts = [forward[-1], backward[-1]]
    merged = _merged(graph, name, layer, parts)
    return [*merged, *first, *second] if layer.return_state else merged


def _merged(graph: TensorGraph, name: str, layer: Any, parts: list[Tensor]) -> list[Any]:
    mode = layer.merge_mode
    if mode is None:
        return parts
    if mode == "concat":
        return move(graph, name, parts, lambda codes: [np.concatenate(codes, axis=-1)])
    if mode in ("sum", "ave"):
        return [graph.add(name, parts, [1.0, 1.0] if mode == "sum" else [0.5, 0.5])]
    if mode == "mul":
        return [graph.multiply(name, *parts)]
    raise refuse(layer, f"has merge_mode='{mode}', which is not known.")
