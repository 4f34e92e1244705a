"""Smooth functions as Pyomo expressions that nonlinear solvers take.

They are written with sums, products, quotients, ``exp``, ``log`` and ``abs``, which Ipopt,
SCIP and BARON know (the last two know no ``tanh``), and ``atan``. Where a function changes
its formula at a point, as ELU does at 0, it is written with ``abs``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyomo.environ import atan, exp, log

from pyomo_relu.network.smooth_functions import GELU_CUBE, GELU_RATE


def _sigmoid(x: Any) -> Any:
    return 1.0 / (1.0 + exp(-x))


def _softplus(x: Any) -> Any:
    return log(1.0 + exp(x))


def _mish(x: Any) -> Any:
    # With e = exp(-x), tanh(log(1 + 1 / e)) is (1 + 2 e) / (1 + 2 e + 2 e^2).
    e = exp(-x)
    return x * (1.0 + 2.0 * e) / (1.0 + 2.0 * e + 2.0 * e**2)


def _elu(x: Any, alpha: float) -> Any:
    return 0.5 * (x + abs(x)) + alpha * (exp(0.5 * (x - abs(x))) - 1.0)


#: By the names of the smooth functions; called with the argument and the parameter.
EXPRESSIONS: dict[str, Callable[[Any, float], Any]] = {
    "sigmoid": lambda x, _: _sigmoid(x),
    "tanh": lambda x, _: 1.0 - 2.0 / (exp(2.0 * x) + 1.0),
    "softplus": lambda x, _: _softplus(x),
    "silu": lambda x, _: x * _sigmoid(x),
    "gelu_tanh": lambda x, _: x * _sigmoid(GELU_RATE * (x + GELU_CUBE * x**3)),
    "mish": lambda x, _: _mish(x),
    "elu": _elu,
    "softsign": lambda x, _: x / (1.0 + abs(x)),
    "arctan": lambda x, _: atan(x),
    "exp": lambda x, _: exp(x),
    "square": lambda x, _: x**2,
    # Arguments are never beyond the parameter.
    "bounded_square": lambda x, _: x**2,
    "hard_swish": lambda x, _: x * (6.0 + abs(x + 3.0) - abs(x - 3.0)) / 12.0,
}

#: What Pyomo's expressions can't say.
NOT_IN_PYOMO = ("gelu", "erf")


def smooth_expression(layer: str, function: str, alpha: float, x: Any) -> Any:
    """The function of an expression.

    Raises
    ------
    ValueError
        For ``erf`` and the GELU made of it, which Pyomo's expressions don't have.
    """
    if function not in EXPRESSIONS:
        raise ValueError(
            f"layer '{layer}' computes '{function}', and Pyomo's expressions have no error "
            "function; use relu_scip or relu_global, whose searches need no expressions, "
            "or retrain with GELU by tanh."
        )
    return EXPRESSIONS[function](x, alpha)
