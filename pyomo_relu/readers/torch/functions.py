"""PyTorch functions and tensor methods: arithmetic, activations, moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any, NamedTuple

import numpy as np

from pyomo_relu.readers import spatial
from pyomo_relu.readers.entrywise import ENTRYWISE, Entrywise
from pyomo_relu.readers.linear import normalized_axis
from pyomo_relu.readers.moves import move
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.torch.tables import constant, function, operand
from pyomo_relu.readers.values import Tensor, Value

#: Heads that keep the order of the logits; read only as the last operation.
HEADS = {"softmax", "log_softmax", "sigmoid", "log_sigmoid", "argmax"}

Dims = int | Sequence[int] | None


class Extremes(NamedTuple):
    """What ``max(x, dim)`` returns; positions are not piecewise linear."""

    values: Any
    indices: None = None


# ------------------------------------------------------------------------ arithmetic
def _weighted_sum(first: float, second: float) -> Callable[..., Tensor]:
    """``first * x + second * other``; ``alpha`` is a factor of what is taken second."""

    def add(
        graph: TensorGraph, name: str, x: Any, other: Any, *, alpha: float = 1
    ) -> Tensor:
        factors = [first, second * float(alpha)]
        return graph.add(name, [operand(x), operand(other)], factors)

    return add


function("add")(_weighted_sum(1.0, 1.0))
function("sub", "subtract")(_weighted_sum(1.0, -1.0))


@function("rsub")
def reversed_subtract(
    graph: TensorGraph, name: str, x: Any, other: Any, *, alpha: float = 1
) -> Tensor:
    return graph.add(name, [operand(x), operand(other)], [-float(alpha), 1.0])


@function("mul", "multiply")
def multiply(graph: TensorGraph, name: str, x: Any, other: Any) -> Tensor:
    return graph.multiply(name, operand(x), operand(other))


@function("div", "divide", "true_divide")
def divide(
    graph: TensorGraph, name: str, x: Tensor, other: Any, *, rounding_mode: Any = None
) -> Tensor:
    divisor = constant(other, name, "divisor")
    if rounding_mode is not None or not np.all(divisor):
        raise ValueError(f"layer '{name}' rounds, or divides by zero.")
    return graph.scale(name, x, 1.0 / divisor)


@function("matmul", "mm", "bmm", "mv", "dot")
def matmul(graph: TensorGraph, name: str, x: Any, other: Any) -> Tensor:
    return graph.matmul(name, operand(x), operand(other))


@function("linear")
def linear(
    graph: TensorGraph, name: str, x: Tensor, weight: Any, bias: Any = None
) -> Tensor:
    w = constant(weight, name, "weight")
    return graph.matmul(name, x, w.T, 0.0 if bias is None else constant(bias, name, "bias"))


@function("addmm")
def addmm(
    graph: TensorGraph,
    name: str,
    bias: Any,
    x: Any,
    other: Any,
    *,
    beta: float = 1,
    alpha: float = 1,
) -> Tensor:
    product = graph.matmul(f"{name}_product", operand(x), operand(other))
    return graph.add(name, [operand(bias), product], [float(beta), float(alpha)])


def _reduced(
    kind: str,
    graph: TensorGraph,
    name: str,
    x: Tensor,
    dim: Dims = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> Tensor:
    axes = [dim] if isinstance(dim, int) else dim
    return graph.reduce(name, x, axes, kind, keepdim)


def _extreme(
    kind: str,
    graph: TensorGraph,
    name: str,
    x: Any,
    other: Any = None,
    keepdim: bool = False,
    *,
    dim: Any = None,
) -> Any:
    """``max(x)``, ``max(x, dim)`` or ``max(x, other)``, and the same of the minimum."""
    if other is not None and not isinstance(other, int):
        return _entrywise_extreme(kind, graph, name, x, other)
    dim = other if dim is None else dim
    found = _reduced(kind, graph, name, x, dim, keepdim)
    return found if dim is None else Extremes(found)


def _entrywise_extreme(
    kind: str, graph: TensorGraph, name: str, x: Any, other: Any
) -> Tensor:
    values = [operand(x), operand(other)]
    return graph.maximum(name, values, 1.0 if kind == "max" else -1.0)


for _kind in ("sum", "mean"):
    function(_kind)(partial(_reduced, _kind))
for _kind in ("max", "min"):
    function(f"a{_kind}")(partial(_reduced, _kind))
    function(_kind)(partial(_extreme, _kind))
    function(f"{_kind}imum", f"f{_kind}")(partial(_entrywise_extreme, _kind))


# ----------------------------------------------------------------------- activations
def _entrywise(read: Entrywise) -> Callable[..., Tensor]:
    def plain(graph: TensorGraph, name: str, x: Tensor, inplace: bool = False) -> Tensor:
        return read(graph, name, x)

    return plain


for _name, _names in {
    "relu": ("relu",),
    "relu6": ("relu6",),
    "hard_sigmoid": ("hardsigmoid",),
    "absolute": ("abs", "absolute"),
    "sign": ("sign", "sgn"),
    "negative": ("neg", "negative"),
}.items():
    function(*_names)(_entrywise(ENTRYWISE[_name]))


@function("leaky_relu")
def leaky_relu(
    graph: TensorGraph,
    name: str,
    x: Tensor,
    negative_slope: float = 0.01,
    inplace: bool = False,
) -> Tensor:
    return graph.leaky(name, x, negative_slope)


@function("prelu")
def prelu(graph: TensorGraph, name: str, x: Tensor, weight: Any) -> Tensor:
    slope = constant(weight, name, "slope").reshape(-1)
    if len(slope) > 1:  # one for each channel, and channels are axis 1
        slope = slope.reshape((-1,) + (1,) * (len(x.shape) - 2))
    return graph.leaky(name, x, slope)


@function("hardtanh")
def hardtanh(
    graph: TensorGraph,
    name: str,
    x: Tensor,
    min_val: float = -1.0,
    max_val: float = 1.0,
    inplace: bool = False,
) -> Tensor:
    return graph.clip(name, x, float(min_val), float(max_val))


@function("clamp", "clip", "clamp_min")
def clamp(
    graph: TensorGraph, name: str, x: Tensor, min: Any = None, max: Any = None
) -> Tensor:
    sides = [None if v is None else constant(v, name, "limit") for v in (min, max)]
    return graph.clip(name, x, *sides)


@function("clamp_max")
def clamp_max(graph: TensorGraph, name: str, x: Tensor, max: Any) -> Tensor:
    return clamp(graph, name, x, None, max)


@function("softshrink")
def softshrink(graph: TensorGraph, name: str, x: Tensor, lambd: float = 0.5) -> Tensor:
    return graph.soft_shrink(name, x, lambd)


@function("threshold")
def threshold(
    graph: TensorGraph,
    name: str,
    x: Tensor,
    threshold: float,
    value: float,
    inplace: bool = False,
) -> Tensor:
    return graph.threshold(name, x, threshold, value)


def _comparison(less: bool, strict: bool) -> Callable[..., Tensor]:
    def compare(graph: TensorGraph, name: str, x: Any, other: Any) -> Tensor:
        return graph.compare(name, operand(x), operand(other), less, strict)

    return compare


function("ge", "greater_equal")(_comparison(False, False))
function("gt", "greater")(_comparison(False, True))
function("le", "less_equal")(_comparison(True, False))
function("lt", "less")(_comparison(True, True))


# -------------------------------------------------------- what leaves the entries alone
@function("to", "type_as", "contiguous", "clone", "detach", "alias", "lift_fresh_copy")
@function("_to_copy", "positive")
def as_it_is(graph: TensorGraph, name: str, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    kinds = [str(v) for v in (*args, *kwargs.values()) if str(v).startswith("torch.")]
    if any(("int" in k or "bool" in k) and "memory" not in k for k in kinds):
        raise ValueError(
            f"layer '{name}' casts to {kinds[0]}; that is not piecewise linear."
        )
    return x


@function("dropout", "alpha_dropout", "feature_alpha_dropout", "feature_dropout")
def dropout(
    graph: TensorGraph,
    name: str,
    x: Tensor,
    p: float = 0.5,
    training: bool = False,
    inplace: bool = False,
) -> Tensor:
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
def reshape(
    graph: TensorGraph, name: str, x: Tensor, *shape: Any, size: Any = None
) -> Tensor:
    return graph.reshape(x, _shape(shape) if shape else size, name)


@function("view_as", "reshape_as")
def reshape_as(graph: TensorGraph, name: str, x: Tensor, other: Any) -> Tensor:
    return graph.reshape(x, other.shape, name)


@function("flatten")
def flatten(
    graph: TensorGraph, name: str, x: Tensor, start_dim: int = 0, end_dim: int = -1
) -> Tensor:
    first = normalized_axis(start_dim, len(x.shape), name)
    last = normalized_axis(end_dim, len(x.shape), name)
    return graph.reshape(x, (*x.shape[:first], -1, *x.shape[last + 1 :]), name)


@function("unflatten")
def unflatten(
    graph: TensorGraph, name: str, x: Tensor, dim: int, sizes: Sequence[int]
) -> Tensor:
    axis = normalized_axis(dim, len(x.shape), name)
    inner = [int(s) for s in sizes]
    if -1 in inner:
        inner[inner.index(-1)] = x.shape[axis] // max(-prod(inner), 1)
    return graph.reshape(x, (*x.shape[:axis], *inner, *x.shape[axis + 1 :]), name)


# ------------------------------------------------------------------------------ moves
_MOVES = """
    channel_shuffle chunk diagonal expand expand_as flip fliplr flipud index_select mT
    moveaxis movedim narrow numpy_T permute pixel_shuffle pixel_unshuffle ravel repeat
    repeat_interleave roll rot90 select slice split split_with_sizes squeeze swapaxes
    swapdims t tensor_split tile transpose unbind unfold unsqueeze
""".split()


def moved(
    graph: TensorGraph, name: str, values: Sequence[Any], operation: Callable[..., Any]
) -> Any:
    """Run an operation of PyTorch on the positions of the entries of ``values``."""
    import torch

    several = False

    def apply(codes: list[np.ndarray]) -> list[np.ndarray]:
        nonlocal several
        result = operation(*[torch.as_tensor(c) for c in codes])
        several = isinstance(result, (tuple, list))
        return [r.contiguous().numpy() for r in (result if several else [result])]

    found = move(graph, name, [operand(v) for v in values], apply)
    return found if several else found[0]


def move_like_torch(
    operation: str, graph: TensorGraph, name: str, x: Tensor, *args: Any, **kwargs: Any
) -> Any:
    """Run PyTorch's operation of this name on the positions of the entries."""
    import torch

    if any(isinstance(a, Tensor) for a in (*args, *kwargs.values())):
        if operation != "expand_as":
            raise ValueError(f"layer '{name}': its arguments depend on the input.")
        operation, args = "expand", (args[0].shape,)

    def apply(codes: Any) -> Any:
        if operation in ("mT", "numpy_T"):
            return codes.mT if operation == "mT" else codes.T
        if operation == "slice":
            return torch.ops.aten.slice(codes, *args, **kwargs)
        if hasattr(codes, operation):
            return getattr(codes, operation)(*args, **kwargs)
        return getattr(torch.nn.functional, operation)(codes, *args, **kwargs)

    return moved(graph, name, [x], apply)


for _operation in _MOVES:
    function(_operation)(partial(move_like_torch, _operation))


@function("getitem")
def getitem(graph: TensorGraph, name: str, x: Any, key: Any) -> Any:
    """A part of what an operation with several results returns."""
    return x[key]


@function("index")
def index(graph: TensorGraph, name: str, x: Tensor, indices: Sequence[Any]) -> Any:
    import torch

    places = indices_of(name, indices)
    return moved(graph, name, [x], lambda codes: torch.ops.aten.index(codes, places))


def indices_of(name: str, indices: Sequence[Any]) -> list[Any]:
    """Constant positions along each axis, or an error."""
    if any(isinstance(i, Tensor) for i in indices):
        raise ValueError(f"layer '{name}': which entries it takes depends on the input.")
    return list(indices)


@function("cat", "concat", "concatenate")
def cat(graph: TensorGraph, name: str, tensors: Sequence[Any], dim: int = 0) -> Any:
    import torch

    return moved(graph, name, tensors, lambda *codes: torch.cat(codes, dim))


@function("stack")
def stack(graph: TensorGraph, name: str, tensors: Sequence[Any], dim: int = 0) -> Any:
    import torch

    return moved(graph, name, tensors, lambda *codes: torch.stack(codes, dim))


@function("where")
def where(graph: TensorGraph, name: str, condition: Any, x: Any, other: Any) -> Value:
    mask = constant(condition, name, "condition")
    return spatial.where(graph, name, mask, operand(x), operand(other))
