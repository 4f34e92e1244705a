"""PyTorch functions and tensor methods: arithmetic, activations, moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pyomo_relu.network import activations
from pyomo_relu.readers.moves import move
from pyomo_relu.readers.tensors import TensorGraph, normalized_axis
from pyomo_relu.readers.torch.registry import array, constant, function, operand
from pyomo_relu.readers.values import Tensor

#: Heads that keep the order of the logits; read only as the last operation.
HEADS = {"softmax", "log_softmax", "sigmoid", "log_sigmoid", "argmax"}


class Extremes(NamedTuple):
    """What ``max(x, dim)`` returns; positions are not piecewise linear."""

    values: Any
    indices: None = None


# ------------------------------------------------------------------------ arithmetic
@function("add")
def add(graph: TensorGraph, name: str, x, other, *, alpha=1):
    return graph.add(name, [operand(x), operand(other)], [1.0, float(alpha)])


@function("sub", "subtract")
def subtract(graph: TensorGraph, name: str, x, other, *, alpha=1):
    return graph.add(name, [operand(x), operand(other)], [1.0, -float(alpha)])


@function("rsub")
def reversed_subtract(graph: TensorGraph, name: str, x, other, *, alpha=1):
    return graph.add(name, [operand(x), operand(other)], [-float(alpha), 1.0])


@function("mul", "multiply")
def multiply(graph: TensorGraph, name: str, x, other):
    if isinstance(x, Tensor) and isinstance(other, Tensor):
        raise ValueError(
            f"layer '{name}' multiplies two tensors that both depend on the input; "
            "that is not piecewise linear."
        )
    x, factor = (x, other) if isinstance(x, Tensor) else (other, x)
    return graph.scale(name, x, array(factor))


@function("div", "divide", "true_divide")
def divide(graph: TensorGraph, name: str, x, other, *, rounding_mode=None):
    divisor = constant(other, name, "divisor")
    if rounding_mode is not None or not np.all(divisor):
        raise ValueError(f"layer '{name}' rounds, or divides by zero.")
    return graph.scale(name, x, 1.0 / divisor)


@function("neg", "negative")
def negative(graph: TensorGraph, name: str, x):
    return graph.scale(name, x, -1.0)


@function("matmul", "mm", "bmm", "mv", "dot")
def matmul(graph: TensorGraph, name: str, x, other):
    return graph.matmul(name, operand(x), operand(other))


@function("linear")
def linear(graph: TensorGraph, name: str, x, weight, bias=None):
    w = constant(weight, name, "weight")
    return graph.matmul(name, x, w.T, 0.0 if bias is None else constant(bias, name, "bias"))


@function("addmm")
def addmm(graph: TensorGraph, name: str, bias, x, other, *, beta=1, alpha=1):
    product = graph.matmul(f"{name}_product", operand(x), operand(other))
    return graph.add(name, [operand(bias), product], [float(beta), float(alpha)])


def _reduce(graph, name, x, dim, keepdim, kind) -> Tensor:
    axes = None if dim is None else ([dim] if isinstance(dim, int) else list(dim))
    return graph.reduce(name, x, axes, kind, keepdim)


@function("sum")
def total(graph: TensorGraph, name: str, x, dim=None, keepdim=False, *, dtype=None):
    return _reduce(graph, name, x, dim, keepdim, "sum")


@function("mean")
def mean(graph: TensorGraph, name: str, x, dim=None, keepdim=False, *, dtype=None):
    return _reduce(graph, name, x, dim, keepdim, "mean")


@function("amax")
def amax(graph: TensorGraph, name: str, x, dim=None, keepdim=False):
    return _reduce(graph, name, x, dim, keepdim, "max")


@function("amin")
def amin(graph: TensorGraph, name: str, x, dim=None, keepdim=False):
    return _reduce(graph, name, x, dim, keepdim, "min")


def _extreme(graph, name, x, other, dim, keepdim, kind):
    if other is not None and not isinstance(other, int):
        values = [operand(x), operand(other)]
        return graph.maximum(name, values, 1.0 if kind == "max" else -1.0)
    dim = other if dim is None else dim
    found = _reduce(graph, name, x, dim, keepdim, kind)
    return found if dim is None else Extremes(found)


@function("max")
def maximum_or_max(
    graph: TensorGraph, name: str, x, other=None, keepdim=False, *, dim=None
):
    return _extreme(graph, name, x, other, dim, keepdim, "max")


@function("min")
def minimum_or_min(
    graph: TensorGraph, name: str, x, other=None, keepdim=False, *, dim=None
):
    return _extreme(graph, name, x, other, dim, keepdim, "min")


@function("maximum", "fmax")
def maximum(graph: TensorGraph, name: str, x, other):
    return graph.maximum(name, [operand(x), operand(other)])


@function("minimum", "fmin")
def minimum(graph: TensorGraph, name: str, x, other):
    return graph.maximum(name, [operand(x), operand(other)], -1.0)


# ----------------------------------------------------------------------- activations
@function("relu")
def relu(graph: TensorGraph, name: str, x, inplace=False):
    return graph.piecewise(name, x, activations.relu())


@function("relu6")
def relu6(graph: TensorGraph, name: str, x, inplace=False):
    return graph.piecewise(name, x, activations.relu6())


@function("leaky_relu")
def leaky_relu(graph: TensorGraph, name: str, x, negative_slope=0.01, inplace=False):
    return graph.leaky(name, x, negative_slope)


@function("prelu")
def prelu(graph: TensorGraph, name: str, x, weight):
    slope = constant(weight, name, "slope").reshape(-1)
    if len(slope) > 1:  # one for each channel, and channels are axis 1
        slope = slope.reshape((-1,) + (1,) * (len(x.shape) - 2))
    return graph.leaky(name, x, slope)


@function("hardtanh")
def hardtanh(graph: TensorGraph, name: str, x, min_val=-1.0, max_val=1.0, inplace=False):
    return graph.clip(name, x, float(min_val), float(max_val))


@function("clamp", "clip")
def clamp(graph: TensorGraph, name: str, x, min=None, max=None):
    sides = [None if v is None else constant(v, name, "limit") for v in (min, max)]
    return graph.clip(name, x, *sides)


@function("clamp_min")
def clamp_min(graph: TensorGraph, name: str, x, min):
    return clamp(graph, name, x, min)


@function("clamp_max")
def clamp_max(graph: TensorGraph, name: str, x, max):
    return clamp(graph, name, x, None, max)


@function("hardsigmoid")
def hardsigmoid(graph: TensorGraph, name: str, x, inplace=False):
    return graph.piecewise(name, x, activations.hard_sigmoid(1.0 / 6.0, 0.5))


@function("softshrink")
def softshrink(graph: TensorGraph, name: str, x, lambd=0.5):
    t = float(lambd)
    slopes, intercepts = np.array([1.0, 0.0, 1.0]), np.array([t, 0.0, -t])
    return graph.piecewise(name, x, ("soft_shrink", np.array([-t, t]), slopes, intercepts))


@function("threshold")
def threshold(graph: TensorGraph, name: str, x, threshold, value, inplace=False):
    return graph.threshold(name, x, float(threshold), float(value))


@function("abs", "absolute")
def absolute(graph: TensorGraph, name: str, x):
    return graph.piecewise(name, x, activations.absolute())


@function("sign", "sgn")
def sign(graph: TensorGraph, name: str, x):
    return graph.sign(name, x)


def _comparison(first: float, strict: bool):
    def compare(graph: TensorGraph, name: str, x, other):
        values = [operand(x), operand(other)]
        difference = graph.add(f"{name}_difference", values, [first, -first])
        return graph.step(name, difference, strict)

    return compare


function("ge", "greater_equal")(_comparison(1.0, False))
function("gt", "greater")(_comparison(1.0, True))
function("le", "less_equal")(_comparison(-1.0, False))
function("lt", "less")(_comparison(-1.0, True))


# -------------------------------------------------------- what leaves the entries alone
@function("to", "type_as", "contiguous", "clone", "detach", "alias", "lift_fresh_copy")
@function("_to_copy", "positive")
def as_it_is(graph: TensorGraph, name: str, x, *args, **kwargs):
    kinds = [str(v) for v in (*args, *kwargs.values()) if str(v).startswith("torch.")]
    if any(("int" in k or "bool" in k) and "memory" not in k for k in kinds):
        raise ValueError(
            f"layer '{name}' casts to {kinds[0]}; that is not piecewise linear."
        )
    return x


@function("dropout", "alpha_dropout", "feature_alpha_dropout", "feature_dropout")
def dropout(graph: TensorGraph, name: str, x, p=0.5, training=False, inplace=False):
    if training:
        raise ValueError(
            f"layer '{name}' drops at random even in eval mode; write "
            "dropout(x, training=self.training)."
        )
    return x


# ----------------------------------------------------------------------------- shapes
def _shape(args: tuple) -> list[int]:
    sizes = args[0] if len(args) == 1 and isinstance(args[0], (tuple, list)) else args
    return [int(s) for s in sizes]


@function("reshape", "view", "_unsafe_view", "view_copy")
def reshape(graph: TensorGraph, name: str, x, *shape, size=None):
    return graph.reshape(x, _shape(shape) if shape else size, name)


@function("view_as", "reshape_as")
def reshape_as(graph: TensorGraph, name: str, x, other):
    return graph.reshape(x, other.shape, name)


@function("flatten")
def flatten(graph: TensorGraph, name: str, x, start_dim=0, end_dim=-1):
    first = normalized_axis(start_dim, len(x.shape), name)
    last = normalized_axis(end_dim, len(x.shape), name)
    return graph.reshape(x, (*x.shape[:first], -1, *x.shape[last + 1 :]), name)


@function("unflatten")
def unflatten(graph: TensorGraph, name: str, x, dim, sizes):
    axis = normalized_axis(dim, len(x.shape), name)
    inner = [int(s) for s in sizes]
    if -1 in inner:
        known = int(np.prod([s for s in inner if s != -1], dtype=np.int64))
        inner[inner.index(-1)] = x.shape[axis] // max(known, 1)
    return graph.reshape(x, (*x.shape[:axis], *inner, *x.shape[axis + 1 :]), name)


# ------------------------------------------------------------------------------ moves
_MOVES = (
    "chunk",
    "diagonal",
    "expand",
    "expand_as",
    "flip",
    "index_select",
    "fliplr",
    "flipud",
    "movedim",
    "mT",
    "moveaxis",
    "narrow",
    "numpy_T",
    "permute",
    "pixel_shuffle",
    "pixel_unshuffle",
    "channel_shuffle",
    "repeat",
    "ravel",
    "repeat_interleave",
    "roll",
    "rot90",
    "select",
    "slice",
    "split",
    "split_with_sizes",
    "squeeze",
    "swapaxes",
    "swapdims",
    "t",
    "tensor_split",
    "tile",
    "transpose",
    "unbind",
    "unfold",
    "unsqueeze",
)


def move_like_torch(operation: str, graph: TensorGraph, name: str, x, *args, **kwargs):
    """Run PyTorch's own operation on the positions of the entries."""
    import torch

    if any(isinstance(a, Tensor) for a in (*args, *kwargs.values())):
        if operation != "expand_as":
            raise ValueError(f"layer '{name}': its arguments depend on the input.")
        operation, args = "expand", (args[0].shape,)
    several = False

    def apply(codes: list[np.ndarray]) -> list[np.ndarray]:
        nonlocal several
        value = torch.as_tensor(codes[0])
        if operation in ("mT", "numpy_T"):
            result: Any = value.mT if operation == "mT" else value.T
        elif operation == "slice":
            result = torch.ops.aten.slice(value, *args, **kwargs)
        elif hasattr(value, operation):
            result = getattr(value, operation)(*args, **kwargs)
        else:
            result = getattr(torch.nn.functional, operation)(value, *args, **kwargs)
        several = isinstance(result, (tuple, list))
        return [r.numpy() for r in (result if several else [result])]

    found = move(graph, name, [x], apply)
    return found if several else found[0]


def _register_moves() -> None:
    def reader(operation: str):
        return lambda graph, name, x, *a, **k: move_like_torch(
            operation, graph, name, x, *a, **k
        )

    for operation in _MOVES:
        function(operation)(reader(operation))


_register_moves()


@function("getitem")
def getitem(graph: TensorGraph, name: str, x, key):
    """A part of what an operation with several results returns."""
    return x[key]


@function("index")
def index(graph: TensorGraph, name: str, x, indices):
    import torch

    places = indices_of(name, indices)

    def apply(codes: list[np.ndarray]) -> list[np.ndarray]:
        return [torch.ops.aten.index(torch.as_tensor(codes[0]), places).numpy()]

    return move(graph, name, [x], apply)[0]


def indices_of(name: str, indices) -> list:
    """Constant positions along each axis, or an error."""
    if any(isinstance(i, Tensor) for i in indices):
        raise ValueError(f"layer '{name}': which entries it takes depends on the input.")
    return list(indices)


def _joined(graph: TensorGraph, name: str, tensors: Sequence, combine):
    import torch

    def apply(codes: list[np.ndarray]) -> list[np.ndarray]:
        return [combine(torch, [torch.as_tensor(c) for c in codes]).numpy()]

    return move(graph, name, [operand(v) for v in tensors], apply)[0]


@function("cat", "concat", "concatenate")
def cat(graph: TensorGraph, name: str, tensors, dim=0):
    return _joined(graph, name, tensors, lambda torch, c: torch.cat(c, dim))


@function("stack")
def stack(graph: TensorGraph, name: str, tensors, dim=0):
    return _joined(graph, name, tensors, lambda torch, c: torch.stack(c, dim))


@function("where")
def where(graph: TensorGraph, name: str, condition, x, other):
    mask = constant(condition, name, "condition").astype(bool)
    values = [operand(x), operand(other)]
    return move(graph, name, values, lambda codes: [np.where(mask, *codes)])[0]
