"""PyTorch functions whose forward pass solves a mixed-integer program.

Import this module only with PyTorch installed.
"""

from __future__ import annotations

try:
    import torch
except ImportError as e:  # pragma: no cover - depends on the installation
    raise ImportError(
        "these functions need PyTorch; pip install 'pyomo_relu[torch]'"
    ) from e

import numpy as np

from pyomo_relu.differentiable.parametric import ParametricMILP
from pyomo_relu.differentiable.solution_gradients import (
    SolutionGradient,
    batch_backward,
    batch_forward,
    batch_values,
)


def _numpy(tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(float)


class _Value(torch.autograd.Function):
    @staticmethod
    def forward(ctx, theta, milp):
        values, slopes = batch_values(milp, _numpy(theta))
        ctx.save_for_backward(torch.as_tensor(slopes).to(theta))
        return torch.as_tensor(values).to(theta)

    @staticmethod
    def backward(ctx, upstream):
        (slopes,) = ctx.saved_tensors
        return upstream[:, None] * slopes, None


class _Solution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, theta, milp, how):
        ctx.save_for_backward(theta)
        ctx.milp, ctx.how = milp, how
        return torch.as_tensor(batch_forward(milp, how, _numpy(theta))).to(theta)

    @staticmethod
    def backward(ctx, upstream):
        (theta,) = ctx.saved_tensors
        found = batch_backward(ctx.milp, ctx.how, _numpy(theta), _numpy(upstream))
        return torch.as_tensor(found).to(theta), None, None


def milp_value(milp: ParametricMILP, theta):
    """The optimal value of each row of parameters, (N, p) to (N,)."""
    return _Value.apply(theta, milp)


def milp_solution(milp: ParametricMILP, theta, how: SolutionGradient | None = None):
    """The optimal point of each row of parameters, (N, p) to (N, n).

    ``how`` is by default the derivative of the optimal basis.
    """
    return _Solution.apply(theta, milp, how or SolutionGradient())
