"""SCIP: the only file that writes programs for ``pyscipopt``.

What SCIP and its Python interface do that a caller would have to know is known here:

* an exception must not travel through SCIP, where it is printed and forgotten: callbacks
  are wrapped by :meth:`ScipModel.guarded`, which ends the search; it is raised after;
* SCIP takes Ctrl-C itself while it runs, and ends with its best point;
* its log goes to Python's ``sys.stdout``, or nowhere;
* a point in the original variables is taken at any time, before and within the search.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from pyomo_relu.base.lazy import pyscipopt
from pyomo_relu.programs.answer import Status
from pyomo_relu.programs.formula import Formula
from pyomo_relu.programs.linear_program import LinearProgram

#: SCIP's names of its endings; any other one counts as failed.
STATUS = {
    "optimal": Status.OPTIMAL,
    "gaplimit": Status.OPTIMAL,
    "infeasible": Status.INFEASIBLE,
    "unbounded": Status.UNBOUNDED,
    "inforunbd": Status.INFEASIBLE_OR_UNBOUNDED,
    "timelimit": Status.TIME_LIMIT,
    "nodelimit": Status.LIMIT,
    "totalnodelimit": Status.LIMIT,
    "stallnodelimit": Status.LIMIT,
    "sollimit": Status.LIMIT,
    "bestsollimit": Status.LIMIT,
    "restartlimit": Status.LIMIT,
    "primallimit": Status.LIMIT,
    "duallimit": Status.LIMIT,
    "memlimit": Status.LIMIT,
    "userinterrupt": Status.INTERRUPTED,
    "terminate": Status.INTERRUPTED,
}

#: SCIP counts numbers of this size as infinite.
INFINITY = 1e20

F = TypeVar("F", bound=Callable[..., Any])


def has_scip() -> bool:
    """Whether ``pyscipopt`` can be imported."""
    try:
        return bool(pyscipopt.Model)
    except ImportError:
        return False


def scip_version() -> tuple[int, ...]:
    """The version of SCIP.

    Raises
    ------
    ImportError
        If ``pyscipopt`` is missing.
    """
    model = pyscipopt.Model()
    return (
        int(model.getMajorVersion()),
        int(model.getMinorVersion()),
        int(model.getTechVersion()),
    )


@dataclass(frozen=True)
class ScipAnswer:
    """One run's end.

    Attributes
    ----------
    status : Status
    reason : str
        SCIP's own name of the ending.
    point : (n_columns,) array or None
        SCIP's best point.
    bound : float
        No feasible point is better; infinite on the side of no use where nothing is
        proved, on the other one where there is no point.
    nodes : int
    """

    status: Status
    reason: str
    point: np.ndarray | None
    bound: float
    nodes: int


class ScipModel:
    """A program in SCIP.

    Parameters
    ----------
    program : LinearProgram

    Attributes
    ----------
    scip : pyscipopt.Model
    variables : list of pyscipopt.Variable
        One for each column.
    products : dict
        By two columns, a variable that is their product; see :meth:`product`.
    error : BaseException or None
        What a callback raised.
    """

    def __init__(self, program: LinearProgram) -> None:
        self.program = program
        self.scip = pyscipopt.Model()
        self.scip.hideOutput()
        self.error: BaseException | None = None
        self.products: dict[tuple[int, int], Any] = {}
        self.scip.setParam("display/verblevel", 4)
        self._load()

    def _load(self) -> None:
        p, scip = self.program, self.scip
        whole = np.zeros(len(p.lower), dtype=bool) if p.integer is None else p.integer
        binary = whole & (p.lower >= 0) & (p.upper <= 1)
        kinds = np.where(binary, "B", np.where(whole, "I", "C")).tolist()
        self.variables = [
            scip.addVar(f"c{j}", kind, lb=_finite(a), ub=_finite(b))
            for j, (kind, a, b) in enumerate(zip(kinds, p.lower.tolist(), p.upper.tolist()))
        ]
        cost = [(j, a) for j, a in enumerate(p.cost.tolist()) if a]
        objective = pyscipopt.quicksum(a * self.variables[j] for j, a in cost)
        scip.setObjective(objective, "maximize" if p.maximize else "minimize")
        if p.offset:
            scip.addObjoffset(p.offset)
        starts, columns = p.matrix.indptr.tolist(), p.matrix.indices.tolist()
        values = p.matrix.data.tolist()
        ends = zip(p.row_lower.tolist(), p.row_upper.tolist())
        for i, (low, high) in enumerate(ends):
            span = range(starts[i], starts[i + 1])
            row = pyscipopt.quicksum(values[k] * self.variables[columns[k]] for k in span)
            self.add_row(row, low, high)

    def add_row(self, expression: Any, low: float, high: float) -> None:
        """Add ``low <= expression <= high``, where that says something."""
        if low == -math.inf and high == math.inf:
            return
        ends = {"lhs": _finite(low), "rhs": _finite(high)}
        self.scip.addCons(pyscipopt.scip.ExprCons(expression, **ends))

    def product(self, i: int, j: int) -> Any:
        """A variable that is the product of two columns, the same for the same two."""
        key = min(i, j), max(i, j)
        if key not in self.products:
            w = self.scip.addVar(f"product{i},{j}", "C", lb=None, ub=None)
            self.products[key] = w
            difference = w - self.variables[i] * self.variables[j]
            self.scip.addCons(pyscipopt.scip.ExprCons(difference, lhs=0.0, rhs=0.0))
        return self.products[key]

    def add_nonlinear(
        self,
        column: int,
        formula: Formula,
        sides: Any,
        own: Callable[[int, int], bool] = lambda i, j: False,
    ) -> None:
        """Make a column a formula of others.

        Parameters
        ----------
        column : int
        formula : Formula
        sides : (above, below)
            Whether the column may be above the formula, and whether below it.
        own : callable
            Whether the product of two columns is to have a variable of its own.
        """
        above, below = sides
        known = {k: self.product(i, j) for k, i, j in formula.products() if own(i, j)}
        written = formula.written(self.variables, pyscipopt, known)
        difference = self.variables[column] - written
        low = None if below else 0.0
        high = None if above else 0.0
        if low is not None or high is not None:
            self.scip.addCons(pyscipopt.scip.ExprCons(difference, lhs=low, rhs=high))

    def add_sos(self, level: int, columns: np.ndarray) -> None:
        """Let one column of some (level 1), or two neighbours (2), be other than 0."""
        variables = [self.variables[j] for j in columns.tolist()]
        add = self.scip.addConsSOS1 if level == 1 else self.scip.addConsSOS2
        add(variables, weights=[float(k + 1) for k in range(len(variables))])

    def set(self, options: Mapping[str, Any]) -> None:
        """Set parameters of SCIP.

        Raises
        ------
        ValueError
            For an unknown parameter or a value it can't take, naming it.
        """
        for name, setting in options.items():
            try:
                self.scip.setParam(name, setting)
            except KeyError as error:
                raise ValueError(f"SCIP has no parameter '{name}'.") from error
            except Exception as error:
                raise ValueError(
                    f"SCIP's parameter '{name}' can't be {setting!r}."
                ) from error

    def start_at(self, point: np.ndarray) -> None:
        """Hand in a point (n_columns,) before the search."""
        self.scip.addSol(self._solution(point))

    def offer(self, point: np.ndarray, heuristic: Any = None) -> bool:
        """Hand in a point (n_columns,) within the search; whether it is taken."""
        solution = self._solution(point, heuristic)
        return bool(self.scip.trySol(solution, printreason=False))

    def add_cut(
        self,
        name: str,
        terms: Iterable[tuple[Any, float]],
        least: float,
        separator: Any = None,
    ) -> bool:
        """Add a row to the LP of the present node, for it and what is below it.

        Parameters
        ----------
        name : str
        terms : iterable of (variable, coefficient)
            Of variables as the search has them; those of 0 are left out.
        least : float
            What their sum is at least.
        separator : Sepa, optional
            Who adds it, where that isn't a constraint handler.

        Returns
        -------
        bool
            Whether the node is empty.
        """
        scip = self.scip
        below, empty_row = scip.getDepth() > 0, scip.createEmptyRowUnspec
        if separator is not None:
            empty_row = functools.partial(scip.createEmptyRowSepa, separator)
        cut = empty_row(name, lhs=least, rhs=None, local=below)
        scip.cacheRowExtensions(cut)
        for v, a in terms:
            if a:
                scip.addVarToRow(cut, v, a)
        scip.flushRowExtensions(cut)
        empty = bool(scip.addCut(cut, forcecut=True))
        scip.releaseRow(cut)
        return empty

    def best(self) -> np.ndarray:
        """SCIP's best point (n_columns,); there has to be one."""
        best = self.scip.getBestSol()
        return np.array([self.scip.getSolVal(best, v) for v in self.variables])

    def _solution(self, point: np.ndarray, heuristic: Any = None) -> Any:
        solution = self.scip.createOrigSol(heuristic)
        for v, x in zip(self.variables, point.tolist()):
            self.scip.setSolVal(solution, v, x)
        for (i, j), w in self.products.items():
            self.scip.setSolVal(solution, w, float(point[i] * point[j]))
        return solution

    def guarded(self, otherwise: Any) -> Callable[[F], F]:
        """A decorator of callbacks: what one raises is kept, and the search ends.

        ``otherwise`` is what the callback answers then.
        """

        def decorator(function: F) -> F:
            @functools.wraps(function)
            def callback(*arguments: Any, **keywords: Any) -> Any:
                if self.error is not None:
                    return otherwise
                try:
                    return function(*arguments, **keywords)
                except BaseException as error:  # SCIP would print it and go on
                    self.error = error
                    self.scip.interruptSolve()
                    return otherwise

            return callback  # type: ignore[return-value]

        return decorator

    def run(self, seconds: float, write: Callable[[str], Any] | None = None) -> ScipAnswer:
        """Solve.

        Parameters
        ----------
        seconds : float
            On the clock from now, unless the parameters say less.
        write : callable, optional
            Gets SCIP's log.

        Raises
        ------
        BaseException
            What a callback raised; a KeyboardInterrupt ends the search as Ctrl-C does.
        """
        scip = self.scip
        limit = min(float(scip.getParam("limits/time")), max(seconds, 0.0))
        scip.setParam("limits/time", limit)
        if write is None:
            scip.hideOutput()
            scip.optimize()
        else:
            scip.hideOutput(False)
            scip.redirectOutput()
            with contextlib.redirect_stdout(_Writer(write)):
                scip.optimize()
        if self.error is not None and not isinstance(self.error, KeyboardInterrupt):
            raise self.error
        return self._answer()

    def _answer(self) -> ScipAnswer:
        scip, reason = self.scip, str(self.scip.getStatus())
        status = STATUS.get(reason, Status.FAILED)
        point = self.best() if scip.getNSols() else None
        sign = -1.0 if self.program.maximize else 1.0
        bound = -sign * math.inf
        if status is Status.INFEASIBLE:
            bound = sign * math.inf
        elif status is Status.OPTIMAL or status.stopped_early:
            bound = float(scip.getDualbound())
            bound = math.copysign(math.inf, bound) if abs(bound) >= INFINITY else bound
        return ScipAnswer(status, reason, point, bound, int(scip.getNTotalNodes()))


class _Writer(io.TextIOBase):
    """A stream that hands on what is written."""

    def __init__(self, write: Callable[[str], Any]) -> None:
        self._write = write

    def write(self, text: str) -> int:
        """Hand text on."""
        self._write(text)
        return len(text)


def _finite(bound: float) -> float | None:
    return bound if abs(bound) < INFINITY else None
