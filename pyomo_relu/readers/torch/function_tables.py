"""PyTorch functions and modules by name, and their arguments as the operators want them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pyomo_relu.readers.reader_tables import LayerReader, enter
from pyomo_relu.readers.values import Tensor, Value

#: Called as ``function(graph, name, *args, **kwargs)`` with the arguments of the PyTorch
#: function or method; what depends on the input is a Tensor, the rest as PyTorch has it.
FUNCTIONS: dict[str, Callable[..., Any]] = {}

#: Called as ``module(graph, name, module, x)``.
MODULES: dict[str, LayerReader] = {}


def function(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: what reads the PyTorch functions and methods of these names."""
    return enter(FUNCTIONS, *names)


def array(value: Any) -> np.ndarray:
    """A constant of PyTorch or Python as a float64 array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if not value.is_complex() and not value.is_quantized:
            value = value.double() if value.is_floating_point() else value
        return np.asarray(value.numpy())
    return np.asarray(value, dtype=float)


def constant(value: Any, name: str, what: str) -> np.ndarray:
    """``value`` as an array, or an error if it depends on the input."""
    if isinstance(value, Tensor):
        raise ValueError(f"layer '{name}': its {what} depends on the network's input.")
    return array(value)


def operand(value: Any) -> Value:
    """A tensor as it is, a constant as an array."""
    return value if isinstance(value, Tensor) else array(value)
