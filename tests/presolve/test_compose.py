"""Composing many blocks: the order, and a cost that grows with their number."""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Iterator

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from pyomo_relu.base.deadline import Deadline, TimeUp
from pyomo_relu.presolve.compose import BlockLinks, LinearInput, order_links
from pyomo_relu.presolve.reading import read_problem
from tests.harness.random_networks import he_network


def states(blocks: int, chained: bool) -> pyo.ConcreteModel:
    """Blocks of six neurons whose outputs are states, which the next ones may read."""
    m = pyo.ConcreteModel()
    m.s = pyo.Var(range(blocks + 1), bounds=(-3, 3))
    m.u = pyo.Var(range(blocks), bounds=(-1, 1))
    m.net = ReLUNetBlock(
        range(blocks),
        network=he_network(0, (2, 6, 1)),
        inputs=lambda m, i: [m.s[i if chained else 0], m.u[i]],
        formulation=None,
    )

    @m.Constraint(range(blocks))
    def after(m, i):
        return m.s[i + 1] == 0.5 * m.net[i].outputs[0]

    m.cost = pyo.Objective(expr=pyo.quicksum(m.s.values()))
    return m


def calls_to_read(blocks: int, chained: bool) -> int:
    """Python's calls while blocks are read and composed."""
    m, profile = states(blocks, chained), cProfile.Profile()
    profile.runcall(lambda: read_problem(m).for_points())
    return pstats.Stats(profile).total_calls


@pytest.mark.parametrize("chained", [False, True])
def test_four_times_the_blocks_are_four_times_the_work(chained):
    assert calls_to_read(400, chained) < 5 * calls_to_read(100, chained)


class Counted(Deadline):
    """A deadline that passes when it has been asked so many times."""

    def __init__(self, most: float) -> None:
        super().__init__()
        self.asked, self.most = 0, most

    def check(self) -> None:
        self.asked += 1
        if self.asked > self.most:
            raise TimeUp


def test_the_view_for_points_looks_at_its_deadline_at_each_block():
    blocks = 12
    m = states(blocks, chained=True)
    problem = read_problem(m)
    counted = Counted(np.inf)
    problem.for_points(counted)
    # The states are definitions; blocks are ordered, composed, and fused.
    assert counted.asked > 3 * blocks
    for most in range(0, counted.asked, 7):
        problem = read_problem(m)
        with pytest.raises(TimeUp):
            problem.for_points(Counted(most))
        if most % 2:  # nothing half made is left
            assert problem.for_points().n < problem.n
    assert problem.for_points(Counted(np.inf)) is problem.for_points(Counted(0))


class Once:
    """A collection that may be walked through once."""

    def __init__(self, items: set[int]) -> None:
        self.items, self.walks = items, 0

    def __len__(self) -> int:
        return len(self.items)

    def __contains__(self, one: object) -> bool:
        return one in self.items

    def __iter__(self) -> Iterator[int]:
        self.walks += 1
        return iter(self.items)


def test_what_is_known_is_not_gone_through_for_each_block():
    links = random_links(np.random.default_rng(0), 40)
    known = Once(order_links(links)[1])
    assert len(known) > 1
    order_links(links, known)
    assert known.walks == 1


class Output:
    """A variable that a block makes."""


def random_links(rng: np.random.Generator, count: int) -> list[BlockLinks]:
    outputs = [[Output() for _ in range(rng.integers(1, 3))] for _ in range(count)]
    links = []
    for own in outputs:
        read = rng.integers(0, count, rng.integers(0, 3))
        terms = {id(outputs[k][0]): 1.0 for k in read.tolist()}
        links.append(BlockLinks(None, [LinearInput(terms, 0.0)], own))
    return links


@pytest.mark.parametrize("seed", range(30))
def test_each_block_comes_after_what_it_reads_or_that_is_cut(seed):
    rng = np.random.default_rng(seed)
    links = random_links(rng, int(rng.integers(1, 9)))
    order, cut = order_links(links)
    assert len(order) == len(links) == len({id(link) for link in order})
    for known in ((), cut):
        again, still = order_links(links, known)
        assert still == cut
        met: set[int] = set(still)
        for link in again:
            for one in link.inputs:
                assert one.terms.keys() <= met
            met |= {id(v) for v in link.outputs}
    made: set[int] = set()
    needed = set()
    for link in order:
        needed |= {key for one in link.inputs for key in one.terms if key not in made}
        made |= {id(v) for v in link.outputs}
    assert needed == cut  # nothing is cut that was there in time
