"""Random points of a model's drivers and choices, the best of many at once.

One pass through the networks serves hundreds of points, so a search begins where the
best of a batch is, by the cost and the rows that drivers, outputs and choices decide.
"""

from __future__ import annotations

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.heuristics.linear_model import LinearModel
from pyomo_relu.heuristics.start_settings import SEQUENTIAL, START


class Sampler:
    """Draws points of the columns of a linear model.

    Parameters
    ----------
    model : LinearModel
    rng : numpy Generator
    """

    def __init__(self, model: LinearModel, rng: np.random.Generator) -> None:
        self.model, self.rng = model, rng
        p = model.problem
        self.size = _batch_size(model)
        self._look_at_formulas()
        known = np.zeros(model.n_columns, dtype=bool)
        known[: p.n + p.q] = True
        known[model.choosing] = True
        self.cost = np.where(known, model.cost, 0.0)
        matrix = model.rows.matrix
        inside = (matrix != 0).astype(float) @ known.astype(float)
        rows = np.flatnonzero(np.diff(matrix.indptr) == inside)
        self.matrix = sp.csr_array(matrix[rows])
        self.low, self.high = model.rows.lower[rows], model.rows.upper[rows]

    def _look_at_formulas(self) -> None:
        """What formulas read beside drivers and outputs, and where it may be."""
        p, model = self.model.problem, self.model
        read = p.beside_rows
        self.read = read = read[(read >= p.n) & ~model.following[read]]
        low, high = p.lower[read], p.upper[read]
        values = [p.columns[j].value for j in read.tolist()]
        known = np.array([np.nan if v is None else v for v in values], dtype=float)
        closed = np.isfinite(low) & np.isfinite(high)
        with np.errstate(invalid="ignore"):
            middle = np.where(closed, 0.5 * (low + high), np.clip(0.0, low, high))
        #: Present values, or the middle where there are none.
        self.usual = np.clip(np.where(np.isnan(known), middle, known), low, high)
        reach = np.maximum(1.0, abs(self.usual))
        self.read_low = np.where(closed, low, np.maximum(low, self.usual - reach))
        self.read_high = np.where(closed, high, np.minimum(high, self.usual + reach))

    def at(self, x: np.ndarray) -> np.ndarray:
        """A point at drivers (n,), integers rounded, (n_columns,)."""
        point = np.zeros((1, self.model.n_columns))
        whole = self.model.problem.integer[: len(x)]
        point[0, : len(x)] = np.where(whole, np.round(x), x)
        point[0, self.read] = self.usual
        return self.model.roll_out(point)[0]

    def like(self, z: np.ndarray) -> np.ndarray:
        """A point (m,) of the problem with the outputs that its drivers lead to."""
        point = np.zeros((1, self.model.n_columns))
        point[0, : len(z)] = z
        return self.model.roll_out(point)[0]

    def anywhere(self) -> np.ndarray:
        """The best of a batch from the whole box."""
        p, size = self.model.problem, self.size
        low, high = p.box
        points = np.zeros((size, self.model.n_columns))
        points[:, : p.n] = low + self.rng.random((size, p.n)) * (high - low)
        share = self.rng.random((size, len(self.read)))
        points[:, self.read] = self.read_low + share * (self.read_high - self.read_low)
        return self._best(points, 1.0)

    def near(self, centre: np.ndarray) -> np.ndarray:
        """The best of a batch of points that differ little from another one."""
        p, size = self.model.problem, self.size
        low, high = p.box
        points = np.zeros((size, self.model.n_columns))
        points[:, : len(centre)] = centre
        step = SEQUENTIAL.nearby * (self.rng.random((size, p.n)) - 0.5) * (high - low)
        move = self.rng.random((size, p.n)) < SEQUENTIAL.moved
        points[:, : p.n] = np.clip(points[:, : p.n] + move * step, low, high)
        return self._best(points, SEQUENTIAL.flipped)

    def _best(self, points: np.ndarray, chance: float) -> np.ndarray:
        """Draw choices anew with a chance, run the networks, and take the best point."""
        p, model, rng = self.model.problem, self.model, self.rng
        for choice in model.choices:
            count = len(choice.columns)
            last = count if choice.exactly else count + 1
            anew = np.flatnonzero(rng.random(len(points)) < chance)
            state = rng.integers(0, last, len(anew))
            values = np.vstack([choice.values, choice.none])
            points[np.ix_(anew, choice.drivers)] = values[state]
            points[np.ix_(anew, choice.columns)] = np.eye(count + 1)[state][:, :count]
        whole = np.flatnonzero(p.integer[: p.n])
        points[:, whole] = np.round(points[:, whole])
        model.roll_out(points)
        return points[int(np.argmin(self.merit(points)))]

    def merit(self, points: np.ndarray) -> np.ndarray:
        """Cost, and violations at the price of the costs' spread for each unit, (N,)."""
        activity = (self.matrix @ points.T).T
        scale = np.maximum(1.0, np.where(np.isfinite(self.low), abs(self.low), 0.0))
        below = np.maximum(self.low - activity, 0.0) / scale
        scale = np.maximum(1.0, np.where(np.isfinite(self.high), abs(self.high), 0.0))
        above = np.maximum(activity - self.high, 0.0) / scale
        cost = points @ self.cost
        price = START.penalty * max(float(np.ptp(cost)), 1e-6)
        return cost + price * (below.sum(axis=1) + above.sum(axis=1))


def _batch_size(model: LinearModel) -> int:
    """How many points a batch has, by what a pass through the networks costs."""
    weights = 1
    for batch in model.batches:
        entries = (w for node in batch.network.nodes for w in getattr(node, "weights", ()))
        own = sum(w.nnz if sp.issparse(w) else w.size for w in entries)
        weights += len(batch.outputs) * own
    points = SEQUENTIAL.sample_seconds * START.multiplications / weights
    return int(np.clip(points, SEQUENTIAL.fewest_samples, SEQUENTIAL.most_samples))
