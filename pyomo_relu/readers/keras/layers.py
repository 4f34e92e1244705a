"""Translators: dense layers, activations, normalization, and the identities."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from pyomo_relu.network import NetworkBuilder, activations
from pyomo_relu.readers.keras import activations as functions
from pyomo_relu.readers.keras import registry, tensors
from pyomo_relu.readers.keras.registry import Head, Value, as_numpy, refuse, translates
from pyomo_relu.readers.keras.tensors import shape_of


def activated(layer: Any, builder: NetworkBuilder, source: int, name: str) -> Value:
    """Add the layer's ``activation`` as a node ``<name>_<function>``."""
    function = layer.activation
    node = f"{name}_{functions.function_name(function)}"
    return functions.apply(layer, builder, source, function, node)


@translates(
    "Identity",
    "Dropout",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "GaussianDropout",
    "GaussianNoise",
    "AlphaDropout",
    "ActivityRegularization",
)
def identity(layer, builder, sources, name) -> int:
    """Layers that do nothing at inference."""
    return sources[0]


@translates("Dense")
def dense(layer, builder, sources, name) -> Value:
    """``activation(x @ kernel + bias)`` along the last axis."""
    kernel = as_numpy(layer.kernel)
    bias = as_numpy(layer.bias) if layer.use_bias else None
    affine = tensors.apply_matrix(builder, name, sources[0], kernel, bias)
    return activated(layer, builder, affine, name)


@translates("Activation")
def activation(layer, builder, sources, name) -> Value:
    """``Activation(function)``."""
    return functions.apply(layer, builder, sources[0], layer.activation, name)


@translates("ReLU")
def relu(layer, builder, sources, name) -> int:
    """``ReLU(max_value, negative_slope, threshold)``."""
    return functions.relu(
        builder, name, sources[0], layer.max_value, layer.negative_slope, layer.threshold
    )


@translates("LeakyReLU")
def leaky_relu(layer, builder, sources, name) -> int:
    """``LeakyReLU(negative_slope)``."""
    return functions.leaky_relu(builder, name, sources[0], layer.negative_slope)


@translates("PReLU")
def prelu(layer, builder, sources, name) -> int:
    """A leaky ReLU with learned slopes, shared along ``shared_axes``."""
    shape = shape_of(builder, sources[0])
    slopes = np.broadcast_to(as_numpy(layer.alpha), shape).reshape(-1)
    return builder.piecewise(name, sources[0], activations.leaky_relu(slopes))


@translates("Softmax")
def softmax(layer, builder, sources, name) -> Head:
    """A softmax head."""
    return Head(int(sources[0]), "softmax", registry.describe(layer), layer)


def along_axes(
    layer: Any, values: np.ndarray, axes: Sequence[int], rank: int
) -> np.ndarray:
    """Reshape per-channel values so that they broadcast against a tensor.

    ``axes`` count the batch axis as 0; ``rank`` doesn't count it.
    """
    found = sorted(a - 1 if a >= 0 else a + rank for a in axes)
    if any(not 0 <= a < rank for a in found):
        raise refuse(layer, f"works along the axes {tuple(axes)}, which is not supported.")
    shape = [1] * rank
    for a, n in zip(found, values.shape):
        shape[a] = n
    return values.reshape(shape)


@translates("BatchNormalization")
def batch_normalization(layer, builder, sources, name) -> int:
    """``gamma * (x - mean) / sqrt(variance + epsilon) + beta``, moving statistics."""
    mean, variance = as_numpy(layer.moving_mean), as_numpy(layer.moving_variance)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = 1.0 / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        scale = scale * as_numpy(layer.gamma)
    offset = as_numpy(layer.beta) if layer.center else np.zeros_like(mean)
    rank = len(shape_of(builder, sources[0]))
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    parts = (along_axes(layer, v, axes, rank) for v in (mean, scale, offset))
    return tensors.standardize(builder, name, sources[0], *parts)


@translates("Normalization")
def normalization(layer, builder, sources, name) -> int:
    """``(x - mean) / max(sqrt(variance), epsilon)``, or its inverse."""
    import keras

    if layer.mean is None or layer.variance is None:
        raise refuse(layer, "has no statistics yet; call its adapt(data) first.")
    mean, variance = as_numpy(layer.mean), as_numpy(layer.variance)
    with np.errstate(invalid="ignore"):
        deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
    rank = len(shape_of(builder, sources[0]))
    mean, deviation = (
        # The statistics keep an axis of length 1 for the batch.
        v.reshape(v.shape[1:]) if v.ndim == rank + 1 and v.shape[0] == 1 else v
        for v in (mean, deviation)
    )
    if layer.invert:
        return tensors.scale_and_shift(builder, name, sources[0], deviation, mean)
    return tensors.standardize(builder, name, sources[0], mean, 1.0 / deviation)


@translates("Rescaling")
def rescaling(layer, builder, sources, name) -> int:
    """``scale * x + offset``."""
    import keras

    scale, offset = (
        as_numpy(keras.ops.cast(v, layer.variable_dtype))
        for v in (layer.scale, layer.offset)
    )
    if scale.ndim and keras.config.image_data_format() == "channels_first":
        widened = scale.shape + (1,) * (3 - scale.ndim)
        scale = scale.reshape(widened)
        offset = offset.reshape(widened) if offset.size == scale.size else offset
    return tensors.scale_and_shift(builder, name, sources[0], scale, offset)


@translates("TimeDistributed")
def time_distributed(layer, builder, sources, name) -> Value | Sequence[Value]:
    """The inner layer on each step of the first axis after the batch."""
    import keras

    from pyomo_relu.readers.keras.graph import translate_layer, translate_model

    inner, shape = layer.layer, shape_of(builder, sources[0])
    if registry.layer_translator(inner) is dense and len(shape) > 1:
        # Acts along the last axis only, so all steps are one affine node.
        return dense(inner, builder, sources, name)
    results: list[int] = []
    for t in range(shape[0]):
        step = tensors.rearrange(builder, f"{name}_{t}", sources[0], itemgetter(t))
        handle = registry.Handle(step)
        if isinstance(inner, keras.Model):
            value: Any = translate_model(inner, builder, (handle,), {})
        else:
            value = translate_layer(inner, builder, (handle,), {})
        if isinstance(value, (list, tuple)):
            if len(value) != 1:
                raise refuse(layer, "wraps a layer with several outputs.")
            value = value[0]
        if isinstance(value, Head):
            raise functions.refused(inner, value.function)
        results.append(int(value))
    return tensors.gather(builder, name, results, lambda parts: np.stack(parts))
