"""PyTorch's simple recurrent layers and cells.

``g`` is the graph and ``n`` the name of the layer; the other arguments are PyTorch's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from pyomo_relu.readers.entrywise import ENTRYWISE
from pyomo_relu.readers.moves import move
from pyomo_relu.readers.recurrent import GATED, Cell, stacked, steps_of, unrolled
from pyomo_relu.readers.smooth import SMOOTH
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.torch.function_tables import array, constant, function
from pyomo_relu.readers.values import Tensor, Value

_ACTIVATIONS = {"relu": ENTRYWISE["relu"], "tanh": SMOOTH["tanh"]}


def _cell(n: str, kind: str, weights: Sequence[Any]) -> Cell:
    """The cell of two kernels (units, n_inputs) and (units, units), maybe with two biases."""
    kernel, recurrent, *biases = (constant(w, n, "weight") for w in weights)
    bias: Any = sum(biases) if biases else 0.0
    return Cell(kernel.T, recurrent.T, bias, _ACTIVATIONS[kind])


def _state(g: TensorGraph, n: str, hx: Any, k: int) -> Value:
    """The first state (1, units) of the layer ``k``."""
    if isinstance(hx, Tensor):
        return g.rearrange(f"{n}_begin_{k}", [hx], hx.index[k], batch=None)
    return np.asarray(array(hx), dtype=float)[k]


def _rnn(
    kind: str,
    g: TensorGraph,
    n: str,
    x: Tensor,
    hx: Any,
    params: Sequence[Any],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Any, Any]:
    """All outputs of the last layer, and the last states of all layers."""
    axis = 1 if batch_first else 0
    if len(x.shape) != 3:
        raise ValueError(f"layer '{n}' needs a batch axis; its input has {x.shape}.")
    steps = steps_of(g, n, x, axis)
    each, sides = 4 if has_biases else 2, 2 if bidirectional else 1
    last: list[Tensor] = []
    for k in range(num_layers):
        found = []
        for side in range(sides):
            place = k * sides + side
            cell = _cell(n, kind, params[place * each : (place + 1) * each])
            label = f"{n}_{k}" if sides == 1 else f"{n}_{k}{'ab'[side]}"
            begin = _state(g, label, hx, place)
            outputs, states = unrolled(g, label, steps, [cell], [begin], side == 1)
            found.append(outputs)
            last += states
        steps = found[0]
        if sides == 2:
            steps = [_joined(g, f"{n}_{k}_{t}", pair) for t, pair in enumerate(zip(*found))]
    return stacked(g, f"{n}_steps", steps, axis), stacked(g, f"{n}_last", last, 0)


def _joined(g: TensorGraph, n: str, parts: Sequence[Tensor]) -> Tensor:
    [made] = move(g, n, parts, lambda codes: [np.concatenate(codes, axis=-1)])
    assert isinstance(made, Tensor)
    return made


def _rnn_cell(
    kind: str, g: TensorGraph, n: str, x: Tensor, hx: Any, *weights: Any
) -> Tensor:
    """One step."""
    given = [w for w in weights if w is not None]
    state = hx if isinstance(hx, Tensor) else np.asarray(array(hx), dtype=float)
    return _cell(n, kind, given).step(g, n, x, state)


for _kind in _ACTIVATIONS:
    function(f"rnn_{_kind}")(partial(_rnn, _kind))
    function(f"rnn_{_kind}_cell")(partial(_rnn_cell, _kind))


@function("gru", "lstm", "gru_cell", "lstm_cell")
def gated(g: TensorGraph, n: str, *args: Any, **kwargs: Any) -> Any:
    """Refused, with the reason."""
    raise ValueError(f"layer '{n}' (GRU or LSTM) is not supported: {GATED}.")
