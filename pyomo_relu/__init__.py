"""Trained ReLU networks as Pyomo components: one block, any formulation, any solver.

>>> from pyomo_relu import ReLUNetBlock, read_network

The block, the transformations and the solvers are registered by the import. No training
framework is imported before a model of it is read; readers, bounds and searches for
feasible points are imported when they are first asked for.
"""

from typing import TYPE_CHECKING

from pyomo.version import version_info as _pyomo

from pyomo_relu.base.lazy import imports_later as _imports_later
from pyomo_relu.base.versions import VERSION as _VERSION
from pyomo_relu.base.versions import check_version as _check_version
from pyomo_relu.block import (
    ReLUNetBlock,
    category_choice,
    class_wins,
    probability_at_least,
    winning_class,
)
from pyomo_relu.bounds import Bounds
from pyomo_relu.network import Network, NetworkBuilder, activations
from pyomo_relu.solvers import Relu, ReluHighs  # registers relu and its parts

if TYPE_CHECKING:
    from pyomo_relu.bounds import compute_bounds
    from pyomo_relu.heuristics import find_start
    from pyomo_relu.readers import read_network

__version__ = _VERSION
_check_version("pyomo", _pyomo[:3])

__all__ = [
    "Bounds",
    "Network",
    "NetworkBuilder",
    "ReLUNetBlock",
    "Relu",
    "ReluHighs",
    "activations",
    "category_choice",
    "class_wins",
    "compute_bounds",
    "find_start",
    "probability_at_least",
    "read_network",
    "winning_class",
]

__getattr__, __dir__ = _imports_later(
    __name__,
    {
        "compute_bounds": "pyomo_relu.bounds",
        "find_start": "pyomo_relu.heuristics",
        "read_network": "pyomo_relu.readers",
    },
)
