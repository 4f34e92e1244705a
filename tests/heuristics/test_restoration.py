"""The nearest point of rows, and Newton's steps that close what is broken."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from pyomo_relu.heuristics.restoration import nearest, newton
from pyomo_relu.heuristics.start_settings import SEQUENTIAL
from pyomo_relu.programs import HighsModel, LinearProgram

pytest.importorskip("highspy")


def test_the_nearest_point_is_nearest():
    """In the plane, by hand: the wider column moves, the one that isn't asked is free."""
    program = LinearProgram(
        cost=np.array([5.0, 5.0, 5.0]),
        lower=np.zeros(3),
        upper=np.array([10.0, 1.0, 100.0]),
        matrix=sp.csr_array([[1.0, 1.0, 0.0], [1.0, 0.0, -1.0]]),
        row_lower=np.array([4.0, 0.0]),
        row_upper=np.array([np.inf, 0.0]),
    )
    point, width = np.array([2.0, 0.5, 50.0]), np.array([10.0, 1.0, 100.0])
    found = nearest(program, np.array([0, 1]), point, width)
    answer = HighsModel(found).run(10.0)
    assert answer.point is not None
    assert answer.point[:3] == pytest.approx([3.5, 0.5, 3.5])
    assert answer.point[3:] == pytest.approx([1.5, 0.0])


def root(x: np.ndarray) -> tuple[np.ndarray, float]:
    """Newton's step towards the square root of 2."""
    new = x - (x**2 - 2.0) / (2.0 * x)
    return new, abs(float(new[0]) ** 2 - 2.0)


def test_steps_go_on_until_rows_hold():
    found = newton(np.array([9.0]), 79.0, root)
    assert found is not None and found[0] == pytest.approx(2**0.5, abs=1e-9)


@pytest.mark.parametrize("share, steps", [(0.9, SEQUENTIAL.newton_slow + 1), (0.4, None)])
def test_steps_that_gain_little_are_given_up(share, steps):
    broken, count = 1.0, 0

    def step(x: np.ndarray) -> tuple[np.ndarray, float]:
        nonlocal broken, count
        broken, count = share * broken, count + 1
        return x, broken

    assert newton(np.zeros(1), 1.0, step) is None
    assert count == (steps or SEQUENTIAL.newton_steps)


def test_where_there_is_no_step_or_no_number():
    assert newton(np.ones(1), 1.0, lambda x: None) is None
    assert newton(np.ones(1), 1.0, lambda x: (x, float("nan"))) is None
