"""PyTorch modules -> :class:`~pyomo_relu.network.Network`."""

from pyomo_relu.readers.torch import (  # noqa: F401 (registration)
    category_functions,
    modules,
    recurrent_functions,
    writing,
)
from pyomo_relu.readers.torch.exported import load_program
from pyomo_relu.readers.torch.walker import read_torch

__all__ = ["load_program", "read_torch"]
