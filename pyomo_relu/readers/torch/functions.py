"""PyTorch functions and tensor methods: arithmetic, activations, moves.

``g`` is the graph and ``n`` the name of the layer; the other arguments are PyTorch's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any, NamedTuple

import numpy as np

from pyomo_relu.readers import smooth, spatial
from pyomo_relu.readers.affine_graph import normalized_axis
from pyomo_relu.readers.entrywise import ENTRYWISE
from pyomo_relu.readers.moves import move
from pyomo_relu.readers.products import gated_linear, power
from pyomo_relu.readers.sums import contracted, einsum
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.torch.function_tables import FUNCTIONS, constant, function, operand
from pyomo_relu.readers.values import Tensor

#: Heads that keep the order of the logits; ``logits=True`` takes them off at the end.
HEADS = {"softmax", "log_softmax", "sigmoid", "log_sigmoid", "logsigmoid", "argmax"}


class Extremes(NamedTuple):
    """What ``max(x, dim)`` returns; positions are not piecewise linear."""

    values: Any
    indices: None = None


def operands(*values: Any) -> list:
    """Tensors as they are, and constants as arrays."""
    return [operand(v) for v in values]


# ------------------------------------------------------------------------ arithmetic
function("add")(
    lambda g, n, x, other, *, alpha=1: g.add(n, operands(x, other), [1.0, float(alpha)])
)
function("sub", "subtract")(
    lambda g, n, x, other, *, alpha=1: g.add(n, operands(x, other), [1.0, -float(alpha)])
)
function("rsub")(
    lambda g, n, x, other, *, alpha=1: g.add(n, operands(x, other), [-float(alpha), 1.0])
)
function("mul", "multiply")(lambda g, n, x, other: g.multiply(n, *operands(x, other)))
function("pow")(lambda g, n, x, exponent: power(g, n, x, constant(exponent, n, "exponent")))
function("matmul", "mm", "bmm", "mv", "dot")(
    lambda g, n, x, other: g.matmul(n, *operands(x, other))
)


@function("einsum")
def sum_of_products(
    g: TensorGraph, n: str, equation: str, *tensors: Any, path: Any = None
) -> Tensor:
    """``einsum``, whose operands are given one by one or as a list."""
    given = (
        tensors[0]
        if len(tensors) == 1 and isinstance(tensors[0], list | tuple)
        else tensors
    )
    return einsum(g, n, equation, operands(*given))


@function("tensordot")
def tensordot(
    g: TensorGraph,
    n: str,
    x: Any,
    other: Any,
    dims: Sequence[int],
    dims_other: Sequence[int],
) -> Tensor:
    """Products summed over some axes of each operand."""
    a, b = operands(x, other)
    return contracted(g, n, a, b, (dims, dims_other))


@function("inner")
def inner(g: TensorGraph, n: str, x: Any, other: Any) -> Tensor:
    """Products summed over the last axis of both operands."""
    a, b = operands(x, other)
    last = [len(a.shape) - 1], [len(b.shape) - 1]
    return tensordot(g, n, a, b, *last)


@function("div", "divide", "true_divide")
def divide(
    g: TensorGraph, n: str, x: Tensor, other: Any, *, rounding_mode: Any = None
) -> Tensor:
    """``x / other`` for a constant ``other`` without zeros."""
    divisor = constant(other, n, "divisor")
    if rounding_mode is not None or not np.all(divisor):
        raise ValueError(f"layer '{n}' rounds, or divides by zero.")
    return g.scale(n, x, 1.0 / divisor)


@function("linear")
def linear(g: TensorGraph, n: str, x: Tensor, weight: Any, bias: Any = None) -> Tensor:
    """``x @ weight.T + bias``."""
    w = constant(weight, n, "weight")
    return g.matmul(n, x, w.T, 0.0 if bias is None else constant(bias, n, "bias"))


@function("addmm")
def addmm(
    g: TensorGraph, n: str, bias: Any, x: Any, other: Any, **factors: float
) -> Tensor:
    """``beta * bias + alpha * (x @ other)``."""
    product = g.matmul(f"{n}_product", *operands(x, other))
    beta, alpha = factors.get("beta", 1.0), factors.get("alpha", 1.0)
    return g.add(n, [operand(bias), product], [float(beta), float(alpha)])


def _reduced(
    kind: str, g: TensorGraph, n: str, x: Tensor, *args: Any, **named: Any
) -> Tensor:
    """``sum(x, dim, keepdim, dtype=...)`` and its like."""
    options = dict(zip(("dim", "keepdim"), args)) | named
    dim = options.get("dim")
    axes = [dim] if isinstance(dim, int) else dim
    return g.reduce(n, x, axes, kind, options.get("keepdim", False))


def _extreme(kind: str, g: TensorGraph, n: str, x: Any, *args: Any, **named: Any) -> Any:
    """``max(x)``, ``max(x, dim, keepdim)`` or ``max(x, other)``, and the same of min."""
    other = args[0] if args else named.get("other")
    if other is not None and not isinstance(other, int):
        return g.maximum(n, operands(x, other), 1.0 if kind == "max" else -1.0)
    found = _reduced(kind, g, n, x, *args, **named)
    return found if other is None and named.get("dim") is None else Extremes(found)


for _kind in ("sum", "mean"):
    function(_kind)(partial(_reduced, _kind))
for _kind in ("max", "min"):
    function(f"a{_kind}")(partial(_reduced, _kind))
    function(_kind, f"{_kind}imum", f"f{_kind}")(partial(_extreme, _kind))


# ----------------------------------------------------------------------- activations
for _name, _names in {
    "relu": ("relu",),
    "relu6": ("relu6",),
    "hard_sigmoid": ("hardsigmoid",),
    "absolute": ("abs", "absolute"),
    "sign": ("sign", "sgn"),
    "negative": ("neg", "negative"),
}.items():
    function(*_names)(lambda g, n, x, inplace=False, read=ENTRYWISE[_name]: read(g, n, x))


for _name, _names in {
    "sigmoid": ("sigmoid", "expit"),
    "log_sigmoid": ("logsigmoid", "log_sigmoid", "log_sigmoid_forward"),
    "tanh": ("tanh",),
    "silu": ("silu",),
    "mish": ("mish",),
    "softsign": ("softsign",),
    "arctan": ("atan", "arctan"),
    "erf": ("erf",),
    "exp": ("exp",),
    "hard_swish": ("hardswish",),
    "tanh_shrink": ("tanhshrink",),
    "square": ("square",),
}.items():
    function(*_names)(
        lambda g, n, x, inplace=False, read=smooth.SMOOTH[_name]: read(g, n, x)
    )


@function("elu")
def elu(
    g: TensorGraph,
    n: str,
    x: Tensor,
    alpha: float = 1.0,
    scale: float = 1.0,
    input_scale: float = 1.0,
    inplace: bool = False,
) -> Tensor:
    """``scale * elu(x, alpha)``, as ``elu`` and ``selu`` are exported."""
    if input_scale != 1.0:
        raise ValueError(f"layer '{n}': an elu with input_scale={input_scale}.")
    if scale == 1.0:
        return smooth.elu(g, n, x, alpha)
    return smooth.selu(g, n, x, alpha, scale)


def leaky_relu(
    g: TensorGraph, n: str, x: Tensor, negative_slope: float = 0.01, inplace: bool = False
) -> Tensor:
    """``x`` above zero and ``negative_slope * x`` below."""
    return g.leaky(n, x, negative_slope)


function("glu")(lambda g, n, x, dim=-1: gated_linear(g, n, x, dim))


@function("prelu")
def prelu(g: TensorGraph, n: str, x: Tensor, weight: Any) -> Tensor:
    """``x`` above zero and ``weight * x`` below, one weight for all entries or for each channel."""
    slope = constant(weight, n, "slope").reshape(-1)
    if len(slope) > 1:  # one for each channel, and channels are axis 1
        slope = slope.reshape((-1,) + (1,) * (len(x.shape) - 2))
    return g.leaky(n, x, slope)


@function("clamp", "clip", "clamp_min")
def clamp(g: TensorGraph, n: str, x: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """``min(max(x, min), max)``."""
    sides = [None if v is None else constant(v, n, "limit") for v in (min, max)]
    return g.clip(n, x, *sides)


FUNCTIONS |= {
    "leaky_relu": leaky_relu,
    "clamp_max": lambda g, n, x, max: clamp(g, n, x, None, max),
    "hardtanh": lambda g, n, x, min_val=-1.0, max_val=1.0, inplace=False: g.clip(
        n, x, float(min_val), float(max_val)
    ),
    "softshrink": lambda g, n, x, lambd=0.5: g.soft_shrink(n, x, lambd),
    "hardshrink": lambda g, n, x, lambd=0.5: g.hard_shrink(n, x, lambd),
    "threshold": lambda g, n, x, threshold, value, inplace=False: g.threshold(
        n, x, threshold, value
    ),
    "selu": lambda g, n, x, inplace=False: smooth.selu(g, n, x),
    "celu": lambda g, n, x, alpha=1.0, inplace=False: smooth.celu(g, n, x, alpha),
    "gelu": lambda g, n, x, approximate="none": smooth.gelu(g, n, x, approximate),
    "softplus": smooth.softplus,
}
for _names, _less, _strict in (
    (("ge", "greater_equal"), False, False),
    (("gt", "greater"), False, True),
    (("le", "less_equal"), True, False),
    (("lt", "less"), True, True),
):
    function(*_names)(
        lambda g, n, x, other, less=_less, strict=_strict: g.compare(
            n, *operands(x, other), less, strict
        )
    )

function("logical_not", "bitwise_not")(lambda g, n, x: g.negation(n, x))


@function("heaviside")
def heaviside(g: TensorGraph, n: str, x: Tensor, values: Any) -> Tensor:
    """0 below zero, 1 above, and at zero a constant."""
    at_zero = constant(values, n, "value at zero")
    if not at_zero.any() or np.all(at_zero == 1.0):
        made = g.step(n, x, strict=not at_zero.any())
        return (
            made
            if np.broadcast_shapes(x.shape, at_zero.shape) == x.shape
            else (
                g.broadcast(f"{n}_wide", made, np.broadcast_shapes(x.shape, at_zero.shape))
            )
        )
    above, from_zero = g.step(f"{n}_above", x, strict=True), g.step(f"{n}_from", x)
    parts = [
        g.scale(f"{n}_open", above, 1.0 - at_zero),
        g.scale(f"{n}_closed", from_zero, at_zero),
    ]
    return g.add(n, parts)


# -------------------------------------------------------- what leaves the entries alone
@function("to", "type_as", "contiguous", "clone", "detach", "alias", "lift_fresh_copy")
@function("_to_copy", "positive")
def as_it_is(g: TensorGraph, n: str, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Copies, and casts between float dtypes; only an input may be cast to integers."""
    kinds = [str(v) for v in (*args, *kwargs.values()) if str(v).startswith("torch.")]
    if any(k in ("torch.int32", "torch.int64") for k in kinds):
        return g.cut_to_integers(n, x)
    if any(("int" in k or "bool" in k) and "memory" not in k for k in kinds):
        raise ValueError(f"layer '{n}' casts to {kinds[0]}; that is not piecewise linear.")
    return x


@function("dropout", "alpha_dropout", "feature_alpha_dropout", "feature_dropout")
def dropout(
    g: TensorGraph, n: str, x: Tensor, p: float = 0.5, training: bool = False, **_: Any
) -> Tensor:
    """The tensor itself, as at inference."""
    if training:
        raise ValueError(
            f"layer '{n}' drops at random even in eval mode; write "
            "dropout(x, training=self.training)."
        )
    return x


# ----------------------------------------------------------------------------- shapes
@function("reshape", "view", "_unsafe_view", "view_copy")
def reshape(g: TensorGraph, n: str, x: Tensor, *shape: Any, size: Any = None) -> Tensor:
    """The entries in another shape."""
    if shape:
        size = shape[0] if isinstance(shape[0], (tuple, list)) else shape
    return g.reshape(x, [int(s) for s in size], n)


function("view_as", "reshape_as")(lambda g, n, x, other: g.reshape(x, other.shape, n))


@function("flatten")
def flatten(
    g: TensorGraph, n: str, x: Tensor, start_dim: int = 0, end_dim: int = -1
) -> Tensor:
    """One axis in place of those from ``start_dim`` to ``end_dim``."""
    first, last = (normalized_axis(a, len(x.shape), n) for a in (start_dim, end_dim))
    return g.reshape(x, (*x.shape[:first], -1, *x.shape[last + 1 :]), n)


@function("unflatten")
def unflatten(g: TensorGraph, n: str, x: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """Several axes in place of one."""
    axis = normalized_axis(dim, len(x.shape), n)
    inner = [int(s) for s in sizes]
    if -1 in inner:
        inner[inner.index(-1)] = x.shape[axis] // max(-prod(inner), 1)
    return g.reshape(x, (*x.shape[:axis], *inner, *x.shape[axis + 1 :]), n)


# ------------------------------------------------------------------------------ moves
_MOVES = """
    adjoint atleast_1d atleast_2d atleast_3d broadcast_to channel_shuffle chunk diagonal
    dsplit expand expand_as flip fliplr flipud hsplit index_select mT moveaxis
    movedim narrow numpy_T permute pixel_shuffle pixel_unshuffle ravel repeat
    repeat_interleave roll rot90 select slice split split_with_sizes squeeze swapaxes
    swapdims t take_along_dim tensor_split tile transpose unbind unfold unsqueeze vsplit
""".split()


def moved(
    g: TensorGraph, n: str, values: Sequence[Any], operation: Callable[..., Any]
) -> Any:
    """Run an operation of PyTorch on the positions of the entries of ``values``."""
    import torch

    several = False

    def apply(codes: list[np.ndarray]) -> list[np.ndarray]:
        nonlocal several
        result = operation(*[torch.as_tensor(c) for c in codes])
        several = isinstance(result, (tuple, list))
        return [r.contiguous().numpy() for r in (result if several else [result])]

    found = move(g, n, operands(*values), apply)
    return found if several else found[0]


def _moved_by(
    operation: str, g: TensorGraph, n: str, x: Tensor, *args: Any, **kwargs: Any
) -> Any:
    """Run PyTorch's operation of this name on the positions of the entries."""
    import torch

    if any(isinstance(a, Tensor) for a in (*args, *kwargs.values())):
        if operation != "expand_as":
            raise ValueError(f"layer '{n}': its arguments depend on the input.")
        operation, args = "expand", (args[0].shape,)

    def apply(codes: Any) -> Any:
        if operation in ("mT", "numpy_T"):
            return codes.mT if operation == "mT" else codes.T
        if operation == "slice":
            return torch.ops.aten.slice(codes, *args, **kwargs)
        if hasattr(codes, operation):
            return getattr(codes, operation)(*args, **kwargs)
        holder = torch if hasattr(torch, operation) else torch.nn.functional
        return getattr(holder, operation)(codes, *args, **kwargs)

    return moved(g, n, [x], apply)


for _operation in _MOVES:
    function(_operation)(partial(_moved_by, _operation))

# A part of what an operation with several results returns.
function("getitem")(lambda g, n, x, key: x[key])


def indices_of(n: str, indices: Sequence[Any]) -> list[Any]:
    """Constant positions along each axis, or an error."""
    if any(isinstance(i, Tensor) for i in indices):
        raise ValueError(f"layer '{n}': which entries it takes depends on the input.")
    return list(indices)


@function("index")
def index(g: TensorGraph, n: str, x: Tensor, indices: Sequence[Any]) -> Any:
    """The entries at constant positions."""

    import torch

    places = indices_of(n, indices)
    return moved(g, n, [x], lambda codes: torch.ops.aten.index(codes, places))


def _joined(kind: str, g: TensorGraph, n: str, tensors: Sequence[Any], dim: int = 0) -> Any:
    import torch

    return moved(g, n, tensors, lambda *codes: getattr(torch, kind)(codes, dim))


function("cat", "concat", "concatenate")(partial(_joined, "cat"))
function("stack")(partial(_joined, "stack"))


def _stacked(kind: str, g: TensorGraph, n: str, tensors: Sequence[Any]) -> Any:
    import torch

    return moved(g, n, tensors, lambda *codes: getattr(torch, kind)(codes))


for _kind in ("hstack", "vstack", "row_stack", "dstack", "column_stack"):
    function(_kind)(partial(_stacked, _kind))
function("where")(
    lambda g, n, condition, x, other: spatial.where(
        g, n, operand(condition), *operands(x, other)
    )
)
