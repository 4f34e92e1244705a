"""Feasible points from the networks themselves: start values, and polished solutions."""

from pyomo_relu.heuristics.polish import Polished, polish
from pyomo_relu.heuristics.start import Start, find_start

__all__ = ["Polished", "Start", "find_start", "polish"]
