"""Programs in other units have the same optimum."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from pyomo_relu.programs import HighsModel, LinearProgram, scaled_program


def random_program(seed: int, largest: float) -> tuple[LinearProgram, np.ndarray]:
    """A feasible MIP with columns in units up to ``10 ** largest``, and the units."""
    rng = np.random.default_rng(seed)
    n, m = 6, 4
    integer = rng.random(n) < 0.3
    units = np.where(integer, 1.0, 10.0 ** rng.uniform(-largest, largest, n))
    low, high = np.zeros(n), rng.integers(1, 4, n).astype(float)
    matrix = rng.normal(size=(m, n)) * (rng.random((m, n)) < 0.7)
    inside = np.where(integer, low, rng.uniform(low, high))
    top = matrix @ inside + rng.uniform(0.0, 1.0, m)
    cost = rng.normal(size=n)
    program = LinearProgram(
        cost / units,
        low * units,
        high * units,
        sp.csr_array(matrix / units),
        np.full(m, -np.inf),
        top,
        integer,
    )
    return program, units


@pytest.mark.parametrize("seed", range(20))
def test_optimum_does_not_depend_on_units(seed):
    plain, _ = random_program(seed, 0.0)
    program, _ = random_program(seed, 12.0)
    expected = HighsModel(plain, mip_rel_gap=1e-9).run()
    scaled = scaled_program(program)
    found = HighsModel(scaled.program, mip_rel_gap=1e-9).run()
    assert found.optimal and expected.optimal
    x = found.point / scaled.factors
    assert program.cost @ x == pytest.approx(plain.cost @ expected.point, abs=1e-6)
    width = program.upper - program.lower
    assert (x >= program.lower - 1e-6 * width).all()
    assert (x <= program.upper + 1e-6 * width).all()


def test_an_ordinary_program_stays_itself():
    program, _ = random_program(0, 0.0)
    found = scaled_program(program)
    assert found.program is program and (found.factors == 1.0).all()
