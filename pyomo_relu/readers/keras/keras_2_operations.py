"""TensorFlow's functions in models of Keras 2, as operations of ``keras.ops``.

A functional model of Keras 2 notes ``tf.nn.relu(x)``, ``x + 1`` and ``x[:, :2]`` as layers
named ``TFOpLambda`` and ``SlicingOpLambda``, with the name of the function and its arguments.
Keras 3 has no such layers. What is here takes TensorFlow's arguments by TensorFlow's names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np


def _ops() -> Any:
    import keras

    return keras.ops


def _entrywise(name: str) -> Callable[..., Any]:
    """A function of one tensor, whatever TensorFlow calls it."""
    return lambda *x, **named: getattr(_ops(), name)(*x, *named.values())


def _two(name: str) -> Callable[..., Any]:
    return lambda x, y: getattr(_ops(), name)(x, y)


def _reduction(name: str) -> Callable[..., Any]:
    def reduce(input_tensor: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return getattr(_ops(), name)(input_tensor, axis=axis, keepdims=keepdims)

    return reduce


def _where(condition: Any, x: Any, y: Any) -> Any:
    return _ops().where(condition, x, y)


def _transpose(a: Any, perm: Any = None, conjugate: bool = False) -> Any:
    return _ops().transpose(a, axes=perm)


def _squeeze(input: Any, axis: Any = None, squeeze_dims: Any = None) -> Any:
    axes = squeeze_dims if axis is None else axis
    return _ops().squeeze(input, axis=tuple(axes) if isinstance(axes, list) else axes)


def _matmul(a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False) -> Any:
    ops = _ops()
    a = ops.swapaxes(a, -1, -2) if transpose_a else a
    b = np.swapaxes(b, -1, -2) if transpose_b else b
    return ops.matmul(a, b)


def _gather(
    params: Any, indices: Any, axis: Any = None, batch_dims: int = 0, **others: Any
) -> Any:
    if batch_dims or any(others.values()):
        raise ValueError("gather with batch_dims")
    return _ops().take(params, np.asarray(indices, dtype=int), axis=axis or 0)


def _split(value: Any, num_or_size_splits: Any, axis: int = 0, num: Any = None) -> Any:
    parts = num_or_size_splits
    if isinstance(parts, list):
        parts = np.cumsum(parts)[:-1].tolist()
    return _ops().split(value, parts, axis=axis)


def _one_function(name: str, **fixed: Any) -> Callable[..., Any]:
    """A function of ``features`` or ``x`` with options of the same names."""

    def call(features: Any = None, **named: Any) -> Any:
        x = named.pop("x") if features is None else features
        renamed = {"alpha": "negative_slope"} if name == "leaky_relu" else {}
        options = {renamed.get(k, k): v for k, v in named.items()}
        return getattr(_ops(), name)(x, **{**fixed, **options})

    return call


def _softmax(name: str) -> Callable[..., Any]:
    def call(logits: Any, axis: Any = None) -> Any:
        return getattr(_ops(), name)(logits, axis=-1 if axis is None else axis)

    return call


def sliced(tensor: Any, slice_spec: Sequence[Any]) -> Any:
    """``tensor[...]``, as ``SlicingOpLambda`` notes the index."""

    def part(entry: Any) -> Any:
        if isinstance(entry, Mapping):
            if "start" in entry:
                return slice(entry["start"], entry["stop"], entry["step"])
            if entry.get("class_name") == "__ellipsis__":
                return Ellipsis
        if entry is None or isinstance(entry, int):
            return entry
        raise ValueError(f"the index {entry!r}")

    spec = slice_spec if isinstance(slice_spec, list) else [slice_spec]
    return tensor[tuple(part(entry) for entry in spec)]


#: By the names of functions in ``tf``, called with TensorFlow's arguments but ``name``.
TF_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "__operators__.getitem": sliced,
    "cast": lambda x, dtype: _ops().cast(x, dtype),
    "clip_by_value": lambda t, clip_value_min, clip_value_max: _ops().clip(
        t, clip_value_min, clip_value_max
    ),
    "concat": lambda values, axis: _ops().concatenate(values, axis=axis),
    "expand_dims": lambda input, axis: _ops().expand_dims(input, axis),
    "identity": lambda input: input,
    "linalg.matmul": _matmul,
    "math.add_n": lambda inputs: sum(inputs[1:], start=inputs[0]),
    "nn.bias_add": lambda value, bias: _ops().add(value, bias),
    "nn.leaky_relu": _one_function("leaky_relu", negative_slope=0.2),
    "nn.gelu": _one_function("gelu", approximate=False),
    "nn.log_softmax": _softmax("log_softmax"),
    "nn.softmax": _softmax("softmax"),
    "repeat": lambda input, repeats, axis=None: _ops().repeat(input, repeats, axis=axis),
    "reshape": lambda tensor, shape: _ops().reshape(tensor, shape),
    "reverse": lambda tensor, axis: _ops().flip(tensor, axis=axis),
    "roll": lambda input, shift, axis: _ops().roll(input, shift, axis=axis),
    "split": _split,
    "squeeze": _squeeze,
    "stack": lambda values, axis=0: _ops().stack(values, axis=axis),
    "tile": lambda input, multiples: _ops().tile(input, multiples),
    "transpose": _transpose,
    "unstack": lambda value, num=None, axis=0: _ops().unstack(value, num, axis),
    "where": _where,
    "gather": _gather,
}
for _name, _function in {
    "__operators__.add": "add",
    "math.add": "add",
    "math.divide": "divide",
    "math.greater": "greater",
    "math.greater_equal": "greater_equal",
    "math.less": "less",
    "math.less_equal": "less_equal",
    "math.maximum": "maximum",
    "math.minimum": "minimum",
    "math.multiply": "multiply",
    "math.pow": "power",
    "math.subtract": "subtract",
    "math.truediv": "divide",
}.items():
    TF_FUNCTIONS[_name] = _two(_function)
for _name, _function in {
    "math.abs": "abs",
    "math.atan": "arctan",
    "math.erf": "erf",
    "math.exp": "exp",
    "math.logical_not": "logical_not",
    "math.negative": "negative",
    "math.sigmoid": "sigmoid",
    "math.log_sigmoid": "log_sigmoid",
    "math.sign": "sign",
    "math.softplus": "softplus",
    "math.square": "square",
    "math.tanh": "tanh",
    "nn.elu": "elu",
    "nn.relu": "relu",
    "nn.relu6": "relu6",
    "nn.selu": "selu",
    "nn.sigmoid": "sigmoid",
    "nn.softplus": "softplus",
    "nn.softsign": "softsign",
    "nn.tanh": "tanh",
    "stop_gradient": "stop_gradient",
}.items():
    TF_FUNCTIONS[_name] = _entrywise(_function)
for _name in ("nn.silu", "nn.swish"):
    TF_FUNCTIONS[_name] = lambda features, beta=1.0: (
        _ops().silu(features) if beta == 1.0 else features * _ops().sigmoid(beta * features)
    )
for _name in ("sum", "mean", "max", "min"):
    TF_FUNCTIONS[f"math.reduce_{_name}"] = _reduction(_name)


def tf_function(name: str) -> Callable[..., Any] | None:
    """What does as the function of TensorFlow of this name, or None."""
    return TF_FUNCTIONS.get(name.removeprefix("tf.").removeprefix("compat.v1."))
