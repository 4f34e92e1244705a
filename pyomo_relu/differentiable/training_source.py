"""The program of a `TrainingMIP` as a function of the features of its points."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.differentiable.parameters import PyomoSource
from pyomo_relu.programs.program import Program


class TrainingSource:
    """Features of the training points are the parameters, point by point.

    A feature is the coefficient of its weight in the weighted sum of every neuron of the first
    layer. Big-M, boxes of biases and the levels of on and off stay as they are written, so a
    point may leave its place only as far as the room that the program was written with.

    Parameters
    ----------
    mip : TrainingMIP
        With a first layer that is trained on points, and no input whose weights are fixed.

    Attributes
    ----------
    columns : list of VarData
        The variables of the program.
    reach : (n,) array
        How large the sum of absolute features of each point may become.
    """

    sign = 1.0

    def __init__(self, mip: Any) -> None:
        if 0 in mip.fixed or not mip.rows[0].points:
            raise ValueError(
                "the first layer of this program isn't trained on its points, so their "
                "features are no data of it."
            )
        if mip.dead.any():
            raise ValueError(
                f"the weights of input {np.flatnonzero(mip.dead)[0]} are fixed to 0, so its "
                "features are no data of the program; write it without dead=."
            )
        x = np.asarray(mip.data.x, dtype=float)
        n, d = x.shape
        self.initial = x.reshape(-1).copy()
        self.names = [f"x[{i},{f}]" for i in range(n) for f in range(d)]
        self.reach = np.abs(x).sum(axis=1) + mip.room
        source = PyomoSource(mip.model, [])
        self.columns, self.row_names = source.columns, source.row_names
        self._fill(source, mip, x)

    def _fill(self, source: PyomoSource, mip: Any, x: np.ndarray) -> None:
        """Store a coefficient for every feature, also where it is 0 now."""
        base = source.program(np.zeros(0))
        column = {id(v): j for j, v in enumerate(self.columns)}
        place = {name: i for i, name in enumerate(self.row_names)}
        (n, d), hidden = x.shape, mip.sizes[1]
        kind = np.array([[column[id(v)] for v in w] for w in mip.w[0]]).reshape(hidden, d)
        rows = np.array([place[row.name] for row in mip.model.sum0.values()])
        at = np.broadcast_to(rows.reshape(n, hidden, 1), (n, hidden, d)).reshape(-1)
        of = np.broadcast_to(kind[None], (n, hidden, d)).reshape(-1)
        feature = np.broadcast_to(np.arange(n * d).reshape(n, 1, d), (n, hidden, d))
        # Numbers in place of coefficients, so that zeros are stored and entries are found.
        numbered = base.matrix.tolil()
        numbered[at, of] = np.inf
        matrix = sp.csr_array(numbered)
        matrix.sort_indices()
        entry = np.flatnonzero(np.isinf(matrix.data))
        where = {
            (i, j): int(f) for i, j, f in zip(at.tolist(), of.tolist(), feature.reshape(-1))
        }
        kept = replace(base, matrix=matrix)
        cells = zip(kept.entry_rows()[entry].tolist(), matrix.indices[entry].tolist())
        self._feature = np.array([where[cell] for cell in cells], dtype=int)
        self._entry = entry + kept.slices()["matrix"].start
        self._base = kept
        self._vector = kept.to_vector()

    def program(self, theta: np.ndarray) -> Program:
        """The data with other features, (n * d,).

        Raises
        ------
        ValueError
            Where a point is farther from 0 than the big-M of its rows allows.
        """
        size = np.abs(theta).reshape(len(self.reach), -1).sum(axis=1)
        far = np.flatnonzero(size > self.reach * (1.0 + 1e-12))
        if len(far):
            i = int(far[0])
            raise ValueError(
                f"the absolute features of point {i} sum to {size[i]:g}, but the big-M of its "
                f"rows holds to {self.reach[i]:g}; write the training program with room="
                f"{size[i] - self.reach[i]:.3g} more."
            )
        vector = self._vector.copy()
        vector[self._entry] = theta[self._feature]
        return self._base.with_vector(vector)

    def jacobian(self, theta: np.ndarray) -> sp.csr_array:
        """Derivative of the data, (n_data, n * d)."""
        ones = np.ones(len(self._entry))
        shape = (len(self._vector), len(theta))
        return sp.csr_array((ones, (self._entry, self._feature)), shape=shape)
