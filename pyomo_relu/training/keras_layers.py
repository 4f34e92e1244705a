"""The step and sign activations of Keras models that classifiers were made into.

Keras reads such a model from its file once this module is imported.
"""

from pyomo_relu.steps.keras_layers import sequential, sign, step

__all__ = ["sequential", "sign", "step"]
