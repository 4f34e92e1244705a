"""Linear and mixed-integer programs as arrays, and HiGHS, which solves them.

The room knows no network and no Pyomo model. :mod:`~pyomo_relu.programs.highs` is the
only file of the package that touches ``highspy``.
"""

from pyomo_relu.programs.answer import Answer, Status
from pyomo_relu.programs.highs import (
    NETWORK_DEFAULTS,
    HighsModel,
    ProgramError,
    has_highs,
    highs_version,
)
from pyomo_relu.programs.linear_program import LinearProgram
from pyomo_relu.programs.scaled import ScaledProgram, scaled_program

__all__ = [
    "NETWORK_DEFAULTS",
    "Answer",
    "HighsModel",
    "LinearProgram",
    "ProgramError",
    "ScaledProgram",
    "Status",
    "has_highs",
    "highs_version",
    "scaled_program",
]
