"""What the room's files import from :mod:`pyomo_relu.bounds.balls`."""

from pyomo_relu.bounds.balls import add_ball, both_ends, bounds_in_ball, least_in_ball

__all__ = ["add_ball", "both_ends", "bounds_in_ball", "least_in_ball"]
