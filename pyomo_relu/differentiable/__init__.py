"""Gradients through a mixed-integer program."""

from __future__ import annotations

from pyomo_relu.differentiable.branch_and_bound import (
    Leaf,
    NodeLimit,
    Tree,
    branch_and_bound,
)
from pyomo_relu.differentiable.certificate import Certificate
from pyomo_relu.differentiable.dual_function import DualFunction
from pyomo_relu.differentiable.lp import Infeasible, SolverError, Unbounded
from pyomo_relu.differentiable.parametric import ParametricMILP, ParametricSolution
from pyomo_relu.differentiable.program import Program

__all__ = [
    "Certificate",
    "DualFunction",
    "Infeasible",
    "Leaf",
    "NodeLimit",
    "ParametricMILP",
    "ParametricSolution",
    "Program",
    "SolverError",
    "Tree",
    "Unbounded",
    "branch_and_bound",
]
