"""Solvers for models with networks; importing the package registers them."""

from pyomo_relu.solvers.global_search import ReluGlobal
from pyomo_relu.solvers.highs import ReluHighs
from pyomo_relu.solvers.relu import Relu
from pyomo_relu.solvers.scip import ReluScip

__all__ = ["Relu", "ReluGlobal", "ReluHighs", "ReluScip"]
