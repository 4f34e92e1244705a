"""The recurrent operators of ONNX, RNN, GRU and LSTM, over a fixed number of steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from pyomo_relu.readers.entrywise import ENTRYWISE, Entrywise
from pyomo_relu.readers.gated import Gru, Lstm, gates_of
from pyomo_relu.readers.moves import move
from pyomo_relu.readers.onnx.node import OnnxNode, register_onnx_operator
from pyomo_relu.readers.recurrent import (
    Cell,
    RecurrentCell,
    State,
    stacked,
    steps_of,
    unrolled,
)
from pyomo_relu.readers.smooth import SMOOTH
from pyomo_relu.readers.values import Tensor, Value

_ACTIVATIONS: dict[str, Entrywise] = {
    "relu": ENTRYWISE["relu"],
    "sigmoid": SMOOTH["sigmoid"],
    "softsign": SMOOTH["softsign"],
    "tanh": SMOOTH["tanh"],
}


#: What makes the cell of one direction from its weights and its activations.
MakeCell = Callable[[OnnxNode, "Weights", Sequence[Entrywise]], RecurrentCell]


@dataclass(frozen=True)
class Weights:
    """The weights of one direction.

    Attributes
    ----------
    kernel : (n_inputs, gates * units) array
    recurrent : (units, gates * units) array
    bias, state_bias : (gates * units,) arrays
    peepholes : (3, units) array or None
        Of the input, the output and the forget gate.
    """

    kernel: np.ndarray
    recurrent: np.ndarray
    bias: np.ndarray
    state_bias: np.ndarray
    peepholes: np.ndarray | None


def _simple(node: OnnxNode, w: Weights, functions: Sequence[Entrywise]) -> Cell:
    return Cell(w.kernel, w.recurrent, w.bias + w.state_bias, functions[0])


def _gru(node: OnnxNode, w: Weights, functions: Sequence[Entrywise]) -> Gru:
    """Update, reset and candidate; the attribute says what the reset gate multiplies."""
    gate, inner = functions
    after = node.flag("linear_before_reset")
    n, units = len(w.bias), len(w.bias) // 3
    own = np.where(np.arange(n) < 2 * units, w.state_bias, 0.0 if after else w.state_bias)
    functions = [gate, gate, inner]
    z, r, candidate = gates_of(w.kernel, w.recurrent, w.bias + own, functions)
    return Gru(z, r, candidate, w.state_bias[2 * units :] if after else None)


def _lstm(node: OnnxNode, w: Weights, functions: Sequence[Entrywise]) -> Lstm:
    """Input, output, forget and candidate, maybe with peepholes."""
    if node.flag("input_forget"):
        raise node.error("input_forget=1 is not supported; export it with gates of its own")
    gate, inner, of_cell = functions
    peepholes = [None] * 3 if w.peepholes is None else list(w.peepholes)
    i, o, f, candidate = gates_of(
        w.kernel,
        w.recurrent,
        w.bias + w.state_bias,
        [gate, gate, gate, inner],
        [*peepholes, None],
    )
    return Lstm(i, f, candidate, o, of_cell)


def _recurrent(make: MakeCell, defaults: Sequence[str], node: OnnxNode) -> list[Value]:
    """``Y`` (steps, directions, N, units) and the last states (directions, N, units)."""
    if node.attributes.get("clip") is not None:
        raise node.error("its attribute clip is not supported")
    if node.constant(4, "sequence_lens") is not None:
        raise node.error("sequence_lens is not supported; leave it out")
    time = 1 if node.attributes.get("layout", 0) else 0
    x = node.tensor(0)
    steps = steps_of(node.graph, node.name, x, time)
    weights = _weights(node, node.constant(7, "peepholes") if make is _lstm else None)
    directions, units = len(weights), len(weights[0].recurrent)
    functions = _functions(node, directions, defaults)
    backwards = _backwards(node, directions)
    outputs: list[list[Tensor]] = []
    last: list[list[Tensor]] = []
    for k in range(directions):
        label = node.name if directions == 1 else f"{node.name}_{'ab'[k]}"
        cell = make(node, weights[k], functions[k])
        starts = [_start(node, 5 + s, k, time) for s in range(cell.n_states)]
        found, [states] = unrolled(node.graph, label, steps, [cell], [starts], backwards[k])
        outputs.append(found)
        last.append(states)
    axis = 1 if time else 0
    whole = [o for found in outputs for o in found]
    shape = (directions, len(steps), 1, units)
    order = (2, 1, 0, 3) if time else (1, 0, 2, 3)
    [y] = move(
        node.graph,
        f"{node.name}_steps",
        whole,
        lambda codes: [_several(np.stack(codes), shape, order)],
    )
    kinds = [
        stacked(node.graph, f"{node.name}_last_{s}", states, axis)
        for s, states in enumerate(zip(*last))
    ]
    return [y, *kinds]


for _operator, _make, _defaults in (
    ("RNN", _simple, ("Tanh",)),
    ("GRU", _gru, ("Sigmoid", "Tanh")),
    ("LSTM", _lstm, ("Sigmoid", "Tanh", "Tanh")),
):
    register_onnx_operator(_operator)(partial(_recurrent, _make, _defaults))


def _weights(node: OnnxNode, peepholes: np.ndarray | None) -> list[Weights]:
    """The weights of each direction."""
    kernels, recurrents = (
        np.asarray(node.constant(k, what), dtype=float)
        for k, what in ((1, "kernel"), (2, "recurrent kernel"))
    )
    directions, size = kernels.shape[:2]
    given = node.constant(3, "bias")
    biases = np.zeros((directions, 2 * size)) if given is None else np.asarray(given, float)
    return [
        Weights(
            kernels[k].T,
            recurrents[k].T,
            biases[k, :size],
            biases[k, size:],
            None if peepholes is None else np.asarray(peepholes[k], float).reshape(3, -1),
        )
        for k in range(directions)
    ]


def _several(codes: np.ndarray, shape: Sequence[int], order: Sequence[int]) -> np.ndarray:
    """Codes (directions * steps, N, units) with the axes in the order of the operator."""
    return codes.reshape(*shape[:2], *codes.shape[1:]).transpose(order)


def _functions(
    node: OnnxNode, directions: int, defaults: Sequence[str]
) -> list[list[Entrywise]]:
    """The activations of each direction."""
    given = node.attributes.get("activations", list(defaults) * directions)
    names = [n.decode() if isinstance(n, bytes) else str(n) for n in given]
    if node.attributes.get("activation_alpha") or node.attributes.get("activation_beta"):
        raise node.error("activations with alpha or beta are not supported")
    found = [f for f in (_ACTIVATIONS.get(name.lower()) for name in names) if f]
    n = len(defaults)
    if len(found) != len(names) or len(found) != n * directions:
        raise node.error(f"its activations {names} are not supported")
    return [found[k * n : (k + 1) * n] for k in range(directions)]


def _backwards(node: OnnxNode, directions: int) -> list[bool]:
    kinds = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
    found = kinds.get(node.attributes.get("direction", "forward"))
    if found is None or len(found) != directions:
        raise node.error("its direction doesn't fit its kernels")
    return found


def _start(node: OnnxNode, place: int, k: int, time: int) -> State:
    """A first state of the direction ``k``, (1, units)."""
    given = node.value(place)
    if given is None:
        return None
    if isinstance(given, Tensor):
        codes = given.index[:, k] if time else given.index[k]
        return node.graph.rearrange(f"{node.name}_begin_{place}_{k}", [given], codes)
    array = np.asarray(given, dtype=float)
    return array[:, k] if time else array[k]
