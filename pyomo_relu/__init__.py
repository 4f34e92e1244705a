"""Trained ReLU networks as Pyomo components: one block, any formulation, any solver."""

__version__ = "0.1.0"
