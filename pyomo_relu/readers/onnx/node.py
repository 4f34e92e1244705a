"""ONNX operators by name, and what an operator sees of its node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyomo_relu.readers.reader_tables import enter
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Tensor, Value

Result = Value | Sequence[Value]


@dataclass(frozen=True)
class OnnxNode:
    """One node of an ONNX graph with the values of its inputs.

    Attributes
    ----------
    operator : str
        Its type, for example ``"Conv"``.
    name : str
        Its name, or that of its first output.
    inputs : tuple of Tensor, array or None
        Constants as arrays in the model's dtype; None for an optional input left out.
    attributes : dict
        By name, as Python numbers, strings, lists and arrays.
    n_outputs : int
        How many outputs the graph uses, counted to the last one used.
    opset : int
        The version of the operator set.
    graph : TensorGraph
        What the operator writes into.
    run : callable
        ONNX' reference implementation of this node, from arrays to arrays.
    """

    operator: str
    name: str
    inputs: tuple[Value | None, ...]
    attributes: dict[str, Any]
    n_outputs: int
    opset: int
    graph: TensorGraph
    run: Callable[[Sequence[np.ndarray | None]], list[np.ndarray]]

    def value(self, k: int) -> Value | None:
        """Input ``k``, or None where the node doesn't have it."""
        return self.inputs[k] if k < len(self.inputs) else None

    def values(self) -> list[Value]:
        """All inputs, none of which may be left out."""
        given = [v for v in self.inputs if v is not None]
        if len(given) < len(self.inputs):
            raise self.error("an input is left out that it needs")
        return given

    def tensor(self, k: int) -> Tensor:
        """Input ``k``, which must depend on the network's inputs."""
        value = self.value(k)
        if not isinstance(value, Tensor):
            raise self.error(f"its input {k} should depend on the network's input")
        return value

    def constant(self, k: int, what: str) -> np.ndarray | None:
        """Input ``k``, which must be a constant; None where it is left out."""
        value = self.value(k)
        if isinstance(value, Tensor):
            raise self.error(f"its {what} depends on the network's input")
        return value

    def required(self, attribute: str) -> Any:
        """The value of an attribute, which must be there."""
        if attribute not in self.attributes:
            raise self.error(f"its attribute {attribute} is missing")
        return self.attributes[attribute]

    def flag(self, attribute: str, default: bool = False) -> bool:
        """An attribute that is 0 or 1."""
        value = self.attributes.get(attribute, int(default))
        if value not in (0, 1):
            raise self.error(f"its attribute {attribute} is {value}, neither 0 nor 1")
        return bool(value)

    def integers(self, k: int, attribute: str) -> list[int] | None:
        """A list of integers that is an attribute in old opsets, an input in new ones."""
        if attribute in self.attributes:
            value = self.attributes[attribute]
            return [int(v) for v in (value if isinstance(value, list) else [value])]
        array = self.constant(k, attribute)
        return None if array is None else [int(v) for v in np.asarray(array).reshape(-1)]

    def error(self, reason: str) -> ValueError:
        """The error to raise: names the operator and the node."""
        return ValueError(f"ONNX operator {self.operator} (node '{self.name}'): {reason}.")


Operator = Callable[[OnnxNode], Result]

#: Heads that keep the order of the logits; read only as the last operator.
HEADS = ("Softmax", "LogSoftmax", "Sigmoid", "ArgMax")

#: Operators by (domain, type); the standard domain is "".
OPERATORS: dict[tuple[str, str], Operator] = {}


def register_onnx_operator(*names: str, domain: str = "") -> Callable[[Operator], Operator]:
    """Decorator that teaches the reader an ONNX operator.

    Parameters
    ----------
    *names : str
        Operator types, for example ``"Relu"``.
    domain : str
        The operator set; "" is the standard one.

    Examples
    --------
    >>> @register_onnx_operator("Doubled", domain="my.domain")
    ... def doubled(node):
    ...     return node.graph.scale(node.name, node.tensor(0), 2.0)

    The function gets an :class:`OnnxNode` and returns the value of the output, or a
    list of values. It is only called where an input depends on the network's input.
    """

    domain = "" if domain == "ai.onnx" else domain
    return enter(OPERATORS, *((domain, name) for name in names))
