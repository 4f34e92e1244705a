"""Bounds of every pre-activation: a ladder of rising cost and tightness.

Knows :mod:`pyomo_relu.network` and no Pyomo. Every bound is valid: float64, widened
outwards for rounding; solver bounds are dual bounds with a margin.
"""

from pyomo_relu.bounds.bounds import Bounds
from pyomo_relu.bounds.crown import LinearBounds, crown_arrays, linear_bounds_of
from pyomo_relu.bounds.ladder import RUNGS, compute_bounds, register_bounds

__all__ = [
    "RUNGS",
    "Bounds",
    "LinearBounds",
    "compute_bounds",
    "crown_arrays",
    "linear_bounds_of",
    "register_bounds",
]
