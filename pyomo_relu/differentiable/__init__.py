"""Gradients through a mixed-integer program."""

from __future__ import annotations

from pyomo_relu.differentiable.certificate import Certificate
from pyomo_relu.differentiable.chvatal import ChvatalFunction, CutLimit
from pyomo_relu.differentiable.dual_function import DualFunction
from pyomo_relu.differentiable.margin_training import MarginTraining
from pyomo_relu.differentiable.parametric import ParametricMILP, ParametricSolution
from pyomo_relu.differentiable.solution_gradients import SolutionGradient
from pyomo_relu.differentiable.straight_through import straight_through_fit
from pyomo_relu.differentiable.subadditive import SubadditiveDual
from pyomo_relu.differentiable.tune import TuneFit, largest_radius, tune_fit
from pyomo_relu.differentiable.validation import ValidationFit, ValidationMargin
from pyomo_relu.programs.branch_and_bound import Leaf, NodeLimit, Tree, branch_and_bound
from pyomo_relu.programs.program import Program
from pyomo_relu.programs.sharp import Infeasible, SolverError, Unbounded
from pyomo_relu.steps.margin import MarginFit
from pyomo_relu.steps.projection import ImplicitFit, class_costs, implicit_fit

__all__ = [
    "Certificate",
    "ChvatalFunction",
    "CutLimit",
    "DualFunction",
    "ImplicitFit",
    "Infeasible",
    "Leaf",
    "MarginFit",
    "MarginTraining",
    "NodeLimit",
    "ParametricMILP",
    "ParametricSolution",
    "Program",
    "SolutionGradient",
    "SolverError",
    "SubadditiveDual",
    "Tree",
    "TuneFit",
    "Unbounded",
    "ValidationFit",
    "ValidationMargin",
    "branch_and_bound",
    "class_costs",
    "implicit_fit",
    "largest_radius",
    "straight_through_fit",
    "tune_fit",
]
