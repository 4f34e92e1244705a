"""The linear program that joins units: convex combinations of their points.

Dantzig-Wolfe: each unit contributes a mixture of points at which its networks were
evaluated, the rest of the model stays as it is. Its row multipliers price the units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.programs import HighsModel, LinearProgram
from pyomo_relu.solvers.global_search.lp import proved_bound
from pyomo_relu.solvers.global_search.problem import Problem
from pyomo_relu.solvers.global_search.subsystems import Subsystem


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
        own = sp.csr_array(
            (
                np.ones(int(p.bounded.sum())),
                (np.arange(int(p.bounded.sum())), p.n + np.flatnonzero(p.bounded)),
            ),
            shape=(int(p.bounded.sum()), len(p.columns)),
        )
        matrix = sp.csc_array(sp.vstack([p.matrix, own], format="csr"))
        outputs = p.n + np.flatnonzero(p.bounded)
        self.row_lower = np.concatenate([p.row_lower, p.lower[outputs]])
        self.row_upper = np.concatenate([p.row_upper, p.upper[outputs]])
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
        self.penalty = 1e3 * (scale + float(abs(self.rest_cost).sum()))
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

    def solve(
        self, points: list[np.ndarray], low, high, zero_cost: bool = False
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
        rows = len(self.row_lower)
        blocks, costs = self._columns(points)
        count = [len(c) for c in costs]
        total = sum(count)
        member = np.repeat(np.arange(len(self.units)), count)
        convex = sp.csr_array(
            (np.ones(total), (member, np.arange(total))), shape=(len(self.units), total)
        )
        eye = sp.eye_array(rows, format="csr")
        top = sp.hstack(
            [sp.csr_array(np.hstack(blocks)), self.rest_rows, eye, -eye], format="csr"
        )
        bottom = sp.csr_array(
            (convex.data, convex.indices, convex.indptr),
            shape=(len(self.units), top.shape[1]),
        )
        matrix = sp.csr_array(sp.vstack([top, bottom], format="csr"))
        r = len(self.others)
        cost = np.concatenate([*costs, self.rest_cost, np.full(2 * rows, self.penalty)])
        if zero_cost:
            cost[: total + r] = 0.0
            cost[total + r :] = 1.0
        one = np.ones(len(self.units))
        self.highs.load(
            LinearProgram(
                cost,
                np.concatenate([np.zeros(total), low, np.zeros(2 * rows)]),
                np.concatenate([np.ones(total), high, np.full(2 * rows, np.inf)]),
                matrix,
                np.concatenate([self.row_lower, one]),
                np.concatenate([self.row_upper, one]),
            )
        )
        answer = self.highs.run()
        self.solves += 1
        z, duals = answer.point, answer.row_duals
        if z is None or duals is None or answer.objective is None:
            return None
        weights, at = [], 0
        for mine in points:
            weights.append((mine, z[at : at + len(mine)]))
            at += len(mine)
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

    def prices(self, k: int, duals: np.ndarray, zero_cost: bool):
        """What unit ``k`` minimizes: coefficients of its drivers and outputs."""
        p, u = self.problem, self.units[k]
        g = -(self.x_rows[k].T @ duals)
        v = -(self.y_rows[k].T @ duals)
        if not zero_cost:
            g, v = g + p.cost[u.drivers], v + p.cost[p.n + u.outputs]
        return g, v

    def rest_bound(self, duals: np.ndarray, low, high, zero_cost: bool) -> float:
        """The bound's share of the rows and the rest."""
        cost = np.zeros(len(self.others)) if zero_cost else self.rest_cost
        return proved_bound(
            cost, self.rest_rows, self.row_lower, self.row_upper, low, high, duals
        )

    def choose(self, points: list[np.ndarray], low, high, integer, limit: float):
        """A MIP that picks one point for each unit: a first feasible point, or None."""
        blocks, costs = self._columns(points)
        count = [len(c) for c in costs]
        total = sum(count)
        member = np.repeat(np.arange(len(self.units)), count)
        convex = sp.csr_array(
            (np.ones(total), (member, np.arange(total))),
            shape=(len(self.units), total + len(self.others)),
        )
        top = sp.hstack([sp.csr_array(np.hstack(blocks)), self.rest_rows], format="csr")
        matrix = sp.csr_array(sp.vstack([top, convex], format="csr"))
        one = np.ones(len(self.units))
        program = LinearProgram(
            np.concatenate([*costs, self.rest_cost]),
            np.concatenate([np.zeros(total), low]),
            np.concatenate([np.ones(total), high]),
            matrix,
            np.concatenate([self.row_lower, one]),
            np.concatenate([self.row_upper, one]),
            np.concatenate([np.ones(total, dtype=bool), np.asarray(integer, dtype=bool)]),
        )
        z = HighsModel(program, mip_rel_gap=1e-3).run(limit).point
        if z is None:
            return None
        chosen, at = [], 0
        for mine in points:
            chosen.append(mine[int(np.argmax(z[at : at + len(mine)]))])
            at += len(mine)
        return chosen, z[total:]

    def point(self, chosen, rest: np.ndarray) -> np.ndarray:
        """All columns from one point of each unit and the rest."""
        p = self.problem
        z = np.where(np.isfinite(p.lower), p.lower, 0.0)
        z[self.others] = rest
        for u, k in zip(self.units, chosen):
            z[u.drivers], z[p.n + u.outputs] = u.x[k], u.y[k]
        return z
