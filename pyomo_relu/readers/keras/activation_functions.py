"""Activation functions: Keras' own, the user's, and the heads that stay outside.

Keras' formulas are followed to the point: where an activation has a step, its value
at the breakpoint is Keras' value.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from pyomo_relu.network import activations
from pyomo_relu.readers import smooth
from pyomo_relu.readers.entrywise import ENTRYWISE
from pyomo_relu.readers.keras.describing import (
    UnsupportedLayerError,
    as_run,
    describe,
    refuse,
)
from pyomo_relu.readers.keras.registration import custom_activation, layer_reader
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Head, Tensor

#: Functions of ``tensorflow.nn`` that compute what Keras' of the same name compute.
OF_TENSORFLOW = """
    elu gelu leaky_relu log_softmax relu relu6 selu sigmoid silu softmax softplus softsign
    tanh
""".split()

#: Functions that ``logits=True`` takes off an output, by their names in ``keras.ops``.
HEADS = ("softmax", "log_softmax", "sigmoid", "log_sigmoid")


def relu(
    graph: TensorGraph,
    name: str,
    x: Tensor,
    max_value: float | None = None,
    negative_slope: float | None = 0.0,
    threshold: float | None = 0.0,
) -> Tensor:
    """Keras' general ReLU, its step at a non-zero threshold included.

    ``clip(x, 0, max_value)`` for ``x > threshold`` (not clipped from below without
    ``max_value``), else ``negative_slope * (x - threshold)``.
    """
    slope, t = float(negative_slope or 0.0), as_run(threshold or 0.0)
    top = None if max_value is None else as_run(max_value)
    if t == 0.0 and top is None and slope:
        return leaky_relu(graph, name, x, slope)
    if t == 0.0 and (top is None or top > 0.0):
        return graph.piecewise(name, x, activations.relu(top, slope, 0.0))
    breaks, slopes, intercepts = [t], [slope], [slope * -float(threshold or 0.0)]
    if top is None:
        slopes, intercepts = [*slopes, 1.0], [*intercepts, 0.0]
    else:
        if t < 0.0:  # between a negative threshold and 0 the result is clipped to 0
            breaks, slopes, intercepts = [t, 0.0], [*slopes, 0.0], [*intercepts, 0.0]
        if top > max(t, 0.0):
            breaks.append(top)
            slopes, intercepts = [*slopes, 1.0], [*intercepts, 0.0]
        slopes, intercepts = [*slopes, 0.0], [*intercepts, top]
    return graph.left_continuous(name, x, "threshold_relu", breaks, slopes, intercepts)


def leaky_relu(
    graph: TensorGraph, name: str, x: Tensor, negative_slope: float = 0.2
) -> Tensor:
    """``x`` if ``x >= 0``, else ``negative_slope * x``."""
    return graph.piecewise(name, x, activations.leaky_relu(as_run(negative_slope)))


def soft_shrink(graph: TensorGraph, name: str, x: Tensor, threshold: float = 0.5) -> Tensor:
    """``x`` drawn towards 0 by ``threshold``."""
    return graph.soft_shrink(name, x, threshold)


def hard_shrink(graph: TensorGraph, name: str, x: Tensor, threshold: float = 0.5) -> Tensor:
    """``x`` if ``|x| > threshold``, else 0."""
    return graph.hard_shrink(name, x, threshold)


#: By the names of ``keras.activations`` and ``keras.ops``, with Keras' default arguments.
FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    **{name: ENTRYWISE[name] for name in ("relu", "relu6", "hard_sigmoid", "hard_tanh")},
    **{name: ENTRYWISE[name] for name in ("absolute", "sign", "negative")},
    "abs": ENTRYWISE["absolute"],
    "linear": ENTRYWISE["identity"],
    "leaky_relu": leaky_relu,
    "soft_shrink": soft_shrink,
    "hard_shrink": hard_shrink,
    **{name: smooth.SMOOTH[name] for name in ("sigmoid", "log_sigmoid", "tanh", "silu")},
    **{name: smooth.SMOOTH[name] for name in ("mish", "erf", "exp", "tanh_shrink")},
    "square": smooth.SMOOTH["square"],
    "swish": smooth.SMOOTH["silu"],
    "exponential": smooth.SMOOTH["exp"],
    "soft_sign": smooth.SMOOTH["softsign"],
    "softsign": smooth.SMOOTH["softsign"],
    "arctan": smooth.SMOOTH["arctan"],
    "hard_silu": smooth.SMOOTH["hard_swish"],
    "hard_swish": smooth.SMOOTH["hard_swish"],
    "softplus": smooth.softplus,
    "gelu": smooth.gelu,
    "gelu_by_tanh": partial(smooth.gelu, approximate=True),
    "elu": smooth.elu,
    "selu": smooth.selu,
    "celu": smooth.celu,
}


def head(
    graph: TensorGraph, name: str, function: str, layer: Any, x: Tensor, run: Any
) -> Head:
    """A softmax or sigmoid, or its logarithm, which may be taken off; a sigmoid is a unit."""
    unit = FUNCTIONS[function](graph, name, x) if function in smooth.UNITS else None
    return Head(x, function, describe(layer), run, unit)


def as_unit(value: Tensor | Head, remedy: str) -> Tensor:
    """What a layer reads: of a head that is a unit its value; other heads are refused."""
    if isinstance(value, Tensor):
        return value
    if value.unit is not None:
        return value.unit
    raise UnsupportedLayerError(
        f"{value.layer} has the activation '{value.function}', which is not a function of "
        f"one entry; {remedy}"
    )


def function_name(function: Any) -> str:
    """The name under which errors and nodes show an activation."""
    name = getattr(function, "__name__", None) or type(function).__name__
    return "lambda" if name == "<lambda>" else str(name)


def keras_name(function: Any) -> str | None:
    """The name of one of Keras' own functions, or of TensorFlow's that are the same.

    None for any other object.
    """
    import keras

    name = getattr(function, "__name__", None)
    for module in (keras.activations, keras.ops):
        # Compared as objects: a user's own "relu" need not be Keras' relu.
        if name is not None and getattr(module, name, None) is function:
            # The default of keras.ops.gelu is another one than keras.activations.gelu's.
            by_tanh = name == "gelu" and module is keras.ops
            return "gelu_by_tanh" if by_tanh else str(name)
    tensorflow = sys.modules.get("tensorflow")  # a function of it comes with it
    if tensorflow is not None:
        for name in OF_TENSORFLOW:
            if getattr(tensorflow.nn, name, None) is function:
                return name
    return None


def activated(graph: TensorGraph, name: str, layer: Any, x: Tensor) -> Tensor | Head:
    """Apply the layer's ``activation``, as a node ``<name>_<function>``."""
    return apply(graph, f"{name}_{function_name(layer.activation)}", layer, x)


def apply(
    graph: TensorGraph, name: str, layer: Any, x: Tensor, given: Any = None
) -> Tensor | Head:
    """Apply the layer's ``activation``, or another function of it that is given.

    Raises
    ------
    UnsupportedLayerError
        If the function is not known, or neither piecewise linear nor smooth.
    """
    import keras

    function = layer.activation if given is None else given
    if function is None:
        return x
    pieces = custom_activation(function)
    if pieces is not None:
        return graph.piecewise(name, x, pieces())
    if isinstance(function, keras.layers.Layer):
        read = layer_reader(function)
        if read is None:
            raise refused(layer, function_name(function))
        result = read(graph, name, function, x)
        assert isinstance(result, (Tensor, Head))
        return result
    known = keras_name(function)
    if known in HEADS:
        return head(graph, name, known, layer, x, function)
    if known in FUNCTIONS:
        return FUNCTIONS[known](graph, name, x)
    if known is None:
        raise refuse(
            layer,
            f"has the activation '{function_name(function)}', which is unknown; if it is "
            "piecewise linear, describe it with register_keras_activation.",
        )
    raise refused(layer, known)


def refused(layer: Any, function: str) -> UnsupportedLayerError:
    """The error for an activation that is neither piecewise linear nor known."""
    return refuse(
        layer,
        f"has the activation '{function}', which is neither piecewise linear nor one of "
        "the smooth ones that are known; retrain with relu, leaky_relu, tanh or sigmoid.",
    )
