"""The linear program that joins units: convex combinations of their points.

Dantzig-Wolfe: each unit contributes a mixture of points at which its networks were
evaluated, the rest of the model stays as it is. Its row multipliers price the units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.programs import Certifier, HighsModel, LinearProgram, Rows, matrix_of
from pyomo_relu.solvers.global_search.subsystems import Subsystem

#: Relative gap at which the choice of one point for each unit may stop: any feasible
#: one will do (chosen by hand).
CHOICE_GAP = 1e-3
#: Cost of missing a row by 1, relative to the sum of all costs (chosen by hand).
PENALTY = 1e3


@dataclass
class Mixture:
    """A solved master.

    Attributes
    ----------
    value : float
        Its objective.
    duals : (rows,) array
    convexity : (units,) array
        Multiplier of each unit's sum of weights.
    weights : list of (numbers of points, weights)
    rest : (r,) array
    missing : float
        Largest use of an artificial column: 0 where the rows can be met.
    """

    value: float
    duals: np.ndarray
    convexity: np.ndarray
    weights: list[tuple[np.ndarray, np.ndarray]]
    rest: np.ndarray
    missing: float


class Master:
    """Rows and costs by unit and rest, and the LPs over points.

    Parameters
    ----------
    problem : Problem
    units : list of Subsystem
    """

    def __init__(self, problem: Problem, units: list[Subsystem]) -> None:
        p = self.problem = problem
        self.units = units
        outputs = p.n + np.flatnonzero(p.bounded)
        own = matrix_of(
            len(outputs), len(p.columns), [(np.arange(len(outputs)), outputs, 1.0)]
        )
        whole = LinearProgram(
            p.cost, p.lower, p.upper, p.matrix, p.row_lower, p.row_upper
        ).with_rows(Rows(own, p.lower[outputs], p.upper[outputs]))
        self.row_lower, self.row_upper = whole.row_lower, whole.row_upper
        matrix = sp.csc_array(whole.matrix)
        self.x_rows = [matrix[:, u.drivers].toarray() for u in units]
        self.y_rows = [matrix[:, p.n + u.outputs].toarray() for u in units]
        taken = np.concatenate([u.drivers for u in units])
        self.others = np.setdiff1d(  # drivers of no unit are like the rest
            np.concatenate([np.arange(p.n), np.arange(p.n + p.q, len(p.columns))]), taken
        )
        self.rest_rows = sp.csr_array(matrix[:, self.others])
        self.rest_cost = p.cost[self.others]
        scale = 1.0 + sum(
            float(abs(p.cost[u.drivers]).sum() + abs(p.cost[p.n + u.outputs]).sum())
            for u in units
        )
        self.penalty = PENALTY * (scale + float(abs(self.rest_cost).sum()))
        self.highs = HighsModel()
        self.solves = 0

    def _columns(self, points: list[np.ndarray]) -> tuple[list, list]:
        """Row activities and costs of the points of each unit."""
        p, blocks, costs = self.problem, [], []
        for u, mine, xr, yr in zip(self.units, points, self.x_rows, self.y_rows):
            blocks.append(xr @ u.x[mine].T + yr @ u.y[mine].T)
            costs.append(
                u.x[mine] @ p.cost[u.drivers] + u.y[mine] @ p.cost[p.n + u.outputs]
            )
        return blocks, costs

    def _mixtures(
        self, points: list[np.ndarray], low: np.ndarray, high: np.ndarray
    ) -> LinearProgram:
        """Shares of each unit's points that sum to 1, and the other columns."""
        blocks, costs = self._columns(points)
        member = np.repeat(np.arange(len(self.units)), [len(c) for c in costs])
        total, one = len(member), np.ones(len(self.units))
        top = sp.hstack([sp.csr_array(np.hstack(blocks)), self.rest_rows], format="csr")
        part = (member, np.arange(total), 1.0)
        convex = matrix_of(len(self.units), top.shape[1], [part])
        return LinearProgram(
            np.concatenate([*costs, self.rest_cost]),
            np.concatenate([np.zeros(total), low]),
            np.concatenate([np.ones(total), high]),
            sp.csr_array(top),
            self.row_lower,
            self.row_upper,
        ).with_rows(Rows(convex, one, one))

    def _split(self, z: np.ndarray, points: list[np.ndarray]) -> list[np.ndarray]:
        """The shares of each unit's points in a solution."""
        ends = np.cumsum([len(mine) for mine in points])
        return np.split(z[: ends[-1]], ends[:-1])

    def solve(
        self,
        points: list[np.ndarray],
        low: np.ndarray,
        high: np.ndarray,
        zero_cost: bool = False,
    ) -> Mixture | None:
        """The best mixture of the given points of each unit.

        Parameters
        ----------
        points : list of int arrays
        low, high : (r,) arrays
            Bounds of the other columns.
        zero_cost : bool
            Minimize the violation of the rows only.
        """
        rows, r = len(self.row_lower), len(self.others)
        found = self._mixtures(points, low, high)
        total = len(found.cost) - r
        # Artificial columns say by how much each row is missed, either way.
        eye = sp.eye_array(rows + len(self.units), rows, format="csr")
        found.matrix = sp.csr_array(sp.hstack([found.matrix, eye, -eye], format="csr"))
        found.cost = np.append(found.cost, np.full(2 * rows, self.penalty))
        if zero_cost:
            found.cost = np.repeat([0.0, 1.0], [total + r, 2 * rows])
        found.lower = np.append(found.lower, np.zeros(2 * rows))
        found.upper = np.append(found.upper, np.full(2 * rows, np.inf))
        self.highs.load(found)
        answer = self.highs.run()
        self.solves += 1
        z, duals = answer.point, answer.row_duals
        if z is None or duals is None or answer.objective is None:
            return None
        weights = list(zip(points, self._split(z, points)))
        return Mixture(
            answer.objective,
            duals[:rows],
            duals[rows:],
            weights,
            z[total : total + r],
            float(z[total + r :].max(initial=0.0)),
        )

    def usable(self, duals: np.ndarray) -> np.ndarray:
        """Multipliers without those that meet an infinite side."""
        side = np.where(duals > 0, self.row_lower, self.row_upper)
        return np.where(np.isfinite(side), duals, 0.0)

    def prices(
        self, k: int, duals: np.ndarray, zero_cost: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """What unit ``k`` minimizes: coefficients of its drivers and outputs."""
        p, u = self.problem, self.units[k]
        g = -(self.x_rows[k].T @ duals)
        v = -(self.y_rows[k].T @ duals)
        if not zero_cost:
            g, v = g + p.cost[u.drivers], v + p.cost[p.n + u.outputs]
        return g, v

    def rest_bound(
        self, duals: np.ndarray, low: np.ndarray, high: np.ndarray, zero_cost: bool
    ) -> float:
        """The bound's share of the rows and the rest."""
        rest = LinearProgram(
            np.zeros(len(self.others)) if zero_cost else self.rest_cost,
            low,
            high,
            self.rest_rows,
            self.row_lower,
            self.row_upper,
        )
        return Certifier(rest).lower_bound(rest.cost, duals)

    def choose(
        self,
        points: list[np.ndarray],
        low: np.ndarray,
        high: np.ndarray,
        integer: np.ndarray,
        limit: float,
        stop: Callable[[], bool],
    ) -> tuple[list[int], np.ndarray] | None:
        """A MIP that picks one point for each unit: a first feasible point, or None.

        It ends after ``limit`` seconds, or where ``stop`` says so.
        """
        program = self._mixtures(points, low, high)
        program.integer = np.ones(len(program.cost), dtype=bool)
        program.integer[len(program.cost) - len(low) :] = integer
        highs = HighsModel(program, mip_rel_gap=CHOICE_GAP)
        highs.stop_when(lambda event: stop())
        z = highs.run(limit).point
        if z is None:
            return None
        shares = self._split(z, points)
        chosen = [int(mine[np.argmax(w)]) for mine, w in zip(points, shares)]
        return chosen, z[len(z) - len(low) :]

    def point(self, chosen: Sequence[int], rest: np.ndarray) -> np.ndarray:
        """All columns from one point of each unit and the rest."""
        p = self.problem
        z = np.where(np.isfinite(p.lower), p.lower, 0.0)
        z[self.others] = rest
        for u, k in zip(self.units, chosen):
            z[u.drivers], z[p.n + u.outputs] = u.x[k], u.y[k]
        return z
