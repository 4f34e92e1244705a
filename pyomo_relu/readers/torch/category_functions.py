"""Tables in PyTorch that are looked up by inputs that are integers.

``g`` is the graph and ``n`` the name of the layer; the other arguments are PyTorch's own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pyomo_relu.readers.categories import looked_up
from pyomo_relu.readers.reader_tables import enter
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.torch.function_tables import MODULES, constant, function
from pyomo_relu.readers.values import Tensor


@function("embedding")
def embedding(g: TensorGraph, n: str, weight: Any, x: Tensor, *args: Any) -> Tensor:
    """The row of a table for each integer, exact at those that have one."""
    table = constant(weight, n, "table")
    return looked_up(g, n, x, np.arange(float(len(table))), table)


@function("one_hot")
def one_hot(g: TensorGraph, n: str, x: Tensor, num_classes: int = -1) -> Tensor:
    """One column for each class of an integer."""
    if num_classes < 1:
        raise ValueError(f"layer '{n}': give one_hot the number of its classes.")
    return looked_up(g, n, x, np.arange(float(num_classes)), np.eye(num_classes))


@enter(MODULES, "Embedding")
def embedding_layer(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    """The row of a table; with ``max_norm`` a call changes the table."""
    if layer.max_norm is not None:
        raise ValueError(
            f"layer '{name}' has max_norm={layer.max_norm}, which changes its table in each "
            "call; read a copy with max_norm=None and rows that are scaled."
        )
    return embedding(graph, name, layer.weight, x)
