"""PyTorch's recurrent layers and cells.

``g`` is the graph and ``n`` the name of the layer; the other arguments are PyTorch's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from pyomo_relu.readers.entrywise import ENTRYWISE
from pyomo_relu.readers.gated import Gru, Lstm, gates_of
from pyomo_relu.readers.moves import move
from pyomo_relu.readers.recurrent import (
    Cell,
    RecurrentCell,
    stacked,
    steps_of,
    unrolled,
)
from pyomo_relu.readers.smooth import SMOOTH
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.torch.function_tables import array, constant, function
from pyomo_relu.readers.values import Tensor, Value

_ACTIVATIONS = {"relu": ENTRYWISE["relu"], "tanh": SMOOTH["tanh"]}
_GATE, _TANH = SMOOTH["sigmoid"], SMOOTH["tanh"]
#: Of reset, update and candidate; of input, forget, candidate and output.
_GRU, _LSTM = (_GATE, _GATE, _TANH), (_GATE, _GATE, _TANH, _GATE)


def _weights(n: str, given: Sequence[Any]) -> tuple[np.ndarray, np.ndarray, list[Any]]:
    """Kernels as they multiply from the right, and the biases."""
    kernel, recurrent, *biases = (constant(w, n, "weight") for w in given)
    return kernel.T, recurrent.T, biases or [np.zeros(len(kernel))] * 2


def _simple(kind: str, n: str, weights: Sequence[Any]) -> Cell:
    """The cell of two kernels (units, n_inputs) and (units, units), maybe with two biases."""
    kernel, recurrent, biases = _weights(n, weights)
    return Cell(kernel, recurrent, sum(biases), _ACTIVATIONS[kind])


def _gru(n: str, weights: Sequence[Any]) -> Gru:
    """Reset, update and candidate one below the other."""
    kernel, recurrent, (bias, of_state) = _weights(n, weights)
    units = kernel.shape[1] // 3
    gates = np.arange(3 * units) < 2 * units
    total = bias + np.where(gates, of_state, 0.0)
    reset, update, candidate = gates_of(kernel, recurrent, total, _GRU)
    of_state = np.broadcast_to(of_state, 3 * units)[2 * units :]
    return Gru(update, reset, candidate, of_state)


def _lstm(n: str, weights: Sequence[Any]) -> Lstm:
    """Input, forget, candidate and output one below the other, then maybe a projection."""
    pairs = len(weights) // 2 * 2
    kernel, recurrent, biases = _weights(n, weights[:pairs])
    i, f, candidate, o = gates_of(kernel, recurrent, sum(biases), _LSTM)
    own = None if len(weights) == pairs else constant(weights[-1], n, "weight").T
    return Lstm(i, f, candidate, o, _TANH, own)


def _state(g: TensorGraph, n: str, hx: Any, k: int) -> Value:
    """The first state (1, units) of the layer ``k``."""
    if isinstance(hx, Tensor):
        return g.rearrange(f"{n}_begin_{k}", [hx], hx.index[k], batch=None)
    return np.asarray(array(hx), dtype=float)[k]


def _layer(
    make: Callable[[str, Sequence[Any]], RecurrentCell],
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
) -> tuple[Any, ...]:
    """All outputs of the last layer, and the last states of all layers, kind by kind."""
    axis = 1 if batch_first else 0
    if len(x.shape) != 3:
        raise ValueError(f"layer '{n}' needs a batch axis; its input has {x.shape}.")
    steps = steps_of(g, n, x, axis)
    sides = 2 if bidirectional else 1
    each = len(params) // (num_layers * sides)
    first = hx if isinstance(hx, (list, tuple)) else [hx]  # an LSTM has two kinds
    last: list[list[Tensor]] = []
    for k in range(num_layers):
        found = []
        for side in range(sides):
            place = k * sides + side
            cell = make(n, params[place * each : (place + 1) * each])
            label = f"{n}_{k}" if sides == 1 else f"{n}_{k}{'ab'[side]}"
            begin = [
                _state(g, f"{label}_{s}", state, place) for s, state in enumerate(first)
            ]
            outputs, [states] = unrolled(g, label, steps, [cell], [begin], side == 1)
            found.append(outputs)
            last.append(states)
        steps = found[0]
        if sides == 2:
            steps = [_joined(g, f"{n}_{k}_{t}", pair) for t, pair in enumerate(zip(*found))]
    kinds = [stacked(g, f"{n}_last_{s}", v, 0) for s, v in enumerate(zip(*last))]
    return stacked(g, f"{n}_steps", steps, axis), *kinds


def _joined(g: TensorGraph, n: str, parts: Sequence[Tensor]) -> Tensor:
    [made] = move(g, n, parts, lambda codes: [np.concatenate(codes, axis=-1)])
    assert isinstance(made, Tensor)
    return made


def _one_step(
    make: Callable[[str, Sequence[Any]], RecurrentCell],
    g: TensorGraph,
    n: str,
    x: Tensor,
    hx: Any,
    *weights: Any,
) -> Any:
    """One step of a cell; an LSTM has two states."""
    given = [w for w in weights if w is not None]
    cell = make(n, given)
    before = hx if cell.n_states == 2 else [hx]
    states = [
        s if isinstance(s, Tensor) else np.asarray(array(s), dtype=float) for s in before
    ]
    found = cell.step(g, n, x, states)
    return found if cell.n_states == 2 else found[0]


for _kind in _ACTIVATIONS:
    function(f"rnn_{_kind}")(partial(_layer, partial(_simple, _kind)))
    function(f"rnn_{_kind}_cell")(partial(_one_step, partial(_simple, _kind)))
function("gru")(partial(_layer, _gru))
function("gru_cell")(partial(_one_step, _gru))
function("lstm")(partial(_layer, _lstm))
function("lstm_cell")(partial(_one_step, _lstm))
