"""Tables of what reads a layer, an operator or a function, by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Tensor

K = TypeVar("K")
F = TypeVar("F", bound=Callable[..., Any])

#: What reads a layer: called as ``read(graph, name, layer, x, ...)``.
LayerReader = Callable[..., Any]


def enter(table: dict[K, F], *keys: K) -> Callable[[F], F]:
    """Decorator: put a function into ``table`` under each of ``keys``."""

    def decorate(function: F) -> F:
        table.update(dict.fromkeys(keys, function))
        return function

    return decorate


def by_attributes(function: Callable[..., Any], *attributes: str) -> LayerReader:
    """What reads a layer as ``function`` of a tensor and of attributes of the layer."""

    def read(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Any:
        given = (getattr(layer, attribute) for attribute in attributes)
        return function(graph, name, x, *given)

    return read
