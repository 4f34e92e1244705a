"""Programs that several tests use."""

from __future__ import annotations

import numpy as np

from pyomo_relu.differentiable import Program


def guzelsoy_ralphs(b: float) -> Program:
    """The running example of Guzelsoy and Ralphs, on a box that holds its optima."""
    return Program.from_arrays(
        [0.5, 0.0, 2.0, 1.0],
        [[1.0, -1.5, 1.0, -1.0]],
        row_lower=b,
        row_upper=b,
        upper=[20, 20, 30, 30],
        integer=[1, 1, 0, 0],
    )


def random_program(seed: int) -> Program:
    """A feasible mixed-integer program with ranged and one-sided rows."""
    rng = np.random.default_rng(seed)
    m, n = int(rng.integers(3, 7)), int(rng.integers(4, 9))
    matrix = rng.normal(size=(m, n)) * (rng.random((m, n)) < 0.8)
    point = rng.random(n) * 2
    integer = rng.random(n) < 0.5
    integer[0] = True
    point[integer] = np.round(point[integer])
    activity = matrix @ point
    low, high = activity - rng.random(m), activity + rng.random(m)
    low[0], high[1] = -np.inf, np.inf
    return Program.from_arrays(
        rng.normal(size=n),
        matrix,
        row_lower=low,
        row_upper=high,
        upper=3.0,
        integer=integer,
    )


def random_change(program: Program, rng: np.random.Generator, size: float) -> Program:
    """Other costs, coefficients and sides of rows."""
    vector, at = program.to_vector(), program.slices()
    for part in ("offset", "cost", "row_lower", "row_upper", "matrix"):
        vector[at[part]] += size * rng.normal(size=vector[at[part]].shape)
    crossed = vector[at["row_lower"]] > vector[at["row_upper"]]
    vector[at["row_lower"]][crossed] = vector[at["row_upper"]][crossed]
    return program.with_vector(vector)
