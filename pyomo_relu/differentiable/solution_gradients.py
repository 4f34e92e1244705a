r"""Gradients through the optimal point: the basis, and three substitutes to compare with.

Let ``g`` be the derivative of a loss in the optimal point. Each method gives the
derivative in the parameters:

=====================  ====================================================================
``basis``              exact where the point is differentiable; integers don't move
``blackbox``           :math:`(x^*(c + \lambda g) - x^*(c)) / \lambda` for costs
``perturbed``          of :math:`E[x^*(c + \sigma Z)]`, normal Z, by sampling
``straight_through``   :math:`-g` for costs, as if minimizing were negation
=====================  ====================================================================

The substitutes see the parameters only through the costs.

Sources: Vlastelica et al., arXiv 1912.02175 (blackbox); Berthet et al., arXiv 2002.08676
(perturbed); Sahoo et al., arXiv 2205.15213 (straight-through, negative identity).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import TimeUp
from pyomo_relu.differentiable.parametric import ParametricMILP
from pyomo_relu.programs.branch_and_bound import optimal_point
from pyomo_relu.programs.program import Program

METHODS = ("basis", "blackbox", "perturbed", "straight_through")


@dataclass(frozen=True)
class SolutionGradient:
    """How to differentiate an optimal point.

    Attributes
    ----------
    method : {'basis', 'blackbox', 'perturbed', 'straight_through'}
    step : float
        Lambda of ``blackbox``.
    sigma : float
        Standard deviation of ``perturbed``, whose forward pass is the mean point.
    samples : int
    seed : int
        The same noise is used forwards and backwards.
    """

    method: str = "basis"
    step: float = 10.0
    sigma: float = 0.5
    samples: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(
                f"method must be one of {', '.join(METHODS)}, not {self.method!r}."
            )
        if self.step <= 0 or self.sigma <= 0 or self.samples < 1:
            raise ValueError("step and sigma must be positive, samples at least 1.")

    def forward(self, milp: ParametricMILP, theta: np.ndarray) -> np.ndarray:
        """The optimal point, or the mean of perturbed ones, (n,)."""
        if self.method != "perturbed":
            return milp.solve(theta).x
        program = milp.program(theta)
        return np.mean([x for _, x in self._perturbed(program)], axis=0)

    def backward(
        self, milp: ParametricMILP, theta: np.ndarray, upstream: np.ndarray
    ) -> np.ndarray:
        """The derivative of a loss in the parameters from that in the point, (p,)."""
        g = np.asarray(upstream, dtype=float)
        if self.method == "basis":
            return milp.solution_jacobian(theta, check=False).T @ g
        program = milp.program(theta)
        jacobian = milp.data_jacobian(theta)[program.slices()["cost"]]
        if self.method == "straight_through":
            return jacobian.T @ -g
        if self.method == "blackbox":
            moved = optimal_point(replace(program, cost=program.cost + self.step * g))
            return jacobian.T @ ((moved - optimal_point(program)) / self.step)
        terms = [(x @ g) * z for z, x in self._perturbed(program)]
        return jacobian.T @ (np.mean(terms, axis=0) / self.sigma)

    def _perturbed(self, program: Program) -> list[tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng(self.seed)
        found = []
        for z in rng.standard_normal((self.samples, program.shape[1])):
            other = replace(program, cost=program.cost + self.sigma * z)
            found.append((z, optimal_point(other)))
        return found


def batch_values(milp: ParametricMILP, thetas: Any) -> tuple[np.ndarray, np.ndarray]:
    """Values (N,) and gradients (N, p) of a batch of parameters.

    Errors of all three functions name the row that fails, see :func:`_each`.
    """
    pairs = _each(milp.value_and_grad, np.asarray(thetas, dtype=float))
    values = np.array([v for v, _ in pairs], dtype=float)
    return values, _rows([g for _, g in pairs], len(milp.initial))


def batch_forward(milp: ParametricMILP, how: SolutionGradient, thetas: Any) -> np.ndarray:
    """Points (N, n) of a batch of parameters."""
    found = _each(lambda t: how.forward(milp, t), np.asarray(thetas, dtype=float))
    return _rows(found, milp.program().shape[1])


def batch_backward(
    milp: ParametricMILP, how: SolutionGradient, thetas: Any, upstream: Any
) -> np.ndarray:
    """Derivatives (N, p) of a loss in a batch of parameters."""
    given = np.asarray(thetas, dtype=float), np.asarray(upstream, dtype=float)
    found = _each(lambda t, g: how.backward(milp, t, g), *given)
    return _rows(found, len(milp.initial))


def _each(one: Callable[..., Any], *parts: np.ndarray) -> list[Any]:
    """The results of every row of a batch.

    Raises
    ------
    ValueError, Infeasible, Unbounded, SolverError, NodeLimit, TimeUp
        As for the row alone, of the same class, with the number of the row in front.
    """
    found = []
    for number, row in enumerate(zip(*parts)):
        try:
            found.append(one(*row))
        except (ValueError, RuntimeError, TimeUp) as error:
            message = f"row {number} of {len(parts[0])} in the batch: {error}"
            # Classes of the package and Python's own are made from one message.
            raise type(error)(message).with_traceback(error.__traceback__) from error
    return found


def _rows(rows: list, width: int) -> np.ndarray:
    """An array (N, width), of an empty batch as well."""
    return np.array(rows, dtype=float).reshape(len(rows), width)
