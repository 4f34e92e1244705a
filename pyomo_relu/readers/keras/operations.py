"""``keras.ops`` and Python operators on symbolic tensors.

``x + y``, ``2 * x``, ``keras.ops.relu(x)``, ``x[:, :3]`` in a functional model are
operations, not layers. What rearranges entries is run by NumPy on positions of several
samples, which shows whether the batch axis is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pyomo_relu.readers import spatial
from pyomo_relu.readers.keras.activation_functions import (
    FUNCTIONS,
    hard_shrink,
    head,
    leaky_relu,
    relu,
    soft_shrink,
)
from pyomo_relu.readers.keras.category_layers import categories
from pyomo_relu.readers.keras.describing import as_numpy, refuse
from pyomo_relu.readers.keras.registration import OPERATIONS
from pyomo_relu.readers.moves import MixedSamplesError, move
from pyomo_relu.readers.products import gated_linear, power
from pyomo_relu.readers.reader_tables import LayerReader, by_attributes, enter
from pyomo_relu.readers.sums import contracted, einsum
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Head, Tensor, Value

# A number that hardly occurs, so that a batch axis can't be taken for another one.
PROBE_SAMPLES = 7

OPERATIONS |= {
    "ReLU": by_attributes(relu, "max_value", "negative_slope", "threshold"),
    "LeakyRelu": by_attributes(leaky_relu, "negative_slope"),
    "SoftShrink": by_attributes(soft_shrink, "threshold"),
    "HardShrink": by_attributes(hard_shrink, "threshold"),
    "Threshold": by_attributes(TensorGraph.threshold, "threshold", "default_value"),
    "Elu": by_attributes(FUNCTIONS["elu"], "alpha"),
    "Celu": by_attributes(FUNCTIONS["celu"], "alpha"),
    "Gelu": by_attributes(FUNCTIONS["gelu"], "approximate"),
    "Glu": by_attributes(gated_linear, "axis"),
}
for _class, _function in {
    "Abs": "absolute",
    "Absolute": "absolute",
    "HardSigmoid": "hard_sigmoid",
    "HardTanh": "hard_tanh",
    "Negative": "negative",
    "Relu": "relu",
    "Relu6": "relu6",
    "Sign": "sign",
    "StopGradient": "linear",
    "Arctan": "arctan",
    "Erf": "erf",
    "Exp": "exp",
    "HardSilu": "hard_silu",
    "Selu": "selu",
    "Silu": "silu",
    "SoftSign": "soft_sign",
    "Softsign": "soft_sign",
    "Square": "square",
    "Softplus": "softplus",
    "Tanh": "tanh",
    "TanhShrink": "tanh_shrink",
    "Mish": "mish",
}.items():
    OPERATIONS[_class] = by_attributes(FUNCTIONS[_function])


@enter(OPERATIONS, "Softmax", "LogSoftmax", "Sigmoid", "LogSigmoid")
def taken_off(graph: TensorGraph, name: str, operation: Any, x: Tensor) -> Head:
    """A softmax or sigmoid, or its logarithm, which ``logits=True`` takes off at the end."""
    function = {"Softmax": "softmax", "LogSoftmax": "log_softmax"} | {
        "Sigmoid": "sigmoid",
        "LogSigmoid": "log_sigmoid",
    }
    return head(graph, name, function[type(operation).__name__], operation, x, operation)


@enter(OPERATIONS, "Cast", "ConvertToTensor")
def cast(graph: TensorGraph, name: str, operation: Any, x: Tensor) -> Tensor:
    """Another dtype; the values stay. Only an input may be cast to integers."""
    if str(operation.dtype).startswith("int"):
        try:
            return graph.cut_to_integers(name, x)
        except ValueError as error:
            raise refuse(operation, f"can't be read: {error}") from None
    if operation.dtype is not None and "float" not in str(operation.dtype):
        raise refuse(operation, f"casts to {operation.dtype}, which cuts off fractions.")
    return x


# ------------------------------------------------------------------------ arithmetic
def _constant(operation: Any, value: Any, rank: int) -> np.ndarray:
    """A constant operand that broadcasts against ``rank`` axes, the first of the batch."""
    array = as_numpy(value)
    if array.ndim > rank or array.ndim == rank and array.shape[0] != 1:
        raise refuse(
            operation,
            f"joins a tensor with a constant of shape {array.shape}, which has entries "
            "along the batch; that is not supported.",
        )
    return array


def _operands(operation: Any, *values: Any) -> list[Value]:
    """Tensors and constants that broadcast together, but not along the batch."""
    shapes = [v.sample_shape for v in values if isinstance(v, Tensor)]
    if len({len(s) for s in shapes}) > 1:
        raise refuse(
            operation,
            f"joins tensors of shapes {shapes}, which broadcasts along the batch; "
            "reshape them to the same number of axes first.",
        )
    rank = 1 + len(shapes[0])
    return [v if isinstance(v, Tensor) else _constant(operation, v, rank) for v in values]


@enter(OPERATIONS, "Add")
def add(graph: TensorGraph, name: str, operation: Any, x1: Any, x2: Any) -> Tensor:
    """``x1 + x2``."""
    return graph.add(name, _operands(operation, x1, x2))


@enter(OPERATIONS, "Subtract")
def subtract(graph: TensorGraph, name: str, operation: Any, x1: Any, x2: Any) -> Tensor:
    """``x1 - x2``."""
    return graph.add(name, _operands(operation, x1, x2), [1.0, -1.0])


@enter(OPERATIONS, "Multiply")
def multiply(graph: TensorGraph, name: str, operation: Any, x1: Any, x2: Any) -> Tensor:
    """``x1 * x2``, constants or tensors."""
    a, b = _operands(operation, x1, x2)
    return graph.multiply(name, a, b)


@enter(OPERATIONS, "Power")
def to_the_power(graph: TensorGraph, name: str, operation: Any, x1: Any, x2: Any) -> Tensor:
    """``x1 ** x2`` for a constant whole number ``x2``."""
    if not isinstance(x1, Tensor) or isinstance(x2, Tensor):
        raise refuse(operation, "has a tensor as its exponent; use exp instead.")
    try:
        return power(graph, name, x1, as_numpy(x2))
    except ValueError as error:
        raise refuse(operation, f"can't be read: {error}") from None


@enter(OPERATIONS, "Divide", "TrueDivide")
def divide(graph: TensorGraph, name: str, operation: Any, x1: Any, x2: Any) -> Tensor:
    """``x1 / x2`` for a constant ``x2`` without zeros."""
    if isinstance(x2, Tensor):
        raise refuse(operation, "divides by a tensor, which is not piecewise linear.")
    divisor = _constant(operation, x2, len(x1.shape))
    if not np.all(divisor):
        raise refuse(operation, "divides by zero.")
    return graph.scale(name, x1, 1.0 / divisor)


@enter(OPERATIONS, "Maximum")
def maximum(graph: TensorGraph, name: str, operation: Any, x1: Any, x2: Any) -> Tensor:
    """The larger one of two, entry by entry."""
    return graph.maximum(name, _operands(operation, x1, x2))


@enter(OPERATIONS, "Minimum")
def minimum(graph: TensorGraph, name: str, operation: Any, x1: Any, x2: Any) -> Tensor:
    """The smaller one of two, entry by entry."""
    return graph.maximum(name, _operands(operation, x1, x2), -1.0)


@enter(OPERATIONS, "Clip")
def clip(graph: TensorGraph, name: str, operation: Any, x: Tensor) -> Tensor:
    """``min(max(x, x_min), x_max)``."""
    low, high = (
        None if v is None else _constant(operation, v, len(x.shape))
        for v in (operation.x_min, operation.x_max)
    )
    if low is not None and high is not None and np.any(low > high):
        raise refuse(operation, "has a minimum above its maximum.")
    return graph.clip(name, x, low, high)


@enter(OPERATIONS, "Matmul")
def matmul(graph: TensorGraph, name: str, operation: Any, x1: Any, x2: Any) -> Tensor:
    """A tensor times a constant matrix."""
    if isinstance(x2, Tensor):
        raise refuse(
            operation,
            "multiplies by a tensor from the left; only tensor @ constant matrix is "
            "supported.",
        )
    kernel = as_numpy(x2)
    if kernel.ndim != 2 or len(x1.shape) < 2:
        raise refuse(operation, f"multiplies by an array of shape {kernel.shape}.")
    return graph.matmul(name, x1, kernel)


@enter(OPERATIONS, "Dot")
def dot(graph: TensorGraph, name: str, operation: Any, x1: Any, x2: Any) -> Tensor:
    """A tensor times a constant vector or matrix, along its last axis."""
    if not isinstance(x1, Tensor) or isinstance(x2, Tensor):
        raise refuse(operation, "multiplies from the left; write dot(tensor, constant).")
    kernel = as_numpy(x2)
    if kernel.ndim not in (1, 2) or len(x1.shape) < 2:
        raise refuse(operation, f"multiplies by an array of shape {kernel.shape}.")
    return graph.matmul(name, x1, kernel)


def _batch_first(operation: Any, x: Tensor) -> Tensor:
    if x.batch != 0:
        raise refuse(operation, "moves the batch axis, which is not supported.")
    return x


@enter(OPERATIONS, "Einsum")
def sum_of_products(
    graph: TensorGraph, name: str, operation: Any, *operands: Any, **_: Any
) -> Tensor:
    """A sum of products of a tensor and constants."""
    values = [v if isinstance(v, Tensor) else as_numpy(v) for v in operands]
    return _batch_first(operation, einsum(graph, name, operation.subscripts, values))


@enter(OPERATIONS, "Tensordot")
def tensordot(graph: TensorGraph, name: str, operation: Any, x1: Any, x2: Any) -> Tensor:
    """Products summed over some axes of a tensor and of a constant."""
    a, b = (v if isinstance(v, Tensor) else as_numpy(v) for v in (x1, x2))
    axes = operation.axes
    if isinstance(axes, int):
        first, second = list(range(len(a.shape) - axes, len(a.shape))), list(range(axes))
    else:
        first, second = (list(np.atleast_1d(v)) for v in axes)
    return _batch_first(operation, contracted(graph, name, a, b, (first, second)))


# ---------------------------------------------------------- comparisons and choices
def _comparison(less: bool, strict: bool) -> LayerReader:
    def read(graph: TensorGraph, name: str, operation: Any, x1: Any, x2: Any) -> Tensor:
        a, b = _operands(operation, x1, x2)
        return graph.compare(name, a, b, less, strict)

    return read


OPERATIONS["Greater"], OPERATIONS["GreaterEqual"] = (
    _comparison(less=False, strict=strict) for strict in (True, False)
)
OPERATIONS["Less"], OPERATIONS["LessEqual"] = (
    _comparison(less=True, strict=strict) for strict in (True, False)
)


@enter(OPERATIONS, "OneHot")
def one_hot(graph: TensorGraph, name: str, operation: Any, x: Tensor) -> Tensor:
    """1 at the place of an integer input, else 0; zeros where there is no such place."""
    if operation.axis not in (-1, len(x.shape)):
        raise refuse(operation, "puts its axis elsewhere than last.")
    return categories(graph, name, x, operation.num_classes)


@enter(OPERATIONS, "Expm1")
def exponential_minus_one(
    graph: TensorGraph, name: str, operation: Any, x: Tensor
) -> Tensor:
    """``exp(x) - 1``."""
    return graph.scale(name, FUNCTIONS["exp"](graph, f"{name}_exp", x), 1.0, -1.0)


@enter(OPERATIONS, "LogicalNot")
def negation(graph: TensorGraph, name: str, operation: Any, x: Tensor) -> Tensor:
    """The opposite of a comparison."""
    return graph.negation(name, x)


@enter(OPERATIONS, "Where")
def where(
    graph: TensorGraph,
    name: str,
    operation: Any,
    condition: Any,
    x1: Any = None,
    x2: Any = None,
) -> Tensor:
    """Entries of two tensors, chosen by a constant or by a comparison."""
    if x1 is None or x2 is None:
        raise refuse(operation, "asks for positions; give it two values to choose from.")
    return spatial.where(graph, name, *_operands(operation, condition, x1, x2))


# ------------------------------------------------------------------ rearrangements
def _moved(
    graph: TensorGraph,
    name: str,
    operation: Any,
    xs: Sequence[Any],
    function: Callable[[list[np.ndarray]], Any],
) -> list[Value]:
    """The results of a function of NumPy on the positions of the entries.

    Raises
    ------
    UnsupportedLayerError
        If the operation mixes, moves or cuts the batch axis.
    """

    def run(codes: list[np.ndarray]) -> list[np.ndarray]:
        try:
            result = function(codes)
        except (ValueError, IndexError, TypeError) as e:
            raise refuse(operation, f"can't be followed with any batch size ({e}).") from e
        results = list(result) if isinstance(result, (list, tuple)) else [result]
        if any(r.ndim == 0 or len(r) != PROBE_SAMPLES for r in results):
            raise refuse(operation, "changes the batch axis, which is not supported.")
        return results

    try:
        found = move(graph, name, xs, run, PROBE_SAMPLES)
    except MixedSamplesError:
        found = []
    if not found or any(isinstance(x, Tensor) and x.batch != 0 for x in found):
        raise refuse(operation, "mixes points of a batch, which is not supported.")
    return found


def _rearrangement(function: Callable[..., Any]) -> LayerReader:
    """What reads an operation on one tensor; ``function(operation, array, ...)``."""

    def read(
        graph: TensorGraph, name: str, operation: Any, x: Tensor, *args: Any, **kwargs: Any
    ) -> Any:
        import keras

        if any(isinstance(v, Tensor) for v in keras.tree.flatten((args, kwargs))):
            raise refuse(operation, "is told by a tensor which entries to take.")
        found = _moved(
            graph,
            name,
            operation,
            [x],
            lambda codes: function(operation, codes[0], *args, **kwargs),
        )
        return found if len(found) > 1 else found[0]

    return read


def _taken_along(operation: Any, a: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """The same constant positions for each sample."""
    if len(indices) != 1 or operation.axis in (None, 0):
        raise ValueError("positions that differ by sample")
    wide = np.broadcast_to(indices, (len(a), *indices.shape[1:])).astype(int)
    return np.take_along_axis(a, wide, operation.axis)


_POSITIONS: dict[str, Callable[..., Any]] = {
    "Reshape": lambda op, a: a.reshape([-1 if n is None else n for n in op.newshape]),
    "Transpose": lambda op, a: np.transpose(a, op.axes),
    "Squeeze": lambda op, a: np.squeeze(a, op.axis),
    "ExpandDims": lambda op, a: np.expand_dims(a, op.axis),
    "Flip": lambda op, a: np.flip(a, op.axis),
    "Swapaxes": lambda op, a: np.swapaxes(a, op.axis1, op.axis2),
    "Moveaxis": lambda op, a: np.moveaxis(a, op.source, op.destination),
    "Repeat": lambda op, a: np.repeat(a, op.repeats, op.axis),
    "Tile": lambda op, a: np.tile(a, op.repeats),
    "Roll": lambda op, a: np.roll(a, op.shift, op.axis),
    "Take": lambda op, a, indices: np.take(a, as_numpy(indices).astype(int), op.axis),
    "Unstack": lambda op, a: list(np.moveaxis(a, op.axis, 0)),
    "ArraySplit": lambda op, a: np.array_split(a, op.indices_or_sections, op.axis),
    "TakeAlongAxis": lambda op, a, indices: _taken_along(op, a, as_numpy(indices)),
    "Split": lambda op, a: np.split(a, op.indices_or_sections, op.axis),
    "GetItem": lambda op, a, key: a[tuple(key) if isinstance(key, list) else key],
}
for _class, _on_positions in _POSITIONS.items():
    OPERATIONS[_class] = _rearrangement(_on_positions)


@enter(OPERATIONS, "Pad")
def pad(
    graph: TensorGraph, name: str, operation: Any, x: Tensor, constant_values: Any = None
) -> Value:
    """Zeros, or repeated entries, around a tensor."""
    if constant_values is not None and np.any(as_numpy(constant_values)):
        raise refuse(operation, "pads with a constant other than 0.")
    widths = [tuple(w) for w in operation.pad_width]
    options = {"constant_values": -1} if operation.mode == "constant" else {}

    def function(codes: list[np.ndarray]) -> np.ndarray:
        if len(widths) == 1 and codes[0].ndim > 1 and any(widths[0]):
            raise ValueError("one width for all axes")
        return np.pad(codes[0], widths, mode=operation.mode, **options)

    return _moved(graph, name, operation, [x], function)[0]


def _joined(function: Callable[..., np.ndarray]) -> LayerReader:
    def read(graph: TensorGraph, name: str, operation: Any, xs: Sequence[Any]) -> Value:
        if not all(isinstance(x, Tensor) for x in xs):
            raise refuse(
                operation, "joins a tensor with a constant, which is not supported."
            )
        return _moved(
            graph, name, operation, xs, lambda codes: function(codes, axis=operation.axis)
        )[0]

    return read


OPERATIONS["Concatenate"], OPERATIONS["Stack"] = _joined(np.concatenate), _joined(np.stack)


@enter(OPERATIONS, "Hstack")
def hstack(graph: TensorGraph, name: str, operation: Any, xs: Sequence[Any]) -> Value:
    """Tensors one after the other along the first axis after the batch."""
    values = _operands(operation, *xs)
    if not all(isinstance(x, Tensor) for x in values):
        raise refuse(operation, "joins a tensor with a constant, which is not supported.")
    return _moved(graph, name, operation, values, np.hstack)[0]


# ---------------------------------------------------------------------- reductions
def _reduction(kind: str) -> LayerReader:
    def read(graph: TensorGraph, name: str, operation: Any, x: Tensor) -> Tensor:
        if getattr(operation, "initial", None) is not None:
            raise refuse(operation, "has an initial value, which is not supported.")
        rank = len(x.shape)
        given = range(rank) if operation.axis is None else np.atleast_1d(operation.axis)
        axes = [int(a) % rank for a in given]
        if 0 in axes:
            raise refuse(operation, "reduces the batch axis, which is not supported.")
        return graph.reduce(name, x, axes, kind, operation.keepdims)

    return read


for _class in ("Sum", "Mean", "Max", "Min"):
    OPERATIONS[_class] = _reduction(_class.lower())
OPERATIONS["Amax"], OPERATIONS["Amin"] = OPERATIONS["Max"], OPERATIONS["Min"]
