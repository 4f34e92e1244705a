"""Verification: whether a network's outputs stay where they should on a region of inputs.

:func:`verify` climbs from an attack over linear bounds and branching on inputs and sides
to mixed-integer programs. It uses the solvers and all that lies below them.
"""

from pyomo_relu.verification.input_region import Ball, Box
from pyomo_relu.verification.properties import (
    Property,
    Unsafe,
    always,
    never,
    output_bounds,
    robust_classification,
)
from pyomo_relu.verification.verdict import Verification
from pyomo_relu.verification.verifier import verify
from pyomo_relu.verification.vnnlib import (
    Case,
    VnnlibError,
    VnnlibProperty,
    parse_vnnlib,
    read_vnnlib,
)

__all__ = [
    "Ball",
    "Box",
    "Case",
    "Property",
    "Unsafe",
    "Verification",
    "VnnlibError",
    "VnnlibProperty",
    "always",
    "never",
    "output_bounds",
    "parse_vnnlib",
    "read_vnnlib",
    "robust_classification",
    "verify",
]
