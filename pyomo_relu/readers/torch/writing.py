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
from pyomo_relu.readers.torch.function_tables import array, function, operand
from pyomo_relu.readers.torch.functions import indices_of, moved, operands
from pyomo_relu.readers.values import Tensor


def _scatter(
    operation: str, g: TensorGraph, n: str, x: Any, part: Any, *args: Any, **kwargs: Any
) -> Any:
    import torch

    run = getattr(torch.ops.aten, operation)
    return moved(g, n, [x, part], lambda codes, p: run(codes, p, *args, **kwargs))


for _operation in ("slice_scatter", "select_scatter", "diagonal_scatter"):
    function(_operation)(partial(_scatter, _operation))

function("copy", "fill")(
    lambda g, n, x, source, non_blocking=False: moved(
        g, n, [x, source], lambda a, b: b.expand(a.shape)
    )
)
function("masked_fill")(
    lambda g, n, x, mask, value: spatial.where(g, n, operand(mask), *operands(value, x))
)


@function("index_put", "_unsafe_index_put")
def index_put(
    g: TensorGraph,
    n: str,
    x: Any,
    indices: Sequence[Any],
    values: Any,
    accumulate: bool = False,
) -> Any:
    """A tensor in which the entries at constant positions are replaced."""

    import torch

    if accumulate:
        raise ValueError(f"layer '{n}' adds at positions; write it as a sum.")
    if (
        len(indices) == 1
        and isinstance(indices[0], Tensor)
        and not isinstance(values, Tensor)
    ):
        put_in = array(values)
        if put_in.size == 1:  # h[h < 0] = 0
            return spatial.where(g, n, indices[0], put_in.reshape(()), operand(x))
    places, put = indices_of(n, indices), torch.ops.aten.index_put
    return moved(g, n, [x, values], lambda a, b: put(a, places, b))


@function("scatter")
def scatter(
    g: TensorGraph, n: str, x: Any, dim: int, index: Any, source: Any, *, reduce: Any = None
) -> Any:
    """A tensor in which entries along an axis are replaced, at constant positions."""
    if isinstance(index, Tensor) or reduce is not None:
        raise ValueError(
            f"layer '{n}' combines entries, or its positions depend on the input."
        )

    def run(codes: Any, part: Any) -> Any:
        return codes.scatter(dim, index, part if part.ndim else part.expand(index.shape))

    return moved(g, n, [x, source], run)
