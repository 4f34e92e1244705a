"""A program with its columns and rows multiplied by powers of two.

HiGHS drops coefficients below 1e-9, refuses those beyond 1e15, and its tolerances are
absolute. Where a program is all ours, its columns can have any unit: one in which their
ranges are of order one. Powers of two round nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.programs.linear_program import LinearProgram

#: Columns whose range is within, and rows whose largest coefficient is, stay as they are.
ORDINARY = (2.0**-10, 2.0**13)


@dataclass(frozen=True)
class ScaledProgram:
    """What :func:`scaled_program` returns.

    Attributes
    ----------
    program : LinearProgram
        With the same optimum.
    factors : (n_columns,) array
        A column of it is the factor times the column of the given program.
    """

    program: LinearProgram
    factors: np.ndarray


def scaled_program(program: LinearProgram) -> ScaledProgram:
    """Scale continuous columns by their ranges, rows by their largest coefficient.

    Parameters
    ----------
    program : LinearProgram
        Columns without finite bounds, and integers, keep their unit.

    Returns
    -------
    ScaledProgram
        With the given program itself, and factors 1, where all numbers are ordinary.
    """
    with np.errstate(invalid="ignore"):
        width = program.upper - program.lower
    size = np.maximum(abs(program.lower), abs(program.upper))
    # A constant has its size for a range; one that hardly moves a share of it.
    width = np.where(width > 0, np.maximum(width, size * 2.0**-16), size)
    free = np.isfinite(width) & (width > 0)
    if program.integer is not None:
        free &= ~program.integer
    factors = _inverse(width, free)
    matrix = sp.csr_array(program.matrix)
    data = abs(matrix.data) / factors[matrix.indices]
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    largest = np.zeros(matrix.shape[0])
    np.maximum.at(largest, rows, data)
    by = _inverse(largest, largest > 0)
    if (factors == 1.0).all() and (by == 1.0).all():
        return ScaledProgram(program, factors)
    new = sp.csr_array(
        (matrix.data / factors[matrix.indices] * by[rows], matrix.indices, matrix.indptr),
        shape=matrix.shape,
    )
    found = replace(
        program,
        cost=program.cost / factors,
        lower=program.lower * factors,
        upper=program.upper * factors,
        matrix=new,
        row_lower=program.row_lower * by,
        row_upper=program.row_upper * by,
        row_slack=None if program.row_slack is None else program.row_slack * by,
    )
    return ScaledProgram(found, factors)


def _inverse(size: np.ndarray, which: np.ndarray) -> np.ndarray:
    """One over each size, as a power of two; 1 where it is ordinary, or not asked for."""
    found = np.ones(len(size))
    which = which & ((size < ORDINARY[0]) | (size > ORDINARY[1]))
    found[which] = np.exp2(-np.round(np.log2(size[which])))
    return found
