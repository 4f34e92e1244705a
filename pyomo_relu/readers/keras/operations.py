"""Translators: ``keras.ops`` and Python operators on symbolic tensors.

``x + y``, ``2 * x``, ``keras.ops.relu(x)``, ``x[:, :3]`` in a functional model are
operations, not layers. What rearranges entries is run by NumPy on positions with a
batch of its own, which shows whether the batch axis is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pyomo_relu.network import NetworkBuilder, activations
from pyomo_relu.readers.keras import activations as functions
from pyomo_relu.readers.keras import registry, tensors
from pyomo_relu.readers.keras.pooling import reduced, reduced_sum
from pyomo_relu.readers.keras.registry import (
    Handle,
    Head,
    Value,
    as_numpy,
    refuse,
    translates_operation,
)
from pyomo_relu.readers.keras.tensors import positions, shape_of

# A length that hardly occurs, so that a batch axis can't be taken for another one.
PROBE_BATCH = 7


def translate(
    operation: Any, builder: NetworkBuilder, args: Any, kwargs: Any
) -> Value | Sequence[Value]:
    """Translate one call of an operation; ``args`` hold handles for tensors."""
    translator = registry.operation_translator(operation)
    if translator is None:
        raise refuse(
            operation,
            "is not supported; it is not piecewise linear or not known. Use a layer "
            "instead, or put it into a layer of your own with register_keras_layer.",
        )
    return translator(operation, builder, operation.name, *args, **kwargs)


def constant(operation: Any, value: Any, rank: int) -> np.ndarray:
    """A constant operand without its batch axis, to broadcast against ``rank`` axes."""
    array = as_numpy(value)
    if array.ndim == rank + 1 and array.shape[0] == 1:
        array = array[0]
    if array.ndim > rank:
        raise refuse(
            operation,
            f"joins a tensor with a constant of shape {array.shape}, which has entries "
            "along the batch; that is not supported.",
        )
    return array


def _same_rank(operation: Any, builder: NetworkBuilder, sources: Sequence[int]) -> None:
    shapes = [shape_of(builder, s) for s in sources]
    if len({len(s) for s in shapes}) > 1:
        raise refuse(
            operation,
            f"joins tensors of shapes {shapes}, which broadcasts along the batch; "
            "reshape them to the same number of axes first.",
        )


def _linear(operation, builder, name, x1, x2, first, second) -> int:
    """``first * x1 + second * x2`` for tensors or constants."""
    if isinstance(x1, Handle) and isinstance(x2, Handle):
        _same_rank(operation, builder, [x1, x2])
        return tensors.combine(builder, name, [x1, x2], [first, second])
    if isinstance(x1, Handle):
        c = constant(operation, x2, len(shape_of(builder, x1)))
        return tensors.scale_and_shift(builder, name, x1, first, second * c)
    c = constant(operation, x1, len(shape_of(builder, x2)))
    return tensors.scale_and_shift(builder, name, x2, second, first * c)


@translates_operation("Add")
def add(operation, builder, name, x1, x2) -> int:
    """``x1 + x2``."""
    return _linear(operation, builder, name, x1, x2, 1.0, 1.0)


@translates_operation("Subtract")
def subtract(operation, builder, name, x1, x2) -> int:
    """``x1 - x2``."""
    return _linear(operation, builder, name, x1, x2, 1.0, -1.0)


@translates_operation("Multiply")
def multiply(operation, builder, name, x1, x2) -> int:
    """A tensor times a constant."""
    if isinstance(x1, Handle) and isinstance(x2, Handle):
        raise refuse(operation, "multiplies two tensors, which is not piecewise linear.")
    x, c = (x1, x2) if isinstance(x1, Handle) else (x2, x1)
    scale = constant(operation, c, len(shape_of(builder, x)))
    return tensors.scale_and_shift(builder, name, x, scale)


@translates_operation("Divide", "TrueDivide")
def divide(operation, builder, name, x1, x2) -> int:
    """A tensor divided by a constant."""
    if isinstance(x2, Handle):
        raise refuse(operation, "divides by a tensor, which is not piecewise linear.")
    divisor = constant(operation, x2, len(shape_of(builder, x1)))
    if not np.all(divisor):
        raise refuse(operation, "divides by zero.")
    return tensors.scale_and_shift(builder, name, x1, 1.0 / divisor)


def _extreme(operation, builder, name, x1, x2, sign) -> int:
    if isinstance(x1, Handle) and isinstance(x2, Handle):
        _same_rank(operation, builder, [x1, x2])
        return tensors.extreme(builder, name, [x1, x2], sign)
    x, c = (x1, x2) if isinstance(x1, Handle) else (x2, x1)
    limit = constant(operation, c, len(shape_of(builder, x)))
    return _clip(
        operation, builder, name, x, *((limit, None) if sign > 0 else (None, limit))
    )


@translates_operation("Maximum")
def maximum(operation, builder, name, x1, x2) -> int:
    """Entry-wise maximum of tensors or constants."""
    return _extreme(operation, builder, name, x1, x2, 1.0)


@translates_operation("Minimum")
def minimum(operation, builder, name, x1, x2) -> int:
    """Entry-wise minimum of tensors or constants."""
    return _extreme(operation, builder, name, x1, x2, -1.0)


def _clip(operation, builder, name, x, low, high) -> int:
    limits = [np.zeros(()) if v is None else v for v in (low, high)]
    shape = np.broadcast_shapes(shape_of(builder, x), *(v.shape for v in limits))
    if shape != shape_of(builder, x):
        x = tensors.rearrange(
            builder, f"{name}_wide", x, lambda i: np.broadcast_to(i, shape)
        )
    return functions.clip(builder, name, x, low, high)


@translates_operation("Clip")
def clip(operation, builder, name, x) -> int:
    """``min(max(x, x_min), x_max)``."""
    rank = len(shape_of(builder, x))
    low, high = (
        None if v is None else constant(operation, v, rank)
        for v in (operation.x_min, operation.x_max)
    )
    if low is not None and high is not None and np.any(low > high):
        raise refuse(operation, "has a minimum above its maximum.")
    return _clip(operation, builder, name, x, low, high)


@translates_operation("Cast")
def cast(operation, builder, name, x) -> int:
    """Another float dtype; the values stay."""
    if "float" not in str(operation.dtype):
        raise refuse(operation, f"casts to {operation.dtype}, which cuts off fractions.")
    return x


@translates_operation("StopGradient")
def stop_gradient(operation, builder, name, x) -> int:
    """The tensor itself."""
    return x


@translates_operation("Negative")
def negative(operation, builder, name, x) -> int:
    """``-x``."""
    return tensors.scale_and_shift(builder, name, x, -1.0)


@translates_operation("Absolute", "Abs")
def absolute(operation, builder, name, x) -> int:
    """``|x|``."""
    return builder.piecewise(name, x, activations.absolute())


@translates_operation("Sign")
def sign(operation, builder, name, x) -> int:
    """-1, 0 or 1."""
    return functions.sign(builder, name, x)


@translates_operation("Relu")
def relu(operation, builder, name, x) -> int:
    """``keras.ops.relu``."""
    return functions.relu(builder, name, x)


@translates_operation("ReLU")
def general_relu(operation, builder, name, x) -> int:
    """``keras.activations.relu`` with its options."""
    return functions.relu(
        builder, name, x, operation.max_value, operation.negative_slope, operation.threshold
    )


@translates_operation("Relu6")
def relu6(operation, builder, name, x) -> int:
    """``min(max(x, 0), 6)``."""
    return builder.piecewise(name, x, activations.relu6())


@translates_operation("LeakyRelu")
def leaky_relu(operation, builder, name, x) -> int:
    """``x`` or ``negative_slope * x``."""
    return functions.leaky_relu(builder, name, x, operation.negative_slope)


@translates_operation("HardSigmoid")
def hard_sigmoid(operation, builder, name, x) -> int:
    """``min(max(x / 6 + 1 / 2, 0), 1)``."""
    return builder.piecewise(name, x, activations.hard_sigmoid())


@translates_operation("HardTanh")
def hard_tanh(operation, builder, name, x) -> int:
    """``min(max(x, -1), 1)``."""
    return builder.piecewise(name, x, activations.clip())


@translates_operation("Threshold")
def threshold(operation, builder, name, x) -> int:
    """``x`` above the threshold, else a constant."""
    return functions.threshold(
        builder, name, x, operation.threshold, operation.default_value
    )


@translates_operation("SoftShrink")
def soft_shrink(operation, builder, name, x) -> int:
    """``keras.ops.soft_shrink``."""
    return functions.soft_shrink(builder, name, x, operation.threshold)


@translates_operation("HardShrink")
def hard_shrink(operation, builder, name, x) -> int:
    """``keras.ops.hard_shrink``."""
    return functions.hard_shrink(builder, name, x, operation.threshold)


@translates_operation("Softmax", "LogSoftmax", "Sigmoid", "LogSigmoid")
def head(operation, builder, name, x) -> Head:
    """A smooth head."""
    names = {
        "Softmax": "softmax",
        "LogSoftmax": "log_softmax",
        "Sigmoid": "sigmoid",
        "LogSigmoid": "log_sigmoid",
    }
    function = names[type(operation).__name__]
    return Head(int(x), function, registry.describe(operation), operation)


@translates_operation("Matmul")
def matmul(operation, builder, name, x1, x2) -> int:
    """A tensor times a constant matrix."""
    if isinstance(x2, Handle):
        raise refuse(
            operation,
            "multiplies by a tensor from the left; only tensor @ constant matrix is "
            "supported.",
        )
    kernel = as_numpy(x2)
    if kernel.ndim != 2 or not shape_of(builder, x1):
        raise refuse(operation, f"multiplies by an array of shape {kernel.shape}.")
    return tensors.apply_matrix(builder, name, x1, kernel)


# ------------------------------------------------------------------ rearrangements
def _probed(operation: Any, sources_shapes, function: Callable) -> list[np.ndarray]:
    """Run ``function`` on batches of positions; the positions it returns, batch cut off.

    Raises
    ------
    UnsupportedLayerError
        If the operation mixes, moves or cuts the batch axis.
    """
    total = sum(int(np.prod(s, dtype=np.int64)) for s in sources_shapes)
    parts, start = [], 0
    for shape in sources_shapes:
        one = positions(shape) + start
        start += one.size
        parts.append(np.stack([one + b * total for b in range(PROBE_BATCH)]))
    try:
        result = function(parts)
    except (ValueError, IndexError, TypeError) as e:
        raise refuse(operation, f"can't be followed with any batch size ({e}).") from e
    results = list(result) if isinstance(result, (list, tuple)) else [result]
    for r in results:
        if r.ndim == 0 or len(r) != PROBE_BATCH:
            raise refuse(operation, "changes the batch axis, which is not supported.")
        shift = (np.arange(PROBE_BATCH) * total).reshape(-1, *[1] * (r.ndim - 1))
        if (r != np.where(r[:1] < 0, r[:1], r[:1] + shift)).any():
            raise refuse(operation, "mixes points of a batch, which is not supported.")
    return [r[0] for r in results]


def _constants_only(operation: Any, *arguments: Any) -> None:
    """Refuse a tensor where an operation is told which entries to take."""
    import keras

    if any(isinstance(part, Handle) for part in keras.tree.flatten(arguments)):
        raise refuse(operation, "is told by a tensor which entries to take.")


def _rearranged(operation, builder, name, sources, function) -> list[int]:
    shapes = [shape_of(builder, s) for s in sources]
    return [
        tensors.gather(builder, name, sources, lambda parts, i=index: i)
        for index in _probed(operation, shapes, function)
    ]


def _rearrangement(class_name: str, function: Callable) -> None:
    """Register an operation on one tensor; ``function(operation, array, *args)``."""

    @translates_operation(class_name)
    def translator(operation, builder, name, x, *args, **kwargs):
        _constants_only(operation, args, kwargs)
        results = _rearranged(
            operation,
            builder,
            name,
            [x],
            lambda parts: function(operation, parts[0], *args, **kwargs),
        )
        return results if len(results) > 1 else results[0]


_rearrangement(
    "Reshape", lambda op, a: a.reshape([-1 if n is None else n for n in op.newshape])
)
_rearrangement("Transpose", lambda op, a: np.transpose(a, op.axes))
_rearrangement("Squeeze", lambda op, a: np.squeeze(a, op.axis))
_rearrangement("ExpandDims", lambda op, a: np.expand_dims(a, op.axis))
_rearrangement("Flip", lambda op, a: np.flip(a, op.axis))
_rearrangement("Swapaxes", lambda op, a: np.swapaxes(a, op.axis1, op.axis2))
_rearrangement("Moveaxis", lambda op, a: np.moveaxis(a, op.source, op.destination))
_rearrangement("Repeat", lambda op, a: np.repeat(a, op.repeats, op.axis))
_rearrangement("Tile", lambda op, a: np.tile(a, op.repeats))
_rearrangement("Split", lambda op, a: np.split(a, op.indices_or_sections, op.axis))
_rearrangement(
    "GetItem", lambda op, a, key: a[tuple(key) if isinstance(key, list) else key]
)


@translates_operation("Pad")
def pad(operation, builder, name, x, constant_values=None) -> int:
    """Zeros, or repeated entries, around a tensor."""
    if constant_values is not None and np.any(as_numpy(constant_values)):
        raise refuse(operation, "pads with a constant other than 0.")
    widths = [tuple(w) for w in operation.pad_width]
    options = {"constant_values": -1} if operation.mode == "constant" else {}

    def function(parts):
        if len(widths) == 1 and parts[0].ndim > 1 and any(widths[0]):
            raise ValueError("one width for all axes")
        return np.pad(parts[0], widths, mode=operation.mode, **options)

    return _rearranged(operation, builder, name, [x], function)[0]


@translates_operation("Concatenate")
def concatenate(operation, builder, name, xs) -> int:
    """Tensors one after the other."""
    return _joined(operation, builder, name, xs, np.concatenate)


@translates_operation("Stack")
def stack(operation, builder, name, x) -> int:
    """Tensors along a new axis."""
    return _joined(operation, builder, name, x, np.stack)


def _joined(operation, builder, name, xs, function) -> int:
    if not all(isinstance(x, Handle) for x in xs):
        raise refuse(operation, "joins a tensor with a constant, which is not supported.")
    return _rearranged(
        operation, builder, name, xs, lambda parts: function(parts, axis=operation.axis)
    )[0]


# ---------------------------------------------------------------------- reductions
def _axes(operation: Any, rank: int) -> list[int]:
    """The reduced axes without the batch axis."""
    axes = operation.axis
    axes = range(rank + 1) if axes is None else np.atleast_1d(axes)
    found = [int(a) % (rank + 1) for a in axes]
    if 0 in found:
        raise refuse(operation, "reduces the batch axis, which is not supported.")
    return [a - 1 for a in found]


@translates_operation("Mean", "Sum")
def total(operation, builder, name, x) -> int:
    """Sum or mean over axes."""
    axes = _axes(operation, len(shape_of(builder, x)))
    mean = type(operation).__name__ == "Mean"
    return reduced_sum(builder, name, x, axes, operation.keepdims, mean)


@translates_operation("Max", "Amax", "Min", "Amin")
def reduced_extreme(operation, builder, name, x) -> int:
    """Maximum or minimum over axes."""
    if getattr(operation, "initial", None) is not None:
        raise refuse(operation, "has an initial value, which is not supported.")
    shape = shape_of(builder, x)
    groups, after = reduced(shape, _axes(operation, len(shape)), operation.keepdims)
    sign = 1.0 if "ax" in type(operation).__name__ else -1.0
    return tensors.grouped_extreme(builder, name, x, list(groups), after, sign)
