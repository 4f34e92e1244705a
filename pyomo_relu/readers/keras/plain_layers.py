"""Dense layers, activations, normalization, layers that join or reshape tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyomo_relu.readers import spatial
from pyomo_relu.readers.keras.activation_functions import activated, apply, leaky_relu, relu
from pyomo_relu.readers.keras.describing import as_numpy, describe, refuse
from pyomo_relu.readers.keras.registration import LAYERS
from pyomo_relu.readers.moves import concatenate
from pyomo_relu.readers.reader_tables import LayerReader, by_attributes, enter
from pyomo_relu.readers.smooth import elu
from pyomo_relu.readers.sums import einsum
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Head, Tensor


@enter(
    LAYERS,
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
def identity(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    """Layers that do nothing at inference."""
    return x


@enter(LAYERS, "Dense")
def dense(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor | Head:
    """``activation(x @ kernel + bias)`` along the last axis."""
    bias = as_numpy(layer.bias) if layer.use_bias else 0.0
    affine = graph.matmul(name, x, as_numpy(layer.kernel), bias)
    return activated(graph, name, layer, affine)


@enter(LAYERS, "EinsumDense")
def einsum_dense(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor | Head:
    """``activation(einsum(equation, x, kernel) + bias)``."""
    y = einsum(graph, name, layer.equation, [x, as_numpy(layer.kernel)])
    if y.batch != 0:
        raise refuse(layer, "moves the batch axis, which is not supported.")
    if layer.bias is not None:
        y = graph.scale(f"{name}_bias", y, 1.0, as_numpy(layer.bias))
    return activated(graph, name, layer, y)


# ----------------------------------------------------------------------- activations
LAYERS["Activation"] = apply
LAYERS["ReLU"] = by_attributes(relu, "max_value", "negative_slope", "threshold")
LAYERS["LeakyReLU"] = by_attributes(leaky_relu, "negative_slope")
LAYERS["ELU"] = by_attributes(elu, "alpha")


@enter(LAYERS, "PReLU")
def prelu(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    """A leaky ReLU with learned slopes, shared along ``shared_axes``."""
    return graph.leaky(name, x, as_numpy(layer.alpha))


@enter(LAYERS, "Softmax")
def softmax(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Head:
    """A softmax at the end, which ``logits=True`` takes off."""
    return Head(x, "softmax", describe(layer), layer)


# --------------------------------------------------------------------- normalization
@enter(LAYERS, "BatchNormalization")
def batch_normalization(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    """``gamma * (x - mean) / sqrt(variance + epsilon) + beta``, moving statistics."""
    mean, variance = as_numpy(layer.moving_mean), as_numpy(layer.moving_variance)
    gamma = as_numpy(layer.gamma) if layer.scale else np.ones_like(mean)
    beta = as_numpy(layer.beta) if layer.center else np.zeros_like(mean)
    [axis] = np.atleast_1d(layer.axis)
    if axis % len(x.shape) == x.batch:
        raise refuse(layer, f"works along the axes {(axis,)}, which is not supported.")
    return spatial.batch_normalization(
        graph, name, x, gamma, beta, mean, variance, layer.epsilon, int(axis)
    )


@enter(LAYERS, "Normalization")
def normalization(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    """``(x - mean) / max(sqrt(variance), epsilon)``, or its inverse."""
    import keras

    if layer.mean is None or layer.variance is None:
        raise refuse(layer, "has no statistics yet; call its adapt(data) first.")
    mean, variance = as_numpy(layer.mean), as_numpy(layer.variance)
    with np.errstate(invalid="ignore"):
        deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
    if layer.invert:
        return graph.scale(name, x, deviation, mean)
    return graph.standardize(name, x, mean, 1.0 / deviation)


@enter(LAYERS, "Rescaling")
def rescaling(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
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
    return graph.scale(name, x, scale, offset)


# ------------------------------------------------------------ layers of several tensors
def _with_the_same_rank(graph: TensorGraph, layer: Any, xs: tuple) -> list[Tensor]:
    """Tensors that broadcast without the batch axis, as Keras does but for one odd case."""
    shapes = [x.sample_shape for x in xs]
    rank = max(map(len, shapes))
    if min(map(len, shapes)) < rank and not getattr(layer, "_reshape_required", True):
        raise refuse(
            layer,
            f"is shared between calls with different ranks (here {shapes}), which Keras "
            "broadcasts along the batch; use one layer for each call.",
        )
    try:
        np.broadcast_shapes(*shapes)
    except ValueError as e:
        raise refuse(layer, f"joins tensors of shapes {shapes}, which don't fit.") from e
    widened = [(1,) * (1 + rank - len(s)) + s for s in shapes]
    return [Tensor(x.handle, shape, 0) for x, shape in zip(xs, widened)]


@enter(LAYERS, "Add", "Subtract", "Average")
def weighted_sum(graph: TensorGraph, name: str, layer: Any, *xs: Tensor) -> Tensor:
    """The sum of tensors, the difference of two, or their mean."""
    n = len(xs)
    factors = {"Add": [1.0] * n, "Subtract": [1.0, -1.0], "Average": [1.0 / n] * n}[
        type(layer).__name__
    ]
    return graph.add(name, _with_the_same_rank(graph, layer, xs), factors)


def _extreme(sign: float) -> LayerReader:
    def read(graph: TensorGraph, name: str, layer: Any, *xs: Tensor) -> Tensor:
        return graph.maximum(name, _with_the_same_rank(graph, layer, xs), sign)

    return read


LAYERS["Maximum"], LAYERS["Minimum"] = _extreme(1.0), _extreme(-1.0)


@enter(LAYERS, "Multiply")
def product(graph: TensorGraph, name: str, layer: Any, *xs: Tensor) -> Tensor:
    """Tensors times each other, as they are read from the left."""
    found, *others = _with_the_same_rank(graph, layer, xs)
    for k, x in enumerate(others, start=2):
        found = graph.multiply(name if k == len(xs) else f"{name}_{k}", found, x)
    return found


@enter(LAYERS, "Concatenate")
def concatenation(graph: TensorGraph, name: str, layer: Any, *xs: Tensor) -> Tensor:
    """Tensors one after the other along an axis."""
    if layer.axis in (0, -len(xs[0].shape)):
        raise refuse(layer, "joins along the batch axis, which is not supported.")
    return concatenate(graph, name, xs, layer.axis)


# ---------------------------------------------------------------------------- shapes
@enter(LAYERS, "Flatten")
def flatten(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    """One axis; a channels-first tensor is put channels last before."""
    first = layer.data_format == "channels_first" and len(x.shape) > 2
    index = np.moveaxis(x.index, 1, -1) if first else x.index
    return graph.rearrange(name, [x], index.reshape(1, -1), batch=0)


@enter(LAYERS, "Reshape")
def reshape(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    """The entries in another shape, the batch axis first."""
    return graph.reshape(x, (1, *layer.target_shape), name)


@enter(LAYERS, "Permute")
def permute(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    """The axes of a sample in another order, counted from 1."""
    return graph.transpose(name, x, [0, *layer.dims])


@enter(LAYERS, "RepeatVector")
def repeat_vector(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor:
    """``n`` copies of a vector, along a new axis before its own."""
    wide = graph.reshape(x, (1, 1, x.size), name)
    return graph.broadcast(name, wide, (1, layer.n, x.size))
