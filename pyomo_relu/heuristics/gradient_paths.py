"""Multistart projected gradient through the networks of a model, in NumPy.

All points move at once, through all networks in turn, so that the outputs of one
network may be the inputs of the next. Rows of the user's that hold only inputs and
outputs enter as a penalty; a region's linear program repairs what it leaves.

Source of the idea: Tong, Zhu, Serra, Burer, arXiv 2512.24295.
"""

from __future__ import annotations

import numpy as np

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.heuristics.network_columns import NetworkProblem, selection
from pyomo_relu.heuristics.start_settings import START
from pyomo_relu.network.gradient import backward


def box_samples(
    low: np.ndarray, high: np.ndarray, n: int, rng: np.random.Generator, centres: int = 1
) -> np.ndarray:
    """Points of a box: the centre, corners, and between, (n, len(low))."""
    u = rng.random((n, len(low)))
    corners = np.arange(n) % 3 == 1
    u[corners] = np.round(u[corners])
    u[:centres] = 0.5
    return low + u * (high - low)


class RowViolation:
    """How far points violate the rows over inputs and outputs only, scaled to unit length."""

    def __init__(self, problem: NetworkProblem) -> None:
        form = problem.form
        n, outputs = len(form.columns), problem.outputs
        inside = np.zeros(n)
        inside[problem.io] = 1.0
        count = np.diff(form.matrix.indptr)
        known = (form.matrix != 0).astype(float) @ inside
        rows = np.flatnonzero(~problem.layer_rows & (count == known) & (count > 0))
        bounded = outputs[
            np.isfinite(form.lower[outputs]) | np.isfinite(form.upper[outputs])
        ]
        own = sp.csr_array(form.matrix[rows])
        matrix = sp.vstack([own, selection(bounded, n)], format="csr")
        low = np.concatenate([form.row_lower[rows], form.lower[bounded]])
        high = np.concatenate([form.row_upper[rows], form.upper[bounded]])
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
    deadline: Deadline = NEVER,
) -> np.ndarray:
    """Follow the projected gradient of ``cost @ point`` from drivers (N, n_drivers).

    Returns
    -------
    (N, n_columns) array
        The best point of each path by cost minus penalty, outputs included, layers not;
        the best path first.
    """
    low, high = problem.driver_box
    width = np.where(high > low, high - low, 0.0)
    whole = problem.form.integer[problem.drivers]
    violation = RowViolation(problem)
    points = np.zeros((len(drivers), len(problem.form.columns)))
    weight = START.penalty * (np.abs(cost).max(initial=0.0) + 1e-3)

    def score_at(here: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        points[:, problem.drivers] = here
        problem.forward(points)
        broken, slope = violation(points)
        return points @ cost - weight * broken, slope

    here = np.clip(drivers, low, high)
    best, kept = np.full(len(drivers), -np.inf), here.copy()
    step, shrink = START.first_step, START.last_step ** (1.0 / START.steps)
    for k in range(START.steps + 1):
        score, slope = score_at(here)
        better = score > best
        best[better], kept[better] = score[better], here[better]
        if k == START.steps or deadline.expired():
            break
        g = pull_back(problem, points, np.broadcast_to(cost, points.shape) - weight * slope)
        g *= width  # the gradient over the unit box
        largest = np.abs(g).max(axis=1, keepdims=True, initial=0.0)
        largest[largest == 0] = 1.0
        here = np.clip(here + step * width * g / largest, low, high)
        step *= shrink
    kept[:, whole] = np.round(kept[:, whole])
    score, _ = score_at(kept)
    return points[np.argsort(-score, kind="stable")]


def batch_size(problem: NetworkProblem, seconds: float) -> int:
    """How many paths fit into a time."""
    weights = sum(
        w.nnz if sp.issparse(w) else w.size
        for one in problem.maps
        for node in one.block.network.nodes
        for w in getattr(node, "weights", ())
    )
    # Three passes a step: forward, and two products of the backward pass.
    paths = seconds * START.multiplications / (3.0 * max(weights, 1) * (START.steps + 2))
    return int(np.clip(paths, START.fewest_paths, START.most_paths))
