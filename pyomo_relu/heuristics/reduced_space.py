"""A nonlinear problem in its free columns, and a local search there that knows curvature.

Linear programs in a trust region follow a curved optimum slowly, one halving of the region
after another. So where they end, sequential quadratic programming goes on: outputs,
formulas and defined columns are functions of the other continuous columns, integers stay
as they are, and networks give their derivatives. At kinks of networks it may stop early;
what it finds is judged as any other point.

Source: the method is SciPy's SLSQP, Kraft, DFVLR-FB 88-28, 1988.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cached_property

import numpy as np

from pyomo_relu.base.deadline import Deadline, TimeUp
from pyomo_relu.heuristics.linear_model import LinearModel
from pyomo_relu.heuristics.start_settings import SEQUENTIAL
from pyomo_relu.programs.linear_program import stacked


class ReducedSpace:
    """The problem of a linear model in the columns that nothing determines.

    Parameters
    ----------
    model : LinearModel

    Attributes
    ----------
    free : (k,) int array
        Continuous columns that don't follow from others, and whose bounds differ.
    """

    def __init__(self, model: LinearModel) -> None:
        self.model = model
        p = model.problem
        own = np.arange(len(p.columns))
        moves = ~p.integer & (p.lower < p.upper) & ~model.following[own]
        self.free = np.flatnonzero(moves)
        #: What follows from others, outputs that only networks read included.
        further = np.arange(len(own), model.n_columns)
        self.made = np.concatenate([np.flatnonzero(model.following), further])

    @property
    def small(self) -> bool:
        """Whether columns and rows are few enough for dense matrices."""
        most = max(len(self.free), len(self.made), len(self.model.rows.lower))
        return 0 < len(self.free) and most <= SEQUENTIAL.dense

    @cached_property
    def _sides(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Rows (m, n_columns) and right-hand sides, ``== 0`` first, then ``>= 0``."""
        rows = self.model.rows
        dense = rows.matrix.toarray()
        equal = rows.lower == rows.upper
        least = ~equal & np.isfinite(rows.lower)
        most = ~equal & np.isfinite(rows.upper)
        above = np.concatenate([dense[least], -dense[most]])
        limit = np.concatenate([rows.lower[least], -rows.upper[most]])
        size = np.maximum(1.0, abs(limit))
        own = np.maximum(1.0, abs(rows.lower[equal]))
        return (
            dense[equal] / own[:, None],
            rows.lower[equal] / own,
            above / size[:, None],
            limit / size,
        )

    def point(self, around: np.ndarray, x: np.ndarray) -> np.ndarray:
        """All columns, (n_columns,), where the free ones are ``x`` (k,)."""
        full, p = around.copy(), self.model.problem
        full[self.free] = np.clip(x, p.lower[self.free], p.upper[self.free])
        self.model.roll_out(full[None])
        p.settle(full[None, : len(p.columns)])
        return full

    def slopes(self, point: np.ndarray) -> np.ndarray:
        """The derivatives (n_columns, k) of all columns by the free ones at a point."""
        model, made, free = self.model, self.made, self.free
        tangent = model.tangent(point[: model.problem.n]).matrix
        formulas = model.formulas(point).matrix
        rows = stacked(stacked(tangent, formulas), model.definitions.matrix)
        found = np.zeros((len(point), len(free)))
        found[free] = np.eye(len(free))
        if len(made):
            own, others = rows[:, made].toarray(), rows[:, free].toarray()
            found[made] = np.linalg.lstsq(own, -others, rcond=None)[0]
        return found

    def descend(
        self, around: np.ndarray, cost: np.ndarray, deadline: Deadline
    ) -> np.ndarray:
        """Where sequential quadratic programming leads from a point, (n_columns,).

        Parameters
        ----------
        around : (n_columns,) array
        cost : (n_columns,) array
        deadline : Deadline
            When it passes, the latest step counts.
        """
        from scipy.optimize import minimize

        p, free = self.model.problem, self.free
        low, high = p.lower[free], p.upper[free]
        size = np.maximum(1.0, abs(around[free]))
        width = np.where(np.isfinite(high - low), high - low, size)
        base = np.clip(around[free], low, high)
        scale = max(1.0, abs(float(cost @ around)))

        def remembered(make: Callable) -> Callable:
            last: list = [b"", None]

            def known(t: np.ndarray) -> np.ndarray:
                key = t.tobytes()
                if last[0] != key:
                    deadline.check()
                    last[:] = key, make(t)
                return last[1]

            return known

        full = remembered(lambda t: self.point(around, base + width * t))
        slopes = remembered(lambda t: self.slopes(full(t)) * width)
        equal, right, above, limit = self._sides
        latest = np.zeros(len(free))

        def step(t: np.ndarray) -> None:
            latest[:] = t

        with contextlib.suppress(TimeUp):
            latest = minimize(
                lambda t: float(cost @ full(t)) / scale,
                latest.copy(),
                jac=lambda t: cost @ slopes(t) / scale,
                method="SLSQP",
                callback=step,
                bounds=np.column_stack([(low - base) / width, (high - base) / width]),
                constraints=[
                    {
                        "type": "eq",
                        "fun": lambda t: equal @ full(t) - right,
                        "jac": lambda t: equal @ slopes(t),
                    },
                    {
                        "type": "ineq",
                        "fun": lambda t: above @ full(t) - limit,
                        "jac": lambda t: above @ slopes(t),
                    },
                ],
                options={"maxiter": SEQUENTIAL.quadratic_steps, "ftol": SEQUENTIAL.gain},
            ).x
        return self.point(around, base + width * latest)
