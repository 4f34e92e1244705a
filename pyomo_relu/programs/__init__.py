"""Linear and mixed-integer programs as arrays, and HiGHS and SCIP, which solve them.

The room knows no network. :mod:`~pyomo_relu.programs.highs` is the only file of the
package that touches ``highspy``, :mod:`~pyomo_relu.programs.scip` the one that writes
programs for ``pyscipopt``.
"""

from pyomo_relu.programs.answer import Answer, Status
from pyomo_relu.programs.certificate import Certifier
from pyomo_relu.programs.highs import (
    NETWORK_DEFAULTS,
    HighsModel,
    ProgramError,
    has_highs,
    highs_version,
)
from pyomo_relu.programs.linear_program import (
    LinearProgram,
    Part,
    ProgramBuilder,
    Rows,
    matrix_of,
    part_of,
)
from pyomo_relu.programs.scaled import ScaledProgram, scaled_program

__all__ = [
    "NETWORK_DEFAULTS",
    "Answer",
    "Certifier",
    "HighsModel",
    "LinearProgram",
    "Part",
    "ProgramBuilder",
    "ProgramError",
    "Rows",
    "ScaledProgram",
    "Status",
    "has_highs",
    "highs_version",
    "matrix_of",
    "part_of",
    "scaled_program",
]
