"""The recurrent operators of ONNX: RNN over a fixed number of steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyomo_relu.readers.entrywise import ENTRYWISE, Entrywise
from pyomo_relu.readers.moves import move
from pyomo_relu.readers.onnx.node import OnnxNode, register_onnx_operator
from pyomo_relu.readers.recurrent import GATED, Cell, steps_of, unrolled
from pyomo_relu.readers.smooth import SMOOTH
from pyomo_relu.readers.values import Tensor, Value

_ACTIVATIONS: dict[str, Entrywise] = {
    "relu": ENTRYWISE["relu"],
    "sigmoid": SMOOTH["sigmoid"],
    "softsign": SMOOTH["softsign"],
    "tanh": SMOOTH["tanh"],
}


@register_onnx_operator("GRU", "LSTM")
def gated(node: OnnxNode) -> Tensor:
    """Refused, with the reason."""
    raise node.error(GATED)


@register_onnx_operator("RNN")
def recurrent(node: OnnxNode) -> list[Value]:
    """``Y`` (steps, directions, N, units) and ``Y_h`` (directions, N, units)."""
    if node.attributes.get("clip") is not None:
        raise node.error("its attribute clip is not supported")
    if node.constant(4, "sequence_lens") is not None:
        raise node.error("sequence_lens is not supported; leave it out")
    time = 1 if node.attributes.get("layout", 0) else 0
    x = node.tensor(0)
    steps = steps_of(node.graph, node.name, x, time)
    kernels, recurrents = (
        np.asarray(node.constant(k, what), dtype=float)
        for k, what in ((1, "kernel"), (2, "recurrent kernel"))
    )
    directions, units = kernels.shape[:2]
    biases = node.constant(3, "bias")
    biases = np.zeros((directions, 2 * units)) if biases is None else np.asarray(biases)
    functions = _functions(node, directions)
    backwards = _backwards(node, directions)
    starts = _starts(node, directions, time)
    outputs, last = [], []
    for k in range(directions):
        label = node.name if directions == 1 else f"{node.name}_{'ab'[k]}"
        cell = Cell(
            kernels[k].T,
            recurrents[k].T,
            biases[k, :units].astype(float) + biases[k, units:],
            functions[k],
        )
        found, state = unrolled(node.graph, label, steps, [cell], [starts[k]], backwards[k])
        outputs.append(found)
        last += state
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
    [h] = move(node.graph, f"{node.name}_last", last, lambda codes: [np.stack(codes, axis)])
    return [y, h]


def _several(codes: np.ndarray, shape: Sequence[int], order: Sequence[int]) -> np.ndarray:
    """Codes (directions * steps, N, units) with the axes in the order of the operator."""
    return codes.reshape(*shape[:2], *codes.shape[1:]).transpose(order)


def _functions(node: OnnxNode, directions: int) -> list[Entrywise]:
    given = node.attributes.get("activations", ["Tanh"] * directions)
    names = [n.decode() if isinstance(n, bytes) else str(n) for n in given]
    if node.attributes.get("activation_alpha") or node.attributes.get("activation_beta"):
        raise node.error("activations with alpha or beta are not supported")
    found = [_ACTIVATIONS.get(name.lower()) for name in names]
    if None in found or len(found) != directions:
        raise node.error(f"its activations {names} are not supported")
    return [f for f in found if f is not None]


def _backwards(node: OnnxNode, directions: int) -> list[bool]:
    kinds = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
    found = kinds.get(node.attributes.get("direction", "forward"))
    if found is None or len(found) != directions:
        raise node.error("its direction doesn't fit its kernels")
    return found


def _starts(node: OnnxNode, directions: int, time: int) -> list[Value | None]:
    """The first state of each direction, (1, units)."""
    given = node.value(5)
    if given is None:
        return [None] * directions
    if isinstance(given, Tensor):
        raise node.error("its first state depends on the input, which is not supported")
    array = np.asarray(given, dtype=float)
    return [array[:, k] if time else array[k] for k in range(directions)]
