"""PyTorch functions whose forward pass solves a mixed-integer program.

Import this module only with PyTorch installed. Programs are solved in float64, on the CPU;
results and gradients have the type and the device of the parameters.
"""

from __future__ import annotations

try:
    import torch
except ImportError as e:  # pragma: no cover - depends on the installation
    raise ImportError(
        "these functions need PyTorch; pip install 'pyomo_relu[torch]'"
    ) from e

from typing import Any

import numpy as np

from pyomo_relu.differentiable.parametric import ParametricMILP
from pyomo_relu.differentiable.solution_gradients import (
    SolutionGradient,
    batch_backward,
    batch_forward,
    batch_values,
)


def _numpy(tensor: Any) -> np.ndarray:
    """A tensor of any type, half precision too, as float64."""
    return tensor.detach().to("cpu", torch.float64).numpy()


def _parameters(theta: Any) -> Any:
    """A tensor of a floating type; what is no tensor, and integers, count as float64."""
    theta = torch.as_tensor(theta if torch.is_tensor(theta) else np.asarray(theta))
    return theta if theta.is_floating_point() else theta.to(torch.float64)


class _Value(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, theta: Any, milp: ParametricMILP) -> Any:
        values, slopes = batch_values(milp, _numpy(theta))
        ctx.save_for_backward(torch.as_tensor(slopes, device=theta.device))
        return torch.as_tensor(values).to(theta)

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> Any:
        (slopes,) = ctx.saved_tensors
        return (upstream.to(slopes)[:, None] * slopes).to(upstream), None


class _Solution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, theta: Any, milp: ParametricMILP, how: SolutionGradient) -> Any:
        ctx.save_for_backward(theta)
        ctx.milp, ctx.how = milp, how
        return torch.as_tensor(batch_forward(milp, how, _numpy(theta))).to(theta)

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> Any:
        (theta,) = ctx.saved_tensors
        found = batch_backward(ctx.milp, ctx.how, _numpy(theta), _numpy(upstream))
        return torch.as_tensor(found).to(theta), None, None


@torch.compiler.disable
def milp_value(milp: ParametricMILP, theta: Any) -> Any:
    """The optimal value of each row of parameters, (N, p) to (N,).

    ``theta`` is a tensor of any floating type, which the values have as well.
    """
    return _Value.apply(_parameters(theta), milp)


@torch.compiler.disable
def milp_solution(
    milp: ParametricMILP, theta: Any, how: SolutionGradient | None = None
) -> Any:
    """The optimal point of each row of parameters, (N, p) to (N, n).

    ``theta`` is a tensor of any floating type, which the points have as well. ``how`` is by
    default the derivative of the optimal basis.
    """
    return _Solution.apply(_parameters(theta), milp, how or SolutionGradient())
