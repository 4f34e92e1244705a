"""`PenaltyLoss`: penalties of a PyTorch module, to be added to a loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pyomo_relu.base.lazy import torch
from pyomo_relu.training.relaxation.arithmetic import TorchArithmetic
from pyomo_relu.training.relaxation.penalties import Penalty
from pyomo_relu.training.relaxation.terms import Framework, Terms
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
        self.terms = Terms(
            FRAMEWORK,
            module,
            penalties,
            lower,
            upper,
            radius=radius,
            every=every,
        )
        self.module, self.calls = module, 0
        self.values: dict[str, float] = {}

    def __call__(self, x: Any) -> Any:
        """The penalties at a batch of inputs (N, ...), each times its weight.

        Bounds of batch normalization are those of its running statistics, as the trained
        network has them.
        """
        every, total = self.terms.every, x.new_zeros(())
        due, self.calls = self.calls % every == 0, self.calls + 1
        if not due:
            return total
        kernels = [v for v in self.module.parameters() if v.dim() > 1]
        for p, value in zip(self.terms.penalties, self.terms.values(x, kernels)):
            self.values[p.name] = float(value.detach())
            total = total + p.weight * every * value
        return total


def call_numpy(
    function: Callable[..., Sequence[np.ndarray]], tensors: Sequence[Any]
) -> list[Any]:
    """A number and one array for each but the last tensor, computed by NumPy."""
    arrays = [t.detach().to("cpu", torch.float64).numpy() for t in tensors]
    return [torch.as_tensor(a).to(tensors[0]) for a in function(*arrays)]


FRAMEWORK = Framework(
    OPS,
    check_modules,
    interval_bounds,
    dense_layers,
    call_numpy,
    lambda array, x: torch.as_tensor(array).to(x),
)
