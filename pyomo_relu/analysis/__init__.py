"""What a network looks like from inside: linear regions, stability, what makes it hard."""

from pyomo_relu.analysis.counting import RegionCount, count_regions, max_regions
from pyomo_relu.analysis.difficulty import (
    RootGap,
    RungSummary,
    compare_bounds,
    layer_bounds,
    root_gap,
)
from pyomo_relu.analysis.plots import plot_big_m, plot_stability
from pyomo_relu.analysis.report import Report, report
from pyomo_relu.analysis.slices import (
    breakpoints,
    regions_on_line,
    regions_on_plane,
    restrict,
)
from pyomo_relu.bounds.plane_regions import LinearRegions, Optimum, linear_regions
from pyomo_relu.bounds.region_pictures import plot_regions

__all__ = [
    "LinearRegions",
    "Optimum",
    "RegionCount",
    "Report",
    "RootGap",
    "RungSummary",
    "breakpoints",
    "compare_bounds",
    "count_regions",
    "layer_bounds",
    "linear_regions",
    "max_regions",
    "plot_big_m",
    "plot_regions",
    "plot_stability",
    "regions_on_line",
    "regions_on_plane",
    "report",
    "restrict",
    "root_gap",
]
