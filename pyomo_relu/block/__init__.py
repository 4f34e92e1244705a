"""`ReLUNetBlock`: the component, its data, and what a user calls on it.

Other rooms use what is named here, and the methods of the block.
"""

from pyomo_relu.block.category import category_choice
from pyomo_relu.block.classes import class_wins, probability_at_least, winning_class
from pyomo_relu.block.component import ReLUNetBlock
from pyomo_relu.block.data import ReLUNetBlockData
from pyomo_relu.block.statistics import (
    BlockStatistics,
    IndexedStatistics,
    LayerStatistics,
)
from pyomo_relu.block.written import Change, is_as_written
from pyomo_relu.presolve import transformations  # noqa: F401, registers them

__all__ = [
    "BlockStatistics",
    "Change",
    "IndexedStatistics",
    "LayerStatistics",
    "ReLUNetBlock",
    "ReLUNetBlockData",
    "category_choice",
    "class_wins",
    "is_as_written",
    "probability_at_least",
    "winning_class",
]
