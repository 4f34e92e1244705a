"""Smooth functions of one tensor under the names and the parameters that frameworks have.

Each is one of :mod:`pyomo_relu.network.smooth_functions`, with a factor before and behind
where the framework's function has more parameters.
"""

from __future__ import annotations

from collections.abc import Callable

from pyomo_relu.network.activations import relu
from pyomo_relu.readers.tensors import TensorGraph
from pyomo_relu.readers.values import Tensor

#: The constants of SELU (Klambauer et al., arXiv 1706.02515), as all frameworks have them.
SELU_ALPHA, SELU_SCALE = (
    1.6732632423543772848170429916717,
    1.0507009873554804934193349852946,
)

#: Above this argument PyTorch's softplus is linear: its error is below
#: ``log(1 + exp(-20)) = 2.1e-9``, and the network has the true function.
SOFTPLUS_THRESHOLD = 20.0


def scaled(
    graph: TensorGraph, name: str, x: Tensor, function: str, rate: float, factor: float
) -> Tensor:
    """``factor * function(rate * x)``."""
    if rate != 1.0:
        x = graph.scale(f"{name}_rate", x, rate)
    if factor == 1.0:
        return graph.smooth(name, x, function)
    return graph.scale(f"{name}_factor", graph.smooth(name, x, function), factor)


def elu(graph: TensorGraph, name: str, x: Tensor, alpha: float = 1.0) -> Tensor:
    """``x`` for ``x >= 0``, else ``alpha * (exp(x) - 1)``."""
    if alpha == 0:
        return graph.piecewise(name, x, relu())
    return graph.smooth(name, x, "elu", float(alpha))


def selu(
    graph: TensorGraph,
    name: str,
    x: Tensor,
    alpha: float = SELU_ALPHA,
    gamma: float = SELU_SCALE,
) -> Tensor:
    """``gamma * elu(x, alpha)``."""
    return graph.scale(f"{name}_factor", elu(graph, name, x, alpha), float(gamma))


def celu(graph: TensorGraph, name: str, x: Tensor, alpha: float = 1.0) -> Tensor:
    """``max(x, 0) + min(alpha * (exp(x / alpha) - 1), 0)``, for a positive ``alpha``."""
    alpha = float(alpha)
    if not alpha > 0:
        raise ValueError(f"layer '{name}': alpha={alpha} of celu must be positive.")
    return scaled(graph, name, x, "elu", 1.0 / alpha, alpha)


def softplus(
    graph: TensorGraph,
    name: str,
    x: Tensor,
    beta: float = 1.0,
    threshold: float = SOFTPLUS_THRESHOLD,
) -> Tensor:
    """``log(1 + exp(beta * x)) / beta``."""
    beta = float(beta)
    if not beta > 0:
        raise ValueError(f"layer '{name}': beta={beta} of softplus must be positive.")
    if threshold < SOFTPLUS_THRESHOLD:
        raise ValueError(
            f"layer '{name}': softplus with threshold={threshold} has a jump there; use "
            f"the usual threshold of {SOFTPLUS_THRESHOLD:g}."
        )
    return scaled(graph, name, x, "softplus", beta, 1.0 / beta)


def swish(graph: TensorGraph, name: str, x: Tensor, beta: float = 1.0) -> Tensor:
    """``x * sigmoid(beta * x)``."""
    beta = float(beta)
    if beta == 0:
        return graph.scale(name, x, 0.5)
    return scaled(graph, name, x, "silu", beta, 1.0 / beta)


def gelu(graph: TensorGraph, name: str, x: Tensor, approximate: object = False) -> Tensor:
    """``x * Phi(x)``, or its approximation by tanh."""
    by_tanh = approximate in (True, "tanh")
    return graph.smooth(name, x, "gelu_tanh" if by_tanh else "gelu")


def log_sigmoid(graph: TensorGraph, name: str, x: Tensor) -> Tensor:
    """``-softplus(-x)``."""
    return scaled(graph, name, x, "softplus", -1.0, -1.0)


def tanh_shrink(graph: TensorGraph, name: str, x: Tensor) -> Tensor:
    """``x - tanh(x)``."""
    return graph.add(name, [x, graph.smooth(f"{name}_tanh", x, "tanh")], [1.0, -1.0])


def _plain(function: str) -> Callable[[TensorGraph, str, Tensor], Tensor]:
    return lambda graph, name, x: graph.smooth(name, x, function)


#: Functions without parameters by the package's names for them.
SMOOTH: dict[str, Callable[[TensorGraph, str, Tensor], Tensor]] = {
    **{
        name: _plain(name)
        for name in (
            "sigmoid",
            "tanh",
            "silu",
            "mish",
            "softsign",
            "arctan",
            "erf",
            "exp",
            "hard_swish",
            "square",
        )
    },
    "log_sigmoid": log_sigmoid,
    "tanh_shrink": tanh_shrink,
}

#: Heads that are smooth units where they are not taken off.
UNITS = ("sigmoid", "log_sigmoid")
