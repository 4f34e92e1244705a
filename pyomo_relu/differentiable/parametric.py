r"""`ParametricMILP`: a mixed-integer program as a function of parameters.

With finitely many integer assignments :math:`u`, the optimal value is
:math:`z(\theta) = \min_u \mathrm{LP}_u(\theta)`. At a unique optimal assignment whose
linear program has unique primal and dual solutions :math:`x^*, y^*`,

.. math::
    dz = y^{*\top}\, db - y^{*\top} (dA)\, x^* + (dc)^\top x^*,

and where several are optimal, each of their formulas is an element of a conservative
gradient (Bolte and Pauwels, arXiv 1909.10300), which is what gradient methods need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.differentiable.certificate import Certificate, certify
from pyomo_relu.differentiable.dual_function import DualFunction
from pyomo_relu.differentiable.parameters import (
    ArraySource,
    FunctionSource,
    PyomoSource,
    chosen_entries,
)
from pyomo_relu.differentiable.solution_map import solution_derivative
from pyomo_relu.differentiable.subadditive import SubadditiveDual
from pyomo_relu.differentiable.training_source import TrainingSource
from pyomo_relu.programs.branch_and_bound import Tree, branch_and_bound, optimum
from pyomo_relu.programs.program import Program
from pyomo_relu.programs.sharp import Solution

METHODS = ("fixed", "tree")


@dataclass(frozen=True)
class ParametricSolution:
    """What :meth:`ParametricMILP.solve` finds.

    Attributes
    ----------
    value : float
        In the sense of the model's objective.
    x : (n,) array
        The variables, integers exact.
    lp : Solution
        What the linear program with fixed integers gives, a minimization.
    program : Program
        The data at these parameters, a minimization.
    """

    value: float
    x: np.ndarray
    lp: Solution
    program: Program


class ParametricMILP:
    """The optimal value and the solution of a program, and their derivatives.

    Make one with :meth:`from_pyomo`, :meth:`from_arrays`, :meth:`from_functions` or
    :meth:`from_training`.

    Attributes
    ----------
    names : list of str
        The names of the parameters.
    initial : (p,) array
        Their values in the model, the default of every method's ``theta``.

    Examples
    --------
    >>> import pyomo.environ as pyo
    >>> m = pyo.ConcreteModel()
    >>> m.price = pyo.Param(initialize=3.0, mutable=True)
    >>> m.need = pyo.Param(initialize=1.5, mutable=True)
    >>> m.n = pyo.Var(domain=pyo.Integers, bounds=(0, 5))
    >>> m.s = pyo.Var(bounds=(0, 5))
    >>> m.enough = pyo.Constraint(expr=m.n + m.s >= m.need**2)
    >>> m.cost = pyo.Objective(expr=m.price * m.n + 4 * m.s)
    >>> milp = ParametricMILP.from_pyomo(m, [m.price, m.need])
    >>> value, gradient = milp.value_and_grad()
    >>> print(value, gradient)
    7.0 [ 2. 12.]
    """

    def __init__(
        self, source: ArraySource | FunctionSource | PyomoSource | TrainingSource
    ) -> None:
        self._source = source
        self.names: list[str] = source.names
        self.initial: np.ndarray = source.initial
        self._sign = float(source.sign)

    @classmethod
    def from_pyomo(cls, model: Any, parameters: Iterable[Any]) -> ParametricMILP:
        """From a linear Pyomo model and its mutable Params.

        Params may occur nonlinearly (``p**2 * x``); derivatives are symbolic. The model
        isn't changed; it is read once, so changes of it afterwards aren't seen.

        Raises
        ------
        ValueError
            For nonlinear constraints, Params that aren't mutable, and models without
            exactly one active objective.
        """
        return cls(PyomoSource(model, parameters))

    @classmethod
    def from_arrays(
        cls, program: Program, parameters: Mapping[str, Any] | Iterable[str]
    ) -> ParametricMILP:
        """From arrays; entries of the data are the parameters.

        Parameters
        ----------
        program : Program
        parameters : mapping or iterable of str
            Parts of the data: ``cost``, ``row_lower``, ``row_upper``, ``lower``,
            ``upper``, ``matrix``, ``offset``. A mapping gives indices for each, pairs
            (rows, columns) for the matrix, or None for every finite entry (bounds: of
            continuous variables).
        """
        return cls(ArraySource(program, chosen_entries(program, parameters)))

    @classmethod
    def from_functions(
        cls,
        program: Callable[[np.ndarray], Program],
        jacobian: Callable[[np.ndarray], Any],
        initial: Any,
        names: list[str] | None = None,
    ) -> ParametricMILP:
        """From a function of the parameters and the Jacobian of its data.

        Parameters
        ----------
        program : callable
            From a (p,) array to a :class:`Program` of constant structure.
        jacobian : callable
            From a (p,) array to the (n_data, p) derivative of ``program.to_vector()``.
        initial : (p,) array
        names : list of str, optional
        """
        return cls(FunctionSource(program, jacobian, initial, names))

    @classmethod
    def from_training(cls, mip: Any) -> ParametricMILP:
        """From a training program; the features of its points are the parameters.

        Points are in the order of ``mip.data``, which is sorted where it was merged.

        Parameters
        ----------
        mip : TrainingMIP
            With ``room=`` for points that shall move outwards.

        Raises
        ------
        ValueError
            If the first layer isn't trained on points, or weights of it are fixed to 0.
        """
        return cls(TrainingSource(mip))

    @property
    def row_names(self) -> list[str]:
        """The names of the rows in their order; empty without a Pyomo model."""
        return list(getattr(self._source, "row_names", []))

    @property
    def variables(self) -> list[Any]:
        """The Pyomo variables in the order of ``x``; empty without a Pyomo model."""
        return list(getattr(self._source, "columns", []))

    @property
    def sense(self) -> float:
        """1 for a minimization, -1 for a maximization."""
        return self._sign

    def program(self, theta: Any = None) -> Program:
        """The data at given parameters, as a minimization."""
        return self._source.program(self._theta(theta))

    def data_jacobian(self, theta: Any = None) -> sp.csr_array:
        """The (n_data, p) derivative of the minimization's data vector.

        Raises
        ------
        ValueError
            If the bound of an integer variable depends on a parameter: the value jumps
            there, and no derivative tells.
        """
        theta = self._theta(theta)
        jacobian = self._source.jacobian(theta)
        program = self._source.program(theta)
        at = program.slices()
        for part in ("lower", "upper"):
            moved = program.integer & (np.diff(jacobian[at[part]].indptr) > 0)
            if moved.any():
                raise ValueError(
                    f"the {part} bound of integer variable {np.flatnonzero(moved)[0]} "
                    "depends on a parameter; write it as a constraint, or keep it constant."
                )
        return jacobian

    def solve(
        self,
        theta: Any = None,
        *,
        start: np.ndarray | None = None,
        time_limit: float | None = None,
    ) -> ParametricSolution:
        """Solve by HiGHS, by branch and bound where it fails, then the LP.

        Parameters
        ----------
        theta : (p,) array, optional
        start : (n,) array, optional
            A point to start from.
        time_limit : float, optional
            Seconds for HiGHS.

        Raises
        ------
        Infeasible, Unbounded, SolverError
        TimeUp
            If the program is not solved within the time limit.
        """
        program = self.program(theta)
        lp = optimum(program, start, time_limit)
        return ParametricSolution(self._sign * lp.value, lp.x, lp, program)

    def gradient_at(self, solution: ParametricSolution, theta: Any = None) -> np.ndarray:
        """The envelope formula at a solution of :meth:`solve`."""
        data = solution.program.envelope(solution.x, solution.lp.y)
        return self._sign * (self.data_jacobian(theta).T @ data)

    def value_and_grad(
        self, theta: Any = None, *, method: str = "fixed", start: np.ndarray | None = None
    ) -> tuple[float, np.ndarray]:
        """The optimal value and an element of its conservative gradient.

        Where the value is differentiable this is the gradient (up to points where the
        linear program is degenerate); :meth:`certificate` tells.

        Parameters
        ----------
        theta : (p,) array, optional
        method : {'fixed', 'tree'}
            One MILP by HiGHS and one LP with fixed integers, or own branch and bound
            and the supergradient of its dual function.
        start : (n,) array, optional
            A point to start from, for ``'fixed'``.

        Returns
        -------
        float, (p,) array

        Raises
        ------
        Infeasible, Unbounded, SolverError
        """
        if method not in METHODS:
            raise ValueError(f"method must be 'fixed' or 'tree', not {method!r}.")
        if method == "fixed":
            solution = self.solve(theta, start=start)
            return solution.value, self.gradient_at(solution, theta)
        tree = self.tree(theta)
        data = DualFunction(tree).supergradient(tree.program)
        return self._sign * tree.value, self._sign * (self.data_jacobian(theta).T @ data)

    def tree(self, theta: Any = None, **options: Any) -> Tree:
        """Own branch and bound; options of :func:`branch_and_bound`."""
        return branch_and_bound(self.program(theta), **options)

    def dual_function(self, theta: Any = None, **options: Any) -> DualFunction:
        """A lower bound on the minimization for all data, tight at ``theta``."""
        return DualFunction(self.tree(theta, **options))

    def subadditive_dual(
        self,
        theta: Any = None,
        *,
        node_limit: int = 20_000,
        deadline: Deadline = NEVER,
    ) -> SubadditiveDual:
        """An optimal subadditive dual of the minimization at ``theta``.

        Raises
        ------
        ValueError
            For bounds that are missing, see :class:`SubadditiveDual`.
        Infeasible, NodeLimit, TimeUp
        """
        return SubadditiveDual(
            self.program(theta), node_limit=node_limit, deadline=deadline
        )

    def certificate(
        self,
        theta: Any = None,
        *,
        parameters: Any = None,
        tie: float = 1e-7,
        node_limit: int = 20_000,
    ) -> Certificate:
        """Prove that the value is differentiable, or say why that isn't known.

        Parameters
        ----------
        theta : (p,) array, optional
        parameters : sequence of int, optional
            Numbers of the parameters that may move; the others are constants.
        tie : float
            Relative difference below which two values count as equal.
        node_limit : int
            How many nodes the tree may have.

        Raises
        ------
        NodeLimit
            If the tree grows too large; there is no certificate then.
        """
        tree = self.tree(theta, tie=tie, node_limit=node_limit)
        jacobian = self.data_jacobian(theta)
        if parameters is not None:
            jacobian = sp.csr_array(jacobian.tocsc()[:, np.asarray(parameters)])
        return certify(tree, jacobian, self._sign, tie)

    def solution_jacobian(self, theta: Any = None, *, check: bool = True) -> np.ndarray:
        r"""Derivative of the optimal point, integers constant.

        With the optimal basis :math:`B` of the fixed-integer LP,
        :math:`dx_B = B^{-1}(db - dB\,x_B - dN\,x_N)`.

        Parameters
        ----------
        theta : (p,) array, optional
        check : bool
            Refuse where the solution isn't known to be differentiable: several optimal
            assignments, or a degenerate basis. Without it the derivative belongs to
            the basis that HiGHS ended with.

        Returns
        -------
        (n, p) array

        Raises
        ------
        ValueError
            With ``check``, where there may be no derivative.
        """
        if check:
            found = self.certificate(theta)
            if not found.nondegenerate or not found.unique_leaf:
                raise ValueError(
                    f"the solution may not be differentiable here: {found.reason}. Move "
                    "the parameters, or give check=False for the derivative of one basis."
                )
        solution = self.solve(theta)
        fixed = solution.program.with_integers(solution.x)
        return solution_derivative(fixed, solution.lp, self.data_jacobian(theta))

    def _theta(self, theta: Any) -> np.ndarray:
        if theta is None:
            return self.initial
        found = np.asarray(theta, dtype=float).reshape(-1)
        if found.shape != self.initial.shape:
            raise ValueError(
                f"there are {len(self.initial)} parameters, but {len(found)} values."
            )
        if not np.isfinite(found).all():
            raise ValueError("a parameter is NaN or infinite.")
        return found
