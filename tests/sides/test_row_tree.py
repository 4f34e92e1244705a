"""Branch and bound on sides among rows: how many subproblems a round takes."""

from __future__ import annotations

import math

import pytest

from pyomo_relu.sides.row_tree import Leaf, RowTree
from tests.sides.test_row_bounds import Case

pytest.importorskip("highspy")


def test_rounds_are_wide_while_programs_are_rare(monkeypatch):
    bounds = Case(0).bounds
    tree = RowTree(bounds, lambda some, target: [Leaf(-math.inf, False)] * len(some))
    tree.start()
    settings, asked, plain = bounds.settings, [], tree.pool.round

    def rounds(batch, target, last):
        asked.append((batch, last))
        return plain(batch, target, last)

    monkeypatch.setattr(tree.pool, "round", rounds)
    for leaves, nodes, dive in (
        (0, 1, False),
        (2, 2 * settings.rare + 1, False),
        (2, 2 * settings.rare, False),
        (0, 1, True),
    ):
        tree.leaves, tree.nodes = leaves, nodes
        tree.step(math.inf, dive)
    wide = settings.wide * settings.batch
    assert settings.wide > 1
    assert asked == [
        (wide, False),
        (wide, False),
        (settings.batch, False),
        (settings.dive, True),
    ]
