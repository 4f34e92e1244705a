"""Defined columns taken out of all rows but their own, and out of the objective."""

from __future__ import annotations

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.presolve.settings import SUBSTITUTION


def eliminate(p: Problem, own_rows: np.ndarray) -> None:
    """Write rows and cost of a problem with what its defined columns are made of.

    Parameters
    ----------
    p : Problem
        Changed.
    own_rows : (d,) int array
        The row that defines each of ``p.defined``, where it stays.
    """
    d = p.defined
    if not len(d):
        return
    in_cost = p.cost[d].copy()
    if in_cost.any():
        p.offset += p.sign * float(in_cost @ p.definition_constant)
        more, size = p.definition.T @ in_cost, abs(p.definition).T @ abs(in_cost)
        p.cost[d] = 0.0
        p.cost = _cleaned(p.cost + more, abs(p.cost) + size)
    uses = sp.lil_array(p.matrix[:, d])
    uses[own_rows, np.arange(len(d))] = 0.0
    uses = sp.csr_array(uses)
    uses.eliminate_zeros()
    rows = np.flatnonzero(np.diff(uses.indptr))
    if not len(rows):
        return
    uses = sp.csr_array(uses[rows])
    m, k = len(p.columns), len(d)
    out = sp.csr_array((np.ones(k), (np.arange(k), d)), shape=(k, m))
    kept = sp.csr_array(p.matrix[rows] - uses @ out)
    new = sp.csr_array(kept + uses @ p.definition)
    size = sp.csr_array(abs(kept) + abs(uses) @ abs(p.definition))
    new = sp.csr_array(new.multiply(abs(new) > SUBSTITUTION.cancelled * size))
    new.eliminate_zeros()
    new.sort_indices()
    shift = uses @ p.definition_constant
    parts = abs(uses) @ abs(p.definition_constant)
    for side in (p.row_lower, p.row_upper):
        side[rows] = _cleaned(side[rows] - shift, abs(side[rows]) + parts)
    where = np.arange(p.matrix.shape[0])
    where[rows] = len(where) + np.arange(len(rows))
    both = sp.vstack([p.matrix, new], format="csr")
    p.matrix = sp.csr_array(both[where])


def _cleaned(values: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Values, 0 where they are what is left of larger numbers that cancel."""
    left = abs(values) > SUBSTITUTION.cancelled * size
    return np.where(left | ~np.isfinite(values), values, 0.0)
