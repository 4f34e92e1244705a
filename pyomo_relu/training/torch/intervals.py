"""Interval bounds of PyTorch modules with gradients, and modules as chains of dense layers.

The rules of :mod:`pyomo_relu.training.keras.intervals`, for ``torch.nn.Sequential``.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from pyomo_relu.base.lazy import torch
from pyomo_relu.training.relaxation.arithmetic import TorchArithmetic
from pyomo_relu.training.relaxation.chain import (
    Activation,
    ChainBuilder,
    DenseLayer,
    Interval,
)

if TYPE_CHECKING:
    from torch import nn


class Kinds(NamedTuple):
    """The modules that have a rule.

    Attributes
    ----------
    monotone : dict
        Activations that don't decrease, and whether they have a breakpoint at 0.
    others : tuple
        Further modules that don't decrease in any input.
    silent : tuple
        Those that do nothing outside of training.
    scales, convolutions, heads : tuple
        Batch normalization, convolutions, and a softmax at the end.
    """

    monotone: dict[type, bool]
    others: tuple[type, ...]
    silent: tuple[type, ...]
    scales: tuple[type, ...]
    convolutions: tuple[type, ...]
    heads: tuple[type, ...]


@cache
def kinds() -> Kinds:
    """These modules of PyTorch; it is imported here, not with the package."""
    nn = torch.nn
    return Kinds(
        monotone={
            nn.ReLU: True,
            nn.ReLU6: True,
            nn.LeakyReLU: True,
            nn.Hardtanh: False,
            nn.Hardsigmoid: False,
            nn.Sigmoid: False,
            nn.Tanh: False,
            nn.Softplus: False,
        },
        others=(
            nn.Flatten, nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d,
            nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.ZeroPad2d,
        ),
        silent=(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d),
        scales=(nn.BatchNorm1d, nn.BatchNorm2d),
        convolutions=(nn.Conv1d, nn.Conv2d),
        heads=(nn.Softmax, nn.LogSoftmax),
    )  # fmt: skip


def chain(module: nn.Module) -> list[nn.Module]:
    """The modules of a ``Sequential``, nested ones unfolded, in order.

    Raises
    ------
    ValueError
        For a module that is no ``Sequential``.
    """
    if not isinstance(module, torch.nn.Sequential):
        raise ValueError(
            f"penalties on bounds need a torch.nn.Sequential, not {type(module).__name__}; "
            "put the layers into one."
        )
    found: list[nn.Module] = []
    for one in module:
        found += chain(one) if isinstance(one, torch.nn.Sequential) else [one]
    return found


def check_modules(module: nn.Module) -> None:
    """Raise a ValueError where a module of the chain has no interval rule."""
    of = kinds()
    known = (*of.monotone, *of.others, *of.silent, *of.scales, *of.convolutions)
    known = (*known, torch.nn.Linear)
    modules = chain(module)
    for k, one in enumerate(modules):
        final = isinstance(one, of.heads) and k == len(modules) - 1
        wraps = getattr(one, "padding_mode", "zeros") != "zeros"
        if wraps or not (type(one) in known or final):
            raise ValueError(
                f"module {k} ({type(one).__name__}) has no interval rule for penalties on "
                "bounds; use Linear, Conv, BatchNorm, pooling and ReLU modules."
            )


def _scale(one: Any) -> tuple[Any, Any]:
    """Factor and shift of a batch normalization by its running statistics.

    Raises
    ------
    ValueError
        Where it has none.
    """
    if one.running_var is None:
        raise ValueError(
            "a BatchNorm module without running statistics has no interval rule; use "
            "track_running_stats=True."
        )
    factor = torch.rsqrt(one.running_var + one.eps)
    factor = factor if one.weight is None else factor * one.weight
    shift = -one.running_mean * factor
    return factor, shift if one.bias is None else shift + one.bias


def interval_bounds(
    module: nn.Module, lower: Any, upper: Any
) -> tuple[list[Interval], Interval]:
    """Bounds of all ReLU pre-activations, and of the outputs, as tensors.

    Parameters
    ----------
    module : torch.nn.Sequential
    lower, upper : (N, ...) tensors
        N boxes of the module's input shape.

    Returns
    -------
    preactivations : list of (lower, upper)
        One pair of (N, ...) tensors for each ReLU, ReLU6 or leaky ReLU.
    outputs : (lower, upper)
        A final softmax is left out.
    """
    of, low, high = kinds(), torch.as_tensor(lower), torch.as_tensor(upper)
    found: list[Interval] = []
    for one in chain(module):
        if isinstance(one, (*of.silent, *of.heads)):
            continue
        if isinstance(one, (*of.monotone, *of.others)):
            if of.monotone.get(type(one), False):
                found.append((low, high))
            low, high = _same(one, low), _same(one, high)
            continue
        middle, radius = 0.5 * (low + high), 0.5 * (high - low)
        if isinstance(one, of.scales):
            factor, shift = (
                part.reshape(-1, *[1] * (low.dim() - 2)) for part in _scale(one)
            )
            middle, radius = middle * factor + shift, radius * factor.abs()
        else:
            middle, radius = one(middle), _by_magnitude(one, radius)
        low, high = middle - radius, middle + radius
    return found, (low, high)


def _same(one: nn.Module, x: Any) -> Any:
    """A module's values; a copy is made where it would overwrite its input."""
    return one(x.clone()) if getattr(one, "inplace", False) else one(x)


def _by_magnitude(one: Any, radius: Any) -> Any:
    """The radius behind a linear module or a convolution."""
    if isinstance(one, torch.nn.Linear):
        return torch.nn.functional.linear(radius, one.weight.abs())
    apply = (
        torch.nn.functional.conv1d
        if isinstance(one, torch.nn.Conv1d)
        else torch.nn.functional.conv2d
    )
    return apply(
        radius, one.weight.abs(), None, one.stride, one.padding, one.dilation, one.groups
    )


def dense_layers(module: nn.Module) -> list[DenseLayer]:
    """The layers of a chain of Linear modules, batch normalization folded into them.

    Raises
    ------
    ValueError
        For a module of another kind.
    """
    of, modules = kinds(), chain(module)
    sizes = [one.in_features for one in modules if isinstance(one, torch.nn.Linear)]
    build, size = ChainBuilder(TorchArithmetic()), sizes[0] if sizes else 0
    for k, one in enumerate(modules):
        if isinstance(one, (*of.silent, *of.heads)):
            continue
        if isinstance(one, torch.nn.Linear):
            size = one.out_features
            bias = one.weight.new_zeros(size) if one.bias is None else one.bias
            build.affine(one.weight.T, bias)
        elif isinstance(one, torch.nn.BatchNorm1d) and sizes:
            build.scale(*_scale(one), size)
        elif type(one) in of.monotone and sizes:
            build.activation(_activation(one), size)
        else:
            raise ValueError(
                f"module {k} ({type(one).__name__}) is not of a chain of Linear, "
                "BatchNorm1d and activation modules, which bounds='crown' and "
                "LPGapPenalty need; use bounds='interval'."
            )
    return build.close()


def _activation(one: nn.Module) -> Activation:
    slope = None
    if isinstance(one, torch.nn.ReLU):
        slope = 0.0
    elif isinstance(one, torch.nn.LeakyReLU) and 0.0 <= one.negative_slope <= 1.0:
        slope = float(one.negative_slope)
    return Activation(lambda x: _same(one, x), slope, kinds().monotone[type(one)])
