"""Adversarial examples, verification and feature visualization with trained networks."""

from pyomo_relu.applications.adversarial import Adversarial, find_adversarial
from pyomo_relu.applications.features import Feature, feature_grid, visualize_feature
from pyomo_relu.applications.pictures import image_grid
from pyomo_relu.applications.properties import (
    Property,
    Unsafe,
    always,
    never,
    output_bounds,
    robust_classification,
)
from pyomo_relu.applications.regions import Ball, Box
from pyomo_relu.applications.verdict import Verification
from pyomo_relu.applications.verification import verify
from pyomo_relu.applications.vnnlib import (
    Case,
    VnnlibError,
    VnnlibProperty,
    parse_vnnlib,
    read_vnnlib,
)

__all__ = [
    "Adversarial",
    "Ball",
    "Box",
    "Case",
    "Feature",
    "Property",
    "Unsafe",
    "Verification",
    "VnnlibError",
    "VnnlibProperty",
    "always",
    "feature_grid",
    "find_adversarial",
    "image_grid",
    "never",
    "output_bounds",
    "parse_vnnlib",
    "read_vnnlib",
    "robust_classification",
    "verify",
    "visualize_feature",
]
