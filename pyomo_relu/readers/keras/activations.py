"""Activation functions: Keras' own, the user's, and the heads that stay outside.

Keras' formulas are followed to the point: where an activation has a step, its value
at the breakpoint is Keras' value. The primitive takes the right value there, so a
left-continuous step is written as a mirrored one, ``f(x) = g(-x)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pyomo_relu.network import NetworkBuilder, activations
from pyomo_relu.readers.keras import registry, tensors
from pyomo_relu.readers.keras.registry import Head, Value

HEADS = ("softmax", "log_softmax", "sigmoid", "log_sigmoid")


def mirrored(
    builder: NetworkBuilder,
    name: str,
    source: int,
    function: str,
    breakpoints: Sequence[float],
    slopes: Sequence[float],
    intercepts: Sequence[float],
) -> int:
    """Add a function that takes its *left* value at each breakpoint."""
    negative = tensors.scale_and_shift(builder, f"{name}_mirrored", source, -1.0)
    pieces = (
        function,
        -np.asarray(breakpoints, float)[::-1],
        -np.asarray(slopes, float)[::-1],
        np.asarray(intercepts, float)[::-1],
    )
    return builder.piecewise(name, negative, pieces)


def relu(
    builder: NetworkBuilder,
    name: str,
    source: int,
    max_value=None,
    negative_slope=0.0,
    threshold=0.0,
) -> int:
    """Keras' general ReLU, its step at a non-zero threshold included.

    ``clip(x, 0, max_value)`` for ``x > threshold`` (not clipped from below without
    ``max_value``), else ``negative_slope * (x - threshold)``.
    """
    slope, t = float(negative_slope or 0.0), registry.as_run(threshold or 0.0)
    top = None if max_value is None else registry.as_run(max_value)
    if t == 0.0 and top is None and slope:
        return leaky_relu(builder, name, source, slope)
    if t == 0.0 and (top is None or top > 0.0):
        pieces = activations.relu(top, slope, 0.0)
        return builder.piecewise(name, source, pieces)
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
    return mirrored(builder, name, source, "threshold_relu", breaks, slopes, intercepts)


def threshold(builder, name, source, threshold, default_value) -> int:
    """``x`` if ``x > threshold``, else ``default_value``."""
    t, value = float(threshold), float(default_value)
    if t == value:
        pieces = ("threshold", np.array([t]), np.array([0.0, 1.0]), np.array([value, 0.0]))
        return builder.piecewise(name, source, pieces)
    return mirrored(builder, name, source, "threshold", [t], [0.0, 1.0], [value, 0.0])


def leaky_relu(builder, name, source, negative_slope=0.2) -> int:
    """``x`` if ``x >= 0``, else ``negative_slope * x``."""
    slope = registry.as_run(negative_slope)
    return builder.piecewise(name, source, activations.leaky_relu(slope))


def soft_shrink(builder, name, source, threshold=0.5) -> int:
    """``x`` drawn towards 0 by ``threshold``."""
    t = float(threshold)
    pieces = (
        "soft_shrink",
        np.array([-t, t]),
        np.array([1.0, 0.0, 1.0]),
        np.array([t, 0.0, -t]),
    )
    return builder.piecewise(name, source, pieces)


def hard_shrink(builder, name, source, threshold=0.5) -> int:
    """``x`` if ``|x| > threshold``, else 0; a step on each side."""
    t = float(threshold)
    below = ("hard_shrink", np.array([-t]), np.array([1.0, 0.0]), np.zeros(2))
    low = builder.piecewise(f"{name}_below", source, below)
    high = mirrored(
        builder, f"{name}_above", source, "hard_shrink", [t], [0.0, 1.0], [0.0, 0.0]
    )
    return tensors.combine(builder, name, [low, high], [1.0, 1.0])


def sign(builder, name, source) -> int:
    """-1, 0 or 1, as ``keras.ops.sign``: ``[x >= 0] - [x <= 0]``."""
    up = builder.piecewise(f"{name}_up", source, activations.step())
    down = mirrored(builder, f"{name}_down", source, "step", [0.0], [0.0, 0.0], [1.0, 0.0])
    return tensors.combine(builder, name, [up, down], [1.0, -1.0])


def clip(builder, name, source, low=None, high=None) -> int:
    """``min(max(x, low), high)``; either may be missing, or an array.

    Raises
    ------
    ValueError
        If some ``low`` is above ``high``.
    """
    shape = tensors.shape_of(builder, source)

    def flat(v) -> np.ndarray | None:
        return None if v is None else np.broadcast_to(np.asarray(v, float), shape).ravel()

    lo, hi = flat(low), flat(high)
    if lo is not None and hi is not None:
        if (lo > hi).any():
            raise ValueError(f"layer '{name}': clip needs its minimum below its maximum.")
        zero = np.zeros_like(lo)
        pieces = (
            "clip",
            np.stack([lo, hi], axis=-1),
            np.stack([zero, zero + 1.0, zero], axis=-1),
            np.stack([lo, zero, hi], axis=-1),
        )
    elif lo is not None:
        if not lo.any():
            return builder.piecewise(name, source, activations.relu())
        one = np.ones_like(lo)
        pieces = (
            "maximum",
            lo[:, None],
            np.stack([0 * one, one], axis=-1),
            np.stack([lo, 0 * one], axis=-1),
        )
    elif hi is None:
        return source
    else:
        one = np.ones_like(hi)
        pieces = (
            "minimum",
            hi[:, None],
            np.stack([one, 0 * one], axis=-1),
            np.stack([0 * one, hi], axis=-1),
        )
    return builder.piecewise(name, source, pieces)


def _pieces(factory: Callable) -> Callable:
    return lambda builder, name, source: builder.piecewise(name, source, factory())


# By the names of keras.activations and keras.ops; all with Keras' default arguments.
BUILT_IN: dict[str, Callable[[NetworkBuilder, str, int], int]] = {
    "relu": _pieces(activations.relu),
    "relu6": _pieces(activations.relu6),
    "leaky_relu": leaky_relu,
    "hard_sigmoid": _pieces(activations.hard_sigmoid),
    "hard_tanh": _pieces(activations.clip),
    "soft_shrink": soft_shrink,
    "hard_shrink": hard_shrink,
    "linear": lambda builder, name, source: source,
    "abs": _pieces(activations.absolute),
    "absolute": _pieces(activations.absolute),
    "sign": sign,
    "negative": lambda builder, name, source: tensors.scale_and_shift(
        builder, name, source, -1.0
    ),
}


def function_name(function: Any) -> str:
    """The name under which errors and nodes show an activation."""
    name = getattr(function, "__name__", None) or type(function).__name__
    return "lambda" if name == "<lambda>" else str(name)


def keras_name(function: Any) -> str | None:
    """The name of one of Keras' own functions; None for any other object."""
    import keras

    name = getattr(function, "__name__", None)
    for module in (keras.activations, keras.ops):
        # Compared as objects: a user's own "relu" need not be Keras' relu.
        if name is not None and getattr(module, name, None) is function:
            return str(name)
    return None


def apply(
    layer: Any, builder: NetworkBuilder, source: int, function: Any, name: str
) -> Value:
    """Add the activation ``function`` of ``layer`` after ``source``.

    Raises
    ------
    UnsupportedLayerError
        If the function is neither piecewise linear nor a known head.
    """
    import keras

    if function is None:
        return source
    pieces = registry.custom_activation(function)
    if pieces is not None:
        return builder.piecewise(name, source, pieces())
    if isinstance(function, keras.layers.Layer):
        translator = registry.layer_translator(function)
        if translator is None:
            raise refused(layer, function_name(function))
        result = translator(function, builder, [source], name)
        assert isinstance(result, (int, Head))
        return result
    known = keras_name(function)
    if known in HEADS:
        return Head(int(source), known, registry.describe(layer), function)
    if known in BUILT_IN:
        return BUILT_IN[known](builder, name, source)
    raise refused(layer, known or function_name(function), own=known is None)


def refused(layer: Any, function: str, own: bool = False) -> Exception:
    """The error for an activation that is not piecewise linear, or not known."""
    if own:
        return registry.refuse(
            layer,
            f"has the activation '{function}', which is unknown; if it is piecewise "
            "linear, describe it with register_keras_activation.",
        )
    return registry.refuse(
        layer,
        f"has the activation '{function}', which is not piecewise linear; retrain with "
        "relu, leaky_relu, hard_tanh, hard_sigmoid or another piecewise-linear one.",
    )
