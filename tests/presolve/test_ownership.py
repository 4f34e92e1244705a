"""Who owns columns and rows: planted subsystems are found, and the rule keeps its word."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from pyomo_relu.presolve.ownership import COUPLING, FREE, find_owners
from pyomo_relu.programs import LinearProgram


def program(rows: list[dict[int, float]], columns: int, fixed=()) -> LinearProgram:
    matrix = sp.lil_array((len(rows), columns))
    for i, row in enumerate(rows):
        for j, a in row.items():
            matrix[i, j] = a
    lower, upper = np.zeros(columns), np.ones(columns)
    upper[list(fixed)] = 0.0
    none = np.full(len(rows), -np.inf)
    return LinearProgram(
        np.zeros(columns), lower, upper, sp.csr_array(matrix), none, np.ones(len(rows))
    )


def test_a_day_of_hours_with_a_store_and_starts():
    """Column t is an input, 4 + t on, 8 + t start, 12 + t the store before hour t."""
    hours = range(4)
    rows = [{t: 1.0, 4 + t: -5.0} for t in hours]
    rows += [{8 + t: 1.0, 4 + t: -1.0, 3 + t: 1.0} for t in list(hours)[1:]]
    rows += [{12 + t: 1.0, 13 + t: -1.0, t: 1.0, 4 + t: 0.1} for t in hours]
    rows += [{t: 1.0 for t in hours}]
    found = find_owners(program(rows, 17, fixed=[12]), [np.array([t]) for t in hours])
    assert found.owner[:8].tolist() == [0, 1, 2, 3] * 2
    assert found.owner[8] == FREE  # in no row
    assert (found.owner[9:12] < 0).all()
    assert found.owner[12] == FREE  # has one value
    assert (found.owner[13:16] == COUPLING).all()  # the first balance is no exception
    assert found.owner[16] == 3  # what is left in the end is in no other row
    assert found.row_owner.tolist() == [0, 1, 2, 3] + [COUPLING] * 8


def test_the_first_balance_without_its_store_swallows_nothing():
    rows = [{0: 1.0, 4: 1.0, 8: -1.0}]
    rows += [{7 + t: 1.0, 8 + t: -1.0, t: 1.0, 4 + t: 1.0} for t in range(1, 4)]
    rows += [{t: 1.0, 4 + t: 1.0} for t in range(4)]
    found = find_owners(program(rows, 12), [np.array([t]) for t in range(4)])
    assert (found.owner[8:11] == COUPLING).all()


def test_a_grid_of_choices_belongs_to_its_input_and_room_is_limited():
    rows = [{0: 1.0, **{2 + k: -0.1 * k for k in range(1, 10)}}]
    rows += [{2 + k: 1.0 for k in range(10)}, {0: 1.0, 1: 1.0}]
    groups = [np.array([0]), np.array([1])]
    found = find_owners(program(rows, 12), groups)
    assert (found.owner[2:] == 0).all()
    assert found.row_owner.tolist() == [0, 0, COUPLING]
    few = find_owners(program(rows, 12), groups, most=3)
    assert (few.owner == 0).sum() == 4


@pytest.mark.parametrize("seed", range(60))
def test_the_rule_keeps_its_word(seed):
    """Own rows have columns of one subsystem only, whatever the order of the rows is."""
    rng = np.random.default_rng(seed)
    columns, units = int(rng.integers(6, 40)), int(rng.integers(1, 5))
    rows = []
    for _ in range(int(rng.integers(3, 40))):
        size = min(columns, int(rng.choice([1, 2, 2, 2, 3, 3, 4, 8])))
        rows.append({int(j): 1.0 for j in rng.choice(columns, size, replace=False)})
    fixed = rng.choice(columns, int(rng.integers(0, 3)), replace=False)
    start = np.arange(units)
    p = program(rows, columns, [j for j in fixed if j >= units])
    found = find_owners(p, [start[[k]] for k in range(units)])
    assert (found.owner[:units] == start).all()
    moving = p.lower < p.upper
    assert (found.owner[units:][~moving[units:]] == FREE).all()
    for row, owner in zip(rows, found.row_owner):
        owners = {int(found.owner[j]) for j in row if moving[j]}
        assert owner == (owners.pop() if len(owners) == 1 and min(owners) >= 0 else -2)
    # A column that is owned stands in a row with another of its owner.
    for j in np.flatnonzero(found.owner >= 0).tolist():
        others = {int(found.owner[i]) for row in rows if j in row for i in row if i != j}
        assert j < units or found.owner[j] in others
    order = rng.permutation(len(rows))
    again = find_owners(
        program([rows[i] for i in order], columns, np.flatnonzero(~moving)),
        [start[[k]] for k in range(units)],
    )
    assert (again.owner == found.owner).all()
    assert (again.row_owner == found.row_owner[order]).all()
