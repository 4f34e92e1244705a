"""Bounds of every pre-activation: a ladder of rising cost and tightness.

Knows :mod:`pyomo_relu.network` and no Pyomo. Every bound is valid: float64, widened
outwards for rounding; solver bounds are dual bounds with a margin. The rungs are imported
when one is first climbed.
"""

from typing import TYPE_CHECKING

from pyomo_relu.base.lazy import imports_later
from pyomo_relu.bounds.bounds import Bounds

if TYPE_CHECKING:
    from pyomo_relu.bounds.crown import LinearBounds, crown_arrays, linear_bounds_of
    from pyomo_relu.bounds.ladder import RUNGS, compute_bounds, register_bounds
    from pyomo_relu.bounds.many_boxes import bounds_over_boxes

__all__ = [
    "RUNGS",
    "Bounds",
    "LinearBounds",
    "bounds_over_boxes",
    "compute_bounds",
    "crown_arrays",
    "linear_bounds_of",
    "register_bounds",
]

__getattr__, __dir__ = imports_later(
    __name__,
    {
        "RUNGS": "pyomo_relu.bounds.ladder",
        "LinearBounds": "pyomo_relu.bounds.crown",
        "bounds_over_boxes": "pyomo_relu.bounds.many_boxes",
        "compute_bounds": "pyomo_relu.bounds.ladder",
        "crown_arrays": "pyomo_relu.bounds.crown",
        "linear_bounds_of": "pyomo_relu.bounds.crown",
        "register_bounds": "pyomo_relu.bounds.ladder",
    },
)
