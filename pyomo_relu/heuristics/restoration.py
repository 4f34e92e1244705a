"""The nearest point of linear rows, and Newton's steps by it: what was broken is closed.

Where rows are nonlinear, the optimum of a linear program breaks them by the square of the
step that led there. The nearest point that the same rows, linear at the optimum, allow is
off by the square of a much smaller step, so that a few such programs close equalities as
Newton's method does, within all bounds and rows.

Source: the restoration phase of filter methods, Fletcher, Leyffer, Mathematical Programming
91, 2002; Newton's method for inequalities, Robinson, Numerische Mathematik 19, 1972.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.heuristics.network_columns import selection
from pyomo_relu.heuristics.start_settings import SEQUENTIAL
from pyomo_relu.programs import LinearProgram


def nearest(
    program: LinearProgram, at: np.ndarray, point: np.ndarray, width: np.ndarray
) -> LinearProgram:
    """A program whose optimum is the nearest to a point among those of another program.

    Parameters
    ----------
    program : LinearProgram
        Its cost doesn't count.
    at : (k,) int array
        The columns by which points differ.
    point, width : (n_columns,) arrays
        The distance is the sum of ``abs(x - point) / width`` over these columns.

    Returns
    -------
    LinearProgram
        The columns of ``program``, then a distance for each of ``at``.
    """
    n, k = len(program.cost), len(at)
    none, far = np.zeros(k), np.full(k, np.inf)
    picked, eye = selection(at, n), sp.eye_array(k, format="csr")
    empty = sp.csr_array((program.matrix.shape[0], k))
    blocks = [[program.matrix, empty], [picked, eye], [picked, -eye]]
    whole = np.zeros(n, dtype=bool) if program.integer is None else program.integer
    return LinearProgram(
        cost=np.concatenate([np.zeros(n), 1.0 / width[at]]),
        lower=np.concatenate([program.lower, none]),
        upper=np.concatenate([program.upper, far]),
        matrix=sp.csr_array(sp.block_array(blocks, format="csr")),
        row_lower=np.concatenate([program.row_lower, point[at], -far]),
        row_upper=np.concatenate([program.row_upper, far, point[at]]),
        integer=np.concatenate([whole, none.astype(bool)]),
    )


def newton(
    point: np.ndarray,
    broken: float,
    step: Callable[[np.ndarray], tuple[np.ndarray, float] | None],
) -> np.ndarray | None:
    """Steps towards what rows allow, as long as each breaks them much less.

    Parameters
    ----------
    point : (n_columns,) array
    broken : float
        By how much it breaks rows.
    step : callable
        From a point to the next one and by how much that breaks rows; None where there
        is none.

    Returns
    -------
    (n_columns,) array or None
        A point that breaks them by :attr:`SequentialSettings.closed` at most, if one was
        met.
    """
    slow = 0
    for _ in range(SEQUENTIAL.newton_steps):
        found = step(point)
        if found is None or not np.isfinite(found[1]):
            return None
        slow = slow + 1 if found[1] > SEQUENTIAL.newton_gain * broken else 0
        point, broken = found
        if broken <= SEQUENTIAL.closed:
            return point
        if slow > SEQUENTIAL.newton_slow:
            return None
    return None
