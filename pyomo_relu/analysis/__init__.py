"""What a network looks like from inside: linear regions and their pictures."""

from pyomo_relu.analysis.plots import plot_regions
from pyomo_relu.analysis.regions import LinearRegions, Optimum, linear_regions

__all__ = ["LinearRegions", "Optimum", "linear_regions", "plot_regions"]
