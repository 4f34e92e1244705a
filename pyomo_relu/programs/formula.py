"""A nonlinear Pyomo expression as a list of operations on columns.

One list serves all: numbers of many points at once, derivatives, and the expressions of a
solver that takes ``+``, ``*``, ``/``, ``**`` and functions.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from pyomo.common.numeric_types import native_numeric_types
from pyomo.contrib.solver.common.util import IncompatibleModelError
from pyomo.core.expr.numeric_expr import (
    DivisionExpression,
    NegationExpression,
    PowExpression,
    ProductExpression,
    SumExpression,
    UnaryFunctionExpression,
)
from pyomo.environ import value

#: Functions of one variable, with their derivatives.
FUNCTIONS: dict[str, tuple[Callable, Callable]] = {
    "sinh": (np.sinh, np.cosh),
    "cosh": (np.cosh, np.sinh),
    "asin": (np.arcsin, lambda x: 1.0 / np.sqrt(1.0 - x**2)),
    "acos": (np.arccos, lambda x: -1.0 / np.sqrt(1.0 - x**2)),
    "atan": (np.arctan, lambda x: 1.0 / (1.0 + x**2)),
    "asinh": (np.arcsinh, lambda x: 1.0 / np.sqrt(x**2 + 1.0)),
    "acosh": (np.arccosh, lambda x: 1.0 / np.sqrt(x**2 - 1.0)),
    "atanh": (np.arctanh, lambda x: 1.0 / (1.0 - x**2)),
    "exp": (np.exp, np.exp),
    "log": (np.log, lambda x: 1.0 / x),
    "sqrt": (np.sqrt, lambda x: 0.5 / np.sqrt(x)),
    "sin": (np.sin, np.cos),
    "cos": (np.cos, lambda x: -np.sin(x)),
    "abs": (np.abs, np.sign),
}


#: Kinds of expressions, besides names and changes of sign.
KNOWN = (
    SumExpression,
    DivisionExpression,
    ProductExpression,
    PowExpression,
    UnaryFunctionExpression,
)


class _Step(NamedTuple):
    """One operation on the results of earlier ones, ``arguments``."""

    kind: str
    arguments: tuple[int, ...] = ()
    #: The column, the number, or the function's name.
    detail: Any = None


class Formula:
    """An expression in columns.

    Parameters
    ----------
    expression : Pyomo expression
        Fixed variables count by their values.
    place : mapping
        The column of each free variable, by ``id``.

    Attributes
    ----------
    columns : (k,) int array
        Those that it depends on, each once.

    Raises
    ------
    IncompatibleModelError
        For functions that aren't known, naming them.
    """

    def __init__(self, expression: Any, place: Mapping[int, int]) -> None:
        self._steps: list[_Step] = []
        self._seen: dict[int, int] = {}
        self._place = place
        self._read(expression)
        columns = [s.detail for s in self._steps if s.kind == "column"]
        self.columns = np.array(list(dict.fromkeys(columns)), dtype=int)

    # ------------------------------------------------------------------------ reading
    def _add(self, kind: str, *arguments: int, detail: Any = None) -> int:
        self._steps.append(_Step(kind, arguments, detail))
        return len(self._steps) - 1

    def _read(self, node: Any) -> int:
        """Add an expression; the number of its last step."""
        if node.__class__ in native_numeric_types or not node.is_potentially_variable():
            return self._add("number", detail=float(value(node)))
        if node.is_variable_type():
            return self._variable(node)
        if node.is_named_expression_type():
            return self._read(node.args[0])
        if isinstance(node, NegationExpression):
            minus = self._add("number", detail=-1.0)
            return self._add("product", minus, self._read(node.args[0]))
        if isinstance(node, KNOWN):
            return self._operation(node, [self._read(a) for a in node.args])
        raise IncompatibleModelError(
            f"the term '{node}' ({type(node).__name__}) isn't taken; write it with sums, "
            "products, powers, exp, log, sqrt, sin, cos, tan, tanh or abs."
        )

    def _operation(self, node: Any, arguments: list[int]) -> int:
        if isinstance(node, SumExpression):
            return self._add("sum", *arguments)
        if isinstance(node, DivisionExpression):
            return self._add("quotient", *arguments)
        if isinstance(node, ProductExpression):  # a monomial is one, too
            return self._add("product", *arguments)
        if isinstance(node, PowExpression):
            return self._power(*arguments)
        return self._function(node.getname(), arguments[0])

    def _variable(self, v: Any) -> int:
        if v.fixed:
            return self._add("number", detail=float(v.value))
        if id(v) not in self._seen:
            self._seen[id(v)] = self._add("column", detail=self._place[id(v)])
        return self._seen[id(v)]

    def _power(self, base: int, exponent: int) -> int:
        if self._steps[exponent].kind == "number":
            return self._add("power", base, detail=self._steps[exponent].detail)
        log = self._add("function", base, detail="log")
        if self._steps[base].kind == "number" and self._steps[base].detail > 0:
            log = self._add("number", detail=math.log(self._steps[base].detail))
        return self._add("function", self._add("product", exponent, log), detail="exp")

    def _function(self, name: str, x: int) -> int:
        """A function of one variable, by those that are known."""
        if name in FUNCTIONS:
            return self._add("function", x, detail=name)
        if name == "log10":
            log = self._add("function", x, detail="log")
            return self._add("product", log, self._add("number", detail=1 / math.log(10)))
        if name == "tan":
            parts = [self._add("function", x, detail=k) for k in ("sin", "cos")]
            return self._add("quotient", *parts)
        if name == "tanh":  # 1 - 2 / (exp(2 x) + 1)
            one, two = self._add("number", detail=1.0), self._add("number", detail=2.0)
            minus = self._add("number", detail=-2.0)
            power = self._add("function", self._add("product", two, x), detail="exp")
            below = self._add("sum", power, one)
            return self._add("sum", one, self._add("quotient", minus, below))
        raise IncompatibleModelError(
            f"the function '{name}' isn't taken; use exp, log, log10, sqrt, sin, cos, tan, "
            "tanh or abs."
        )

    # ---------------------------------------------------------------------- using it
    def value(self, z: np.ndarray) -> np.ndarray:
        """The values (N,) at points (N, m), NaN where there is none."""
        with np.errstate(all="ignore"):
            found = self._values(lambda j: z[:, j])[-1]
        return np.broadcast_to(np.asarray(found, dtype=float), (len(z),))

    def at(self, z: np.ndarray) -> float:
        """The value at one point (m,), NaN where there is none; for few points at a time.

        Numbers one by one take half of what arrays of one number do.
        """
        with np.errstate(all="ignore"):
            return float(self._values(lambda j: z[j])[-1])

    def gradient(self, z: np.ndarray) -> np.ndarray:
        """The derivatives (k,) with respect to :attr:`columns` at a point (m,)."""
        with np.errstate(all="ignore"):
            values = self._values(lambda j: z[j])
            slope = [0.0] * len(values)
            slope[-1] = 1.0
            found: dict[int, float] = {}
            for k in range(len(values) - 1, -1, -1):
                step = self._steps[k]
                if step.kind == "column":
                    found[step.detail] = found.get(step.detail, 0.0) + slope[k]
                for i, a in zip(step.arguments, self._slopes(step, values)):
                    slope[i] += slope[k] * a
        return np.array([found[j] for j in self.columns.tolist()], dtype=float)

    def products(self) -> list[tuple[int, int, int]]:
        """The products of two columns, each of them perhaps times a number.

        Returns
        -------
        list of (step, column, column)
            For :meth:`written`.
        """
        found: list[tuple[int, int, int]] = []
        own: dict[int, int] = {}
        for k, step in enumerate(self._steps):
            if step.kind == "column":
                own[k] = step.detail
            elif step.kind == "product":
                a, b = step.arguments
                numbers = [i for i in (a, b) if self._steps[i].kind == "number"]
                columns = [own[i] for i in (a, b) if i in own]
                if len(columns) == 2:
                    found.append((k, columns[0], columns[1]))
                elif numbers and columns:
                    own[k] = columns[0]
        return found

    def _scale(self, k: int) -> float:
        """What a step that is a column, times numbers, has its column multiplied by."""
        step = self._steps[k]
        if step.kind == "number":
            return float(step.detail)
        return math.prod(self._scale(i) for i in step.arguments)

    def written(
        self,
        columns: Sequence[Any],
        functions: Any,
        known: Mapping[int, Any] = MappingProxyType({}),
    ) -> Any:
        """The expression in terms of a solver's, whose functions ``functions`` has.

        Parameters
        ----------
        columns : sequence
            The solver's variables.
        functions : module
        known : mapping
            What the solver has for the products of two columns that are steps of
            :meth:`products`.

        Raises
        ------
        IncompatibleModelError
            For functions that it doesn't have, naming them.
        """

        def function(name: str) -> Callable:
            if not hasattr(functions, name):
                raise IncompatibleModelError(
                    f"relu_scip doesn't take the function '{name}'; it takes exp, log, log10, "
                    "sqrt, sin, cos, tan, tanh and abs."
                )
            return getattr(functions, name)

        factors = {k: self._scale(k) * one for k, one in known.items()}
        return self._values(lambda j: columns[j], function, factors)[-1]

    def _values(
        self,
        column: Callable[[int], Any],
        function: Callable[[str], Callable] = lambda name: FUNCTIONS[name][0],
        known: Mapping[int, Any] = MappingProxyType({}),
    ) -> list[Any]:
        found: list[Any] = []
        for k, step in enumerate(self._steps):
            parts = [found[i] for i in step.arguments]
            if k in known:
                found.append(known[k])
            elif step.kind == "column":
                found.append(column(step.detail))
            elif step.kind == "number":
                found.append(step.detail)
            elif step.kind == "sum":
                found.append(reduce(operator.add, parts))
            elif step.kind == "product":
                found.append(parts[0] * parts[1])
            elif step.kind == "quotient":
                found.append(parts[0] / parts[1])
            elif step.kind == "power":
                found.append(parts[0] ** step.detail)
            elif step.detail == "abs":
                found.append(abs(parts[0]))
            else:
                found.append(function(step.detail)(parts[0]))
        return found

    @staticmethod
    def _slopes(step: _Step, values: Sequence[Any]) -> list[Any]:
        """The derivatives of a step with respect to its arguments."""
        parts = [values[i] for i in step.arguments]
        if step.kind == "sum":
            return [1.0] * len(parts)
        if step.kind == "product":
            return [parts[1], parts[0]]
        if step.kind == "quotient":
            return [1.0 / parts[1], -parts[0] / parts[1] ** 2]
        if step.kind == "power":
            return [step.detail * np.power(parts[0], step.detail - 1.0)]
        if step.kind == "function":
            return [FUNCTIONS[step.detail][1](parts[0])]
        return []
