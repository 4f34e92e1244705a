"""Data of a program as functions of parameters: from arrays, functions, or a Pyomo model.

A source has ``names``, ``initial``, ``program(theta)`` and ``jacobian(theta)``, the
sparse derivative of the data vector (:meth:`Program.to_vector`) in the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyomo.environ as pyo
from pyomo.core.expr.calculus.derivatives import Modes, differentiate
from pyomo.core.expr.visitor import identify_mutable_parameters
from pyomo.repn.standard_repn import generate_standard_repn

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.programs.program import PARTS, Program


class ArraySource:
    """Chosen entries of a program's data are the parameters themselves.

    Parameters
    ----------
    base : Program
    entries : (p,) int array
        Positions in the data vector.
    """

    sign = 1.0

    def __init__(self, base: Program, entries: np.ndarray) -> None:
        self.base = base
        self.entries = entries
        self._vector = base.to_vector()
        self.initial = self._vector[entries]
        self.names = _entry_names(base, entries)
        p = len(entries)
        self._jacobian = sp.csr_array(
            (np.ones(p), (entries, np.arange(p))), shape=(len(self._vector), p)
        )

    def program(self, theta: np.ndarray) -> Program:
        vector = self._vector.copy()
        vector[self.entries] = theta
        return self.base.with_vector(vector)

    def jacobian(self, theta: np.ndarray) -> sp.csr_array:
        return self._jacobian


def chosen_entries(
    base: Program, parameters: Mapping[str, Any] | Iterable[str]
) -> np.ndarray:
    """Positions of parts of the data, in the order given.

    Parameters
    ----------
    base : Program
    parameters : mapping or iterable of str
        Names of :data:`PARTS`, each with indices, or None for all finite entries (of
        bounds those of continuous variables). For ``"matrix"`` indices are pairs of
        arrays (rows, columns).
    """
    if isinstance(parameters, str):
        parameters = [parameters]
    if not isinstance(parameters, Mapping):
        parameters = {name: None for name in parameters}
    at, found = base.slices(), []
    vector = base.to_vector()
    for name, index in parameters.items():
        if name not in PARTS:
            raise ValueError(
                f"{name!r} is no part of a program; known: {', '.join(PARTS)}."
            )
        whole = np.arange(at[name].start, at[name].stop)
        if index is None:
            whole = whole[np.isfinite(vector[whole])]
            if name in ("lower", "upper"):
                whole = whole[~base.integer[whole - at[name].start]]
        elif name == "matrix":
            whole = at[name].start + _stored(base, *index)
        else:
            whole = whole[np.atleast_1d(index)]
        if not np.isfinite(vector[whole]).all():
            raise ValueError(f"an infinite entry of {name!r} can't be a parameter.")
        found.append(whole)
    return np.concatenate(found) if found else np.zeros(0, dtype=int)


def _stored(base: Program, rows: Any, columns: Any) -> np.ndarray:
    """Positions of entries among the stored ones of the matrix."""
    keys = base.entry_rows() * base.shape[1] + base.matrix.indices
    wanted = np.atleast_1d(rows) * base.shape[1] + np.atleast_1d(columns)
    order = np.argsort(keys, kind="stable")
    where = np.searchsorted(keys, wanted, sorter=order)
    where = np.minimum(where, max(len(keys) - 1, 0))
    found = order[where] if len(keys) else np.zeros(0, dtype=int)
    if len(found) != len(wanted) or (keys[found] != wanted).any():
        raise ValueError(
            "a coefficient that shall be a parameter isn't stored in the matrix; store "
            "it explicitly, also where it is 0."
        )
    return found


def _entry_names(base: Program, entries: np.ndarray) -> list[str]:
    at = base.slices()
    names = [f"{part}[{k}]" for part in PARTS[:-1] for k in range(_length(at[part]))]
    cells = zip(base.entry_rows().tolist(), base.matrix.indices.tolist())
    names += [f"matrix[{i},{j}]" for i, j in cells]
    return [names[e] for e in entries.tolist()]


def _length(part: slice) -> int:
    return part.stop - part.start


class FunctionSource:
    """A function from parameters to a program, and one to the Jacobian of its data."""

    sign = 1.0

    def __init__(
        self,
        program: Callable[[np.ndarray], Program],
        jacobian: Callable[[np.ndarray], Any],
        initial: np.ndarray,
        names: list[str] | None = None,
    ) -> None:
        self.program = program
        self._function = jacobian
        self.initial = np.array(initial, dtype=float).reshape(-1)
        self.names = names or [f"theta[{k}]" for k in range(len(self.initial))]

    def jacobian(self, theta: np.ndarray) -> sp.csr_array:
        return sp.csr_array(self._function(theta))


class PyomoSource:
    """A linear Pyomo model whose mutable Params are the parameters.

    Coefficients, bounds and costs are kept as expressions in the Params, and their
    derivatives are taken symbolically.

    Parameters
    ----------
    model : BlockData
        Linear, with one active objective.
    parameters : iterable of Param
        Mutable; of an indexed one all members.

    Attributes
    ----------
    columns : list of VarData
    row_names : list of str
    """

    def __init__(self, model: Any, parameters: Any) -> None:
        self.params = _param_data(parameters)
        self._number = {id(p): k for k, p in enumerate(self.params)}
        self.names = [p.name for p in self.params]
        values = [p.value for p in self.params]
        for p, v in zip(self.params, values):
            if v is None or not isinstance(v, (int, float)):
                raise ValueError(f"Param '{p.name}' has no number as its value.")
        self.initial = np.array(values, dtype=float)
        objectives = list(model.component_data_objects(pyo.Objective, active=True))
        if len(objectives) != 1:
            raise ValueError(
                f"the model must have one active objective, not {len(objectives)}."
            )
        self.sign = 1.0 if objectives[0].sense == pyo.minimize else -1.0
        self.columns: list[Any] = []
        self._column: dict[int, int] = {}
        rows = list(model.component_data_objects(pyo.Constraint, active=True))
        self.row_names = [row.name for row in rows]
        self._compile(objectives[0], rows)
        self.program(self.initial).check()

    def _compile(self, objective: Any, rows: list[Any]) -> None:
        """Read the data as expressions, in the order of the data vector."""
        costs, constant = self._linear(objective.expr, objective.name)
        triples: list[tuple[int, int, Any]] = []
        lower, upper = [], []
        for i, row in enumerate(rows):
            low, body, high = row.to_bounded_expression()
            terms, shift = self._linear(body, row.name)
            triples += [(i, j, a) for j, a in terms]
            lower.append(_minus(low, shift, -math.inf))
            upper.append(_minus(high, shift, math.inf))
        m, n = len(rows), len(self.columns)
        cost: list[Any] = [0.0] * n
        for j, a in costs:
            cost[j] = a
        bounds = [_variable_bounds(v) for v in self.columns]
        at = ([t[0] for t in triples], [t[1] for t in triples])
        # Numbers in place of coefficients, from 1, so that none is dropped as a zero.
        matrix = sp.csr_array((np.arange(1.0, len(triples) + 1.0), at), shape=(m, n))
        matrix.sort_indices()
        entries: list[Any] = [constant, *cost, *lower, *upper]
        entries += [b[0] for b in bounds] + [b[1] for b in bounds]
        entries += [triples[t][2] for t in matrix.data.astype(int) - 1]
        self._sign = np.ones(len(entries))
        self._sign[: 1 + n] = self.sign
        self._sort(entries)
        integer = np.array([v.is_integer() for v in self.columns], dtype=bool)
        none, sides = np.zeros(n), np.zeros(m)
        self._base = Program(none, none, none, matrix, sides, sides, integer=integer)

    def _linear(self, expression: Any, name: str) -> tuple[list[tuple[int, Any]], Any]:
        """Terms (column, coefficient) and the constant, as expressions."""
        repn = generate_standard_repn(expression, compute_values=False)
        if not repn.is_linear():
            raise ValueError(
                f"'{name}' is nonlinear; only linear models have these gradients."
            )
        terms = []
        for v, a in zip(repn.linear_vars, repn.linear_coefs):
            j = self._column.get(id(v))
            if j is None:
                j = self._column[id(v)] = len(self.columns)
                if not (v.is_integer() or v.is_continuous()):
                    raise ValueError(f"variable '{v.name}' has the domain {v.domain}.")
                self.columns.append(v)
            terms.append((j, a))
        return terms, repn.constant

    def _sort(self, entries: list[Any]) -> None:
        """Sort the data into numbers, Params as they are, and expressions of Params."""
        self._vector = np.zeros(len(entries))
        plain: list[tuple[int, int]] = []
        self._general: list[tuple[int, Any]] = []
        self._derivatives: list[tuple[int, int, Any]] = []
        for e, a in enumerate(entries):
            if isinstance(a, (int, float)):
                self._vector[e] = a
                continue
            if id(a) in self._number:
                plain.append((e, self._number[id(a)]))
                continue
            own = [p for p in identify_mutable_parameters(a) if id(p) in self._number]
            if not own:
                self._vector[e] = pyo.value(a)
                continue
            self._general.append((e, a))
            slopes = differentiate(a, wrt_list=own, mode=Modes.reverse_symbolic)
            self._derivatives += [(e, self._number[id(p)], d) for p, d in zip(own, slopes)]
        self._plain = np.array(plain, dtype=int).reshape(-1, 2)

    def program(self, theta: np.ndarray) -> Program:
        """The data at given values of the Params, whose own values stay."""
        vector = self._vector.copy()
        vector[self._plain[:, 0]] = theta[self._plain[:, 1]]
        if self._general:
            with _values(self.params, theta):
                for e, a in self._general:
                    vector[e] = pyo.value(a)
        return self._base.with_vector(self._sign * vector)

    def jacobian(self, theta: np.ndarray) -> sp.csr_array:
        """Derivative of the data, (n_data, p)."""
        rows = list(self._plain[:, 0])
        columns = list(self._plain[:, 1])
        data = [1.0] * len(rows)
        if self._derivatives:
            with _values(self.params, theta):
                for e, k, d in self._derivatives:
                    rows.append(e)
                    columns.append(k)
                    data.append(float(pyo.value(d)))
        values = np.array(data, dtype=float) * self._sign[np.array(rows, dtype=int)]
        return sp.csr_array((values, (rows, columns)), shape=(len(self._sign), len(theta)))


@contextmanager
def _values(params: list[Any], theta: np.ndarray) -> Iterator[None]:
    """Params have other values inside the context."""
    before = [p.value for p in params]
    for p, v in zip(params, theta.tolist()):
        p.set_value(v)
    try:
        yield
    finally:
        for p, v in zip(params, before):
            p.set_value(v)


def _param_data(parameters: Any) -> list[Any]:
    found = []
    for p in parameters if isinstance(parameters, (list, tuple)) else [parameters]:
        members = list(p.values()) if getattr(p, "is_indexed", lambda: False)() else [p]
        for member in members:
            if not getattr(member, "is_parameter_type", lambda: False)():
                raise ValueError(
                    f"'{getattr(member, 'name', member)}' is no mutable Param; declare it "
                    "as pyo.Param(..., mutable=True)."
                )
            found.append(member)
    if len({id(p) for p in found}) != len(found):
        raise ValueError("a Param is given twice.")
    return found


def _minus(side: Any, shift: Any, none: float) -> Any:
    if side is None:
        return none
    if isinstance(side, (int, float)) and not math.isfinite(side):
        return float(side)
    if isinstance(shift, (int, float)) and shift == 0:
        return side
    return side - shift


def _variable_bounds(v: Any) -> tuple[Any, Any]:
    """Bounds of a variable; expressions of Params only where these decide."""
    if v.fixed:
        return float(v.value), float(v.value)
    found = []
    for expression, bound, none in zip((v.lower, v.upper), v.bounds, (-math.inf, math.inf)):
        if bound is None:
            found.append(none)
        elif expression is None or isinstance(expression, (int, float)):
            found.append(float(bound))
        else:
            found.append(expression)
    return found[0], found[1]
