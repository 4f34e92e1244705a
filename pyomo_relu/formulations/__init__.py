"""One file for each way to write a layer in Pyomo; each is registered as ``relu.<name>``.

Knows networks and their bounds, and Pyomo; the component is in
:mod:`pyomo_relu.block`. A formulation of one's own is written with what is exported here.
"""

from pyomo_relu.formulations.auto import Auto
from pyomo_relu.formulations.base import (
    FORMULATIONS,
    Formulation,
    choose_formulations,
    register_formulation,
)
from pyomo_relu.formulations.bigm import BigM, set_max_values, write_max_bigm
from pyomo_relu.formulations.complementarity import Complementarity
from pyomo_relu.formulations.cuts import Cuts
from pyomo_relu.formulations.disjunctive import Disjunctive
from pyomo_relu.formulations.fixed_pattern import FixedPattern
from pyomo_relu.formulations.hull import Hull
from pyomo_relu.formulations.indicator import Indicator
from pyomo_relu.formulations.logarithmic import Logarithmic
from pyomo_relu.formulations.one_sided import OneSided
from pyomo_relu.formulations.partition import Partition
from pyomo_relu.formulations.regions import Regions
from pyomo_relu.formulations.relaxation import Relaxation
from pyomo_relu.formulations.smooth import SmoothUnits
from pyomo_relu.formulations.sos1 import Sos1
from pyomo_relu.formulations.table import Table
from pyomo_relu.formulations.transformation import network_blocks
from pyomo_relu.formulations.units import MaxLayer, Piece, PiecewiseLayer, SmoothLayer
from pyomo_relu.formulations.values import Row, add_rows, add_variables
from pyomo_relu.formulations.whole import WholeFormulation, WholeNetwork
from pyomo_relu.formulations.writer import NetworkWriter

__all__ = [
    "FORMULATIONS",
    "Auto",
    "BigM",
    "Complementarity",
    "Cuts",
    "Disjunctive",
    "FixedPattern",
    "Formulation",
    "Hull",
    "Indicator",
    "Logarithmic",
    "MaxLayer",
    "NetworkWriter",
    "OneSided",
    "Partition",
    "Piece",
    "PiecewiseLayer",
    "Regions",
    "Relaxation",
    "Row",
    "SmoothLayer",
    "SmoothUnits",
    "Sos1",
    "Table",
    "WholeFormulation",
    "WholeNetwork",
    "add_rows",
    "add_variables",
    "choose_formulations",
    "network_blocks",
    "register_formulation",
    "set_max_values",
    "write_max_bigm",
]
