"""Successive linear programs: the user's rows with the networks linearized at a point.

A region's linear program ends at the border of its region, and an image crosses hundreds
of those on its way through a ball. Here each network is replaced by its gradient at the
present point, the user's rows stay as they are, and a trust region, shrunk after a step
that fails, says how far the gradient is believed. Each end is judged by the networks
themselves.

Source: successive linear programming with a trust region, Fletcher, Sainz de la Maza,
Mathematical Programming 43, 1989; for images the steps are those of a Frank-Wolfe attack.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.heuristics.gradient_paths import pull_back
from pyomo_relu.heuristics.network_columns import NetworkProblem, selection
from pyomo_relu.heuristics.start_settings import START
from pyomo_relu.programs import HighsModel, LinearProgram


class LinearizedProgram:
    """The linear program over all columns outside the layers."""

    def __init__(self, problem: NetworkProblem) -> None:
        self.problem = problem
        form = problem.form
        self.columns = np.flatnonzero(~problem.layer_columns)
        users = sp.csr_array(form.matrix[~problem.layer_rows])
        used = form.cost != 0
        used[users.indices] = True
        self.outputs = problem.outputs[used[problem.outputs]]
        # Rows on variables of the layers can't be kept; the point's judge sees them.
        inside = problem.layer_columns.astype(float)
        free = np.asarray((abs(users) @ inside) == 0).ravel()
        users = sp.csr_array(users[free])[:, self.columns]
        self.first, none = users.shape[0], np.zeros(len(self.outputs))
        self.drivers = np.searchsorted(self.columns, problem.drivers)
        at = np.searchsorted(self.columns, self.outputs)
        own = selection(at, len(self.columns))
        self.highs = HighsModel(
            LinearProgram(
                form.cost[self.columns],
                form.lower[self.columns],
                form.upper[self.columns],
                sp.csr_array(sp.vstack([users, own], format="csr")),
                np.concatenate([form.row_lower[~problem.layer_rows][free], none]),
                np.concatenate([form.row_upper[~problem.layer_rows][free], none]),
                maximize=form.maximize,
            )
        )

    def jacobian(self, point: np.ndarray) -> np.ndarray:
        """Derivatives of the outputs with respect to the drivers, (q, n_drivers)."""
        q = len(self.outputs)
        gradient = np.zeros((q, len(point)))
        gradient[np.arange(q), self.outputs] = 1.0
        return pull_back(self.problem, np.tile(point, (q, 1)), gradient)

    def step(
        self, point: np.ndarray, radius: float, deadline: Deadline
    ) -> np.ndarray | None:
        """The program's best point within a trust region around ``point``."""
        problem = self.problem
        if deadline.expired():
            return None
        slopes, here = self.jacobian(point), point[problem.drivers]
        right = point[self.outputs] - slopes @ here
        for k in range(len(self.outputs)):
            row = self.first + k
            self.highs.set_coefficients(row, self.drivers, -slopes[k])
            self.highs.set_row_bounds(row, right[k], right[k])
        low, high = problem.driver_box
        reach = radius * (high - low)
        self.highs.set_bounds(
            np.maximum(low, np.minimum(here - reach, high)),
            np.minimum(high, np.maximum(here + reach, low)),
            self.drivers,
        )
        answer = self.highs.run(deadline.limit)
        if not answer.optimal:
            return None
        found = point.copy()
        found[self.columns] = answer.point
        return found


def walk_linearized(
    problem: NetworkProblem,
    drivers: np.ndarray,
    judge: Callable[[np.ndarray], float],
    deadline: Deadline,
) -> None:
    """Step on from drivers (n_drivers,) as long as the score rises.

    The first step may go anywhere, so the drivers needn't obey the rows. ``judge`` gives
    the score of a point, to be maximized; minus infinity if it isn't feasible.
    """
    program, radius, best = LinearizedProgram(problem), 1.0, -np.inf
    point = np.zeros(len(problem.form.columns))
    point[problem.drivers] = drivers
    problem.forward(point[None, :])
    first = True
    while radius >= START.last_radius and not deadline.expired():
        found = program.step(point, radius, deadline)
        if found is None:
            return
        problem.forward(found[None, :])
        score = judge(found)
        if first or score > best + 1e-9 * max(1.0, abs(best)):
            radius = START.first_radius if first else min(1.0, START.wider * radius)
            point, best, first = found, score, False
        else:
            radius *= START.narrower
