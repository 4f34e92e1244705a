"""SimpleRNN, RNN of simple cells, and Bidirectional, over a fixed number of steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyomo_relu.readers.keras.activation_functions import apply, as_unit
from pyomo_relu.readers.keras.describing import as_numpy, refuse
from pyomo_relu.readers.keras.originals import refuse_replaced
from pyomo_relu.readers.keras.registration import LAYERS, layer_reader
from pyomo_relu.readers.moves import move
from pyomo_relu.readers.reader_tables import enter
from pyomo_relu.readers.recurrent import GATED, Cell, stacked, steps_of, unrolled
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Tensor

_UNIT = "a state can't pass on what logits=True leaves out."


def _cells(layer: Any) -> list[Cell]:
    """The cells that a layer runs in each step."""
    import keras

    outer = layer.cell
    stack = type(outer) is keras.layers.StackedRNNCells
    found = []
    for cell in outer.cells if stack else [outer]:
        if type(cell).__name__ in ("GRUCell", "LSTMCell"):
            raise refuse(layer, f"is not supported: {GATED}.")
        if type(cell) is not keras.layers.SimpleRNNCell:
            raise refuse(layer, f"has cells {type(cell).__name__}, which are not known.")
        refuse_replaced(cell)
        bias = as_numpy(cell.bias) if cell.bias is not None else 0.0

        def activation(
            graph: TensorGraph, name: str, x: Tensor, cell: Any = cell
        ) -> Tensor:
            return as_unit(apply(graph, name, cell, x), _UNIT)

        kernels = as_numpy(cell.kernel), as_numpy(cell.recurrent_kernel)
        found.append(Cell(*kernels, bias, activation))
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
    outputs, states = unrolled(graph, name, steps, cells, [None] * len(cells), back)
    return (outputs[::-1] if back else outputs), states


@enter(LAYERS, "SimpleRNN", "RNN")
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
    kinds = [LAYERS["SimpleRNN"], LAYERS["RNN"]]
    for side in sides:
        if layer_reader(side) not in kinds:
            reason = f": {GATED}" if type(side).__name__ in ("GRU", "LSTM") else ""
            raise refuse(layer, f"wraps a {type(side).__name__}, not supported{reason}.")
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
    raise refuse(layer, f"has merge_mode='{mode}', which is not piecewise linear.")
