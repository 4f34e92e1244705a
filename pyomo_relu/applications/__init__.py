"""Adversarial examples, verification and feature visualization with trained networks."""

from pyomo_relu.applications.properties import (
    Property,
    Unsafe,
    always,
    never,
    output_bounds,
    robust_classification,
)
from pyomo_relu.applications.regions import Ball, Box
from pyomo_relu.applications.verification import Verification, verify
from pyomo_relu.applications.vnnlib import (
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
