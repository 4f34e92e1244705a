"""Inputs that a network is optimized for: nearest adversarial ones, and what a neuron likes.

:func:`find_adversarial` proves the smallest change of an input that changes a decision,
:func:`visualize_feature` finds the input that a neuron or a class answers most.
"""

from pyomo_relu.adversarial.features import Feature, feature_grid, visualize_feature
from pyomo_relu.adversarial.nearest import Adversarial, find_adversarial
from pyomo_relu.adversarial.pictures import image_grid

__all__ = [
    "Adversarial",
    "Feature",
    "feature_grid",
    "find_adversarial",
    "image_grid",
    "visualize_feature",
]
