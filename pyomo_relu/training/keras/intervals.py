"""Interval bounds inside of the computation graph, so that they have gradients.

The same arithmetic as :func:`pyomo_relu.bounds.interval.interval`, by midpoint and
radius: an affine layer maps the midpoint as it is and the radius by ``|W|``; a monotone
layer maps both ends. In float32 and without outward rounding: made for training, not for
proofs.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

#: Activations that don't decrease, and whether they have a breakpoint at 0.
MONOTONE = {
    "linear": False,
    "relu": True,
    "relu6": True,
    "leaky_relu": True,
    "hard_tanh": False,
    "hard_sigmoid": False,
    "sigmoid": False,
    "tanh": False,
    "softplus": False,
}

#: Layers that don't decrease in any input, by class name.
_MONOTONE_LAYERS = {
    "Flatten",
    "Reshape",
    "Permute",
    "MaxPooling1D",
    "MaxPooling2D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "AveragePooling1D",
    "AveragePooling2D",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "ZeroPadding2D",
    "Cropping2D",
}

#: Layers that do nothing outside of training.
SILENT = {
    "InputLayer",
    "Dropout",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "GaussianNoise",
    "GaussianDropout",
    "AlphaDropout",
    "ActivityRegularization",
    "Identity",
}

_CONVOLUTIONS = {"Conv1D", "Conv2D"}

Interval = tuple[Any, Any]


def chain(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a model without branches, in order.

    Raises
    ------
    ValueError
        For a model with branches, or one that is not built.
    """
    if isinstance(model, keras.Sequential):
        if not model.built:
            raise ValueError(
                f"model '{model.name}' is not built; give it an Input layer, or call it "
                "on data first."
            )
        layers = list(model.layers)
    else:
        layers = list(model.layers)
        last = None
        for layer in layers:
            if len(getattr(layer, "_inbound_nodes", ())) != 1:
                raise ValueError(
                    f"layer '{layer.name}' of model '{model.name}' is used more than once, "
                    "or the model is no functional one; penalties on bounds need a chain."
                )
            if last is not None and layer.input is not last.output:
                raise ValueError(
                    f"layer '{layer.name}' of model '{model.name}' doesn't read the layer "
                    "before it; penalties on bounds need a chain of layers."
                )
            last = layer
    found: list[keras.layers.Layer] = []
    for layer in layers:
        found += chain(layer) if isinstance(layer, keras.Model) else [layer]
    return found


def check_layers(model: keras.Model) -> None:
    """Raise a ValueError where a layer of the model has no interval rule."""
    layers = chain(model)
    for k, layer in enumerate(layers):
        kind = type(layer).__name__
        known = SILENT | _MONOTONE_LAYERS | _CONVOLUTIONS
        known |= {"Dense", "BatchNormalization", "Rescaling", "ReLU", "LeakyReLU"}
        known |= {"Activation", "Softmax"}
        activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
        final = k == len(layers) - 1
        if kind in ("Conv1D", "Conv2D") and layer.groups != 1:
            kind = "grouped convolution"
        if kind not in known or (kind == "Softmax" and not final):
            raise ValueError(
                f"layer '{layer.name}' ({kind}) has no interval rule for penalties on "
                "bounds; use Dense, Conv, BatchNormalization, pooling and ReLU layers."
            )
        if activation not in MONOTONE and not (final and activation == "softmax"):
            raise ValueError(
                f"the activation '{activation}' of layer '{layer.name}' has no interval "
                f"rule; choose one of {sorted(MONOTONE)}."
            )


def interval_bounds(
    model: keras.Model, lower: Any, upper: Any
) -> tuple[list[Interval], Interval]:
    """Bounds of all ReLU pre-activations, and of the outputs, as backend tensors.

    Parameters
    ----------
    model : keras.Model
        A chain of layers.
    lower, upper : (N, ...) tensors
        N boxes of the model's input shape.

    Returns
    -------
    preactivations : list of (lower, upper)
        One pair of (N, ...) tensors for each layer of ReLU or leaky ReLU.
    outputs : (lower, upper)
        A final softmax is left out.
    """
    low, high = ops.convert_to_tensor(lower), ops.convert_to_tensor(upper)
    found: list[Interval] = []
    for layer in chain(model):
        kind = type(layer).__name__
        if kind in SILENT or kind == "Softmax":
            continue
        if kind in _MONOTONE_LAYERS:
            low, high = layer(low), layer(high)
        elif kind in ("ReLU", "LeakyReLU"):
            found.append((low, high))
            low, high = layer(low), layer(high)
        else:
            if kind != "Activation":
                low, high = _affine(layer, kind, low, high)
            activation = getattr(layer, "activation", None)
            name = getattr(activation, "__name__", "linear")
            if MONOTONE.get(name, False):
                found.append((low, high))
            if activation is not None and name not in ("linear", "softmax"):
                low, high = activation(low), activation(high)
    return found, (low, high)


def _affine(layer: Any, kind: str, low: Any, high: Any) -> Interval:
    middle, radius = 0.5 * (low + high), 0.5 * (high - low)
    if kind == "Dense":
        middle = ops.matmul(middle, layer.kernel)
        radius = ops.matmul(radius, ops.abs(layer.kernel))
        if layer.use_bias:
            middle = middle + layer.bias
    elif kind in _CONVOLUTIONS:
        options = {
            "strides": layer.strides,
            "padding": layer.padding,
            "data_format": layer.data_format,
            "dilation_rate": layer.dilation_rate,
        }
        middle = ops.conv(middle, layer.kernel, **options)
        radius = ops.conv(radius, ops.abs(layer.kernel), **options)
        if layer.use_bias:
            shape = [1] * len(middle.shape)
            shape[-1 if layer.data_format == "channels_last" else 1] = -1
            middle = middle + ops.reshape(layer.bias, shape)
    elif kind == "BatchNormalization":
        # The moving statistics are used: these are what the trained network has.
        ends = layer(low, training=False), layer(high, training=False)
        return ops.minimum(*ends), ops.maximum(*ends)
    else:  # Rescaling
        ends = layer(low), layer(high)
        return ops.minimum(*ends), ops.maximum(*ends)
    return middle - radius, middle + radius
