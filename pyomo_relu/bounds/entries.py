"""`Entries`: the entries of a node over the columns of a program."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyomo_relu.network.weights import Weight
from pyomo_relu.programs import Part, part_of


@dataclass
class Entries:
    """Entries of a node as ``matrix @ columns + const``, each up to ``noise``.

    ``matrix`` is dense where expressions are folded, else CSR.
    """

    matrix: Weight
    const: np.ndarray
    noise: np.ndarray

    @property
    def column(self) -> np.ndarray:
        """The one column of each entry, -1 for a constant; not for folded entries."""
        assert np.diff(self.matrix.indptr).max(initial=0) <= 1
        found = np.full(len(self.const), -1)
        found[np.diff(self.matrix.indptr) == 1] = self.matrix.indices
        return found

    @property
    def scale(self) -> np.ndarray:
        """What the one column of each entry is multiplied by, 0 for a constant."""
        return np.asarray(self.matrix.sum(axis=1)).reshape(-1)

    def part(self, at: np.ndarray, factor: np.ndarray | float = 1.0) -> Part:
        """The columns of the entries ``at``, multiplied by a factor for each."""
        r, columns, values = part_of(self.matrix, at)
        return r, columns, np.full(len(at), factor)[r] * values
