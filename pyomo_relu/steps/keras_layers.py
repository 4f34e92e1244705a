"""Step and sign activations in Keras, and trained networks as Keras models.

Importing the module needs Keras; a :class:`StepNetwork` does it when it is asked to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

try:
    import keras
except ImportError as _error:  # pragma: no cover - needs an environment without Keras
    raise ImportError("this needs Keras; pip install 'pyomo_relu[keras]'.") from _error

from pyomo_relu.network import activations
from pyomo_relu.readers.keras.registration import register_keras_activation

if TYPE_CHECKING:
    from pyomo_relu.steps.step_network import StepNetwork


@keras.saving.register_keras_serializable(package="pyomo_relu")
def step(x: Any) -> Any:
    """1 if ``x >= 0``, else 0."""
    return keras.ops.cast(x >= 0, x.dtype)


@keras.saving.register_keras_serializable(package="pyomo_relu")
def sign(x: Any) -> Any:
    """1 if ``x >= 0``, else -1; not ``keras.ops.sign``, which is 0 at 0."""
    return 2 * keras.ops.cast(x >= 0, x.dtype) - 1


register_keras_activation(step)(activations.step)
register_keras_activation(sign)(activations.sign)

ACTIVATIONS = {"step": step, "sign": sign}


def sequential(network: StepNetwork) -> Any:
    """A Keras model of float64 layers; see :meth:`StepNetwork.to_keras`."""
    last = len(network.weights) - 1
    layers: list[Any] = [keras.Input((network.sizes[0],), dtype="float64")]
    for k, w in enumerate(network.weights):
        layers.append(
            keras.layers.Dense(
                len(w),
                activation=None if k == last else ACTIVATIONS[network.activation],
                name="output" if k == last else f"hidden_{k + 1}",
                dtype="float64",
            )
        )
    model = keras.Sequential(layers)
    for layer, w, b in zip(model.layers, network.weights, network.biases):
        layer.set_weights([np.ascontiguousarray(w.T), b])
    return model
