"""Operations that write a part of a tensor, in their functional form.

``h[:, :4].clamp_(min=0)`` becomes a slice, a clamp and ``slice_scatter``, which returns
the old tensor with the part in its place. Where each entry comes from is found by running
PyTorch's own operation on positions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pyomo_relu.readers.moves import move
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.torch.functions import indices_of
from pyomo_relu.readers.torch.registry import constant, function, operand
from pyomo_relu.readers.values import Tensor


def _moved(graph: TensorGraph, name: str, values: list, operation) -> Any:
    import torch

    def apply(codes: list[np.ndarray]) -> list[np.ndarray]:
        return [operation(*[torch.as_tensor(c) for c in codes]).contiguous().numpy()]

    return move(graph, name, [operand(v) for v in values], apply)[0]


def _scatter(operation: str):
    def reader(graph: TensorGraph, name: str, x, part, *args, **kwargs):
        import torch

        run = getattr(torch.ops.aten, operation)
        return _moved(
            graph, name, [x, part], lambda codes, p: run(codes, p, *args, **kwargs)
        )

    return reader


for _operation in ("slice_scatter", "select_scatter", "diagonal_scatter"):
    function(_operation)(_scatter(_operation))


@function("copy")
def copy(graph: TensorGraph, name: str, x, source, non_blocking=False):
    return _moved(graph, name, [x, source], lambda a, b: b.expand(a.shape))


@function("fill")
def fill(graph: TensorGraph, name: str, x, value):
    return _moved(graph, name, [x, value], lambda a, b: b.expand(a.shape))


@function("index_put", "_unsafe_index_put")
def index_put(graph: TensorGraph, name: str, x, indices, values, accumulate=False):
    if accumulate:
        raise ValueError(f"layer '{name}' adds at positions; write it as a sum.")
    import torch

    places = indices_of(name, indices)
    put = torch.ops.aten.index_put
    return _moved(graph, name, [x, values], lambda a, b: put(a, places, b))


@function("masked_fill")
def masked_fill(graph: TensorGraph, name: str, x, mask, value):
    chosen = constant(mask, name, "mask").astype(bool)
    return move(graph, name, [operand(x), operand(value)], lambda codes: [
        np.where(chosen, codes[1], codes[0])
    ])[0]  # fmt: skip


@function("scatter")
def scatter(graph: TensorGraph, name: str, x, dim, index, source, *, reduce=None):
    if isinstance(index, Tensor) or reduce is not None:
        raise ValueError(
            f"layer '{name}' combines entries, or its positions depend on the input."
        )

    def run(codes, part):
        return codes.scatter(dim, index, part if part.ndim else part.expand(index.shape))

    return _moved(graph, name, [x, source], run)
