"""The derivative of an optimal basic point in the data, from its basis."""

from __future__ import annotations

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.programs.program import Program
from pyomo_relu.programs.sharp import Solution


def solution_derivative(
    program: Program, solution: Solution, jacobian: sp.csr_array
) -> np.ndarray:
    """Differentiate ``B x_B = b - N x_N`` of the active rows.

    Parameters
    ----------
    program : Program
        A linear program (integers fixed).
    solution : Solution
        With its basis.
    jacobian : (n_data, p) sparse array
        The derivatives of the program's data.

    Returns
    -------
    (n, p) array

    Raises
    ------
    ValueError
        If the basis is singular.
    """
    n, p = program.shape[1], jacobian.shape[1]
    at = program.slices()
    part = {name: jacobian[s].toarray() for name, s in at.items() if name != "matrix"}
    x, basic = solution.x, solution.basic
    active = np.flatnonzero(~solution.row_basic)
    columns = np.flatnonzero(basic)
    found = np.zeros((n, p))
    # Nonbasic variables follow the bound that holds them; fixed integers don't move.
    middle = 0.5 * (program.lower + program.upper)
    with np.errstate(invalid="ignore"):
        at_lower = ~(x > np.where(np.isfinite(middle), middle, np.inf))
    at_lower |= ~np.isfinite(program.upper)
    at_lower &= np.isfinite(program.lower)
    held = np.where(at_lower[:, None], part["lower"], part["upper"])
    moves = ~basic & (np.isfinite(program.lower) | np.isfinite(program.upper))
    found[moves] = held[moves]
    if len(active) != len(columns):
        raise ValueError("the basis of the linear program is incomplete.")
    if not len(active):
        return found
    # Row by row, the entries of the matrix times the point.
    entry = np.arange(program.matrix.nnz)
    times_x = sp.csr_array(
        (x[program.matrix.indices], (program.entry_rows(), entry)),
        shape=(program.shape[0], len(entry)),
    )
    change = times_x @ jacobian[at["matrix"]]
    activity = program.matrix @ x
    low = np.abs(activity - program.row_lower) <= np.abs(activity - program.row_upper)
    side = np.where(low[:, None], part["row_lower"], part["row_upper"])
    right = (side - change.toarray() - program.matrix @ found)[active]
    basis = program.matrix[active][:, columns].toarray()
    try:
        found[columns] = np.linalg.solve(basis, right)
    except np.linalg.LinAlgError as e:
        raise ValueError("the basis of the linear program is singular.") from e
    return found
