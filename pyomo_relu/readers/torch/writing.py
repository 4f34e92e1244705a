"""Operations that write a part of a tensor, in their functional form.

``h[:, :4].clamp_(min=0)`` becomes a slice, a clamp and ``slice_scatter``, which returns
the old tensor with the part in its place. Where each entry comes from is found by running
PyTorch's own operation on positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from pyomo_relu.readers import spatial
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.torch.functions import indices_of, moved
from pyomo_relu.readers.torch.tables import constant, function, operand
from pyomo_relu.readers.values import Tensor, Value


def _scatter(
    operation: str,
    graph: TensorGraph,
    name: str,
    x: Any,
    part: Any,
    *args: Any,
    **kwargs: Any,
) -> Any:
    import torch

    run = getattr(torch.ops.aten, operation)
    return moved(graph, name, [x, part], lambda codes, p: run(codes, p, *args, **kwargs))


for _operation in ("slice_scatter", "select_scatter", "diagonal_scatter"):
    function(_operation)(partial(_scatter, _operation))


@function("copy", "fill")
def copy(
    graph: TensorGraph, name: str, x: Any, source: Any, non_blocking: bool = False
) -> Any:
    return moved(graph, name, [x, source], lambda a, b: b.expand(a.shape))


@function("index_put", "_unsafe_index_put")
def index_put(
    graph: TensorGraph,
    name: str,
    x: Any,
    indices: Sequence[Any],
    values: Any,
    accumulate: bool = False,
) -> Any:
    import torch

    if accumulate:
        raise ValueError(f"layer '{name}' adds at positions; write it as a sum.")
    places = indices_of(name, indices)
    put = torch.ops.aten.index_put
    return moved(graph, name, [x, values], lambda a, b: put(a, places, b))


@function("masked_fill")
def masked_fill(graph: TensorGraph, name: str, x: Any, mask: Any, value: Any) -> Value:
    chosen = constant(mask, name, "mask")
    return spatial.where(graph, name, chosen, operand(value), operand(x))


@function("scatter")
def scatter(
    graph: TensorGraph,
    name: str,
    x: Any,
    dim: int,
    index: Any,
    source: Any,
    *,
    reduce: Any = None,
) -> Any:
    if isinstance(index, Tensor) or reduce is not None:
        raise ValueError(
            f"layer '{name}' combines entries, or its positions depend on the input."
        )

    def run(codes: Any, part: Any) -> Any:
        return codes.scatter(dim, index, part if part.ndim else part.expand(index.shape))

    return moved(graph, name, [x, source], run)
