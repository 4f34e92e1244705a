"""`PenaltyLoss`: penalties of a PyTorch module, to be added to a loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pyomo_relu.base.lazy import torch
from pyomo_relu.training.relaxation.arithmetic import TorchArithmetic
from pyomo_relu.training.relaxation.penalties import (
    Penalty,
    box_ends,
    check_chain,
    check_penalties,
    values_of,
)
from pyomo_relu.training.torch.intervals import (
    check_modules,
    dense_layers,
    interval_bounds,
)

if TYPE_CHECKING:
    from torch import nn

OPS = TorchArithmetic()


class PenaltyLoss:
    """The weighted sum of penalties of a module, a scalar tensor with gradients.

    Parameters
    ----------
    module : torch.nn.Module
        For penalties on bounds a ``torch.nn.Sequential`` of Linear, convolution, batch
        normalization, pooling and ReLU modules.
    penalties : sequence of Penalty
    lower, upper : float or array_like, optional
        The box over which bounds are taken, in the units of the module's inputs.
    radius : float, optional
        Take bounds around each sample of a batch instead, within the box where one is
        given: for networks that will be verified.
    every : int
        Penalties are computed in each so many-th call only, and count so many times as
        much there: for penalties that take longer than a step of training.

    Attributes
    ----------
    values : dict
        By the names of penalties, their last values without weights.

    Raises
    ------
    ValueError
        For a penalty on bounds with neither a box nor a radius, and for modules that
        have no interval rule.

    Examples
    --------
    >>> from torch import nn                                         # doctest: +SKIP
    >>> net = nn.Sequential(nn.Linear(2, 20), nn.ReLU(), nn.Linear(20, 1))  # doctest: +SKIP
    >>> penalty = PenaltyLoss(net, [BoundWidthPenalty(1e-3)], -1, 1)  # doctest: +SKIP
    >>> loss = nn.functional.mse_loss(net(x), y) + penalty(x)        # doctest: +SKIP
    """

    def __init__(
        self,
        module: nn.Module,
        penalties: Sequence[Penalty],
        lower: Any = None,
        upper: Any = None,
        *,
        radius: float | None = None,
        every: int = 1,
    ) -> None:
        self.module, self.penalties = module, tuple(penalties)
        check_penalties(self.penalties, lower, upper, radius, every)
        self.radius, self.every, self.calls = radius, every, 0
        self.values: dict[str, float] = {}
        if any(p.needs_bounds for p in self.penalties):
            check_modules(module)
        check_chain(self.penalties, module, dense_layers)
        self._ends = None if lower is None else (lower, upper)

    def boxes(self, x: Any) -> tuple[Any, Any]:
        """Lower and upper ends, (1, ...) for the box or (N, ...) around samples."""
        ends = None
        if self._ends is not None:
            ends = [torch.as_tensor(a).to(x) for a in box_ends(*self._ends, x.shape[1:])]
        if self.radius is None:
            assert ends is not None
            return ends[0], ends[1]
        low, high = x - self.radius, x + self.radius
        if ends is not None:
            low = torch.maximum(low, ends[0])
            high = torch.maximum(torch.minimum(high, ends[1]), low)
        return low, high

    def __call__(self, x: Any) -> Any:
        """The penalties at a batch of inputs (N, ...), each times its weight.

        Bounds of batch normalization are those of its running statistics, as the trained
        network has them.
        """
        due, self.calls = self.calls % self.every == 0, self.calls + 1
        total = x.new_zeros(())
        if not due:
            return total
        values = values_of(
            self.penalties,
            self.module,
            self.boxes(x) if any(p.needs_bounds for p in self.penalties) else (),
            interval_bounds,
            dense_layers,
            ops=OPS,
            kernels=[v for v in self.module.parameters() if v.dim() > 1],
            samples=x,
            call=call_numpy,
        )
        for p, value in zip(self.penalties, values):
            self.values[p.name] = float(value.detach())
            total = total + p.weight * self.every * value
        return total


def call_numpy(
    function: Callable[..., Sequence[np.ndarray]], tensors: Sequence[Any]
) -> list[Any]:
    """A number and one array for each but the last tensor, computed by NumPy."""
    arrays = [t.detach().to("cpu", torch.float64).numpy() for t in tensors]
    return [torch.as_tensor(a).to(tensors[0]) for a in function(*arrays)]
