"""``relu_scip``: a network as a constraint of SCIP, for rows, integers and many networks."""

from pyomo_relu.solvers.scip.solver import LegacyReluScip, ReluScip

__all__ = ["LegacyReluScip", "ReluScip"]
