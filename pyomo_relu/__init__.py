"""Trained ReLU networks as Pyomo components: one block, any formulation, any solver.

>>> from pyomo_relu import ReLUNetBlock, read_network

No training framework is imported before a model of it is read.
"""

from pyomo.version import version_info as _pyomo

from pyomo_relu.base.versions import VERSION as _VERSION
from pyomo_relu.base.versions import check_version as _check_version
from pyomo_relu.block import ReLUNetBlock
from pyomo_relu.bounds import Bounds, compute_bounds
from pyomo_relu.heuristics import find_start
from pyomo_relu.network import Network, NetworkBuilder, activations
from pyomo_relu.readers import read_network
from pyomo_relu.solvers import ReluHighs  # registers relu_highs

__version__ = _VERSION
_check_version("pyomo", _pyomo[:3])

__all__ = [
    "Bounds",
    "Network",
    "NetworkBuilder",
    "ReLUNetBlock",
    "ReluHighs",
    "activations",
    "compute_bounds",
    "find_start",
    "read_network",
]
