"""PyTorch modules -> :class:`~pyomo_relu.network.Network`."""

from pyomo_relu.readers.torch import modules, writing  # noqa: F401 (registration)
from pyomo_relu.readers.torch.exported import load_program
from pyomo_relu.readers.torch.walker import read_torch

__all__ = ["load_program", "read_torch"]
