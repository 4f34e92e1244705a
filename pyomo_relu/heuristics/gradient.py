"""Multistart projected gradient through the networks of a model, in NumPy.

All points move at once, through all networks in turn, so that the outputs of one
network may be the inputs of the next. Rows of the user's that hold only inputs and
outputs enter as a penalty; a region's linear program repairs what it leaves.

Source of the idea: Tong, Zhu, Serra, Burer, arXiv 2512.24295; measured on small
networks, 200 ascents of 60 steps take 0.02 s and end within 0.02 % of the optimum.
"""

from __future__ import annotations

import time

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.heuristics.problem import NetworkProblem
from pyomo_relu.network.gradient import backward

#: First step, as a share of the box; it shrinks to a hundredth of that.
FIRST_STEP = 0.25


class Penalty:
    """Rows over inputs and outputs only, scaled to unit length.

    Attributes
    ----------
    rows : (n_rows,) int array
        Their numbers in the standard form.
    """

    def __init__(self, problem: NetworkProblem) -> None:
        form = problem.form
        inside = np.zeros(len(form.columns))
        inside[problem.io] = 1.0
        count = np.diff(form.matrix.indptr)
        known = (form.matrix != 0).astype(float) @ inside
        self.rows = np.flatnonzero(~problem.layer_rows & (count == known) & (count > 0))
        outputs = np.setdiff1d(problem.io, problem.drivers)
        bounded = outputs[
            np.isfinite(form.lower[outputs]) | np.isfinite(form.upper[outputs])
        ]
        pick = sp.csr_array(
            (np.ones(len(bounded)), (np.arange(len(bounded)), bounded)),
            shape=(len(bounded), len(form.columns)),
        )
        matrix = sp.vstack([sp.csr_array(form.matrix[self.rows]), pick], format="csr")
        low = np.concatenate([form.row_lower[self.rows], form.lower[bounded]])
        high = np.concatenate([form.row_upper[self.rows], form.upper[bounded]])
        length = np.sqrt((matrix * matrix).sum(axis=1))
        length[length == 0] = 1.0
        self.matrix = sp.csr_array(sp.diags_array(1.0 / length) @ matrix)
        self.low, self.high = low / length, high / length

    def __call__(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sum of violations (N,), and its gradient (N, n_columns)."""
        if not self.matrix.shape[0]:
            return np.zeros(len(points)), np.zeros_like(points)
        activity = (self.matrix @ points.T).T
        below, above = self.low - activity, activity - self.high
        total = np.maximum(below, 0).sum(axis=1) + np.maximum(above, 0).sum(axis=1)
        side = (above > 0).astype(float) - (below > 0)
        return total, (self.matrix.T @ side.T).T


def pull_back(
    problem: NetworkProblem, points: np.ndarray, gradient: np.ndarray
) -> np.ndarray:
    """Carry gradients with respect to all columns to the drivers, (N, n_drivers).

    ``gradient`` is (N, n_columns) and is used up.
    """
    for one in reversed(problem.maps):
        problem.deadline.check()
        keep = one.outputs >= 0
        weights = np.zeros((len(points), len(one.outputs)))
        weights[:, keep] = gradient[:, one.outputs[keep]]
        if not weights.any():
            continue
        gradient[:, one.outputs[keep]] = 0.0
        values = one.block.network.activations(one.inputs(points))
        g = backward(one.block.network, values, weights)
        gradient[:, one.reads] += one.pull_back(g)
    return gradient[:, problem.drivers]


def ascend(
    problem: NetworkProblem,
    cost: np.ndarray,
    drivers: np.ndarray,
    steps: int = 60,
    deadline: float = np.inf,
) -> tuple[np.ndarray, np.ndarray]:
    """Follow the projected gradient of ``cost @ point`` from each row of ``drivers``.

    Parameters
    ----------
    cost : (n_columns,) array
        To be maximized.
    drivers : (N, n_drivers) array
    deadline : float
        Of ``time.perf_counter()``.

    Returns
    -------
    points : (N, n_columns) array
        The best point of each path, outputs included, layers not; best first.
    score : (N,) array
        Cost minus penalty.
    """
    low, high = problem.driver_box
    width = np.where(high > low, high - low, 0.0)
    whole = problem.form.integer[problem.drivers]
    penalty = Penalty(problem)
    points = np.zeros((len(drivers), len(problem.form.columns)))
    here = np.clip(drivers, low, high)
    weight = 10.0 * (np.abs(cost).max(initial=0.0) + 1e-3)
    shrink = 0.01 ** (1.0 / max(steps, 1))
    best = np.full(len(drivers), -np.inf)
    kept = here.copy()
    step = FIRST_STEP
    for k in range(steps + 1):
        points[:, problem.drivers] = here
        problem.forward(points)
        broken, slope = penalty(points)
        score = points @ cost - weight * broken
        better = score > best
        best[better], kept[better] = score[better], here[better]
        if k == steps or time.perf_counter() > deadline:
            break
        g = pull_back(problem, points, np.broadcast_to(cost, points.shape) - weight * slope)
        g *= width  # the gradient over the unit box
        largest = np.abs(g).max(axis=1, keepdims=True, initial=0.0)
        largest[largest == 0] = 1.0
        here = np.clip(here + step * width * g / largest, low, high)
        step *= shrink
    kept[:, whole] = np.round(kept[:, whole])
    points[:, problem.drivers] = kept
    problem.forward(points)
    broken, _ = penalty(points)
    score = points @ cost - weight * broken
    order = np.argsort(-score, kind="stable")
    return points[order], score[order]


def batch_size(problem: NetworkProblem, steps: int, seconds: float) -> int:
    """How many paths fit into a time, at 2e9 multiplications a second; 8 to 200."""
    weights = sum(
        w.nnz if sp.issparse(w) else w.size
        for one in problem.maps
        for node in one.block.network.nodes
        for w in getattr(node, "weights", ())
    )
    paths = seconds * 2e9 / (3.0 * max(weights, 1) * (steps + 2))
    return int(np.clip(paths, 8, 200))
